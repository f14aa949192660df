# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Relocalisation: frames of a lost camera wait until one of them has a pose in the map."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.steps import Placed
from recon3r_ros.slam.types import Keyframe, TrackedFrame

#: Frames without a pose that are kept for relocalisation
MAX_LOST = 60
#: While another camera is tracked and needs keyframes, a lost one waits for this many times the
#: time that its last attempt took
PATIENCE = 3.0
#: Seconds of images, and rejected attempts, after which another map begins; after a cut, where
#: the same place is unlikely, it begins sooner
LOST_PATIENCE_S, CUT_PATIENCE_S, MIN_REJECTED = 2.0, 0.5, 3


@dataclass(frozen=True, eq=False)
class _Lost:
    """A frame without a pose, kept until the camera is relocalised."""

    frame: TrackedFrame
    gray: NDArray[np.uint8]


class Relocalizer:
    """Frames of one camera since tracking was lost."""

    def __init__(self) -> None:
        self._lost: deque[_Lost] = deque(maxlen=MAX_LOST)
        self._not_before = 0.0
        self._since_ns: int | None = None
        self._rejected = 0
        self._after_cut = False

    @property
    def in_vain(self) -> bool:
        """Whether relocalisation has failed for so long that another map should begin."""
        if self._since_ns is None or self._rejected < MIN_REJECTED:
            return False
        patience = CUT_PATIENCE_S if self._after_cut else LOST_PATIENCE_S
        return self._lost[-1].frame.stamp_ns - self._since_ns >= patience * 1e9

    @property
    def waits(self) -> bool:
        """Whether the next attempt is to wait where another camera needs keyframes."""
        return perf_counter() < self._not_before

    def add(self, frame: TrackedFrame, gray: NDArray[np.uint8]) -> None:
        """Keep a frame until the camera is relocalised."""
        self._lost.append(_Lost(frame, gray))
        if self._since_ns is None:
            self._since_ns = frame.stamp_ns

    def clear(self) -> None:
        """Drop the frames: tracking has recovered by itself, or another map begins."""
        self._lost.clear()
        self._since_ns, self._rejected, self._after_cut = None, 0, False

    def restart(self) -> TrackedFrame:
        """Drop all frames but the newest, which is returned: it is the first after a cut."""
        newest = self._lost[-1]
        self.clear()
        self.add(newest.frame, newest.gray)
        self._after_cut = True
        return newest.frame

    def reject(self, begin: float) -> None:
        """
        Record a failed attempt.

        :param begin: when it began (time.perf_counter)
        """
        self._rejected += 1
        now = perf_counter()
        self._not_before = now + PATIENCE * (now - begin)

    def placed(self, keyframe: Keyframe, tracker: KeyframeTracker) -> list[Placed]:
        """
        Estimate the poses of the lost frames, from the relocalised keyframe outwards.

        :param tracker: follows that keyframe, and continues from the newest frame
        """
        earlier = [x for x in reversed(self._lost) if x.frame.stamp_ns < keyframe.stamp_ns]
        later = [x for x in self._lost if x.frame.stamp_ns > keyframe.stamp_ns]
        self.clear()
        placed = []
        for side in (earlier, later):
            T_cam_ref = np.eye(4)
            for lost in side:
                track = tracker.locate(lost.gray, T_cam_ref)
                if track.pose is None:
                    break
                T_cam_ref = track.pose.T_cam_world
                placed.append(Placed(
                    replace(lost.frame, keyframe=keyframe.id,
                            T_keyframe_cam=se3.inverse(T_cam_ref)),
                    track.pixels, track.pose.inliers, track.pose))
        tracker.resume(T_cam_ref)
        return placed
