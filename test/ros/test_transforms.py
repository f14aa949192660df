# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Odometry between its messages, and the parents of frames."""

from itertools import product
from threading import Thread

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.ros import transforms
from recon3r_ros.ros.transforms import Broadcast, broadcast, FrameNames, OdometryBuffer

MS = 1_000_000
START = 1_700_000_000_000_000_000
CAMERA = 'front_optical'
CAMERA_2 = 'rear_optical'
NAMES = FrameNames('map', 'odom', 'base_link', odometry=True)
#: A camera 0.3 m ahead of the base and 0.5 m above it, looking forward
T_BASE_CAM = se3.from_rt(transforms.T_BODY_OPTICAL[:3, :3], [0.3, 0.0, 0.5])


def poses(count, seed=0):
    rng = np.random.default_rng(seed)
    return se3.exp(np.hstack([rng.uniform(-1, 1, (count, 3)), rng.normal(size=(count, 3))]))


def arc(t_ms):
    """Pose of a robot that drives a circle of 2 m radius at 1 m/s."""
    return se3.exp(np.array([0, 0, 0.5, 1.0, 0, 0]) * t_ms * 1e-3)


@pytest.fixture
def driven():
    """Return odometry of one second on the circle, 20 messages a second."""
    buffer = OdometryBuffer()
    for t_ms in range(0, 1001, 50):
        buffer.add(START + t_ms * MS, arc(t_ms))
    return buffer


def test_no_odometry_no_pose():
    assert OdometryBuffer().at(START) is None


@pytest.mark.parametrize('t_ms', [0, 50, 550, 1000])
def test_pose_at_a_message_is_that_of_the_message(driven, t_ms):
    np.testing.assert_array_equal(driven.at(START + t_ms * MS), arc(t_ms))


@pytest.mark.parametrize('t_ms', [1, 25, 49, 333, 999])
def test_between_messages_the_robot_follows_the_arc(driven, t_ms):
    # interpolated on SE(3): a chord would be off by 0.16 mm in the middle, a wrong share by more
    np.testing.assert_allclose(driven.at(START + t_ms * MS), arc(t_ms), atol=1e-9)


def test_before_the_first_message_there_is_no_pose(driven):
    assert driven.at(START - 1) is None


def test_the_newest_holds_for_a_while_and_no_longer(driven):
    last = START + 1000 * MS
    limit = last + transforms.MAX_EXTRAPOLATION_NS
    np.testing.assert_array_equal(driven.at(last + 1), arc(1000))
    np.testing.assert_array_equal(driven.at(limit), arc(1000))
    assert driven.at(limit + 1) is None


def test_late_and_repeated_messages_change_nothing(driven):
    for late_ms in (1000, 975, 500, 1):
        driven.add(START + late_ms * MS, np.diag([-1.0, -1.0, 1.0, 1.0]))
    for t_ms in (0, 500, 975, 1000):
        np.testing.assert_allclose(driven.at(START + t_ms * MS), arc(t_ms), atol=1e-9)


@pytest.mark.parametrize('back_ns', [transforms.MAX_DISORDER_NS, 3600 * 10**9])
def test_time_that_goes_back_clears(driven, back_ns):
    now = START + 1000 * MS - back_ns
    T = poses(1)[0]
    driven.add(now, T)
    np.testing.assert_array_equal(driven.at(now), T)
    assert driven.at(START + 1000 * MS) is None  # the old ones are gone
    driven.add(now + 50 * MS, T)
    np.testing.assert_allclose(driven.at(now + 20 * MS), T, atol=1e-12)


def test_one_stamp_from_the_future_does_not_last(driven):
    driven.add(START + 3600 * 10**9, np.eye(4))
    driven.add(START + 1050 * MS, arc(1050))
    np.testing.assert_array_equal(driven.at(START + 1050 * MS), arc(1050))


def test_memory_is_bounded():
    buffer = OdometryBuffer()
    for i in range(2 * transforms.HISTORY):
        buffer.add(START + i * MS, np.eye(4))
    assert buffer.at(START + (transforms.HISTORY - 1) * MS) is None
    assert buffer.at(START + transforms.HISTORY * MS) is not None


def test_half_turns_are_interpolated():
    buffer = OdometryBuffer()
    buffer.add(START, se3.exp([0, 0, 2.0, 0, 0, 0]))
    buffer.add(START + 10 * MS, se3.exp([0, 0, -2.0, 0, 0, 0]))  # the short way is through pi
    middle = se3.so3_log(buffer.at(START + 5 * MS)[:3, :3])
    np.testing.assert_allclose(np.abs(middle), [0, 0, np.pi], atol=1e-9)


