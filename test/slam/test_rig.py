# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Several cameras on a rig that see different parts of a room."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.sim import SimulatedSequence
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.frontend.causes import Cause
from recon3r_ros.slam.rig_scale import RigScale
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, RigMount, TrackingState
from simulated import as_frame, render, still_scene

#: Looks back, 0.3 m behind the first camera
T_FRONT_BACK = se3.from_rt(se3.so3_exp([0.05, np.pi, 0.03]), [0.1, 0.02, -0.3])
SEED, FRAMES = 3, 60


@lru_cache(maxsize=None)
def rig() -> dict[str, SimulatedSequence]:
    """Make the scene as both cameras see it."""
    front = still_scene(SEED, FRAMES)
    return {'front': front, 'back': front.seen_by(T_FRONT_BACK)}


MOUNTS = {'front': np.eye(4), 'back': T_FRONT_BACK}


def instant(i: int, dark: str = '', with_depth: bool = True) -> list[Frame]:
    """Return the frames of an instant; the very first one has measured depth."""
    frames = []
    for n, (name, sequence) in enumerate(rig().items()):
        frame = as_frame(sequence, i)
        frames.append(replace(
            frame, name=f'{name}{i}', index=2 * i + n, camera_name=name,
            image=np.zeros_like(frame.image) if name == dark else frame.image,
            depth=(render(sequence, i).depth if with_depth and i == 0 and name == 'front'
                   else None),
            mount=RigMount(MOUNTS[name], frame.stamp_ns)))
    return frames


def run(dark: str = '', dark_from: int = 20, dark_to: int = 45, with_depth: bool = True
        ) -> tuple[System, list[list[TrackingState]]]:
    """Process the sequence; one camera sees nothing for a while."""
    system = System(GeometricPredictor(), motion=MotionConfig(detect=False))
    states = []
    for i in range(FRAMES):
        hidden = dark if dark_from <= i < dark_to else ''
        states.append([u.state for u in system.add_instant(instant(i, hidden, with_depth))])
    system.finish()
    return system, states


def errors(system: System, camera: str, scale: float) -> np.ndarray:
    """Errors (N,) of the positions of a camera in the frame of the first pose, metres."""
    truth = {2 * i + list(MOUNTS).index(camera): render(rig()[camera], i).T_world_cam
             for i in range(FRAMES)}
    T_map_world = se3.inverse(render(rig()['front'], 0).T_world_cam)
    return np.array([
        np.linalg.norm(scale * T[:3, 3] - (T_map_world @ truth[f.index])[:3, 3])
        for f, T in system.trajectory() if f.camera_name == camera])


@pytest.mark.parametrize('dark', ['', 'front', 'back'])
def test_a_camera_that_sees_nothing_is_carried_by_the_other(dark: str) -> None:
    system, states = run(dark)
    assert all(s == [TrackingState.TRACKING] * 2 for s in states[1:])
    assert system.map.metre is not None
    for camera in MOUNTS:
        found = errors(system, camera, 1 / system.map.metre)
        assert len(found) == FRAMES and found.max() < 0.03, camera
    cameras = [k.camera_name for k in system.map.keyframes.values()]
    assert set(cameras) == set(MOUNTS)


def test_keyframes_of_an_instant_stay_as_the_cameras_are_mounted() -> None:
    system, _ = run()
    known, pairs = system.map, 0
    assert known.metre is not None
    for a in known.keyframes.values():
        for b in known.keyframes.values():
            assert a.mount is not None and b.mount is not None
            if a.mount.instant_ns == b.mount.instant_ns and a.id < b.id:
                T = se3.inverse(a.T_map_cam) @ b.T_map_cam
                expected = se3.stretched(
                    se3.inverse(a.mount.T_rig_cam) @ b.mount.T_rig_cam, known.metre)
                np.testing.assert_allclose(T, expected, atol=1e-6)
                pairs += 1
    assert pairs >= 2


def test_without_metres_another_camera_waits_until_its_distance_is_known() -> None:
    system = System(GeometricPredictor(), motion=MotionConfig(detect=False))
    for i in range(30):
        front, back = system.add_instant(instant(i, with_depth=False))
        if system.map.started and system.map.metre is None:
            assert back.frames == () and back.cause == Cause.UNSCALED.value
    assert system.map.started


@pytest.mark.parametrize('length', [0.05, 4.0])
def test_turns_tell_the_length_of_a_metre(length: float) -> None:
    """The pose of the tracked camera is the true one, in other units."""
    scale = RigScale(T_FRONT_BACK, rig()['back'].camera)
    found = None
    for i in range(FRAMES):
        T = se3.stretched(render(rig()['front'], i).T_world_cam, length)
        gray = as_frame(rig()['back'], i).image.mean(axis=2).astype(np.uint8)
        covariance = np.diag([1e-8] * 3 + [(2e-4 * length) ** 2] * 3)
        found = scale.add(gray, T, covariance) or found
    assert found is not None
    assert abs(np.log(found.value / length)) < 3 * found.sigma
    assert found.sigma < 0.3


def test_a_rig_that_does_not_turn_tells_no_length() -> None:
    scale = RigScale(T_FRONT_BACK, rig()['back'].camera)
    rng = np.random.default_rng(0)
    gray = as_frame(rig()['back'], 0).image.mean(axis=2).astype(np.uint8)
    for i in range(20):
        shifted = np.roll(gray, i, axis=1)
        T = se3.from_rt(se3.so3_exp(rng.normal(0, 1e-4, 3)), [0.01 * i, 0.0, 0.0])
        assert scale.add(shifted, T, np.diag([1e-8] * 3 + [1e-6] * 3)) is None


def test_another_camera_begins_the_map_where_the_first_one_sees_nothing() -> None:
    system = System(GeometricPredictor(), motion=MotionConfig(detect=False))
    for i in range(30):
        front, back = system.add_instant(instant(i, 'front', with_depth=False))
        if system.map.started:
            break
    assert back.state is TrackingState.TRACKING
    assert {k.camera_name for k in system.map.keyframes.values()} == {'back'}
