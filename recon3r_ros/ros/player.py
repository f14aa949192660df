# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes a sequence as a camera, or several as a rig, at the recorded rate."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import time

import numpy as np
from numpy.typing import NDArray
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from recon3r_ros.errors import Recon3rError
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.recorded_rigs import RecordedRig
from recon3r_ros.io.rig_folder import RigFolder
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.ros import conversions, qos
from recon3r_ros.slam.types import Frame
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # the pip environment had no compiler to build it
    TFMessage = None

#: Seconds that a first subscriber is waited for, and all of those that were asked for
PATIENCE_S, LONG_PATIENCE_S = 10.0, 60.0
#: And further ones, and that the last images have to arrive
SETTLING_S = 1.0


@dataclass(frozen=True)
class Played:
    """
    What was published.

    :param images: how many
    :param seconds: that it took
    :param offset_ns: from the sequence's stamps to those published, at rate 1
    """

    images: int
    seconds: float
    offset_ns: int


class _Topics:
    """Those of one camera."""

    def __init__(self, node: Node, camera: str) -> None:
        self.frame_id = f'{camera}_optical_frame'
        self.images = node.create_publisher(Image, f'{camera}/image_raw', qos.RELIABLE)
        self.infos = node.create_publisher(CameraInfo, f'{camera}/camera_info', qos.RELIABLE)


class Player:
    """
    A camera whose images come from a sequence, or a rig of several.

    :param node: that publishes
    :param cameras: namespaces of the topics
    :param original_stamps: publish the sequence's stamps, also as /clock; else the present time
    """

    def __init__(self, node: Node, cameras: Collection[str] = ('camera',),
                 original_stamps: bool = False) -> None:
        self._node = node
        self._cameras = [_Topics(node, name) for name in cameras]
        self._images, self._infos = self._cameras[0].images, self._cameras[0].infos
        self._static = None if len(cameras) < 2 or TFMessage is None else (
            node.create_publisher(TFMessage, '/tf_static', qos.LATCHED))
        self._clock: Publisher | None = None
        if original_stamps:
            self._clock = node.create_publisher(Clock, '/clock', qos.RELIABLE)

    @property
    def topic(self) -> str:
        """Full name of the images' topic."""
        return str(self._images.topic_name)

    def wait_for_listeners(self, least: int | None = None) -> int:
        """
        Wait until there are subscribers, and no more join.

        :param least: of images and of intrinsics; None for any, which are waited for less long
        :return: how many subscribe to the images
        :raises Recon3rError: where there are fewer than `least`
        """
        deadline = time.monotonic() + (PATIENCE_S if least is None else LONG_PATIENCE_S)
        wanted = least or 1
        counts, since = (0, 0), time.monotonic()
        while time.monotonic() < deadline:
            found = (self._images.get_subscription_count(), self._infos.get_subscription_count())
            if found != counts:
                counts, since = found, time.monotonic()
            enough = counts[0] >= wanted and (least is None or counts[1] >= wanted)
            if enough and time.monotonic() - since > SETTLING_S:
                return counts[0]
            self._pause(0.05)
        if least is not None:
            raise Recon3rError(f'{self.topic} has {counts[0]} subscribers, its camera_info '
                               f'{counts[1]}, after {LONG_PATIENCE_S:.0f} s: expected {least}')
        return counts[0]

    def play(self, sequence: Sequence, rate: float = 1.0) -> Played:
        """
        Publish all images once.

        :param rate: how many times as fast as they were taken
        """
        return self._play(((0, frame) for frame in sequence), rate)

    def play_rig(self, rig: RecordedRig | RigFolder, rate: float = 1.0) -> Played:
        """
        Publish all images of a rig once, and its extrinsics on /tf_static.

        :param rate: how many times as fast as they were taken
        """
        if self._static is not None:
            self._static.publish(TFMessage(transforms=[conversions.transform_message(
                T, self._cameras[0].frame_id, camera.frame_id,
                self._node.get_clock().now().nanoseconds)
                for T, camera in zip(rig.T_first_cam[1:], self._cameras[1:])]))
        return self._play(rig.in_order(), rate, rig.T_first_cam)

    def _play(self, frames: Iterable[tuple[int, Frame]], rate: float,
              T_first_cam: tuple[NDArray[np.float64], ...] = ()) -> Played:
        """Publish frames, with the numbers of their cameras, in the order of their stamps."""
        begin, begin_ns = time.monotonic(), time.time_ns()
        count, first_ns, offset_ns, begun = 0, 0, 0, False
        for number, frame in frames:
            if not begun:
                begun = True
                first_ns = frame.stamp_ns
                begin, begin_ns = time.monotonic(), time.time_ns()
                offset_ns = 0 if self._clock is not None else begin_ns - first_ns
            elapsed_ns = round((frame.stamp_ns - first_ns) / rate)
            self._pause(begin + elapsed_ns / NS_PER_S - time.monotonic())
            self._publish(self._cameras[number], frame, frame.stamp_ns if self._clock is not None
                          else begin_ns + elapsed_ns, T_first_cam[number] if number else None)
            count += number == 0
        seconds = time.monotonic() - begin
        self._pause(SETTLING_S)
        return Played(count, seconds, offset_ns)

    def _publish(self, topics: _Topics, frame: Frame, stamp_ns: int,
                 T_first_own: NDArray[np.float64] | None) -> None:
        if self._clock is not None:
            self._clock.publish(Clock(clock=conversions.ns_to_stamp(stamp_ns)))
        if frame.camera is not None:
            info = conversions.camera_info_message(frame.camera, stamp_ns, topics.frame_id)
            if T_first_own is not None and frame.camera.is_pinhole and np.allclose(
                    T_first_own, _along_x(T_first_own), atol=1e-6):
                info.p[3] = -frame.camera.fx * T_first_own[0, 3]  # of a rectified pair
            topics.infos.publish(info)
        topics.images.publish(conversions.image_message(frame.image, stamp_ns, topics.frame_id))

    def _pause(self, seconds: float) -> None:
        if seconds > 0:
            time.sleep(seconds)
        if not self._node.context.ok():
            raise ExternalShutdownException


def _along_x(T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the motion (4, 4) along x alone."""
    out = np.eye(4)
    out[0, 3] = T[0, 3]
    return out


@contextmanager
def player(cameras: Collection[str], original_stamps: bool) -> Iterator[Player]:
    """Make a player with a node of its own, between rclpy's init and shutdown."""
    node = rclpy.create_node('recon3r_player')
    try:
        yield Player(node, cameras, original_stamps)
    finally:
        node.destroy_node()
