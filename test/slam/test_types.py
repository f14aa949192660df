# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Properties of keyframes and maps."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import at_x, CAMERA, keyframe, points_in_map
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.slam.types import at, Map, PointCloud, Retired

GRID = pixel_grid(CAMERA.height, CAMERA.width)


def test_a_pointmap_is_in_the_cameras_frame() -> None:
    place = at_x(0.5, 0.2, -0.3, yaw=0.2)
    known = keyframe(0, place)
    inverse_depth = known.inverse_depth.copy()
    inverse_depth[:5] = 0
    points = replace(known, inverse_depth=inverse_depth).pointmap()
    assert points.dtype == np.float32 and np.isnan(points[:5]).all()
    in_map = se3.transform(place, points[5:].reshape(-1, 3))
    assert np.allclose(in_map, points_in_map(place, CAMERA, GRID[5:]).reshape(-1, 3), atol=1e-4)


def test_landmarks_are_points_of_the_cameras_frame() -> None:
    known = keyframe(0)
    landmarks = known.landmarks.copy()
    landmarks[::3] = 0
    points = replace(known, landmarks=landmarks).landmark_points()
    assert np.isnan(points[::3]).all()
    expected = points_in_map(np.eye(4), CAMERA, known.keypoints)
    for rest in (slice(1, None, 3), slice(2, None, 3)):
        assert np.allclose(points[rest], expected[rest])


def test_the_median_depth_is_that_of_known_landmarks() -> None:
    known = replace(keyframe(0), landmarks=np.array([0.0, 1 / 2, 1 / 3, 1 / 10, 0.0]))
    assert known.median_depth() == pytest.approx(3.0)
    assert replace(known, landmarks=np.zeros(5)).median_depth() == 1.0
    assert replace(known, landmarks=np.zeros(0)).median_depth() == 1.0


def test_values_at_pixels() -> None:
    """Pixels are columns and rows."""
    field = np.arange(12).reshape(3, 4)
    assert at(field, np.array([[3, 0], [0, 2]], np.int32)).tolist() == [3, 8]
    assert at(np.dstack([field, -field]), np.array([[1, 2]], np.int32)).tolist() == [[9, -9]]
    assert at(field, np.zeros((0, 2), np.int32)).shape == (0,)


def test_a_cloud_in_another_unit() -> None:
    cloud = PointCloud(np.array([[1, 2, 3]], np.float32), np.zeros((1, 3), np.uint8),
                       np.ones(1, np.float32)).scaled(2.5)
    assert cloud.points.tolist() == [[2.5, 5.0, 7.5]] and cloud.points.dtype == np.float32
    assert len(cloud) == 1 and len(PointCloud.empty().scaled(3.0)) == 0


def test_a_map_begins_with_depth() -> None:
    first = keyframe(0)
    blind = replace(first, information=np.zeros(len(first.keypoints)))
    assert not Map().started and not Map({0: blind}).started
    assert Map({0: first}).started and Map({0: blind, 1: replace(blind, id=1)}).started


def test_the_newest_keyframe_has_the_highest_id() -> None:
    assert Map({4: keyframe(4), 9: keyframe(9), 7: keyframe(7)}).newest.id == 9


def test_a_retired_keyframe_is_present_in_the_one_that_took_its_place() -> None:
    """Which may have been culled itself."""
    retired = {1: Retired(2, np.eye(4), 1.0, 1.0), 2: Retired(3, np.eye(4), 1.0, 1.0)}
    known = Map({0: keyframe(0), 3: keyframe(3)}, retired=retired)
    assert [known.present(i).id for i in (0, 1, 2, 3)] == [0, 3, 3, 3]
    with pytest.raises(KeyError):
        known.present(8)


def test_the_scale_of_a_keyframe_is_one_unless_loops_changed_it() -> None:
    known = Map({0: keyframe(0), 1: keyframe(1)}, {1: 1.4})
    assert (known.scale_of(0), known.scale_of(1)) == (1.0, 1.4)


T_NEAR = se3.exp([0.02, -0.1, 0.03, 0.2, -0.1, 0.3])


@pytest.mark.parametrize('found_at', [1.0, 0.5])
def test_a_camera_near_a_keyframe_moves_and_grows_with_it(found_at: float) -> None:
    """Found when depths had one scale; now they have another, and the keyframe another pose."""
    place = at_x(1.0, yaw=0.4)
    known = Map({3: replace(keyframe(3), T_map_cam=place)}, {3: 2.0})
    expected = place @ se3.from_rt(T_NEAR[:3, :3], T_NEAR[:3, 3] * 2.0 / found_at)
    assert np.allclose(known.pose_in_map(3, T_NEAR, found_at), expected)


def test_a_camera_near_a_retired_keyframe_goes_with_what_took_its_place() -> None:
    first, second = at_x(0.1, yaw=0.1), at_x(0.4, 0.2, yaw=0.5)
    retired = {1: Retired(2, se3.inverse(second) @ first, 1.0, 1.0)}
    known = Map({2: keyframe(2, second)}, retired=retired)
    assert np.allclose(known.pose_in_map(1, T_NEAR, 1.0), first @ T_NEAR)


def test_each_retirement_is_in_the_map_units_of_its_time() -> None:
    """
    All stand in a row, and loops change all scales in between; added up by hand.

    A camera is found 1 to the right of keyframe 1 at its scale of 0.5. When keyframe 1 retires,
    its scale is 0.8, and it stands 10 to the right of keyframe 2, whose scale is 1.2. When that
    one retires, its scale is 1.5, and it stands 100 to the right of keyframe 5, whose scale is
    0.7. Today that is 3, and keyframe 5 stands at 1000.
    """
    retired = {1: Retired(2, at_x(10.0), 1.2, 0.8), 2: Retired(5, at_x(100.0), 0.7, 1.5)}
    last = replace(keyframe(5), T_map_cam=at_x(1000.0))
    known = Map({5: last}, {5: 3.0}, retired=retired)
    near_second = 10 + 1 * 0.8 / 0.5
    near_last = 100 + near_second * 1.5 / 1.2
    expected = at_x(1000 + near_last * 3.0 / 0.7)
    assert np.allclose(known.pose_in_map(1, at_x(1.0), 0.5), expected)
