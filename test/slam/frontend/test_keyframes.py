# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframe selection."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.tracking import Reference, Track
from recon3r_ros.slam.options import FrontendOptions
from simulated import render, still_scene

Array = NDArray[np.float64]
CAMERA = Camera(320, 240, 262.0, 262.0, 159.5, 119.5)


def gray(index: int) -> NDArray[np.uint8]:
    """Return a frame's grey image."""
    return cv2.cvtColor(render(still_scene(3, trajectory='orbit'), index).image,
                        cv2.COLOR_RGB2GRAY)


def test_sharpness_falls_with_blur() -> None:
    values = [keyframes.sharpness(cv2.GaussianBlur(gray(0), (0, 0), s) if s else gray(0))
              for s in (0, 1, 1.5, 2, 3, 5)]
    assert values == sorted(values, reverse=True)
    assert values[3] < FrontendOptions.keyframe_sharpness * values[0]
    kernel = np.zeros((9, 9), np.float32)
    kernel[4] = 1 / 9
    assert keyframes.sharpness(cv2.filter2D(gray(0), -1, kernel)) < 0.6 * values[0]
    assert keyframes.sharpness(np.full((240, 320), 90, np.uint8)) == 0


def test_neighbouring_frames_are_equally_sharp() -> None:
    values = [keyframes.sharpness(gray(k)) for k in (0, 5, 10)]
    assert max(values) < 1.4 * min(values)


def followed(T_cam_ref: Array, share: float = 1.0, depth: float = 3.0) -> tuple[Track, Reference]:
    """Track of 200 points at one depth with an exact pose; a share of them is observed."""
    rng = np.random.default_rng(2)
    pixels = rng.uniform([0, 0], [319, 239], (200, 2))
    points = CAMERA.unproject(pixels) * depth
    inliers = np.arange(200) < share * 200
    pose = PnPResult(T_cam_ref, inliers, np.eye(6) * 1e-8, 0.3)
    with np.errstate(invalid='ignore'):
        seen = CAMERA.project(se3.transform(T_cam_ref, points)).astype(np.float32)
    return (Track(seen, inliers, pose),
            Reference(np.zeros((240, 320), np.uint8), pixels.astype(np.float32), points))


def is_due(T_cam_ref: Array, blurred: bool = False, share: float = 1.0, depth: float = 3.0
           ) -> bool:
    """Ask for such a frame."""
    track, reference = followed(T_cam_ref, share, depth)
    return keyframes.is_due(track, reference, blurred)


def shift(distance: float) -> Array:
    """Move the camera sideways."""
    return se3.from_rt(np.eye(3), [-distance, 0, 0])


def turn(angle: float) -> Array:
    """Rotate the camera in place."""
    return se3.from_rt(se3.so3_exp([0, angle, 0]), np.zeros(3))


def test_not_due_where_nothing_changed() -> None:
    assert not is_due(np.eye(4))
    assert not is_due(shift(0.02))


def test_due_on_parallax_which_depends_on_distance() -> None:
    assert is_due(shift(0.5), depth=3.0)
    assert not is_due(shift(0.5), depth=60.0)


def test_a_turn_is_no_parallax_but_due_when_large() -> None:
    assert not is_due(turn(0.7 * np.deg2rad(FrontendOptions.keyframe_rotation)))
    assert is_due(turn(1.1 * np.deg2rad(FrontendOptions.keyframe_rotation)))


def test_due_when_few_points_are_left() -> None:
    assert is_due(np.eye(4), share=0.9 * FrontendOptions.keyframe_overlap)
    assert not is_due(np.eye(4), share=1.1 * FrontendOptions.keyframe_overlap)


def test_a_blurred_frame_is_refused_unless_track_would_be_lost() -> None:
    assert not is_due(shift(0.5), blurred=True)
    assert is_due(shift(0.5), blurred=True, share=0.9 * keyframes.CRITICAL_OVERLAP)


def first_shift(T_cam_ref: Array, relief: float) -> float:
    """Shift of points between 3 and 3 * relief away, before there is depth."""
    rng = np.random.default_rng(2)
    pixels = rng.uniform([0, 0], [319, 239], (300, 2))
    points = CAMERA.unproject(pixels) * rng.uniform(3, 3 * relief, (300, 1))
    seen = CAMERA.project(se3.transform(T_cam_ref, points)).astype(np.float32)
    found = np.all((seen >= 0) & (seen <= [319, 239]), axis=1)
    unknown = np.full_like(points, np.nan)
    return keyframes.first_shift(
        Track(seen, found, None),
        Reference(np.zeros((240, 320), np.uint8), pixels.astype(np.float32), unknown), CAMERA)


def test_first_shift_grows_with_motion_and_not_with_turning() -> None:
    assert first_shift(np.eye(4), 2.0) < 1e-4
    assert first_shift(turn(0.15), 2.0) < 1e-4
    values = [first_shift(shift(d) @ turn(0.05), 2.5) for d in (0.05, 0.1, 0.2, 0.4)]
    assert values == sorted(values) and values[0] > 0
    assert values[-1] > keyframes.FIRST_SHIFT


def test_first_shift_is_what_is_left_when_a_turn_imitates_most_of_a_step() -> None:
    """A twelfth of the distance along a wall, 22 pixels: a rotation explains all but a few."""
    step = shift(0.25)
    moved = 0.25 / 3 * CAMERA.fx
    assert 0 < first_shift(step, 1.05) < 0.5 * moved
    assert first_shift(step, 2.0) > first_shift(step, 1.05), 'relief no turn explains'


@pytest.mark.parametrize('count', [0, 5])
def test_first_shift_of_nothing(count: int) -> None:
    pixels = np.zeros((count, 2), np.float32)
    track = Track(pixels, np.ones(count, bool), None)
    reference = Reference(np.zeros((240, 320), np.uint8), pixels, np.full((count, 3), np.nan))
    assert keyframes.first_shift(track, reference, CAMERA) == 0.0
