# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the cameras are on the robot: from the parameters, else from TF where it is installed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time
from recon3r_ros.ros import conversions
from recon3r_ros.ros.parameters import Config

try:
    import tf2_ros
except ImportError:  # not on PyPI
    tf2_ros = None


class Extrinsics:
    """
    Poses of the cameras' optical frames in the robot's base frame.

    :param node: that listens to TF where a camera has no parameter
    """

    def __init__(self, node: Node, config: Config) -> None:
        self._base = config.base_frame
        self._given = {c.name: c.T_base_cam for c in config.cameras if c.T_base_cam is not None}
        self._found: dict[str, NDArray[np.float64]] = {}
        self._buffer, self._listener = None, None
        if self._base and len(self._given) < len(config.cameras) and tf2_ros is not None:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    def of(self, camera: str, frame_id: str) -> NDArray[np.float64] | None:
        """
        Pose T_base_cam (4, 4) of a camera, metres; None where it is not known, or not needed.

        :param frame_id: its optical frame
        """
        if not self._base:
            return None
        if camera in self._given:
            return self._given[camera]
        if frame_id not in self._found and self._buffer is not None:
            try:
                transform = self._buffer.lookup_transform(self._base, frame_id, Time())
            except tf2_ros.TransformException:
                return None
            self._found[frame_id] = conversions.matrix_from_transform(transform.transform)
        return self._found.get(frame_id)

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
