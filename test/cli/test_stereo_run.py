# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r run` on a small simulated rig: metres, and what the report says of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from recon3r_ros.cli.reconstruction import reconstruct, RunOptions
from recon3r_ros.geometry import se3
from recon3r_ros.io.packs import SecondCamera, write_pack
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.sim import SceneConfig, SimulatedSequence

FRAMES = 5


@pytest.fixture(scope='module')
def rig(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a pack of five instants; the third has no right image."""
    folder = tmp_path_factory.mktemp('simulated') / 'rig'
    scene = SimulatedSequence(SceneConfig(
        seed=3, frames=FRAMES, width=320, height=240, fps=6.0, moving_objects=0))
    pose = se3.from_rt(np.eye(3), [0.12, 0.0, 0.0])
    write_pack(scene, folder, second=SecondCamera(scene.seen_by(pose), pose))
    (folder / 'right' / '000002.png').unlink()
    return folder


def test_results_are_in_metres(rig: Path, tmp_path: Path) -> None:
    report = reconstruct(open_sequence(rig), tmp_path / 'out', RunOptions(progress=False))
    assert report.frames_tracked == FRAMES and report.frames_stereo == FRAMES - 1
    assert report.scale.startswith('metres, from the rig')
    assert '4 of 5 images had a partner' in report.summary(tmp_path)
    written = json.loads((tmp_path / 'out' / 'report.json').read_text())
    assert written['frames_stereo'] == FRAMES - 1
    _, poses = read_tum(tmp_path / 'out' / 'trajectory.txt')
    _, truth = read_tum(rig / 'groundtruth.txt')
    moved, true = (np.linalg.norm(T[-1, :3, 3] - T[0, :3, 3]) for T in (poses, truth))
    assert moved == pytest.approx(true, rel=0.03, abs=0.002)


def test_the_first_camera_alone_has_no_metres(rig: Path, tmp_path: Path) -> None:
    report = reconstruct(open_sequence(rig, stereo=False), tmp_path / 'out',
                         RunOptions(progress=False))
    assert report.frames_stereo == 0 and report.scale == 'unknown'
    assert 'partner' not in report.summary(tmp_path)


def test_one_instant_is_a_map(rig: Path, tmp_path: Path) -> None:
    one = tmp_path / 'one'
    for side in ('left', 'right'):
        (one / side).mkdir(parents=True)
        (one / side / '0.png').write_bytes((rig / side / '000000.png').read_bytes())
    (one / 'rig.json').write_bytes((rig / 'rig.json').read_bytes())
    report = reconstruct(open_sequence(one), tmp_path / 'out', RunOptions(progress=False))
    assert report.points > 1000 and not report.warnings and not report.is_empty
