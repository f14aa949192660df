# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
`recon3r bench --stereo`: metric maps and depth of stereo rigs.

Simulated rigs of five seeds, without any alignment of the scale; a real pair with true depth, of
which it is also counted how many pixels that only one camera sees stay empty; and a real rig that
stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
import tempfile
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench.measures import Measure, write
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.errors import InputError
from recon3r_ros.evaluation.trajectory_errors import compare
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.stereo import StereoMatcher
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.packs import SecondCamera, write_pack
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.models.registry import make_predictor, Model
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, TrackedFrame

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Pack of a real pair with true depth, and one of a real rig that stands still
PAIR, AT_REST = 'stereo_motorcycle', 'euroc_v101_stereo_imu'
_SEEDS = range(5)
_FRAMES = 60
#: Rotation vector and baseline of the simulated rigs: not rectified
_TURN, _BASELINE = (0.01, -0.02, 0.015), (0.12, 0.004, -0.003)
#: Disparity, pixels, by which another surface must be nearer to hide a pixel
_HIDES = 1.0
_REPEATED = 5
_INTRODUCTION = """\
# Stereo rigs

Written by `recon3r bench --stereo`. The scale is not aligned anywhere. Simulated rigs: two cameras
of 640x480 pixels, 0.12 m apart and not parallel, 60 images; ATE is the root mean square after
alignment by a rigid motion. The pair is Middlebury's Motorcycle at a quarter of its size; occluded
are the pixels that a nearer one hides in the right image, by the true depth, and those outside of
it. The rig at rest is EuRoC's V1_01_easy, eight instants.
"""


def measure(data: Path, output: Path) -> int:
    """
    Measure, and write the page.

    :param data: folder of the packs
    :param output: file of the page
    :returns: the exit status
    """
    line = machine()
    found: list[Measure] = []
    with progress_bar() as bar:
        bar.stage('rigs', len(_SEEDS) + 2)
        for seed in _SEEDS:
            found += simulated(seed)
            bar.advance()
        for name, run in ((PAIR, pair), (AT_REST, at_rest)):
            found += _of_pack(data / name, run)
            bar.advance()
    write(output, f'{_INTRODUCTION}\n{line}.\n\n', found)
    return 0


def simulated(seed: int, config: SceneConfig = SceneConfig(frames=_FRAMES, moving_objects=0)
              ) -> list[Measure]:
    """Run a simulated rig, from files."""
    case = f'simulated, seed {seed}'
    scene = SimulatedSequence(replace(config, seed=seed))
    T_cam_other = se3.from_rt(se3.so3_exp(_TURN), _BASELINE)
    with tempfile.TemporaryDirectory() as folder:
        pack = Path(folder) / 'rig'
        write_pack(scene, pack, second=SecondCamera(scene.seen_by(T_cam_other), T_cam_other))
        system, started, _ = _run(list(open_sequence(pack)))
        stamps, truth = read_tum(pack / 'groundtruth.txt')
    poses = _in_metres(system)
    own = np.array([f.stamp_ns for f, _ in _tracked(system)])
    errors = compare((own, poses), (stamps, truth))
    ate = None if errors.se3 is None else errors.se3.ate_percent_of_path
    scale = None if errors.sim3 is None else 100 * abs(1 / errors.sim3.scale - 1)
    return [
        Measure(case, 'images with a pose', 100 * len(own) / len(stamps), 100, least=True),
        Measure(case, 'instants until there is a map', started, 1, ''),
        Measure(case, 'ATE of the path', ate, 0.5),
        Measure(case, 'error of the scale', scale, 0.5)]


