# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the cameras are on the robot: from the parameters, else from TF where it is installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time
from recon3r_ros.ros import conversions
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.tf_tree import StaticTransform, TfTree

try:
    import tf2_ros
except ImportError:  # not on PyPI
    tf2_ros = None


class Extrinsics:
    """
    The cameras' optical frames: their names, and their poses in the robot's base frame.

    :param node: that listens to TF where a camera has no parameter, and broadcasts where it has
    :param warn: told of a frame with two parents, in one line
    """

    def __init__(self, node: Node, config: Config, warn: Callable[[str], None]) -> None:
        self._base = config.base_frame
        self._given = {c.name: c.T_base_cam for c in config.cameras if c.T_base_cam is not None}
        self._frames: dict[str, str] = {}
        self._found: dict[str, NDArray[np.float64]] = {}
        self._buffer, self._listener = None, None
        if self._base and len(self._given) < len(config.cameras) and tf2_ros is not None:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._publish = config.publish_tf
        self._tree = TfTree(node, config.map_frame, warn)

    def see(self, camera: str, frame_id: str) -> None:
        """
        Take note of the frame that a camera's images are in.

        :param frame_id: its optical frame
        """
        self._frames[camera] = frame_id
        if self._base and self._publish and camera in self._given:
            self._tree.add(StaticTransform(self._base, frame_id, self._given[camera]))

    def frame_id(self, camera: str) -> str:
        """Optical frame of a camera; empty before its first image."""
        return self._frames.get(camera, '')

    def T_base_cam(self, camera: str) -> NDArray[np.float64] | None:
        """Pose (4, 4) of a camera, metres; None where it is not known, or not needed."""
        if not self._base:
            return None
        if camera in self._given:
            return self._given[camera]
        frame_id = self.frame_id(camera)
        if frame_id not in self._found and self._buffer is not None:
            try:
                transform = self._buffer.lookup_transform(self._base, frame_id, Time())
            except tf2_ros.TransformException:
                return None
            self._found[frame_id] = conversions.matrix_from_transform(transform.transform)
        return self._found.get(frame_id)

    def fixed_root(self, camera: str) -> tuple[str, NDArray[np.float64]]:
        """
        Frame that carries a camera, by static transforms of other nodes: its own where none do.

        :return: the frame, and the camera's pose T_root_cam (4, 4) in it, metres
        """
        return self._tree.fixed_root(self.frame_id(camera))

    def parent_of(self, frame: str) -> str:
        """Parent that other nodes have given to a frame on TF; empty where none is known."""
        return self._tree.parent_of(frame)

    def settle(self) -> None:
        """Broadcast extrinsics of the parameters that are due; to be called now and then."""
        self._tree.settle()

    def close(self) -> None:
        """Stop listening and broadcasting."""
        self._tree.close()
        if self._listener is not None:
            self._listener.unregister()
