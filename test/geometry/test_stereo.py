# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth by stereo is exact, and empty where only one camera looks."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.geometry.stereo import StereoMatcher
from recon3r_ros.geometry.stereo_rectification import StereoRectification

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

CAMERA = Camera(240, 180, 200.0, 200.0, 119.5, 89.5)
FISHEYE = Camera(480, 360, 180.0, 180.0, 239.5, 179.5, (0.05, -0.01, 0.0, 0.0), 'equidistant')
BASELINE = 0.1
#: Depth of a wall, whose texture has waves of 3 to 12 cm, and its slope along x
WALL, SLOPE = 2.0, 0.3
#: A plate in front of it: depth, and half its width
PLATE, HALF = 1.0, 0.15


def texture(points: Array) -> Array:
    """Grey values (...) of points (..., 2), metres; smooth, and nowhere alike."""
    rng = np.random.default_rng(7)
    total = np.zeros(points.shape[:-1])
    for _ in range(60):
        angle, wave = rng.uniform(0, np.pi), rng.uniform(0.03, 0.12)
        k = 2 * np.pi / wave * np.array([np.cos(angle), np.sin(angle)])
        total += np.sin(points @ k + rng.uniform(0, 2 * np.pi))
    return 128 + 14 * total / np.sqrt(30) * 2


def see(camera: Camera, T_world_cam: Array, plate: bool = False) -> tuple[Image, Array]:
    """Render the wall z = WALL + SLOPE x: grey image, and depth (H, W) along the axis."""
    rays = camera.unproject(pixel_grid(camera.height, camera.width)) @ T_world_cam[:3, :3].T
    origin = T_world_cam[:3, 3]
    s = (WALL + SLOPE * origin[0] - origin[2]) / (rays[..., 2] - SLOPE * rays[..., 0])
    points = origin + s[..., None] * rays
    grey = texture(points[..., :2])
    if plate:
        near = (PLATE - origin[2]) / rays[..., 2]
        there = origin + near[..., None] * rays
        hit = (np.abs(there[..., :2]) < HALF).all(axis=-1)
        s = np.where(hit, near, s)
        grey = np.where(hit, texture(there[..., :2] + 5.0), grey)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8), s


def pose(translation: tuple[float, ...], rotation: tuple[float, ...] = (0, 0, 0)) -> Array:
    """Make a pose (4, 4) of a position and a rotation vector."""
    return np.asarray(se3.from_rt(se3.so3_exp(np.array(rotation)), np.array(translation)))


@pytest.mark.parametrize('T_cam_other', [
    pose((BASELINE, 0, 0)), pose((-BASELINE, 0, 0)), pose((0, BASELINE, 0)),
    pose((0, -BASELINE, 0)), pose((0.08, 0.06, 0.01), (0.02, -0.05, 0.1))],
    ids=['right', 'left', 'below', 'above', 'oblique'])
def test_disparities_are_exact_to_a_tenth_of_a_pixel(T_cam_other: Array) -> None:
    image, true = see(CAMERA, np.eye(4))
    other, _ = see(CAMERA, T_cam_other)
    found = StereoMatcher(CAMERA, CAMERA, T_cam_other).depth(image, other)
    known = np.isfinite(found.depth)
    focal_baseline = CAMERA.fx * float(np.linalg.norm(T_cam_other[:3, 3]))
    errors = (focal_baseline / found.depth - focal_baseline / true)[known]
    assert known.mean() > 0.8
    typical = float(np.percentile(np.abs(errors), 68))
    assert abs(np.median(errors)) < 0.02 and typical < 0.1
    assert found.noise.source == 'rig'
    sigma = found.noise.quadratic * focal_baseline
    assert sigma == pytest.approx(typical, abs=0.1), 'it is what is stated'


def test_lenses_may_differ_and_be_wide() -> None:
    T_cam_other = pose((BASELINE, 0.01, 0), (0.0, 0.03, 0.0))
    image, _ = see(FISHEYE, np.eye(4))
    barrel = Camera(480, 360, 200.0, 200.0, 239.5, 179.5, (-0.1, 0.01, 0.001, 0.0))
    other, _ = see(barrel, T_cam_other)
    found = StereoMatcher(FISHEYE, barrel, T_cam_other).depth(image, other).depth
    _, true = see(FISHEYE.rectified(), np.eye(4))
    known = np.isfinite(found)
    assert known.mean() > 0.2, 'the narrower lens sees a part'
    assert np.median(np.abs(found / true - 1)[known]) < 0.02, 'an eighth of a pixel'


