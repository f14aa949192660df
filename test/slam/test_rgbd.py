# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The whole pipeline with a depth camera: metres from the first image on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.sim import SimulatedSequence
from recon3r_ros.sim.depth_camera import measured
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, TrackingState
from simulated import as_frame, degrees_between, path_length, render, still_scene, TrueView

Array = NDArray[np.float64]


def frame(scene: SimulatedSequence, index: int) -> Frame:
    """Turn a simulated frame into the pipeline's input, with depth as a camera measures it."""
    rng = np.random.default_rng([scene.config.seed, index])
    return replace(as_frame(scene, index), depth=measured(render(scene, index).depth, rng))


def in_metres(system: System, scene: SimulatedSequence) -> tuple[Array, Array]:
    """Poses (N, 4, 4) of all frames, metres, and the true ones, in the first one's frame."""
    metric = system.metric()
    assert metric is not None and metric.source == 'depth' and metric.sigma < 0.02
    tracked = sorted(system.trajectory(), key=lambda t: t[0].index)
    poses = np.stack([se3.stretched(T, metric.value) for _, T in tracked])
    truth = np.stack([render(scene, f.index).T_world_cam for f, _ in tracked])
    return se3.inverse(poses[0]) @ poses, se3.inverse(truth[0]) @ truth


def error_in_metres(system: System, scene: SimulatedSequence) -> float:
    """Root mean square distance of the positions, over the length of the path; no scaling."""
    poses, truth = in_metres(system, scene)
    positions, true = poses[:, :3, 3], truth[:, :3, 3]
    rotation = weighted_procrustes(positions, true, np.ones(len(true)), with_scale=False)
    distances = np.linalg.norm(se3.transform(rotation, positions) - true, axis=1)
    return float(np.sqrt(np.mean(distances ** 2))) / path_length(true)


def depth_ratios(system: System, scene: SimulatedSequence) -> list[Array]:
    """Depths of each keyframe's known pixels, metres, over the true ones."""
    metric = system.metric()
    assert metric is not None
    ratios = []
    for k in system.map.keyframes.values():
        true, _ = TrueView.of(scene, k.index).depth_on(k.camera)
        known = k.inverse_depth > 0
        ratios.append(metric.value / k.inverse_depth[known] / true[known])
    return ratios


@pytest.mark.parametrize('seed', [0, 1, 2, 4])
def test_a_walk_is_in_metres(seed: int) -> None:
    scene = still_scene(seed)
    system = System(GeometricPredictor())
    first = system.add(frame(scene, 0))
    assert first.state is TrackingState.TRACKING and len(first.frames) == 1
    assert system.metric() is not None, 'it is known in the first instant'
    for index in range(1, 60):
        assert system.add(frame(scene, index)).frames, 'no frame waits for its pose'
    system.finish()
    assert len(system.map.keyframes) >= 3
    assert error_in_metres(system, scene) <= 0.005
    ratios = depth_ratios(system, scene)
    assert float(np.median(np.concatenate(ratios))) == pytest.approx(1.0, abs=0.005)
    assert np.mean([np.abs(r - 1).mean() for r in ratios]) <= 0.015


def test_depth_of_every_tenth_image_will_do() -> None:
    scene = still_scene(3)
    system = System(GeometricPredictor())
    for index in range(60):
        system.add(frame(scene, index) if index % 10 == 0 else as_frame(scene, index))
        assert system.state is TrackingState.TRACKING
    system.finish()
    assert error_in_metres(system, scene) <= 0.005


@pytest.mark.parametrize('shift', [1, -1])
def test_depth_may_be_20_ms_off(shift: int) -> None:
    """Images at 25 Hz: a constant offset of half a period costs no accuracy to speak of."""
    scene = still_scene(3, 100, fps=50.0)
    errors = []
    for offset in (0, shift):
        system = System(GeometricPredictor())
        for index in range(2, 80, 2):
            system.add(replace(
                as_frame(scene, index), depth=frame(scene, index + offset).depth))
        system.finish()
        errors.append(error_in_metres(system, scene))
    assert errors[1] <= max(1.5 * errors[0], 0.003)


def test_a_nominal_focal_length_is_refined() -> None:
    """It is 4 % short: kept, the walk has an error of 4.6 % in metres."""
    scene = still_scene(5)
    system = System(GeometricPredictor())
    for index in range(60):
        f = frame(scene, index)
        assert f.camera is not None
        system.add(replace(f, camera=replace(
            f.camera, fx=0.96 * f.camera.fx, fy=0.96 * f.camera.fy)))
    system.finish()
    assert error_in_metres(system, scene) <= 0.01
    assert system.map.focal_factor == pytest.approx(1 / 0.96, rel=0.02)


def test_a_camera_that_only_turns_maps() -> None:
    """It could not without measured depth, and a second keyframe brings new surface."""
    scene = still_scene(1, 60, 'turn')
    system = System(GeometricPredictor())
    for index in range(60):
        system.add(frame(scene, index))
    system.finish()
    assert len(system.map.keyframes) > 1
    poses, truth = in_metres(system, scene)
    assert len(poses) == 60 and degrees_between(truth[0, :3, :3], truth[-1, :3, :3]) > 10
    for pose, true in zip(poses, truth):
        assert degrees_between(pose[:3, :3], true[:3, :3]) < 0.3
        assert np.linalg.norm(pose[:3, 3]) < 0.01
    for ratio in depth_ratios(system, scene):
        assert np.abs(ratio - 1).mean() < 0.015


def test_depth_may_come_to_a_map_that_began_without() -> None:
    """The first images have none, so the map begins with a pair, in a unit of its own."""
    scene = still_scene(3)
    system = System(GeometricPredictor())
    for index in range(60):
        started = system.map.started
        system.add(frame(scene, index) if started else as_frame(scene, index))
    assert system.map.started
    system.finish()
    # The unit is that of triangulation, which is less exact
    assert error_in_metres(system, scene) <= 0.02


def test_too_little_depth_does_not_start_a_map() -> None:
    """A patch of depth in a corner does not constrain a pose."""
    scene = still_scene(3)
    first = frame(scene, 0)
    assert first.depth is not None
    corner = np.full_like(first.depth, np.nan)
    corner[:80, :80] = first.depth[:80, :80]
    for start in (replace(first, depth=corner), replace(first, camera=None)):
        system = System(GeometricPredictor())
        assert system.add(start).state is TrackingState.INITIALISING
