# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Parents and poses of frames (REP-105), without a node.

The core's map is the first keyframe's optical frame. ROS wants z up: the map frame is the robot's
base as it stood then or, where a camera stands alone, that camera with its axes turned; with an
IMU it is turned further, so that z is up indeed (`upright.py`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.imu.gravity import T_BODY_OPTICAL

Array = NDArray[np.float64]

#: Odometry that is kept, messages: ten seconds at 500 Hz
HISTORY = 5000
#: How long the newest odometry holds for later stamps
MAX_EXTRAPOLATION_NS = 200_000_000
#: A message that is older than the last by less came late; by more, time went back
MAX_DISORDER_NS = 1_000_000_000


@dataclass(frozen=True)
class FrameNames:
    """Frames as the parameters name them; `base` is empty where a camera stands alone."""

    map: str
    odom: str
    base: str
    odometry: bool


@dataclass(frozen=True, eq=False)
class Broadcast:
    """
    A transform to publish.

    :param T_parent_child: (4, 4), metres
    :param predicted: whether it changes so slowly that it holds for the near future, too
    """

    parent: str
    child: str
    T_parent_child: Array
    predicted: bool = False


class OdometryBuffer:
    """The robot's poses by odometry, interpolated at constant velocity; thread-safe."""

    def __init__(self) -> None:
        self._stamps: deque[int] = deque(maxlen=HISTORY)
        self._poses: deque[Array] = deque(maxlen=HISTORY)
        self._lock = Lock()

    def add(self, stamp_ns: int, T_odom_base: Array) -> None:
        """Add a pose (4, 4); one that came late is dropped, and time that went back clears."""
        with self._lock:
            if self._stamps and stamp_ns <= self._stamps[-1]:
                if self._stamps[-1] - stamp_ns < MAX_DISORDER_NS:
                    return
                self._stamps.clear()
                self._poses.clear()
            self._stamps.append(stamp_ns)
            self._poses.append(T_odom_base)

    def clear(self) -> None:
        """Forget everything: time has gone back."""
        with self._lock:
            self._stamps.clear()
            self._poses.clear()

    def at(self, stamp_ns: int) -> Array | None:
        """
        Pose (4, 4) at a time.

        :return: None before the first, and long after the last
        """
        with self._lock:
            stamps, poses = self._stamps, self._poses
            if not stamps or stamp_ns < stamps[0]:
                return None
            if stamp_ns >= stamps[-1]:
                return poses[-1] if stamp_ns - stamps[-1] <= MAX_EXTRAPOLATION_NS else None
            after = bisect_left(stamps, stamp_ns)
            if stamps[after] == stamp_ns:
                return poses[after]
            T, T_next = poses[after - 1], poses[after]
            share = (stamp_ns - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        return T @ se3.exp(share * se3.log(se3.normalized(se3.inverse(T) @ T_next)))


def T_rosmap_map(T_base_cam: Array | None) -> Array:
    """
    Pose (4, 4) of the core's map in the ROS map frame.

    :param T_base_cam: (4, 4) of the camera that began the map; None where it stands alone
    """
    return T_BODY_OPTICAL if T_base_cam is None else T_base_cam


def unplaced(names: FrameNames, camera: str) -> str:
    """Say that a camera's pose on the robot is unknown, and the remedy."""
    return (f'the pose of {camera} in {names.base} is not known: publish it on TF or set the '
            f'parameter {camera}.extrinsics')


def broadcast(names: FrameNames, frame: str, T_map_frame: Array, T_base_frame: Array | None,
              T_odom_base: Array | None) -> Broadcast | str:
    """
    Decide what to publish of a pose.

    :param frame: a camera's, or one that carries it
    :param T_map_frame: (4, 4) in the ROS map frame, metres
    :param T_base_frame: (4, 4) its extrinsics, or None where they are not known
    :param T_odom_base: (4, 4) odometry at the same time, or None where there is none
    :return: the transform, or why there is none
    """
    if not names.base:
        return Broadcast(names.map, frame, T_map_frame)
    if T_base_frame is None:
        return unplaced(names, frame)
    T_map_base = T_map_frame @ se3.inverse(T_base_frame)
    if not names.odometry:
        return Broadcast(names.map, names.base, T_map_base)
    if T_odom_base is None:
        return f'no odometry {names.odom} -> {names.base} at the time of the image'
    return Broadcast(names.map, names.odom, T_map_base @ se3.inverse(T_odom_base), predicted=True)
