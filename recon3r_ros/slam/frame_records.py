# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which frames have a pose, when they got it, and which have none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.completion import Stretch, stretches
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.steps import Placed
from recon3r_ros.slam.frontend.tracking import landmark_covariance
from recon3r_ros.slam.trajectory import Trajectory
from recon3r_ros.slam.types import Keyframe, Map, TrackedFrame

Mask = NDArray[np.bool_]


class FrameRecords:
    """
    Records of the frames of all cameras, none at first.

    :param completed: whether frames without a pose may get one after the last frame
    """

    def __init__(self, completed: bool) -> None:
        self._completed = completed
        #: Frames with a pose
        self.trajectory = Trajectory()
        #: Indices of each camera's frames without a pose, in order; empty where nothing is
        #: completed
        self._unposed: dict[str, dict[int, None]] = {}
        #: Indices of frames whose focal length is not that of the map, under the same condition
        self._zoomed: set[int] = set()
        #: Cameras and indices of frames posed after the last one
        self._late: set[tuple[str, int]] = set()

    @property
    def zoomed(self) -> frozenset[int]:
        """Indices of the frames whose focal length is not that of the map."""
        return frozenset(self._zoomed)

    def expect(self, camera_name: str, index: int) -> None:
        """Note a frame that has no pose yet."""
        if self._completed:
            self._unposed.setdefault(camera_name, {})[index] = None

    def leave_unposed(self, camera_name: str, index: int) -> None:
        """Note that a frame is zoomed, and has no place in the map."""
        if self._completed:
            self._unposed[camera_name].pop(index, None)
            self._zoomed.add(index)

    def add(self, placed: Placed, known: Map, lens: Rectifier) -> TrackedFrame:
        """
        Record a tracked frame.

        :param known: the map that it is tracked in
        :param lens: of its camera
        :return: the frame, with its dynamic mask as its source has it
        """
        frame = replace(placed.frame, scale=known.scale_of(placed.frame.keyframe),
                        covariance=placed.pose.covariance,
                        landmarks=int(placed.pose.inliers.sum()))
        self._add(frame, placed.pixels, placed.found)
        if placed.mask is None:
            return frame
        return replace(frame, mask=lens.mask_to_source(placed.mask), objects=placed.objects)

    def add_keyframe(self, keyframe: Keyframe, known: Map) -> TrackedFrame:
        """Record the frame of a keyframe, which has its pose."""
        frame = TrackedFrame(
            keyframe.name, keyframe.stamp_ns, keyframe.index, keyframe.id,
            covariance=landmark_covariance(keyframe), scale=known.scale_of(keyframe.id),
            camera_name=keyframe.camera_name, mount=keyframe.mount)
        self._add(frame)
        return frame

    def _add(self, frame: TrackedFrame, pixels: NDArray[np.float32] | None = None,
             found: Mask | None = None) -> None:
        self.trajectory.add(frame, pixels, found)
        self._unposed.get(frame.camera_name, {}).pop(frame.index, None)
        self._zoomed.discard(frame.index)

    def follow_rig(self, known: Map) -> list[TrackedFrame]:
        """Pose frames in a map by the other cameras of their instants; return the new ones."""
        found = self.trajectory.follow_rig(known)
        for frame in found:
            self._unposed.get(frame.camera_name, {}).pop(frame.index, None)
        return found

    def withdraw(self, camera_name: str, index: int) -> list[TrackedFrame]:
        """
        Take back the poses of a camera's frames from one on: they are zoomed.

        :param index: of the first one
        :return: these frames, in order
        """
        dropped = self.trajectory.withdraw(camera_name, index)
        for frame in dropped:
            self.leave_unposed(camera_name, frame.index)
        return dropped

    def stretches(self, camera_name: str, cut_at: list[int]) -> list[Stretch]:
        """
        Frames of a camera without a pose.

        :param cut_at: indices of the frames that began a new scene
        """
        return stretches(self._unposed.get(camera_name, ()), self.trajectory.posed(camera_name),
                         cut_at)

    def mark_late(self, frames: Iterable[TrackedFrame]) -> None:
        """Note that frames have got their poses after the last one."""
        self._late |= {(f.camera_name, f.index) for f in frames}

    def is_late(self, frame: TrackedFrame) -> bool:
        """Whether a frame got its pose after the last one."""
        return (frame.camera_name, frame.index) in self._late

    def forget(self, camera_name: str) -> None:
        """Forget which frames of a camera have no pose."""
        self._unposed.pop(camera_name, None)
