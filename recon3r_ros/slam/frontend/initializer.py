# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Initialisation: frames are pending until a first pair of keyframes has depth, then posed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import solve_pnp
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.motion_smoothing import smooth
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.steps import Placed
from recon3r_ros.slam.frontend.tracking import MAX_ERROR, MIN_INLIERS, Reference, Track
from recon3r_ros.slam.options import PLAUSIBLE_SHARE
from recon3r_ros.slam.types import Keyframe, TrackedFrame

Array = NDArray[np.float64]

#: Pending frames at most; older ones stay without a pose
MAX_PENDING = 3000
#: Pending frames whose images are kept for their dynamic masks
MAX_PENDING_IMAGES = 45
#: After a first pair with too little depth, growth of the parallax until the next attempt
RETRY_GROWTH = 1.3
#: Share of frames with parallax up to which a camera counts as not translating
MAX_MOVED_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class _Pending:
    """A pending frame, its images and track against the first keyframe."""

    frame: TrackedFrame
    seen: SeenFrame | None
    track: Track


@dataclass(frozen=True)
class FirstPair:
    """
    Geometry of a frame and the first keyframe.

    :param shift: median residual of keypoints after the best rotation, pixels
    :param overlap: share of keypoints that are tracked
    :param worth_trying: whether to predict the two
    """

    shift: float
    overlap: float
    worth_trying: bool


class Initializer:
    """
    Pending frames of one camera, which has no depth yet.

    :param live: whether their poses are awaited, so that a first pair may have less parallax
    """

    def __init__(self, live: bool = False) -> None:
        self._share = keyframes.LIVE_SHIFT_SHARE if live else keyframes.FIRST_SHIFT_SHARE
        self._pending: deque[_Pending] = deque(maxlen=MAX_PENDING)
        self._tried_shift = 0.0

    @property
    def newest(self) -> int:
        """Index of the newest pending frame."""
        return self._pending[-1].frame.index

    def start(self, frame: TrackedFrame, seen: SeenFrame, reference: Reference) -> None:
        """
        Restart with the frame of a first keyframe.

        :param seen: its images
        :param reference: the keyframe's keypoints, without depth
        """
        self.clear()
        self._tried_shift = 0.0
        self.add(frame, seen, Track(
            reference.pixels, np.ones(len(reference.pixels), bool), None))

    def clear(self) -> None:
        """Drop the pending frames."""
        self._pending.clear()

    def add(self, frame: TrackedFrame, seen: SeenFrame, track: Track) -> None:
        """Add a pending frame; only the newest ones keep their images."""
        self._pending.append(_Pending(frame, seen, track))
        if len(self._pending) > MAX_PENDING_IMAGES:
            old = self._pending[-1 - MAX_PENDING_IMAGES]
            self._pending[-1 - MAX_PENDING_IMAGES] = replace(old, seen=None)

    def first_pair(self, reference: Reference, camera: Camera) -> FirstPair:
        """Evaluate the newest frame as partner of the first keyframe."""
        track = self._pending[-1].track
        overlap = float(track.found.mean()) if len(track.found) else 0.0
        shift = keyframes.first_shift(track, reference, camera)
        least = keyframes.FIRST_SHIFT
        if (len(self._pending) < keyframes.PATIENT_FRAMES
                and overlap > keyframes.HURRIED_OVERLAP):
            least = max(least, self._share * camera.width)
        return FirstPair(shift, overlap, shift > max(least, RETRY_GROWTH * self._tried_shift)
                         or overlap <= keyframes.FIRST_OVERLAP)

    def reject(self, shift: float) -> None:
        """
        Require more parallax: a first pair was rejected.

        :param shift: of that pair
        """
        self._tried_shift = max(self._tried_shift, shift)

    def placed(self, first: Keyframe, camera: Camera) -> list[Placed] | None:
        """
        Pose the pending frames by PnP on the first keyframe.

        :param camera: pinhole camera of the tracking images
        :return: those with a pose; None where the median inlier share rejects the first pair
        """
        points = first.landmark_points()
        known = np.isfinite(points[:, 0])
        placed, shares = [], []
        T = np.eye(4)
        for pending in self._pending:
            use = pending.track.found & known
            if use.sum() < MIN_INLIERS:
                continue  # too little overlap for evidence
            result = solve_pnp(points[use], pending.track.pixels[use], camera, T, MAX_ERROR)
            shares.append(0.0 if result is None else float(result.inliers.mean()))
            if result is None or result.inliers.sum() < MIN_INLIERS:
                continue
            T = result.T_cam_world
            placed.append(Placed(
                replace(pending.frame, keyframe=first.id, T_keyframe_cam=se3.inverse(T)),
                pending.track.pixels, use, result))
        return placed if np.median(shares or [1.0]) >= PLAUSIBLE_SHARE else None

    def with_masks(self, placed: list[Placed], first: Keyframe, camera: Camera,
                   calibrated: bool = True) -> list[Placed]:
        """
        Detect dynamic objects in the pending frames that still have their images.

        :param placed: some of them
        :param camera: pinhole camera of the tracking images
        :param calibrated: whether its intrinsics are known
        """
        def collector() -> MotionEvidence:
            return MotionEvidence(camera, calibrated=calibrated)

        images = {p.frame.index: p.seen for p in self._pending}
        seen = []
        for p in placed:
            image = images.get(p.frame.index)
            if image is not None:
                seen.append(replace(
                    image, reference=first, T_reference_cam=p.frame.T_keyframe_cam))
        masks = dict(smooth(seen, collector(), collector))
        return [replace(p, mask=masks.get(p.frame.index)) for p in placed]

    def turned(self, reference: Reference, camera: Camera, keyframe: int) -> list[TrackedFrame]:
        """
        Pose the pending frames of a camera that only rotated; where it translated, none.

        :param keyframe: id of the first keyframe, which poses are relative to
        """
        shifts = np.array([keyframes.first_shift(p.track, reference, camera)
                           for p in self._pending])
        posed = []
        # Where it translated, the other frames have no observable pose
        if len(shifts) and np.mean(shifts > keyframes.STILL_PIXELS) <= MAX_MOVED_SHARE:
            for pending in self._pending:
                turn = keyframes.pure_rotation(pending.track, reference, camera)
                if turn is not None:
                    posed.append(replace(pending.frame, keyframe=keyframe,
                                         T_keyframe_cam=se3.from_rt(turn.T, np.zeros(3))))
        self.clear()
        return posed
