# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A stereo rig over real DDS: pairs are formed, faults of the second camera survived and named.

One node lives through all of it, as in test_faults.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
import time

from live import FRAME_ID, FRAMES, LiveCamera, PERIOD_NS, SCENE, walk_index
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions, qos
from recon3r_ros.ros.intrinsics import Rectification
from recon3r_ros.ros.pair_extrinsics import of_camera_info
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from ros_helpers import wait_for
from sensor_msgs.msg import CameraInfo, Image
from simulated import render, still_scene
from test_node import NODE
from tf2_msgs.msg import TFMessage

BASELINE = 0.11


@lru_cache(maxsize=1)
def second_scene() -> SimulatedSequence:
    """Return what a camera on the right of the simulated one sees."""
    first = still_scene(SCENE, FRAMES)
    second = SimulatedSequence(SceneConfig(**vars(first.config)))
    second._T_world_cam = first._T_world_cam @ se3.from_rt(np.eye(3), [BASELINE, 0, 0])
    return second


@lru_cache(maxsize=FRAMES)
def second_image(index: int) -> np.ndarray:
    return second_scene().render(index).image


def true_pose(count: int) -> np.ndarray:
    """Pose (4, 4) of the first camera at an image of the walk, metres."""
    return render(still_scene(SCENE, FRAMES), walk_index(count)).T_world_cam


class LiveRig(LiveCamera):
    """Publishes the walk of a stereo rig; `each` and `shift_ns` disturb the second camera."""

    def __init__(self, node) -> None:
        super().__init__(node, 'left')
        self.rights = node.create_publisher(Image, '/right/image_raw', qos.POSES)
        self.right_infos = node.create_publisher(CameraInfo, '/right/camera_info', qos.POSES)
        self.each, self.shift_ns = 1, 0
        self.baseline_in_info = True
        #: Which image of the walk has a stamp
        self.numbers: dict[int, int] = {}

    def send(self, message: Image, info: bool = True) -> int:
        stamp_ns = super().send(message, info)
        self.numbers[stamp_ns] = self.count - 1
        if self.each and self.count % self.each == 0:
            right_ns = stamp_ns + self.shift_ns
            right = conversions.camera_info_message(self.camera, right_ns, f'right_{FRAME_ID}')
            right.p[3] = -self.camera.fx * BASELINE * self.baseline_in_info
            self.right_infos.publish(right)
            self.rights.publish(conversions.image_message(
                second_image(walk_index(self.count - 1)), right_ns, f'right_{FRAME_ID}'))
        return stamp_ns

    def send_second(self) -> int:
        """Publish an image of the second camera alone; return its stamp."""
        index = walk_index(self.count)
        self.stamp_ns += 50_000_000
        self.numbers[self.stamp_ns] = self.count
        self.count += 1
        self.right_infos.publish(conversions.camera_info_message(
            self.camera, self.stamp_ns, f'right_{FRAME_ID}'))
        self.rights.publish(conversions.image_message(
            second_image(index), self.stamp_ns, f'right_{FRAME_ID}'))
        return self.stamp_ns

    def pairs(self) -> int:
        """Return how many pairs have been formed by the next diagnostic."""
        self.wait_for_status('stereo left', lambda s: True, 'a diagnostic')
        return int(self.values('stereo left')['pairs'])

    def paced(self, count: int) -> None:
        """Publish images at 20 Hz, whether they get poses or not."""
        for _ in range(count):
            self.stamp_ns += 50_000_000 - PERIOD_NS
            self.send(self.message())
            time.sleep(0.05)


@pytest.fixture
def rig(ros_node, spawn) -> Iterator[LiveRig]:
    child = spawn(*NODE, '-p', "cameras:=['left']", '-p', 'left.stereo:=right',
                  '-p', 'diagnostics_period:=0.2', '-p', 'right.rectified:=true',
                  '-p', 'left.rectified:=true')
    found = LiveRig(ros_node)
    found.connect()
    wait_for(lambda: found.rights.get_subscription_count() > 0, what='it listens to the second')
    for index in range(FRAMES):
        second_image(index)
    yield found
    assert child.returncode is None and 'Traceback' not in child.output, child.output


