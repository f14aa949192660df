# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Visibility of a keyframe in another camera, where it can be computed by hand."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import at_x, CAMERA, keyframe, points_in_map, project, room_depth
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.slam.types import Keyframe
from recon3r_ros.slam.visibility import (
    CELL,
    MAX_ANGLE,
    MAX_STEP,
    MAX_ZOOM,
    MIN_CONFIDENCE,
    Surface,
    visible,
)

Array = NDArray[np.float64]
SHAPE = (CAMERA.height, CAMERA.width)


def one_landmark(depth: float, pixel: tuple[int, int] = (31, 24)) -> Keyframe:
    """Make a keyframe at the origin with one landmark, on the optical axis if not said else."""
    inverse = np.array([1 / depth if depth else 0.0])
    return replace(keyframe(0), keypoints=np.array([pixel], np.int32), landmarks=inverse,
                   information=np.ones(1))


def observer(T_map_cam: Array, camera: Camera = CAMERA) -> Keyframe:
    """Make a keyframe that is only an observer."""
    nothing = np.zeros((camera.height, camera.width))
    return replace(keyframe(1), T_map_cam=T_map_cam, camera=camera,
                   inverse_depth=nothing.astype(np.float32))


def test_landmarks_are_seen_where_they_project() -> None:
    anchor, place = keyframe(0), at_x(0.5, 0.1, 0.2, yaw=-0.2)
    found, pixels = visible(anchor, observer(place))
    expected, seen = project(place, CAMERA, points_in_map(np.eye(4), CAMERA, anchor.keypoints))
    assert 20 < seen.sum() < len(seen)
    assert np.array_equal(found, np.flatnonzero(seen))
    assert np.allclose(pixels, expected[seen])


def test_from_its_own_place_a_keyframe_sees_all_its_landmarks_that_have_depth() -> None:
    anchor = keyframe(0, at_x(0.3, yaw=0.2))
    landmarks = anchor.landmarks.copy()
    landmarks[1::2] = 0
    found, pixels = visible(replace(anchor, landmarks=landmarks), anchor)
    assert np.array_equal(found, np.arange(0, len(landmarks), 2))
    assert np.allclose(pixels, anchor.keypoints[::2])


@pytest.mark.parametrize('case', ['unknown depth', 'no keypoints', 'behind', 'out of view'])
def test_nothing_is_seen(case: str) -> None:
    anchor, place = one_landmark(0.0 if case == 'unknown depth' else 3.0), np.eye(4)
    if case == 'no keypoints':
        anchor = replace(anchor, keypoints=np.zeros((0, 2), np.int32), landmarks=np.zeros(0))
    elif case == 'behind':
        place = at_x(0, yaw=np.pi)
    elif case == 'out of view':
        place = at_x(0, yaw=0.7)
    found, pixels = visible(anchor, observer(place))
    assert found.shape == (0,) and pixels.shape == (0, 2)


def test_a_landmark_that_the_camera_has_passed_is_not_seen() -> None:
    """It lies behind, on the line through both centres: its projection would be the centre."""
    assert len(visible(one_landmark(1.0), observer(at_x(0, z=1.8)))[0]) == 0


@pytest.mark.parametrize('degrees, seen', [(0, True), (-28, True), (28, True), (-32, False),
                                           (32, False), (90, False), (175, False)])
def test_landmarks_are_recognised_from_much_the_same_side(degrees: float, seen: bool) -> None:
    """The observer goes around the landmark, at the same distance, and looks at it."""
    assert np.rad2deg(MAX_ANGLE) == pytest.approx(30)
    around = np.deg2rad(degrees)
    place = at_x(-3 * np.sin(around), z=3 - 3 * np.cos(around), yaw=around)
    found, pixels = visible(one_landmark(3.0), observer(place))
    assert found.tolist() == ([0] if seen else [])
    assert not seen or np.allclose(pixels, [[31, 24]])


@pytest.mark.parametrize('ratio, seen', [(MAX_ZOOM - 0.01, True), (MAX_ZOOM + 0.01, False),
                                         (1 / (MAX_ZOOM - 0.01), True),
                                         (1 / (MAX_ZOOM + 0.01), False)])
def test_landmarks_are_recognised_at_much_the_same_distance(ratio: float, seen: bool) -> None:
    found, _ = visible(one_landmark(2.0), observer(at_x(0, z=2.0 - 2.0 * ratio)))
    assert found.tolist() == ([0] if seen else [])