def test_reading_while_writing():
    buffer = OdometryBuffer()
    failures = []

    def read():
        try:
            for i in range(3000):
                T = buffer.at(START + i * MS)
                assert T is None or abs(T[0, 3] - i * 1e-3) < 0.3
        except Exception as error:
            failures.append(error)

    threads = [Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(3000):
        buffer.add(START + i * MS, se3.exp([0, 0, 0, i * 1e-3, 0, 0]))
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


def test_standing_alone_the_map_is_the_first_camera_with_z_up():
    T = transforms.T_rosmap_map(None)
    assert np.linalg.det(T[:3, :3]) == 1
    ahead, right, down = np.eye(3)[[2, 0, 1]]  # in optical axes
    np.testing.assert_array_equal(se3.transform(T, [ahead, right, down]),
                                  [[1, 0, 0], [0, -1, 0], [0, 0, -1]])


def test_on_a_robot_the_map_is_its_base_at_the_start():
    # a point that the first camera sees 2 m ahead, and the floor below the base
    T = transforms.T_rosmap_map(T_BASE_CAM)
    np.testing.assert_allclose(
        se3.transform(T, [[0, 0, 2.0], [0, 0.5, -0.3]]), [[2.3, 0, 0.5], [0, 0, 0]], atol=1e-12)
    # at the start the camera is the core's map, so the base is where the map is
    found = broadcast(FrameNames('map', 'odom', 'base_link', False), CAMERA, T @ np.eye(4),
                      T_BASE_CAM, None)
    np.testing.assert_allclose(found.T_parent_child, np.eye(4), atol=1e-12)


def test_standing_alone_the_camera_is_a_child_of_the_map():
    T_map_cam = poses(1)[0]
    found = broadcast(FrameNames('map', 'odom', '', False), CAMERA, T_map_cam, None, None)
    assert (found.parent, found.child) == ('map', CAMERA)
    np.testing.assert_array_equal(found.T_parent_child, T_map_cam)


def test_without_odometry_the_base_is_a_child_of_the_map():
    T_map_cam, = poses(1)
    found = broadcast(FrameNames('map', 'odom', 'base_link', False), CAMERA, T_map_cam,
                      T_BASE_CAM, poses(1, 5)[0])
    assert (found.parent, found.child) == ('map', 'base_link')
    np.testing.assert_allclose(found.T_parent_child @ T_BASE_CAM, T_map_cam, atol=1e-12)


@pytest.mark.parametrize('seed', range(5))
def test_with_odometry_it_stays_as_it_is(seed):
    T_map_cam, T_odom_base = poses(2, seed)
    before = T_odom_base.copy()
    found = broadcast(NAMES, CAMERA, T_map_cam, T_BASE_CAM, T_odom_base)
    assert (found.parent, found.child) == ('map', 'odom')
    np.testing.assert_array_equal(T_odom_base, before)
    # what a listener computes: (map -> odom) (odom -> base) (base -> camera)
    np.testing.assert_allclose(found.T_parent_child @ T_odom_base,
                               T_map_cam @ se3.inverse(T_BASE_CAM), atol=1e-12)
    np.testing.assert_allclose(found.T_parent_child @ T_odom_base @ T_BASE_CAM, T_map_cam,
                               atol=1e-12)


def test_perfect_odometry_needs_no_correction():
    for T_odom_base in poses(3):
        found = broadcast(NAMES, CAMERA, T_odom_base @ T_BASE_CAM, T_BASE_CAM, T_odom_base)
        np.testing.assert_allclose(found.T_parent_child, np.eye(4), atol=1e-12)


def test_without_extrinsics_the_reason_names_camera_base_and_remedy():
    for names in (NAMES, FrameNames('map', 'odom', 'base_link', False)):
        reason = broadcast(names, CAMERA, np.eye(4), None, np.eye(4))
        assert isinstance(reason, str)
        for word in (CAMERA, 'base_link', 'extrinsics'):
            assert word in reason


def test_without_odometry_at_that_time_the_reason_names_the_frames():
    reason = broadcast(NAMES, CAMERA, np.eye(4), T_BASE_CAM, None)
    assert isinstance(reason, str)
    assert 'odom -> base_link' in reason


@pytest.mark.parametrize('base', ['', 'base_link'])
@pytest.mark.parametrize('odometry', [False, True])
def test_no_frame_ever_has_two_parents(base, odometry):
    names = FrameNames('map', 'odom', base, odometry)
    # odometry and the robot's description publish these themselves
    parents = {'base_link': {'odom'} if base and odometry else set(),
               CAMERA: {'base_link'} if base else set(),
               CAMERA_2: {'base_link'} if base else set()}
    T = np.eye(4)
    for camera, T_base_cam, T_odom_base in product((CAMERA, CAMERA_2), (None, T), (None, T)):
        found = broadcast(names, camera, T, T_base_cam, T_odom_base)
        if isinstance(found, Broadcast):
            assert found.parent != found.child
            parents.setdefault(found.child, set()).add(found.parent)
    assert all(len(of) <= 1 for of in parents.values()), parents
    assert 'map' not in parents
    assert {'map'} in parents.values()
