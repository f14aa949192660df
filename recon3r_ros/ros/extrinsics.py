# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Extrinsics of the cameras: from the parameters, else from TF at the image's stamp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.time import Time
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.tf_tree import TfTree
from recon3r_ros.ros.transforms import Broadcast

try:
    import tf2_ros
except ImportError:  # not on PyPI
    tf2_ros = None


class Extrinsics:
    """
    The cameras' optical frames: their names, and their poses in the robot's base frame.

    :param node: that subscribes to TF where a camera has no parameter
    :param tree: knows static transforms, and broadcasts those of the parameters
    """

    def __init__(self, node: Node, config: Config, tree: TfTree) -> None:
        self._base = config.base_frame
        self._given = {c.name: c.T_base_cam for c in config.all_cameras
                       if c.T_base_cam is not None}
        #: Cameras that stand in for another one: its name, and their pose in its frame
        self._attached: dict[str, tuple[str, NDArray[np.float64]]] = {}
        self._frames: dict[str, str] = {}
        self._tree = tree
        self._buffer, self._listener = None, None
        wanted = self._base and any(c.T_base_cam is None for c in config.cameras)
        if (wanted or config.second_cameras) and tf2_ros is not None:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    @property
    def base(self) -> str:
        """The robot's base frame; empty where a camera stands alone."""
        return self._base

    def see(self, camera: str, frame_id: str) -> None:
        """
        Record the frame of a camera's images.

        :param frame_id: its optical frame
        """
        self._frames[camera] = frame_id
        if self._base and camera in self._given and frame_id != self._base:
            self._tree.add_static(Broadcast(self._base, frame_id, self._given[camera]))

    def attach(self, camera: str, first: str, T_first_cam: NDArray[np.float64]) -> None:
        """
        Record where a camera is that stands in for another one.

        :param T_first_cam: (4, 4) its pose in the frame of the other one, metres
        """
        self._attached[camera] = first, T_first_cam

    def body(self, camera: str) -> tuple[str, NDArray[np.float64]]:
        """
        Return the optical frame whose pose is published, and the camera's pose (4, 4) in it.

        That is its own, or of the camera that it stands in for.
        """
        first, T_first_cam = self._attached.get(camera, ('', np.eye(4)))
        frame = self.frame_id(first)
        return (frame, T_first_cam) if frame else (self.frame_id(camera), np.eye(4))

    def frame_id(self, camera: str) -> str:
        """Optical frame of a camera; empty before its first image."""
        return self._frames.get(camera, '')

    def shared(self, camera: str) -> bool:
        """Tell whether another camera's images are in the same frame."""
        return list(self._frames.values()).count(self.frame_id(camera)) > 1

    def T_base_cam(self, camera: str, stamp_ns: int) -> NDArray[np.float64] | None:
        """
        Pose (4, 4) of a camera at a time, metres; None where it is not known, or not needed.

        A camera on a pan-tilt head moves on the robot: where a joint lies between, TF is looked up
        at that time, or at the newest where that is not available.
        """
        if not self._base:
            return None
        if camera in self._given:
            return self._given[camera]
        frame_id = self.frame_id(camera)
        if not frame_id:
            return None
        root, T_root_cam = self._tree.fixed_root(frame_id, self._base)
        found = T_root_cam if root == self._base else self._at(self._base, frame_id, stamp_ns)
        if found is None and camera in self._attached:
            first, T_first_cam = self._attached[camera]
            T_base_first = self.T_base_cam(first, stamp_ns)
            return None if T_base_first is None else T_base_first @ T_first_cam
        return found

    def T_a_b(self, frame_a: str, frame_b: str, stamp_ns: int) -> NDArray[np.float64] | None:
        """
        Pose (4, 4) of a frame in another one at a time, by TF alone, metres; None where unknown.

        The chain may be static, or joints may lie between.
        """
        if not frame_a or not frame_b:
            return None
        root_a, T_root_a = self._tree.fixed_root(frame_a)
        root_b, T_root_b = self._tree.fixed_root(frame_b)
        if root_a == root_b:
            return se3.inverse(T_root_a) @ T_root_b
        return self._at(frame_a, frame_b, stamp_ns)

    def _at(self, target: str, source: str, stamp_ns: int) -> NDArray[np.float64] | None:
        """Look TF up at a time, or at the newest where that is not available."""
        for time in (Time(nanoseconds=stamp_ns), Time()):
            found = self._looked_up(target, source, time)
            if found is not None:
                return found
        return None

    def _looked_up(self, target: str, source: str, time: Time) -> NDArray[np.float64] | None:
        if self._buffer is None:
            return None
        try:
            transform: Any = self._buffer.lookup_transform(target, source, time)
            return conversions.matrix_from_transform(transform.transform)
        except (tf2_ros.TransformException, InputError):
            return None

    def close(self) -> None:
        """Unsubscribe."""
        if self._listener is not None:
            self._listener.unregister()