@pytest.mark.parametrize('u, v, seen', [(0.0, 5, True), (-0.01, 5, False), (63.0, 5, True),
                                        (63.01, 5, False), (5, 0.0, True), (5, -0.01, False),
                                        (5, 47.0, True), (5, 47.01, False)])
def test_an_image_is_looked_at_as_far_as_its_pixels_centres(u: float, v: float, seen: bool
                                                            ) -> None:
    """The landmark lies on the optical axis, whose pixel is the principal point."""
    found, _ = visible(one_landmark(3.0), observer(np.eye(4), replace(CAMERA, cx=u, cy=v)))
    assert found.tolist() == ([0] if seen else [])


def test_the_observers_camera_is_what_counts() -> None:
    camera = Camera(200, 100, 80.0, 90.0, 105.0, 51.0)
    _, pixels = visible(one_landmark(2.0), observer(at_x(-0.5, 0.2), camera))
    assert np.allclose(pixels, [[105 + 80 * 0.5 / 2, 51 - 90 * 0.2 / 2]])


def test_units_of_length_do_not_matter() -> None:
    place = at_x(0.4, yaw=-0.1)
    metres = visible(keyframe(0), observer(place))
    other = visible(keyframe(0, scale=0.01), observer(se3.stretched(place, 0.01)))
    assert np.array_equal(metres[0], other[0]) and np.allclose(metres[1], other[1])


# The depth map of a keyframe, rendered in another camera

TRACKING = CAMERA.resized(2 * CAMERA.width, 2 * CAMERA.height)
T_CAM_KEYFRAME = se3.inverse(at_x(0.15, 0.05, -0.1, yaw=-0.05))


def pixels_of_cells(surface: Surface, camera: Camera) -> Array:
    """Pixels (h, w, 2) of the centres of a surface's cells."""
    cells = pixel_grid(*surface.depths.shape)
    return np.minimum(CELL * cells + (CELL - 1) / 2, [camera.width - 1, camera.height - 1])


def wall(depth: NDArray[np.floating] | float) -> Keyframe:
    """Make a keyframe at the origin with a depth (H, W) along its optical axis."""
    inverse = (1 / (depth * np.ones(SHAPE))).astype(np.float32)
    return replace(keyframe(0), inverse_depth=inverse)


@pytest.mark.parametrize('T', [np.eye(4), T_CAM_KEYFRAME])
def test_a_surface_is_where_the_walls_are(T: Array) -> None:
    surface = Surface.seen(keyframe(0), T, TRACKING)
    assert surface.depths.shape == (24, 32)
    rays = TRACKING.unproject(pixels_of_cells(surface, TRACKING))
    true = room_depth(se3.inverse(T), rays)
    known = np.isfinite(surface.depths)
    assert known.mean() > 0.6
    errors = np.abs(surface.depths[known] / true[known] - 1)
    assert errors.max() < MAX_STEP, 'in the corners of the room'
    assert np.median(errors) < 0.005


def test_depth_is_looked_up_in_pixels_of_the_camera() -> None:
    surface = Surface.seen(keyframe(0), np.eye(4), TRACKING)
    pixels = np.array([[40, 20], [100, 20], [64, 10], [90, 30]], np.float32)
    true = room_depth(np.eye(4), TRACKING.unproject(pixels))
    assert np.ptp(true) > 0.3
    assert np.allclose(surface.depth(pixels) / true, 1, atol=0.02)
    assert surface.depth(np.zeros((0, 2), np.float32)).shape == (0,)


def test_outside_the_image_no_depth_is_known() -> None:
    surface = Surface.seen(keyframe(0), np.eye(4), TRACKING)
    width, height = TRACKING.width, TRACKING.height
    outside = np.array([[-1, 20], [-6, 20], [40, -1], [width, 20], [40, height],
                        [np.nan, 20]], np.float32)
    with np.errstate(invalid='ignore'):
        assert np.isnan(surface.depth(outside)).all()