def test_a_rig_with_faults(rig):
    """Pairs; the second camera dies, returns, is slower, has other stamps."""
    rig.each = 0
    rig.paced(4)  # the second camera starts later
    rig.each = 1
    rig.start()
    rig.paced(25)
    before = rig.pairs()
    values = rig.values('stereo left')
    assert before >= 20 and values['extrinsics'] == 'camera_info'
    assert values['baseline'] == '0.1100 m' and float(values['epipolar error'].split()[0]) < 1

    rig.each = 0  # it dies
    rig.paced(5)
    rig.assert_tracks()
    rig.paced(45)
    rig.wait_for_status('stereo left', lambda s: 'no image of right' in s.message,
                        'the second camera is missed')
    assert rig.pairs() <= before + 1

    rig.each = 2  # it is back, at half the rate
    rig.paced(20)
    rig.assert_tracks()
    assert rig.pairs() >= before + 8

    rig.each, rig.shift_ns = 1, 30_000_000
    rig.paced(60)
    status = rig.wait_for_status('stereo left', lambda s: 'right.time_offset: -0.0300'
                                 in s.message, 'the offset of stamps is named')
    assert status.level == status.WARN
    during = rig.pairs()
    rig.paced(10)
    assert rig.pairs() == during
    rig.assert_tracks()


def test_the_second_camera_stands_in_for_the_first(ros_node, spawn):
    """Its extrinsics are on TF; published is the pose of the first one all the time."""
    spawn(*NODE, '-p', "cameras:=['left']", '-p', 'left.stereo:=right',
          '-p', 'diagnostics_period:=0.2', '-p', 'left.rectified:=true',
          '-p', 'right.rectified:=true')
    rig = LiveRig(ros_node)
    rig.baseline_in_info = False
    static = ros_node.create_publisher(TFMessage, '/tf_static', qos.LATCHED)
    static.publish(TFMessage(transforms=[conversions.transform_message(
        se3.from_rt(np.eye(3), [BASELINE, 0, 0]), FRAME_ID, f'right_{FRAME_ID}',
        time.time_ns())]))
    rig.connect()
    wait_for(lambda: rig.rights.get_subscription_count() > 0, what='it listens to the second')
    for index in range(FRAMES):
        second_image(index)
    rig.start()
    rig.paced(20)
    rig.wait_for_status('stereo left', lambda s: True, 'a diagnostic')
    assert rig.values('stereo left')['extrinsics'] == 'TF'

    def alone(count: int) -> list[int]:
        stamps = []
        for _ in range(count):
            stamps.append(rig.send_second())
            time.sleep(0.1)
        return stamps

    alone(10)
    status = rig.wait_for_status('stereo left', lambda s: 'in its place' in s.message,
                                 'the second camera stands in')
    assert status.level == status.WARN
    stamps: list[int] = []

    def posed() -> int:
        found = {conversions.stamp_to_ns(m.header.stamp) for m in rig.poses.messages}
        return sum(s in found for s in stamps)
    for _ in range(15):
        before, end = posed(), time.monotonic() + 0.5
        stamps += alone(1)
        while posed() == before and time.monotonic() < end:
            time.sleep(0.02)  # no faster than a busy machine
    wait_for(lambda: posed() >= 0.9 * len(stamps), what='poses of nine images out of ten')
    before = rig.pairs()
    rig.assert_tracks(10)
    assert rig.pairs() >= before + 9
    rig.wait_for_status('stereo left', lambda s: 'in its place' not in s.message,
                        'the first camera is back')
    # Poses of both are those of the first camera, in metres: the walk was rendered
    known = {conversions.stamp_to_ns(m.header.stamp): conversions.matrix_from_pose(m.pose.pose)
             for m in rig.poses.messages}
    newest = max(known)
    T_map_world = known[newest] @ se3.inverse(true_pose(rig.numbers[newest]))
    errors = [np.linalg.norm((T_map_world @ true_pose(rig.numbers[s]))[:3, 3] - known[s][:3, 3])
              for s in stamps if s in known]
    assert max(errors) < 0.05, errors


def test_extrinsics_of_camera_info():
    """P is of the rectified frames, R leads there."""
    focal, T = 400.0, se3.exp([0.02, -0.05, 0.01, 0.0, 0.0, 0.0])
    place = np.array([0.2, 0.03, -0.01])
    # Rectified axes: x along the baseline
    x = place / np.linalg.norm(place)
    y = np.cross([0.0, 0.0, 1.0], x)
    y /= np.linalg.norm(y)
    R = np.stack([x, y, np.cross(x, y)])
    P = np.array([[focal, 0, 320, 0], [0, focal, 240, 0], [0, 0, 1, 0]], float)
    P_second = P.copy()
    P_second[0, 3] = -focal * np.linalg.norm(place)
    first, second = Rectification(R, P), Rectification(R @ T[:3, :3], P_second)
    found = of_camera_info(first, second, False, False)
    assert np.allclose(found, se3.from_rt(T[:3, :3], place), atol=1e-9)
    rectified = of_camera_info(first, second, True, True)
    assert np.allclose(rectified, se3.from_rt(np.eye(3), [np.linalg.norm(place), 0, 0]))
    assert of_camera_info(first, Rectification(R, P), True, True) is None
    assert of_camera_info(first, None, True, True) is None
