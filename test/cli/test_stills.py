# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r run` on images without order: all are posed, results are in the order of the input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from recon3r_ros.bench.simulated import simulated_pack
from recon3r_ros.evaluation.results import evaluate
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.sim import SceneConfig

COUNT = 12


@pytest.fixture(scope='module')
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shuffle the images of a pack, not their stamps; the truth follows them."""
    pack = tmp_path_factory.mktemp('stills') / 'pack'
    simulated_pack(SceneConfig(seed=1, frames=COUNT, width=320, height=240, fps=1.0,
                               trajectory='orbit', moving_objects=0), pack)
    order = np.random.default_rng(0).permutation(COUNT)
    for name in ('frames.txt', 'groundtruth.txt'):
        rows = [line.split(maxsplit=1) for line in (pack / name).read_text().splitlines()]
        (pack / name).write_text(''.join(
            f'{rows[n][0]} {rows[i][1]}\n' for n, i in enumerate(order)))
    return pack


def test_images_without_order(recon3r, stills, tmp_path):
    outcome = recon3r('run', '--images', stills, '--output', tmp_path, '--colmap')
    assert outcome.status == 0 and 'order      none' in outcome.out
    assert outcome.err == ''
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['reordered'] and report['frames_tracked'] == COUNT
    assert report['sequence_s'] == pytest.approx(COUNT - 1)
    given = [line.split() for line in (stills / 'frames.txt').read_text().splitlines()]
    found = [line.split() for line in (tmp_path / 'frames.txt').read_text().splitlines()[1:]]
    assert [(float(s), name, int(n)) for s, name, n in found] == [
        (float(s), name, n) for n, (s, name) in enumerate(given)]
    stamps = read_tum(tmp_path / 'trajectory.txt')[0]
    np.testing.assert_array_equal(stamps, read_tum(stills / 'groundtruth.txt')[0])
    for keyframe in json.loads((tmp_path / 'keyframes.json').read_text()):
        stamp, name = given[keyframe['index']]
        assert (keyframe['stamp'], f'{keyframe["name"]}.png') == (float(stamp), name)
    errors = evaluate(tmp_path, stills).trajectory
    assert errors.sim3.ate_rmse < 0.01 * errors.extent


def test_images_in_order_stay_so(results):
    assert not json.loads((results / 'report.json').read_text())['reordered']