@pytest.mark.parametrize('width, height', [(128, 96), (125, 93), (127, 94), (5, 3)])
def test_cells_cover_all_of_the_image(width: int, height: int) -> None:
    """Its last pixels lie in cells of which some is beyond."""
    camera = CAMERA.resized(width, height)
    surface = Surface.seen(wall(3.0), np.eye(4), camera)
    assert surface.depths.shape == (-(-height // CELL), -(-width // CELL))
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1],
                        [-0.5, -0.5], [width - 0.5, height - 0.5]], np.float32)
    assert np.allclose(surface.depth(corners), 3.0)


def test_a_wall_before_the_camera_is_as_far_as_it_has_come() -> None:
    surface = Surface.seen(wall(3.0), se3.inverse(at_x(0, z=0.5)), TRACKING)
    known = np.isfinite(surface.depths)
    assert known.mean() > 0.95 and np.allclose(surface.depths[known], 2.5)


def test_at_a_step_the_depth_is_not_known() -> None:
    """A wall at 4 m, and one at 2 m before its left half."""
    depth = np.where(np.arange(64) < 32, 2.0, 4.0)
    surface = Surface.seen(wall(depth), np.eye(4), TRACKING)
    step = 64 // CELL  # the column of cells right of it
    assert np.allclose(surface.depths[:, :step - 1], 2.0)
    assert np.isnan(surface.depths[:, step - 1:step + 1]).all()
    assert np.allclose(surface.depths[:, step + 1:], 4.0)


def test_a_cell_begins_half_a_pixel_before_its_first_pixels_centre() -> None:
    """Projected 0.7 pixels to the right, pixels 31 and 32 are both in the cell of 32 to 35."""
    depth = np.where(np.arange(64) < 32, 2.0, 4.0)
    surface = Surface.seen(wall(depth), np.eye(4), replace(CAMERA, cx=CAMERA.cx + 0.7))
    assert np.flatnonzero(np.isnan(surface.depths).all(axis=0)).tolist() == [7, 8, 9]


@pytest.mark.parametrize('ratio, known', [(1.09, True), (1.11, False)])
def test_how_high_a_step_is(ratio: float, known: bool) -> None:
    depth = np.where(np.arange(64) < 32, 2.0, 2.0 * ratio)
    found = Surface.seen(wall(depth), np.eye(4), TRACKING).depth(
        np.array([[63, 40], [65, 40]], np.float32))
    assert np.isfinite(found).all() == known
    assert not known or np.allclose(found, (1 + ratio) / 2 * 2.0)


@pytest.mark.parametrize('why', ['unknown', 'masked', 'unsure'])
def test_what_is_not_known_is_no_surface(why: str) -> None:
    """Of the right half there is no depth, or no good one, or a dynamic object stands there."""
    known, right = wall(3.0), np.zeros(SHAPE, bool)
    right[:, 32:] = True
    if why == 'unknown':
        known = replace(known, inverse_depth=known.inverse_depth * ~right)
    elif why == 'masked':
        known = replace(known, mask=right)
    else:
        known = replace(known, confidence=np.where(right, MIN_CONFIDENCE, 400).astype(np.float32))
    surface = Surface.seen(known, np.eye(4), TRACKING)
    assert np.allclose(surface.depths[:, :15], 3.0) and np.isnan(surface.depths[:, 17:]).all()


@pytest.mark.parametrize('T', [at_x(0, yaw=np.pi), at_x(0, z=-3.5), at_x(0, yaw=1.4)])
def test_of_what_is_behind_or_out_of_view_nothing_is_seen(T: Array) -> None:
    surface = Surface.seen(wall(3.0), T, TRACKING)
    assert np.isnan(surface.depths).all()
    assert np.isnan(surface.depth(np.array([[20, 20]], np.float32))).all()


def test_of_a_keyframe_without_depth_nothing_is_seen() -> None:
    blind = replace(keyframe(0), inverse_depth=np.zeros(SHAPE, np.float32))
    assert np.isnan(Surface.seen(blind, np.eye(4), TRACKING).depths).all()


def test_what_was_hidden_stays_unknown_or_gets_the_depth_of_what_hid_it() -> None:
    """From the side, no cell beside a near wall's edge is a mean of both walls."""
    depth = np.where(np.arange(64) < 32, 2.0, 4.0)
    surface = Surface.seen(wall(depth), se3.inverse(at_x(0.2)), TRACKING)
    known = surface.depths[np.isfinite(surface.depths)]
    assert len(known) > 400
    assert (np.isclose(known, 2.0) | np.isclose(known, 4.0)).all()
