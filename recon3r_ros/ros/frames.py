# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A camera's pose as a transform on /tf: of the camera, its parent, the base, or odometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.ros.extrinsics import Extrinsics
from recon3r_ros.ros.parameters import Config
from recon3r_ros.ros.tf_tree import TfTree
from recon3r_ros.ros.transforms import broadcast, FrameNames, OdometryBuffer

Array = NDArray[np.float64]

#: Greatest size of a bare camera's housing, metres. A frame farther away has no pose in a map
#: without metric scale
HOUSING = 0.25
#: A frame that carries several cameras is published by another one after so long without poses
SILENT_NS = 500_000_000


class Frames:
    """
    Publishes poses of cameras on /tf.

    :param tree: publishes, unless a frame has a parent already
    :param extrinsics: of the cameras on the robot
    :param odometry: of the robot
    """

    def __init__(self, config: Config, tree: TfTree, extrinsics: Extrinsics,
                 odometry: OdometryBuffer) -> None:
        self.names = FrameNames(config.map_frame, config.odom_frame, config.base_frame,
                                config.odometry)
        self._tree = tree
        self._extrinsics = extrinsics
        self._odometry = odometry
        #: Camera that publishes a frame, and the stamp of its newest image
        self._carried: dict[str, tuple[str, int]] = {}

    def send(self, camera: str, stamp_ns: int, T_map_cam: Array, metric: bool) -> str:
        """
        Publish a camera's pose.

        :param T_map_cam: (4, 4) in the ROS map frame
        :param metric: whether lengths are metres
        :return: why it cannot be published, and the remedy; empty where it can
        """
        if not self._tree.publish_tf:
            return ''
        frame = self._extrinsics.frame_id(camera)
        if frame in (self.names.map, self.names.base, self.names.odom):
            return (f'images of {camera} are in the frame {frame}: not published; they need the '
                    "camera's own optical frame as frame_id")
        if self._extrinsics.shared(camera):
            return (f'images of several cameras are in the frame {frame}: not published; each '
                    'needs an optical frame of its own')
        remedy = "set base_frame to the robot's body"
        if self.names.base:
            remedy = 'no other node may publish it' if self.names.odometry else (
                'set odometry to publish map -> odom')
        else:
            # Drivers fix the optical frame of a camera to that of its housing
            body, T_body_cam = self._extrinsics.body(camera)
            frame, T_frame_body = self._tree.fixed_root(body)
            T_frame_cam = T_frame_body @ T_body_cam
            T_map_cam = T_map_cam @ se3.inverse(T_frame_cam)
            if not metric and np.linalg.norm(T_frame_cam[:3, 3]) > HOUSING:
                return f'{camera} is carried by {frame} on TF: not published; {remedy}'
            if not self._carries(camera, frame, stamp_ns):
                return ''
        found = broadcast(
            self.names, frame, T_map_cam, self._extrinsics.T_base_cam(camera, stamp_ns),
            self._odometry.at(stamp_ns) if self.names.odometry else None)
        if isinstance(found, str):
            return found
        problem = self._tree.send(found, stamp_ns)
        return problem and f'{problem}; {remedy}'

    def _carries(self, camera: str, frame: str, stamp_ns: int) -> bool:
        """Tell whether a camera is the one that publishes a frame, which may carry several."""
        owner, last_ns = self._carried.get(frame, (camera, stamp_ns))
        if owner != camera and abs(stamp_ns - last_ns) < SILENT_NS:
            return False
        self._carried[frame] = camera, stamp_ns
        return True
