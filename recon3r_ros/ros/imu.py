# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Input of an IMU: a callback that only keeps samples, and its pose in the cameras by TF."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.tf_tree import TfTree
from recon3r_ros.slam.imu.inertial import Inertial
from recon3r_ros.slam.imu.samples import ImuSamples
from sensor_msgs.msg import Imu

Array = NDArray[np.float64]

#: Samples that are kept: three seconds at 1 kHz
HISTORY = 3000
#: Samples before a camera's first image, and before each image beyond the one before
_LEAD_NS, _OVERLAP_NS = 2_000_000_000, 100_000_000


class ImuInput:
    """
    The messages of an IMU; the callback and the worker may be in different threads.

    :param topic: '' where there is none
    :param tree: static transforms of other nodes
    :param extrinsics: of the cameras
    :param warn: called with a warning of one line
    """

    def __init__(self, topic: str, tree: TfTree, extrinsics: Extrinsics,
                 warn: Callable[[str], None]) -> None:
        self.topic = topic
        self._tree = tree
        self._extrinsics = extrinsics
        self._warn = warn
        self._lock = Lock()
        self._rows: deque[tuple[int, tuple[float, ...]]] = deque(maxlen=HISTORY)
        self._frame_id = ''
        self._taken_ns: dict[str, int] = {}
        #: Why there are no samples; '' where there are
        self.problem = f'no messages on {topic} yet' if topic else ''

    def on_imu(self, message: Imu) -> None:
        """Keep a sample."""
        if message.angular_velocity_covariance[0] == -1 or (
                message.linear_acceleration_covariance[0] == -1):
            self.problem = (f'messages on {self.topic} have no angular velocity or no linear '
                            'acceleration (covariance -1)')
            self._warn(self.problem)
            return
        rate, force = message.angular_velocity, message.linear_acceleration
        row = (rate.x, rate.y, rate.z, force.x, force.y, force.z)
        with self._lock:
            self._frame_id = message.header.frame_id.lstrip('/')
            self._rows.append((conversions.stamp_to_ns(message.header.stamp), row))

    def clear(self) -> None:
        """Forget everything: time has gone back."""
        with self._lock:
            self._rows.clear()
            self._taken_ns.clear()

    def samples(self, camera: str, stamp_ns: int) -> ImuSamples | None:
        """
        Return the samples since a camera's image before, and those that came after this one.

        :param stamp_ns: of the image
        :return: None where there are none, or while the pose of the IMU is not known
        """
        if not self.topic:
            return None
        last_ns = self._taken_ns.get(camera)
        begin_ns = stamp_ns - _LEAD_NS if last_ns is None else last_ns - _OVERLAP_NS
        with self._lock:
            frame_id = self._frame_id
            rows = [row for row in self._rows if row[0] >= begin_ns]
        if not rows:
            if frame_id:
                self.problem = (f'no messages on {self.topic} at the time of the images: both '
                                'need the same clock')
            return None
        T_cam_imu = self._T_cam_imu(camera, frame_id, stamp_ns)
        if T_cam_imu is None:
            self.problem = (f'waiting for the static transform from {frame_id or "(no frame_id)"} '
                            f'to {self._extrinsics.frame_id(camera)} on TF')
            return None
        self.problem = ''
        self._taken_ns[camera] = stamp_ns
        stamps_ns, values = zip(*rows)
        table = np.array(values)
        return ImuSamples(np.array(stamps_ns, np.int64), table[:, :3], table[:, 3:],
                          T_cam_imu[:3, :3])

    def _T_cam_imu(self, camera: str, imu_frame: str, stamp_ns: int) -> Array | None:
        """Pose (4, 4) of the IMU in a camera's optical frame, where both have one root on TF."""
        frame_id = self._extrinsics.frame_id(camera)
        if not imu_frame or not frame_id:
            return None
        if imu_frame == frame_id:
            return np.eye(4)
        root, T_root_imu = self._tree.fixed_root(imu_frame)
        other, T_root_cam = self._tree.fixed_root(frame_id)
        if root == other:
            return se3.inverse(T_root_cam) @ T_root_imu
        # The camera's pose on the robot may be known by a parameter alone
        T_base_cam = self._extrinsics.T_base_cam(camera, stamp_ns)
        base, T_base_imu = self._tree.fixed_root(imu_frame, self._extrinsics.base)
        if T_base_cam is not None and base == self._extrinsics.base:
            return se3.inverse(T_base_cam) @ T_base_imu
        return None


def gyroscope_status(source: ImuInput, inertial: Inertial | None) -> str:
    """Say whether a gyroscope is in use, and why not; '' without an IMU."""
    if not source.topic:
        return ''
    if source.problem:
        return f'not in use: {source.problem}'
    if inertial is None:
        return 'waiting for images'
    if inertial.gyroscope_problem:
        return f'not in use: {inertial.gyroscope_problem}'
    bias, sigma = inertial.bias
    return (f'in use, bias {np.round(bias, 4).tolist()} rad/s, standard deviation '
            f'{sigma:.4f} rad/s')
