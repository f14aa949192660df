# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A simulated camera, and the node's outputs for its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.ros import conversions, qos
from recon3r_ros.slam.types import Frame
from ros_helpers import Collector, TIMEOUT, wait_for
from sensor_msgs.msg import CameraInfo, Image
from simulated import as_frame, render, still_scene

#: A walk forth and back, so that it never ends
SCENE, FRAMES = 3, 40
PERIOD_NS = 33_333_333
FRAME_ID = 'camera_optical_frame'


def walk_index(count: int) -> int:
    """Return which frame of the scene an image of the walk shows."""
    index = count % (2 * FRAMES - 2)
    return min(index, 2 * FRAMES - 2 - index)


class LiveCamera:
    """
    Publishes a simulated walk and subscribes to the node's poses.

    An image is published when the one before has a pose, or a timeout has passed: the tests do not
    depend on the machine's speed.

    :param node: of the test, spun elsewhere
    :param name: of the camera
    """

    def __init__(self, node: Node, name: str = 'camera', recon3r: str = '/recon3r') -> None:
        self.node = node
        self.name = name
        self.images = node.create_publisher(Image, f'/{name}/image_raw', qos.POSES)
        self.infos = node.create_publisher(CameraInfo, f'/{name}/camera_info', qos.POSES)
        self.depths = node.create_publisher(Image, f'/{name}/depth', qos.POSES)
        self.with_depth = False
        #: Of its images, and of their depth
        self.frame_id = FRAME_ID
        self.poses = Collector(node, PoseWithCovarianceStamped, f'{recon3r}/pose', qos.POSES)
        self.diagnostics = Collector(node, DiagnosticArray, '/diagnostics', qos.POSES)
        self.stamp_ns = time.time_ns()
        self.count = 0
        self.camera: Camera = as_frame(still_scene(SCENE, FRAMES), 0).camera

    def frame(self) -> Frame:
        """Return the next frame of the walk, stamped."""
        index = walk_index(self.count)
        self.count += 1
        self.stamp_ns += PERIOD_NS
        return replace(as_frame(still_scene(SCENE, FRAMES), index), stamp_ns=self.stamp_ns)

    def message(self) -> Image:
        """Return the next image."""
        frame = self.frame()
        if self.with_depth:
            depth = render(still_scene(SCENE, FRAMES), frame.index).depth
            self.depths.publish(conversions.depth_message(depth, frame.stamp_ns, self.frame_id))
        return conversions.image_message(frame.image, frame.stamp_ns, self.frame_id)

    def connect(self) -> None:
        """Wait until subscriptions are matched, in both directions."""
        wait_for(lambda: self.images.get_subscription_count() > 0, what='the node listens')
        wait_for(lambda: self.infos.get_subscription_count() > 0, what='the node listens')
        if self.with_depth:
            wait_for(lambda: self.depths.get_subscription_count() > 0, what='the node listens')
        self.poses.wait_for_matched()

    def send(self, message: Image, info: bool = True) -> int:
        """Publish an image as it is; return its stamp."""
        stamp_ns = conversions.stamp_to_ns(message.header.stamp)
        if info:
            self.infos.publish(
                conversions.camera_info_message(self.camera, stamp_ns, self.frame_id))
        self.images.publish(message)
        return stamp_ns

    def posed(self) -> set[int]:
        """Return the stamps that poses came for."""
        return {conversions.stamp_to_ns(m.header.stamp) for m in self.poses.messages}

    def play(self, count: int, patience: float = 0.5,
             change: Callable[[Image], Image] = lambda message: message) -> list[int]:
        """
        Publish images of the walk and return their stamps.

        :param patience: seconds that an image has to get its pose before the next follows
        """
        stamps = []
        for _ in range(count):
            stamps.append(self.send(change(self.message())))
            deadline = time.monotonic() + patience
            while stamps[-1] not in self.posed() and time.monotonic() < deadline:
                time.sleep(0.002)
        return stamps

    def start(self) -> list[int]:
        """Publish images until the node tracks; return their stamps."""
        stamps: list[int] = []

        def tracks() -> bool:
            stamps.extend(self.play(1, 0.05))
            return bool(self.posed())

        wait_for(tracks, 60, 'a first pose')
        return stamps

    def assert_tracks(self, count: int = 4) -> None:
        """Fail unless every one of the next images gets a pose."""
        stamps = self.play(count, TIMEOUT)
        missing = [s for s in stamps if s not in self.posed()]
        assert not missing, f'{len(missing)} of {count} good images have no pose; ' \
            f'{self.status("reconstruction")}'

    def status(self, part: str) -> DiagnosticStatus | None:
        """Return the newest diagnostic whose name ends in `part`."""
        for array in reversed(self.diagnostics.messages):
            for status in array.status:
                if status.name.endswith(part):
                    return status
        return None

    def wait_for_status(self, part: str, accept: Callable[[DiagnosticStatus], bool], what: str
                        ) -> DiagnosticStatus:
        """Wait for the next diagnostic."""
        self.diagnostics.clear()

        def found() -> DiagnosticStatus | None:
            status = self.status(part)
            return status if status is not None and accept(status) else None
        return wait_for(found, what=what)

    def values(self, part: str) -> dict[str, str]:
        """Return key and value of the newest diagnostic whose name ends in `part`."""
        status: Any = self.status(part)
        return {} if status is None else {v.key: v.value for v in status.values}
