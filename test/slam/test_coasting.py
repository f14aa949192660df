# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames that show nothing: posed by the gyroscope, for a short time, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.sim.imu import simulated_imu
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.imu.samples import ImuSamples
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, TrackedFrame, TrackingState
from simulated import as_frame, degrees_between, render, still_scene

SCENE, FRAMES = 3, 40
#: Frames that show nothing
DARK = range(26, 34)


@dataclass(frozen=True, eq=False)
class Run:
    """A system after its last frame, and what each frame got when it came."""

    system: System
    online: dict[int, TrackedFrame]
    states: dict[int, TrackingState]


def samples() -> ImuSamples:
    scene = still_scene(SCENE, FRAMES)
    made = simulated_imu(scene.scene.camera_path, FRAMES / 30, np.random.default_rng(7))
    return ImuSamples(made.stamps_ns, made.gyroscope, made.accelerometer, made.T_cam_imu[:3, :3],
                      made.model.gyroscope_noise)


def frame(index: int, dark: range, imu: ImuSamples | None) -> Frame:
    made = as_frame(still_scene(SCENE, FRAMES), min(index, FRAMES - 1))
    if index in dark:
        noise = np.random.default_rng(index).normal(12, 1.5, made.image.shape)
        made = replace(made, image=noise.round().astype(np.uint8))
    return made if imu is None else replace(made, imu=imu.between(
        made.stamp_ns - 60_000_000, made.stamp_ns + 5_000_000))


def run(with_imu: bool, dark: range = DARK) -> Run:
    imu = samples() if with_imu else None
    system = System(GeometricPredictor(), motion=MotionConfig(False))
    found = Run(system, {}, {})
    for index in range(FRAMES):
        update = system.add(frame(index, dark, imu))
        found.online.update({f.index: f for f in update.frames})
        found.states[index] = update.state
    return found


def relative(run: Run, i: int, j: int) -> NDArray[np.float64]:
    """Rotation from one frame to another, as estimated."""
    R_i, R_j = (run.system.pose_of(run.online[k])[:3, :3] for k in (i, j))
    return R_i.T @ R_j


def true_relative(i: int, j: int) -> NDArray[np.float64]:
    R_i, R_j = (render(still_scene(SCENE, FRAMES), k).T_world_cam[:3, :3] for k in (i, j))
    return R_i.T @ R_j


@pytest.fixture(scope='module')
def with_imu() -> Run:
    return run(True)


def test_the_gyroscope_bridges_frames_that_show_nothing(with_imu):
    last = DARK[0] - 1
    for index in DARK:
        posed = with_imu.online[index]
        sigma = np.sqrt(np.linalg.eigvalsh(posed.covariance[:3, :3])[-1])
        off = np.deg2rad(degrees_between(
            relative(with_imu, last, index), true_relative(last, index)))
        assert posed.landmarks == 0 and off < 3 * sigma < np.deg2rad(10)
        assert with_imu.states[index] is TrackingState.TRACKING
    spread = [np.trace(with_imu.online[i].covariance[3:, 3:]) for i in (last, *DARK)]
    assert all(a < b for a, b in zip(spread, spread[1:]))  # nothing is known of the position
    after = with_imu.online[DARK[-1] + 1]
    assert after.landmarks > 50
    assert degrees_between(relative(with_imu, last, after.index),
                           true_relative(last, after.index)) < 1.0


def test_without_a_gyroscope_such_frames_have_no_pose():
    found = run(False)
    assert not set(DARK) & set(found.online)
    assert found.system.gravity() is None


def test_gravity_is_that_of_the_scene(with_imu):
    """After a second of motion it is not certain, and its deviation says so."""
    found = with_imu.system.gravity()
    R_map_world = with_imu.system.pose_of(with_imu.online[10])[:3, :3] @ render(
        still_scene(SCENE, FRAMES), 10).T_world_cam[:3, :3].T
    off = np.arccos(np.clip(found.up @ R_map_world[:, 2], -1, 1))
    assert not found.certain and off < 3 * found.sigma


def test_keyframes_in_view_are_those_that_look_the_same_way(with_imu):
    from recon3r_ros.slam.frontend.coasting import in_view
    known = with_imu.system.map
    T = known.newest.T_map_cam
    assert in_view(known, T)[0].id == known.newest.id
    behind = T @ se3.from_rt(se3.so3_exp([0.0, np.pi, 0.0]), np.zeros(3))
    assert in_view(known, behind) == []


def test_poses_by_the_gyroscope_end():
    """It may not go on for ever: after a second the camera is lost."""
    found, imu = run(True, range(0)), samples()
    last_ns = as_frame(still_scene(SCENE, FRAMES), FRAMES - 1).stamp_ns
    dark = frame(0, range(1), None)
    rng = np.random.default_rng(0)
    posed = []
    for n in range(1, 41):
        stamp_ns = last_ns + n * 33_333_333
        later = ImuSamples(stamp_ns + np.arange(-7, 1) * 5_000_000, rng.normal(0.2, 0.01, (8, 3)),
                           imu.accelerometer[:8], imu.R_cam_imu)
        update = found.system.add(replace(dark, stamp_ns=stamp_ns, name=f'later{n}',
                                          index=FRAMES + n, imu=later))
        posed.append(bool(update.frames))
    assert all(posed[:20]) and not any(posed[31:])
    assert found.system.state is TrackingState.LOST
