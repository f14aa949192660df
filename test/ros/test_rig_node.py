# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Two cameras that look forward and back, over real DDS: one pose per instant, faults survived.

One node lives through all of it, as in test_faults.py. The stamps of the second camera are a
little later, so that its poses can be told from those of the first.
"""

from __future__ import annotations

from collections.abc import Iterator
import time

from live import FRAME_ID, FRAMES, LiveCamera, PERIOD_NS, SCENE, walk_index
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions, qos
from recon3r_ros.sim import SimulatedSequence
from ros_helpers import wait_for
from sensor_msgs.msg import CameraInfo, Image
from simulated import as_frame, render, still_scene
from test_node import NODE
from tf2_msgs.msg import TFMessage

#: Looks back, 0.3 m behind the first camera
T_FRONT_BACK = se3.from_rt(se3.so3_exp([0.05, np.pi, 0.03]), [0.1, 0.02, -0.3])
LATER_NS = 1_000_000
BACK_FRAME_ID = 'back_optical_frame'


def back_scene() -> SimulatedSequence:
    """Return what the camera that looks back sees."""
    first = still_scene(SCENE, FRAMES)
    if not hasattr(first, '_seen_back'):
        first._seen_back = first.seen_by(T_FRONT_BACK)
    return first._seen_back


class LiveRig(LiveCamera):
    """Publishes the walk of two cameras; `front`, `back` and `dark` disturb them."""

    def __init__(self, node) -> None:
        super().__init__(node, 'front')
        self.backs = node.create_publisher(Image, '/back/image_raw', qos.POSES)
        self.back_infos = node.create_publisher(CameraInfo, '/back/camera_info', qos.POSES)
        self.static = node.create_publisher(TFMessage, '/tf_static', qos.LATCHED)
        self.front = self.back = True
        self.dark = False

    def send(self, message: Image, info: bool = True) -> int:
        stamp_ns = conversions.stamp_to_ns(message.header.stamp)
        if self.front:
            if self.dark:
                message.data = bytes(len(message.data))
            super().send(message, info)
        if self.back:
            back_ns = stamp_ns + LATER_NS
            self.back_infos.publish(conversions.camera_info_message(
                back_scene().camera, back_ns, BACK_FRAME_ID))
            self.backs.publish(conversions.image_message(
                as_frame(back_scene(), walk_index(self.count - 1)).image, back_ns, BACK_FRAME_ID))
        return stamp_ns

    def walk(self, count: int) -> list[int]:
        """Publish instants at 10 Hz, and return their stamps."""
        stamps = []
        for _ in range(count):
            self.stamp_ns += 100_000_000 - PERIOD_NS
            stamps.append(self.send(self.message()))
            time.sleep(0.1)
        time.sleep(0.3)
        return stamps

    def shares(self, stamps: list[int]) -> tuple[float, float]:
        """Return shares of the instants that the first, and the second camera has poses of."""
        posed = self.posed()
        return (np.mean([s in posed for s in stamps]),
                np.mean([s + LATER_NS in posed for s in stamps]))

    def values_now(self) -> dict[str, str]:
        """Return key and value of the rig's next diagnostic."""
        self.wait_for_status('rig front', lambda s: True, 'a diagnostic')
        return self.values('rig front')


@pytest.fixture
def rig(ros_node, spawn) -> Iterator[LiveRig]:
    child = spawn(*NODE, '-p', "cameras:=['front', 'back']", '-p', 'diagnostics_period:=0.2',
                  '-p', 'front.use_depth:=true')
    found = LiveRig(ros_node)
    found.with_depth = True
    found.connect()
    wait_for(lambda: found.backs.get_subscription_count() > 0, what='it listens to both')
    for index in range(FRAMES):
        render(back_scene(), index)
        render(still_scene(SCENE, FRAMES), index)
    yield found
    assert child.returncode is None and 'Traceback' not in child.output, child.output


def test_a_rig_with_faults(rig):
    """Extrinsics come on TF; a camera goes dark, one dies and returns, then the other one."""
    rig.start()
    rig.walk(3)
    status = rig.wait_for_status('rig front', lambda s: 'T_rig_cam' in s.message,
                                 'the remedy while poses on the rig are unknown')
    assert status.level == status.WARN
    rig.static.publish(TFMessage(transforms=[conversions.transform_message(
        T_FRONT_BACK, FRAME_ID, BACK_FRAME_ID, time.time_ns())]))
    rig.walk(8)
    stamps = rig.walk(10)
    assert min(rig.shares(stamps)) >= 0.9, rig.values_now()
    values = rig.values_now()
    assert int(values['instants complete']) >= 20 and values['extrinsics'] == 'TF', values

    # Both poses of an instant differ by how the cameras are mounted
    T_map = {conversions.stamp_to_ns(m.header.stamp): conversions.matrix_from_pose(m.pose.pose)
             for m in rig.poses.messages}
    T = se3.inverse(T_map[stamps[-2]]) @ T_map[stamps[-2] + LATER_NS]
    np.testing.assert_allclose(T, T_FRONT_BACK, atol=1e-3)

    rig.dark = True
    assert min(rig.shares(rig.walk(10))) >= 0.9, 'a dark camera is carried by the other one'
    rig.dark = False

    rig.back = False
    rig.walk(4)
    stamps = rig.walk(25)
    assert rig.shares(stamps)[0] >= 0.9
    rig.wait_for_status('rig front', lambda s: 'back is missing' in s.message, 'it is missed')
    rig.back = True
    rig.walk(3)
    assert min(rig.shares(rig.walk(8))) >= 0.9, 'it is back'

    rig.front = False
    rig.walk(4)
    assert rig.shares(rig.walk(10))[1] >= 0.9, 'the second camera tracks alone'
    rig.front = True
    rig.walk(3)
    assert min(rig.shares(rig.walk(8))) >= 0.9, 'the first one is back'