def test_a_second_image_that_is_darker_is_matched() -> None:
    image, _ = see(CAMERA, np.eye(4))
    other, _ = see(CAMERA, pose((BASELINE, 0, 0)))
    matcher = StereoMatcher(CAMERA, CAMERA, pose((BASELINE, 0, 0)))
    darker = matcher.depth(image, (0.5 * other + 10).astype(np.uint8)).depth
    assert np.isfinite(darker).mean() > 0.75


def test_what_only_one_camera_sees_is_empty() -> None:
    T_cam_other = pose((BASELINE, 0, 0))
    image, true = see(CAMERA, np.eye(4), plate=True)
    other, other_true = see(CAMERA, T_cam_other, plate=True)
    found = StereoMatcher(CAMERA, CAMERA, T_cam_other).depth(image, other).depth
    points = CAMERA.unproject(pixel_grid(180, 240)) * true[..., None] - (BASELINE, 0, 0)
    pixels = np.rint(CAMERA.project(points)).astype(int)
    inside = (pixels[..., 0] >= 0) & (pixels[..., 0] < 240)
    u = np.clip(pixels[..., 0], 0, 239)
    there = other_true[np.arange(180)[:, None], u]
    hidden = ~inside | (there < 0.9 * points[..., 2])
    assert hidden.sum() > 800
    assert np.isnan(found[hidden]).mean() > 0.8
    visible = np.isfinite(found) & ~hidden
    assert (np.abs(found / true - 1)[visible] < 0.05).mean() > 0.97


def test_a_surface_without_texture_is_empty() -> None:
    image, _ = see(CAMERA, np.eye(4))
    other, _ = see(CAMERA, pose((BASELINE, 0, 0)))
    rng = np.random.default_rng(0)
    for each in (image, other):
        each[60:120] = 128 + rng.normal(0, 0.6, each[60:120].shape).round()
    found = StereoMatcher(CAMERA, CAMERA, pose((BASELINE, 0, 0))).depth(image, other).depth
    assert np.isfinite(found[70:110]).mean() < 0.1 and np.isfinite(found[:55]).mean() > 0.7


def test_principal_points_may_be_apart() -> None:
    """Their offset is no depth: a rig of two crops measures the same."""
    T_cam_other = pose((BASELINE, 0, 0))
    image, true = see(CAMERA, np.eye(4))
    shifted = replace(CAMERA, cx=CAMERA.cx + 31.3)
    other, _ = see(shifted, T_cam_other)
    found = StereoMatcher(CAMERA, shifted, T_cam_other).depth(image, other).depth
    known = np.isfinite(found)
    assert known.mean() > 0.8
    assert np.median(found[known] / true[known]) == pytest.approx(1.0, abs=0.003)


@pytest.mark.parametrize(('T_cam_other', 'words'), [
    (np.eye(4), 'baseline of the stereo rig is 0'),
    (pose((110.0, 0, 0)), 'metres'),
    (pose((0, 0, 0.1)), 'optical axis'),
    (pose((0.1, 0, 0), (0, np.pi, 0)), 'look apart'),
    (pose((0.1, 0, 0), (0, 1.4, 0)), 'check the pose'),
    (np.full((4, 4), np.nan), 'finite'),
])
def test_a_useless_rig_is_refused(T_cam_other: Array, words: str) -> None:
    with pytest.raises(InputError, match=words):
        StereoRectification.of(CAMERA, CAMERA, T_cam_other)


def test_a_relative_error_of_the_baseline_is_one_of_all_depths() -> None:
    image, _ = see(CAMERA, np.eye(4))
    other, _ = see(CAMERA, pose((BASELINE, 0, 0)))
    noise = StereoMatcher(
        CAMERA, CAMERA, pose((BASELINE, 0, 0)), baseline_error=0.05).depth(image, other).noise
    sigma = 1 / np.sqrt(noise.information_of(np.array([0.5, 3.0])))
    assert sigma[0] == pytest.approx(0.05, rel=0.05)
    assert sigma[1] ** 2 - noise.floor ** 2 == pytest.approx(
        (3.0 * noise.quadratic) ** 2, rel=0.01)


def test_black_images_have_no_depth() -> None:
    black = np.zeros((180, 240), np.uint8)
    found = StereoMatcher(CAMERA, CAMERA, pose((BASELINE, 0, 0))).depth(black, black)
    assert not np.isfinite(found.depth).any() and np.isfinite(found.noise.quadratic)
    assert cv2.countNonZero(black) == 0
