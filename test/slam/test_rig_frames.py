# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of an instant are posed together by the landmarks of all cameras."""

from __future__ import annotations

from keyframes_by_hand import CAMERA, keyframe
import numpy as np
from recon3r_ros.geometry import se3
from recon3r_ros.slam.rig_frames import pose_together, RigSighting
from recon3r_ros.slam.types import Map, RigMount, TrackedFrame

SCALE = 0.4
#: Of the cameras on the rig, metres
MOUNTS = {'left': np.eye(4), 'right': se3.from_rt(se3.so3_exp([0.0, 0.3, 0.0]), [0.2, 0.0, -0.1])}
T_WORLD_RIG = se3.from_rt(se3.so3_exp([0.02, -0.01, 0.03]), [0.1, -0.05, 0.08])


def seen(camera: str, noise: float, error: np.ndarray, agreeing: int) -> RigSighting:
    """Return what a camera observes of its keyframe's landmarks; its pose is off."""
    serial = list(MOUNTS).index(camera)
    reference = keyframe(serial, MOUNTS[camera], SCALE, camera_name=camera)
    T_ref_cam = se3.inverse(MOUNTS[camera]) @ T_WORLD_RIG @ MOUNTS[camera]
    points = reference.landmark_points()
    pixels = CAMERA.project(se3.transform(se3.inverse(se3.stretched(T_ref_cam, SCALE)), points))
    pixels += np.random.default_rng(serial).normal(0, noise, pixels.shape)
    inside = np.isfinite(pixels).all(axis=1)
    frame = TrackedFrame(
        camera, 5, 0, serial, se3.stretched(T_ref_cam, SCALE) @ se3.exp(error),
        camera_name=camera, landmarks=agreeing, mount=RigMount(MOUNTS[camera], 5))
    return RigSighting(serial, frame, points[inside], pixels[inside].astype(np.float32),
                               CAMERA, agreeing)


def known() -> Map:
    """Make a map with a keyframe of each camera."""
    keyframes = {n: keyframe(n, T, SCALE, camera_name=name)
                 for n, (name, T) in enumerate(MOUNTS.items())}
    return Map(keyframes, metre=SCALE)


def test_the_pose_of_the_rig_replaces_a_wrong_one_of_a_camera() -> None:
    sightings = [seen('left', 0.1, np.zeros(6), 100),
                 seen('right', 0.1, np.array([0, 0.05, 0, 0.1, 0, 0]), 0)]
    frames = pose_together(sightings, known())
    assert set(frames) == {0, 1}
    for name, serial in zip(MOUNTS, frames):
        T_map_cam = known().pose_in_map(
            serial, frames[serial].T_keyframe_cam, frames[serial].scale)
        expected = se3.stretched(T_WORLD_RIG @ MOUNTS[name], SCALE)
        np.testing.assert_allclose(T_map_cam, expected, atol=2e-3)
    T_left, T_right = (known().pose_in_map(n, f.T_keyframe_cam, f.scale)
                       for n, f in frames.items())
    np.testing.assert_allclose(se3.inverse(T_left) @ T_right,
                               se3.stretched(MOUNTS['right'], SCALE), atol=1e-9)


def test_frames_keep_their_poses_where_nothing_agrees() -> None:
    sightings = [seen(name, 40.0, np.zeros(6), 100) for name in MOUNTS]
    assert pose_together(sightings, known()) == {}