def pair(pack: Path) -> list[Measure]:
    """Match a pair whose depth is known: depth/NAME.png, millimetres."""
    frame = next(iter(open_sequence(pack)))
    if frame.stereo is None or frame.camera is None:
        raise InputError(f'{pack}: holds no stereo pair with intrinsics')
    matcher = StereoMatcher(frame.camera, frame.stereo.camera, frame.stereo.T_cam_other)
    times = []
    for _ in range(_REPEATED):
        begin = perf_counter()
        depth = matcher.depth(frame.image, frame.stereo.image).depth
        times.append(perf_counter() - begin)
    true = decode_image((pack / 'depth' / f'{frame.name}.png').read_bytes()).astype(np.float64)
    true /= 1000
    known = true > 0
    hidden = occluded(true, frame)
    has = np.isfinite(depth) & known
    good = np.abs(depth[has] / true[has] - 1) < 0.05
    case = 'pair with true depth'
    return [
        Measure(case, 'known pixels with depth', 100 * has.sum() / known.sum(), 85, least=True),
        Measure(case, 'of these, within 5 %', 100 * good.mean(), 90, least=True),
        Measure(case, 'occluded pixels that are empty',
                100 * (hidden & ~has).sum() / hidden.sum(), 80, least=True),
        Measure(case, 'share of occluded pixels', 100 * hidden.sum() / known.sum(), None),
        Measure(case, 'time', 1e3 * median(times), None, 'ms')]


def occluded(true: Array, frame: Frame) -> Mask:
    """
    Find the pixels that the second camera does not see, of a rectified pair.

    :param true: (H, W) depth of the first image, metres, 0 where unknown
    :param frame: with the second camera, on the right
    """
    assert frame.camera is not None and frame.stereo is not None
    height, width = true.shape
    rows, columns = np.nonzero(true > 0)
    T_other_cam = se3.inverse(frame.stereo.T_cam_other)
    points = frame.camera.unproject(np.stack([columns, rows], axis=-1))
    points = se3.transform(T_other_cam, points * true[rows, columns][:, None])
    there = frame.stereo.camera.project(points)[:, 0]
    baseline = float(np.linalg.norm(T_other_cam[:3, 3]))
    disparities = frame.stereo.camera.fx * baseline / points[:, 2]
    nearest = np.zeros((height, width))
    for column in (np.floor(there), np.floor(there) + 1):
        inside = (column >= 0) & (column < width)
        np.maximum.at(nearest, (rows[inside], column[inside].astype(int)), disparities[inside])
    landing = np.rint(there).astype(int)
    inside = (landing >= 0) & (landing < width)
    hidden = ~inside
    hidden[inside] = nearest[rows[inside], landing[inside]] > disparities[inside] + _HIDES
    out = np.zeros((height, width), bool)
    out[rows, columns] = hidden
    return out


def at_rest(pack: Path) -> list[Measure]:
    """Run a rig that does not move."""
    frames = list(open_sequence(pack))
    system, started, masked = _run(frames)
    positions = _in_metres(system)[:, :3, 3]
    case = 'rig at rest'
    metric = system.metric('rig')
    return [
        Measure(case, 'images with a pose', 100 * len(positions) / len(frames), 100, least=True),
        Measure(case, 'instants until there is a map', started, 1, ''),
        Measure(case, 'stated error of the scale', None if metric is None else 100 * metric.sigma,
                None),
        Measure(case, 'largest distance from the start',
                1e3 * float(np.linalg.norm(positions - positions[0], axis=1).max()), 10, 'mm'),
        Measure(case, 'masked, the most of an image', 100 * masked, 0)]


def _of_pack(pack: Path, run: Callable[[Path], list[Measure]]) -> list[Measure]:
    return run(pack) if pack.is_dir() else [Measure(pack.name, 'all', None, None)]


def _run(frames: Sequence[Frame]) -> tuple[System, float, float]:
    """
    Run a system to the last frame.

    :return: it, the number of frames until it had a map, and the largest share of a mask
    """
    system, started, masked = System(make_predictor(Model())), float('inf'), 0.0
    for count, frame in enumerate(frames, start=1):
        update = system.add(frame)
        masked = max([masked, *(float(f.mask.mean()) for f in (*update.frames, *update.masked)
                                if f.mask is not None)])
        if system.map.started and system.metric('rig') is not None:
            started = min(started, count)
    system.finish()
    return system, started, masked


def _tracked(system: System) -> list[tuple[TrackedFrame, Array]]:
    """Return the frames with a pose and their poses, in order."""
    return sorted(system.trajectory(), key=lambda item: item[0].stamp_ns)


def _in_metres(system: System) -> Array:
    """Poses (N, 4, 4) of `_tracked`, metres; map units where these are unknown."""
    metric = system.metric('rig')
    metres = 1.0 if metric is None else metric.value
    return np.stack([se3.stretched(T, metres) for _, T in _tracked(system)])
