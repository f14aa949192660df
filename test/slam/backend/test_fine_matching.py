# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Precise observations of landmarks of a room whose true pixels are known."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from keyframes_by_hand import (
    anchor,
    at_x,
    CAMERA,
    keyframe,
    keypoints,
    points_in_map,
    project,
    TRACKING,
)
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend import compiled_patches
from recon3r_ros.slam.backend.fine_matching import finest_size, levels_of, match, PIXELS
from recon3r_ros.slam.backend.reobservation import reobserve
from recon3r_ros.slam.types import at, Keyframe

Array = NDArray[np.float64]
NEAR = at_x(0.25, 0.05, 0.1, yaw=0.05)
#: The walls before the first camera are seen from about 45 degrees aside
ASIDE = at_x(1.9, 0.2, 1.2, yaw=-0.7)
#: Slopes of surfaces that face the first camera
FLAT = np.zeros((len(keypoints()), 2))
#: Seen from the front and close by, at most this far off, pixels of the grid
EXACT = 0.015


@lru_cache(maxsize=None)
def observer(aside: bool = False) -> Keyframe:
    """Make one of the same scene at another pose."""
    return keyframe(1, ASIDE if aside else NEAR, textured=True)


def slopes_of(k: Keyframe) -> Array:
    """Fit the slopes of a keyframe's surfaces."""
    return compiled_patches.slopes(k.inverse_depth, k.mask, k.keypoints, k.landmarks)


def matched(first: Keyframe, second: Keyframe, levels: tuple[int, ...] = (2, 1, 0),
            slopes: Array | None = None) -> tuple[NDArray[np.int64], Array]:
    """Find landmarks of one keyframe in another."""
    return match(first, second, levels_of(first.gray), levels_of(second.gray),
                 slopes_of(first) if slopes is None else slopes, levels)


def errors(indices: NDArray[np.int64], pixels: Array, T_map_cam: Array = NEAR) -> Array:
    """Distances (n,) from the truth."""
    true, _ = project(T_map_cam, CAMERA,
                      points_in_map(np.eye(4), CAMERA, anchor().keypoints[indices]))
    return np.asarray(np.linalg.norm(pixels - true, axis=1))


@pytest.mark.parametrize('drift', [0.0, 0.01, 0.02])
def test_landmarks_are_found_where_they_are_and_not_where_they_are_believed(drift: float) -> None:
    """The observer's pose has drifted, in metres and radians."""
    believed = se3.exp([drift, -drift, drift, drift, drift, drift]) @ NEAR
    indices, pixels = matched(anchor(), replace(observer(), T_map_cam=believed))
    assert len(indices) > 45 and len(set(indices.tolist())) == len(indices)
    off = errors(indices, pixels)
    assert np.median(off) < EXACT and np.percentile(off, 90) < 0.2


@pytest.mark.parametrize('wrong', ['depths', 'slopes'])
def test_wrong_depths_and_slopes_do_not_shift_what_is_found(wrong: str) -> None:
    k, slopes = anchor(), FLAT
    if wrong == 'depths':
        k, slopes = replace(k, landmarks=k.landmarks * 1.05), slopes_of(k)
    indices, pixels = matched(k, observer(), slopes=slopes)
    offsets = pixels - project(NEAR, CAMERA, points_in_map(
        np.eye(4), CAMERA, k.keypoints[indices]))[0]
    assert len(indices) > 45
    assert np.abs(np.median(offsets, axis=0)).max() < EXACT
    assert np.median(errors(indices, pixels)) < 2 * EXACT


def test_a_landmark_is_recognised_from_aside_as_patches_follow_the_surface() -> None:
    """Without the surface's slope, or by tracking square windows, few are found."""
    indices, pixels = matched(anchor(), observer(aside=True))
    off = errors(indices, pixels, ASIDE)
    assert len(indices) > 15 and np.median(off) < 5 * EXACT
    flat, _ = matched(anchor(), observer(aside=True), slopes=FLAT)
    tracked, _ = reobserve(anchor(), observer(aside=True))
    assert len(flat) < 0.8 * len(indices) and len(tracked) < 0.8 * len(indices)


def test_the_finest_level_alone_corrects_what_is_nearly_right() -> None:
    indices, pixels = matched(anchor(), observer(), levels=(0,))
    assert len(indices) > 45 and np.median(errors(indices, pixels)) < EXACT


def test_brightness_and_contrast_do_not_matter() -> None:
    dark = replace(observer(), gray=(0.5 * observer().gray + 10).astype(np.uint8))
    indices, pixels = matched(anchor(), dark)
    assert len(indices) > 45 and np.median(errors(indices, pixels)) < 2 * EXACT


@pytest.mark.parametrize('what', ['anchor', 'observer', 'hidden', 'another texture', 'no texture'])
def test_what_is_not_there_is_not_found(what: str) -> None:
    """Its left half is masked, hidden by something nearer, or another one."""
    first, second = anchor(), observer()
    half, half_fine = CAMERA.width // 2, TRACKING.width // 2
    mask, near = np.zeros_like(first.mask), second.inverse_depth.copy()
    mask[:, :half], near[:, :half] = True, 2 * near[:, :half]
    gray = second.gray.copy()
    gray[:, :half_fine] = (np.uint8(100) if what == 'no texture'
                           else keyframe(2, at_x(0, yaw=np.pi), textured=True).gray[:, :half_fine])
    if what == 'anchor':
        first = replace(first, mask=mask)
    elif what == 'observer':
        second = replace(second, mask=mask)
    elif what == 'hidden':
        second = replace(second, inverse_depth=near)
    else:
        second = replace(second, gray=gray)
    indices, pixels = matched(first, second)
    assert len(indices) > 15
    seen = first.keypoints[indices] if what == 'anchor' else pixels
    # Some patch may look like another one by chance
    assert (seen[:, 0] > half - 2).mean() > (0.9 if what == 'another texture' else 0.999)


def test_slopes_are_those_of_the_walls() -> None:
    """On a plane n . x = d the inverse depth is n . r / d: linear in the pixel."""
    k = anchor()
    plane = np.array([0.25, 0.1, 1.0, 4.0])
    found = slopes_of(k)
    rays = k.camera.unproject(k.keypoints)
    own = np.isclose(k.landmarks, rays @ plane[:3] / plane[3])
    inside = own & (at(np.abs(k.inverse_depth - k.rays() @ plane[:3] / plane[3]), k.keypoints)
                    < 1e-6)
    error = np.abs(found[inside] - plane[:2] / plane[3] / [CAMERA.fx, CAMERA.fy])
    assert inside.sum() > 20
    assert np.median(error) < 1e-7
    unknown = replace(k, inverse_depth=np.zeros_like(k.inverse_depth))
    assert not slopes_of(unknown).any()
    assert not slopes_of(replace(k, mask=np.ones_like(k.mask))).any()


def test_large_images_are_reduced() -> None:
    assert finest_size(640, 480) == (640, 480)
    width, height = finest_size(4000, 3000)
    assert width * height == pytest.approx(PIXELS, rel=0.01) and width / height > 1.3
    images = levels_of(np.zeros((3000, 4000), np.uint8))
    assert [i.shape for i in images] == [
        (height, width), (height // 2, width // 2), (height // 4, width // 4)]
