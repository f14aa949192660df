# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r bench --speed`: what it measures, on a small scene and on results made by hand."""

from __future__ import annotations

from pathlib import Path
import re
import shutil

import cv2
import numpy as np
import pytest
from recon3r_ros.bench import child_run, sameness, speed, yardstick
from recon3r_ros.bench.simulated import simulated_pack
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.sim import SceneConfig

SCENE = SceneConfig(seed=1, frames=20, width=320, height=240, fps=12.0, trajectory='sweep')


@pytest.fixture(scope='module')
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Render a short sequence."""
    folder = tmp_path_factory.mktemp('speed') / 'pack'
    simulated_pack(SCENE, folder)
    return folder


def cost(wall_s: float, **timings: float) -> child_run.RunCost:
    """Make the cost of a run of 10 s of video."""
    return child_run.RunCost(wall_s, 2 * wall_s, {
        'frames_read': 300, 'frames_tracked': 300, 'keyframes': 20, 'points': 1000,
        'sequence_s': 10.0, 'peak_memory_mb': 500.0, 'timings': timings})


def test_yardstick_takes_the_same_cpu_time_again() -> None:
    threads = cv2.getNumThreads()
    first, second = (yardstick.yardstick() for _ in range(2))
    assert 0.1 < first < 10
    assert first == pytest.approx(second, rel=0.5)
    assert cv2.getNumThreads() == threads


def test_machine_is_described_in_a_line() -> None:
    assert re.fullmatch(r'CPU: \S.*, \d+ cores?, yardstick \d+\.\d\d s, load average \d+\.\d',
                        yardstick.machine())


def test_medians_and_ratios_are_those_of_the_runs() -> None:
    own = speed.Measured('this version', 'commit a', [
        cost(5.0, track_median_ms=2.0, track_cpu_median_ms=1.5), cost(30.0, track_median_ms=3.0,
                                                                      track_cpu_median_ms=1.5),
        cost(6.0, track_median_ms=2.5, track_cpu_median_ms=1.5)])
    older = speed.Measured('baseline', 'commit b', [
        cost(w, track_median_ms=5.0) for w in (11.0, 12.0, 14.0)])
    same = {'two runs on all cores': sameness.Sameness('identical', 'identical', 'identical')}
    page = speed.speed_page('video', 'CPU: abacus', 2, [own, older], same)
    assert '| wall time / duration of the video | 0.60 (0.50 to 3.00) | 1.20 (1.10 to 1.40) ' \
        '| 0.50 |' in page
    assert '| CPU time of all processes, s | 12.0 (10.0 to 60.0) | 24.0 (22.0 to 28.0) ' in page
    assert '| tracking a frame, ms | 2.5 (2.0 to 3.0) | 5.0 | 0.50 |' in page
    assert '| tracking a frame, CPU ms | 1.5 | - | - |' in page
    assert 'while 2 other processes' in page and 'CPU: abacus. ' in page
    assert 'Results do not depend on the number of cores.' in page


@pytest.mark.slow
def test_a_run_is_measured_from_outside(pack: Path, tmp_path: Path) -> None:
    found = child_run.run(speed.OWN_TREE, pack, tmp_path / 'out')
    assert found.wall_s > found.report['timings']['total_s'] > 0
    assert found.cpu_s > 1e-3 * found.report['timings']['keyframe_cpu_median_ms']
    assert found.peak_mb > 100
    assert found.report['frames_read'] == SCENE.frames


def test_another_package_is_not_taken_for_the_checkout(tmp_path: Path) -> None:
    with pytest.raises(Recon3rError, match='no package recon3r_ros'):
        child_run.run(tmp_path, tmp_path, tmp_path / 'out')


@pytest.mark.large
def test_page_of_a_small_sequence(recon3r, pack: Path, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, 'REPETITIONS', 1)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'sevenscenes_redkitchen').symlink_to(pack)
    page = tmp_path / 'speed.md'
    outcome = recon3r('bench', '--speed', '--packs', tmp_path, '--load', 1, '--output', page)
    assert outcome.status == 0, outcome.err
    text = page.read_text()
    assert re.search(r'\| CPU time of all processes, s \| \d+\.\d \|', text)
    assert '| one core, all cores |' in text and '| frames with a pose | ' in text
    assert str(tmp_path) not in text


def test_what_cannot_be_measured_is_said(recon3r, tmp_path: Path) -> None:
    (tmp_path / 'data' / 'sevenscenes_redkitchen').mkdir(parents=True)
    outcome = recon3r('bench', '--speed', '--packs', tmp_path, '--baseline', tmp_path)
    assert outcome.status == 2 and 'no checkout' in outcome.err
    outcome = recon3r('bench', '--speed', '--packs', tmp_path / 'nowhere')
    assert outcome.status == 2 and 'no such pack' in outcome.err
    with pytest.raises(InputError, match='<!-- profile -->'):
        from recon3r_ros.bench import stages
        stages.measure(tmp_path, tmp_path / 'stacks', tmp_path / 'absent.md')


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, Path]:
    """Write the results of two runs that are the same."""
    first, second = tmp_path / 'a', tmp_path / 'b'
    for name in ('depth', 'masks'):
        (first / name).mkdir(parents=True)
    (first / 'trajectory.txt').write_text('1.0 0 0 0 0 0 0 1\n2.0 1 0 0 0 0 0 1\n')
    (first / 'map.ply').write_bytes(b'points')
    (first / 'masks' / '0.png').write_bytes(b'mask')
    depth = np.array([[1.0, np.nan], [2.0, 4.0]], np.float32)
    np.savez(first / 'depth' / '0.npz', depth=depth, confidence=np.ones((2, 2), np.float32))
    shutil.copytree(first, second)
    return first, second


def test_same_results_are_identical(results: tuple[Path, Path]) -> None:
    assert sameness.compare(*results).complete


def test_differences_are_measured(results: tuple[Path, Path]) -> None:
    first, second = results
    (second / 'trajectory.txt').write_text('1.0 0 0.5 0 0 0 0 1\n3.0 1 0 0 0 0 0 1\n')
    (second / 'masks' / '0.png').write_bytes(b'other')
    depth = np.array([[1.0, np.nan], [2.0, 4.4]], np.float32)
    np.savez(second / 'depth' / '0.npz', depth=depth, confidence=np.ones((2, 2), np.float32))
    found = sameness.compare(first, second)
    assert found.trajectory == 'up to 0.5 map units apart, 2 poses in one only'
    assert found.masks == '1 differ'
    assert found.map == 'differ: 1 depth maps, by up to 0.09 of the value'
    (second / 'depth' / '0.npz').unlink()
    (second / 'map.ply').write_bytes(b'none')
    assert sameness.compare(first, second).map == (
        'differ: map.ply, 1 depth maps, by up to inf of the value')
