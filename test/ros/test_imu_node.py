# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node with an IMU, over real DDS: z of the map is up, and the gyroscope is in use."""

from __future__ import annotations

from dataclasses import replace

from geometry_msgs.msg import Vector3
from live import FRAME_ID, FRAMES, LiveCamera, PERIOD_NS, SCENE, walk_index
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions, qos
from ros_helpers import wait_for
from sensor_msgs.msg import Imu
from simulated import as_frame, render, still_scene
from std_msgs.msg import Header
from test_node import NODE

G = 9.80665
#: Images of the same place before the walk begins, and samples per image
RESTING, SAMPLES = 25, 7
#: A gyroscope's bias, rad/s
BIAS = np.array([0.02, -0.03, 0.01])


class Rig(LiveCamera):
    """A camera at rest that begins to walk, with an IMU in its optical frame."""

    def __init__(self, node) -> None:
        super().__init__(node)
        self.imu = node.create_publisher(Imu, '/imu', qos.POSES)
        self.rng = np.random.default_rng(1)

    def index(self, count: int) -> int:
        return walk_index(max(0, count - RESTING))

    def frame(self):
        """Publish the samples until the next image, and return that."""
        R_before, R = (render(still_scene(SCENE, FRAMES), self.index(n)).T_world_cam[:3, :3]
                       for n in (max(self.count - 1, 0), self.count))
        rate = se3.so3_log(R_before.T @ R) / (PERIOD_NS * 1e-9)
        for n in range(1, SAMPLES + 1):
            self.publish(self.stamp_ns + n * PERIOD_NS // SAMPLES, rate, R.T @ [0, 0, G])
        frame = as_frame(still_scene(SCENE, FRAMES), self.index(self.count))
        self.count += 1
        self.stamp_ns += PERIOD_NS
        return replace(frame, stamp_ns=self.stamp_ns)

    def publish(self, stamp_ns: int, rate, force) -> None:
        rate = rate + BIAS + self.rng.normal(0, 2e-3, 3)
        force = force + self.rng.normal(0, 0.02, 3)
        self.imu.publish(Imu(
            header=Header(stamp=conversions.header(stamp_ns, '').stamp, frame_id=FRAME_ID),
            angular_velocity=Vector3(x=rate[0], y=rate[1], z=rate[2]),
            linear_acceleration=Vector3(x=force[0], y=force[1], z=force[2])))


def test_z_is_up_and_never_jumps(ros_node, spawn):
    rig = Rig(ros_node)
    child = spawn(*NODE, '-p', 'imu_topic:=/imu')
    rig.connect()
    wait_for(lambda: rig.imu.get_subscription_count() > 0, what='the node listens to the IMU')
    rig.start()
    rig.play(30)
    begin = rig.stamp_ns - (rig.count - 1) * PERIOD_NS
    R_map_world = []
    for message in rig.poses.messages:
        n = round((conversions.stamp_to_ns(message.header.stamp) - begin) / PERIOD_NS)
        R_map_cam = conversions.matrix_from_pose(message.pose.pose)[:3, :3]
        R_map_world.append(R_map_cam @ render(
            still_scene(SCENE, FRAMES), rig.index(n)).T_world_cam[:3, :3].T)
    assert len(R_map_world) > 20
    tilts = np.rad2deg([np.arccos(np.clip(R[2, 2], -1, 1)) for R in R_map_world])
    assert tilts.max() < 1.5, tilts
    turns = [np.rad2deg(se3.rotation_angle(R_map_world[0].T @ R)) for R in R_map_world]
    assert max(turns) < 1.5, turns
    rig.wait_for_status('reconstruction', lambda s: s.message == 'tracking', 'tracking')
    values = rig.values('reconstruction')
    assert values['gyroscope'].startswith('in use, bias'), values
    assert 'from standstill' in values['gravity'] and 'gravity: in use' in child.output


@pytest.mark.slow
def test_an_imu_without_messages_delays_outputs_only(ros_node, spawn):
    camera = LiveCamera(ros_node)
    spawn(*NODE, '-p', 'imu_topic:=/imu')
    camera.connect()

    def posed() -> bool:
        camera.play(5, 0.02)
        return bool(camera.poses.messages)

    wait_for(posed, 60, 'poses although there is no gravity')
    camera.wait_for_status('reconstruction', lambda s: 'no messages on /imu' in s.message,
                           'a diagnostic that names the topic')
    assert camera.values('reconstruction')['gravity'].startswith('not in use')
