# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r bench` on small scenes."""

from dataclasses import replace
import re
import subprocess
import sys

import numpy as np
import pytest
from recon3r_ros.bench import accuracy, cases, table
from recon3r_ros.bench.simulated import demo_scene, simulated_pack
from recon3r_ros.errors import OutputError
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.sim import SceneConfig, SimulatedSequence


def small(**settings):
    """Return a scene with these settings that is quick to render."""
    return SceneConfig(**{**settings, 'width': 320, 'height': 240, 'fps': 12.0,
                          'trajectory': 'sweep', 'frames': min(settings['frames'], 20)})


def test_simulated_pack_is_rendered_once(tmp_path):
    config = SceneConfig(seed=1, frames=2, width=64, height=48, moving_objects=0)
    rendered = []
    for _ in range(2):
        simulated_pack(config, tmp_path / 'p', lambda done, total: rendered.append(done))
    assert rendered == [1, 2]
    (tmp_path / 'p' / 'depth' / '000001.png').unlink()  # no longer complete
    simulated_pack(config, tmp_path / 'p', lambda done, total: rendered.append(done))
    assert rendered == [1, 2, 1, 2]
    (tmp_path / 'q').mkdir()
    with pytest.raises(OutputError, match='not simulated'):
        simulated_pack(config, tmp_path / 'q')


def test_the_frames_of_a_pack_are_in_order_and_those_of_the_scene(tmp_path):
    config = SceneConfig(seed=1, frames=20, width=64, height=48)
    simulated_pack(config, tmp_path / 'p')
    frames = list(open_image_folder(tmp_path / 'p'))
    assert [f.stamp_ns for f in frames] == [round(i * 1e9 / 30) for i in range(20)]
    sequence = SimulatedSequence(config)
    assert all(np.array_equal(f.image, sequence.render(f.index).image) for f in frames)


@pytest.mark.parametrize('seed', range(4))
def test_the_demo_has_a_large_dynamic_object(seed):
    scene = demo_scene(seed, 120)
    assert (scene.width, scene.height, scene.fps, scene.moving_objects) == (640, 480, 30.0, 1)
    sequence = SimulatedSequence(replace(scene, width=80, height=60))
    shares = np.array([sequence.render(i).motion_mask.mean() for i in range(0, 120, 5)])
    assert shares[shares > 0].mean() >= 0.1
    assert (shares > 0).mean() > 0.9


def test_a_cached_pack_needs_no_renderer(tmp_path):
    config = 'SceneConfig(seed=1, frames=2, width=64, height=48)'
    program = ('import sys; from pathlib import Path\n'
               'from recon3r_ros.bench.simulated import simulated_pack\n'
               'from recon3r_ros.sim import SceneConfig\n'
               f'simulated_pack({config}, Path({str(tmp_path / "p")!r}))\n'
               'print("torch" in sys.modules)\n')
    said = [subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                           check=True).stdout.strip() for _ in range(2)]
    assert said == ['True', 'False']


def test_bench_writes_a_page(recon3r, tmp_path, monkeypatch):
    monkeypatch.setattr(accuracy, 'SceneConfig', small)
    monkeypatch.setattr(accuracy.tempfile, 'tempdir', str(tmp_path))
    page = tmp_path / 'docs' / 'results.md'
    outcome = recon3r('bench', '--packs', tmp_path, '--only', 'fountain', 'simulated-3',
                      '--output', page)
    assert outcome.status == 0
    text = page.read_text()
    assert '| fountain | all |  | pack absent | - |' in text
    assert '| simulated-3 | mask J | >= 0.75 |' in text
    assert '| simulated-3 | 20 |' in text
    assert re.search(r'CPU: .+, \d+ cores?, yardstick \d+\.\d\d s, load average \d', text)
    assert str(tmp_path) not in text
    cache, = tmp_path.glob('recon3r-bench-*')  # no results remain beside it
    assert [p.name for p in cache.iterdir()] == ['simulated-3']


def test_bench_without_any_pack(recon3r, tmp_path):
    outcome = recon3r('bench', '--packs', tmp_path, '--only', 'kitti', '--output',
                      tmp_path / 'r.md')
    assert outcome.status == 1
    assert 'pack absent' in (tmp_path / 'r.md').read_text()
    assert 'expected one of' in recon3r('bench', '--only', 'moon').err


def test_targets():
    at_most = cases.Measure('m', lambda result: None, 0.05, ' m')
    at_least = cases.Measure('m', lambda result: None, 98, ' %', at_least=True)
    assert [at_most.met(v) for v in (0.05, 0.051, None)] == [True, False, False]
    assert [at_least.met(v) for v in (98, 97.9, None)] == [True, False, False]
    assert (at_most.target(), at_least.target()) == ('<= 0.05 m', '>= 98 %')
    names = [case.name for case in cases.cases()]
    assert len(set(names)) == len(names) == 17
    assert names[0] == cases.KITCHEN


def test_memory_growth_is_counted_from_the_second_run():
    assert table.Memory((100.0, 300.0, 310.0, 320.0)).growth_mb == pytest.approx(20)
    page = table.results_page([], table.Memory((1.0, 2.0, 60.0)), 'CPU: abacus')
    assert '58 MB | **no** |' in page
    assert 'CPU: abacus.' in page
