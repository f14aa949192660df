# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Initialisation: frames wait for a first pair of keyframes; its depth gives them poses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import solve_pnp
from recon3r_ros.slam.dynamics.motion import MotionDetector
from recon3r_ros.slam.dynamics.motion_smoothing import PlacedFrame, smooth
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.steps import Placed
from recon3r_ros.slam.frontend.tracking import MAX_ERROR, MIN_INLIERS, Reference, Track
from recon3r_ros.slam.types import Keyframe, TrackedFrame

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]

#: Frames that wait for a first pair; older ones stay without a pose
MAX_PENDING = 3000
#: Frames among them whose images are kept, to find dynamic objects in them
MAX_PENDING_IMAGES = 45
#: A first pair that had too little depth is tried again when its shift has grown by this
RETRY_GROWTH = 1.3
#: Median share of the waiting frames' keypoints that must agree with a first pair
PLAUSIBLE_SHARE = 0.7
#: A camera stood still when no more than this share of its frames says otherwise
MAX_MOVED_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class _Pending:
    """A frame that waits for depth, its tracking image and track against the first keyframe."""

    frame: TrackedFrame
    gray: Gray | None
    track: Track


@dataclass(frozen=True)
class FirstPair:
    """
    How a frame lies to the first keyframe.

    :param shift: median distance that keypoints moved and that no rotation explains, pixels
    :param overlap: share of keypoints that are found again
    :param worth_trying: whether the two may give depth
    """

    shift: float
    overlap: float
    worth_trying: bool


class Initializer:
    """Frames of one camera that wait for depth."""

    def __init__(self) -> None:
        self._pending: deque[_Pending] = deque(maxlen=MAX_PENDING)
        self._tried_shift = 0.0

    @property
    def newest(self) -> int:
        """Index of the frame that came last."""
        return self._pending[-1].frame.index

    def start(self, frame: TrackedFrame, gray: Gray, reference: Reference) -> None:
        """
        Begin anew with the first keyframe's own frame.

        :param reference: the keyframe's keypoints, of which none has depth
        """
        self.clear()
        self._tried_shift = 0.0
        self.add(frame, gray, Track(
            reference.pixels, np.ones(len(reference.pixels), bool), None))

    def clear(self) -> None:
        """Let the waiting frames go."""
        self._pending.clear()

    def add(self, frame: TrackedFrame, gray: Gray, track: Track) -> None:
        """Keep a frame until there is depth; only the last ones keep their images."""
        self._pending.append(_Pending(frame, gray, track))
        if len(self._pending) > MAX_PENDING_IMAGES:
            old = self._pending[-1 - MAX_PENDING_IMAGES]
            self._pending[-1 - MAX_PENDING_IMAGES] = replace(old, gray=None)

    def first_pair(self, reference: Reference, camera: Camera) -> FirstPair:
        """Judge the newest frame as partner of the first keyframe."""
        track = self._pending[-1].track
        overlap = float(track.found.mean()) if len(track.found) else 0.0
        shift = keyframes.first_shift(track, reference, camera)
        least = keyframes.FIRST_SHIFT
        if len(self._pending) < keyframes.PATIENT_FRAMES:
            least = max(least, keyframes.FIRST_SHIFT_SHARE * camera.width)
        return FirstPair(shift, overlap, shift > max(least, RETRY_GROWTH * self._tried_shift)
                         or overlap <= keyframes.FIRST_OVERLAP)

    def reject(self, shift: float) -> None:
        """
        Wait for more parallax: a first pair gave no depth.

        :param shift: of that pair
        """
        self._tried_shift = max(self._tried_shift, shift)

    def placed(self, first: Keyframe, camera: Camera) -> list[Placed] | None:
        """
        Place the waiting frames by PnP on the first keyframe.

        :param camera: pinhole camera of the tracking images
        :return: those that could be placed; None where they contradict the first pair
        """
        points = first.landmark_points()
        known = np.isfinite(points[:, 0])
        placed, shares = [], []
        T = np.eye(4)
        for pending in self._pending:
            use = pending.track.found & known
            if use.sum() < MIN_INLIERS:
                continue  # too little in common to agree, or to contradict
            result = solve_pnp(points[use], pending.track.pixels[use], camera, T, MAX_ERROR)
            shares.append(0.0 if result is None else float(result.inliers.mean()))
            if result is None or result.inliers.sum() < MIN_INLIERS:
                continue
            T = result.T_cam_world
            placed.append(Placed(
                replace(pending.frame, keyframe=first.id, T_keyframe_cam=se3.inverse(T)),
                pending.track.pixels, use, result))
        return placed if np.median(shares or [1.0]) >= PLAUSIBLE_SHARE else None

    def with_masks(self, placed: list[Placed], first: Keyframe, detector: MotionDetector,
                   backward: Callable[[], MotionDetector]) -> list[Placed]:
        """
        Find the dynamic objects in those waiting frames that still have their images.

        :param placed: some of them
        :param detector: goes on with the frames that follow
        :param backward: makes one that has seen nothing, for the frames in reverse order
        """
        grays = {p.frame.index: p.gray for p in self._pending}
        seen = []
        for p in placed:
            gray = grays.get(p.frame.index)
            if gray is not None:
                seen.append(PlacedFrame(p.frame.index, gray, first, p.frame.T_keyframe_cam,
                                        p.frame.stamp_ns))
        masks = dict(smooth(seen, detector, backward))
        return [replace(p, mask=masks.get(p.frame.index)) for p in placed]

    def turned(self, reference: Reference, camera: Camera, keyframe: int) -> list[TrackedFrame]:
        """
        Pose the waiting frames of a camera that only turned; where it moved, none.

        :param keyframe: id of the first keyframe, which poses are relative to
        """
        shifts = np.array([keyframes.first_shift(p.track, reference, camera)
                           for p in self._pending])
        posed = []
        # Where it did move, nobody knows where the rest of the frames were
        if len(shifts) and np.mean(shifts > keyframes.STILL_PIXELS) <= MAX_MOVED_SHARE:
            for pending in self._pending:
                turn = keyframes.pure_rotation(pending.track, reference, camera)
                if turn is not None:
                    posed.append(replace(pending.frame, keyframe=keyframe,
                                         T_keyframe_cam=se3.from_rt(turn.T, np.zeros(3))))
        self.clear()
        return posed
