# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Correspondences in another camera, against projections computed by hand."""

from __future__ import annotations

from keyframes_by_hand import at_x, CAMERA, points_in_map, project, TrueViewpoint
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE
from recon3r_ros.slam.backend.correspondence import correspond

GRID = pixel_grid(CAMERA.height, CAMERA.width)
SURE = np.full(GRID.shape[:2], 100.0, np.float32)


def wall(depth: float, x: float = 0.0) -> NDArray[np.float32]:
    """Pointmap (H, W, 3) of a wall across the optical axis, from a camera x metres to the left."""
    points = CAMERA.unproject(GRID) * depth
    return (points + [x, 0, 0]).astype(np.float32)


def one_point(x: float, y: float, z: float) -> NDArray[np.float32]:
    """Pointmap (1, 1, 3)."""
    return np.array([[[x, y, z]]], np.float32)


def test_a_camera_sees_its_own_pixels_where_they_are() -> None:
    found = correspond(wall(3.0), SURE, CAMERA)
    assert found.targets.dtype == found.confidence.dtype == np.float32
    assert np.allclose(found.targets, GRID, atol=1e-4)
    assert (found.confidence == SURE).all()


@pytest.mark.parametrize('depth', [1.0, 2.5])
def test_a_shift_to_the_side_is_a_disparity(depth: float) -> None:
    """Disparity = focal length x baseline / depth; outside the image there is no confidence."""
    found = correspond(wall(depth, x=0.25), SURE, CAMERA)
    expected = GRID + [CAMERA.fx * 0.25 / depth, 0]
    seen = expected[..., 0] <= CAMERA.width - 0.5
    assert 0.5 < seen.mean() < 1
    assert np.allclose(found.targets[seen], expected[seen], atol=1e-4)
    assert (found.confidence == SURE * seen).all()
    assert (found.targets[~seen] == 0).all()


def test_views_of_the_room_from_any_side() -> None:
    anchor, observer = TrueViewpoint(at_x(0.3, 0.1, -0.2, 0.1)), TrueViewpoint(at_x(0, yaw=-0.15))
    found = correspond(anchor.pointmap_in(observer).astype(np.float32), SURE, CAMERA)
    expected, _ = project(observer.T_map_cam, CAMERA,
                          points_in_map(anchor.T_map_cam, CAMERA, GRID))
    seen = found.confidence > 0
    assert 0.3 < seen.mean() < 1
    assert np.allclose(found.targets[seen], expected[seen], atol=1e-3)


def test_the_observers_camera_is_what_counts() -> None:
    """The observer may have another focal length and grid than the anchor."""
    camera = Camera(20, 30, 11.0, 13.0, 9.0, 14.0)
    found = correspond(one_point(0.5, -1.0, 2.0), np.ones((1, 1), np.float32), camera)
    assert found.targets[0, 0].tolist() == [11.0 / 4 + 9.0, -13.0 / 2 + 14.0]


@pytest.mark.parametrize('z', [0.0, -1.0, -1e-6])
def test_what_is_behind_the_camera_is_not_seen(z: float) -> None:
    """A point behind the camera would project inside the image."""
    found = correspond(one_point(0.0, 0.0, z), np.ones((1, 1), np.float32), CAMERA)
    assert found.confidence[0, 0] == 0 and (found.targets == 0).all()


@pytest.mark.parametrize('u, v, inside', [
    (-0.49, 3, True), (-0.51, 3, False), (CAMERA.width - 0.51, 3, True),
    (CAMERA.width - 0.49, 3, False), (3, -0.49, True), (3, -0.51, False),
    (3, CAMERA.height - 0.51, True), (3, CAMERA.height - 0.49, False)])
def test_an_image_ends_half_a_pixel_beyond_the_centres_of_its_pixels(
        u: float, v: float, inside: bool) -> None:
    ray = 2 * CAMERA.unproject([u, v])
    found = correspond(one_point(*ray), np.ones((1, 1), np.float32), CAMERA)
    assert (found.confidence[0, 0] > 0) == inside


def test_only_matched_pixels_count_however_unsure_their_depth() -> None:
    confidence = SURE.copy()
    confidence[:, :10] = NO_CONFIDENCE
    confidence[:, 10:20] = MATCHED
    found = correspond(wall(3.0), confidence, CAMERA)
    assert (found.confidence[:, :10] == 0).all() and (found.targets[:, :10] == 0).all()
    assert (found.confidence[:, 10:] == confidence[:, 10:]).all()
    assert np.allclose(found.targets[:, 10:], GRID[:, 10:], atol=1e-4)
