# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Initialisation: frames are pending until a first pair of keyframes has depth, then posed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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
Mask = NDArray[np.bool_]

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
    :param zoomed: whether a zoom explains the images as well
    """

    shift: float
    overlap: float
    worth_trying: bool
    zoomed: bool = False


class Initializer:
    """
    Pending frames of one camera, which has no depth yet.

    :param live: whether their poses are awaited, so that a first pair may have less parallax
    :param calibrated: whether the focal length is known
    """

    def __init__(self, live: bool = False, calibrated: bool = True) -> None:
        self._calibrated = calibrated
        self._share = keyframes.LIVE_SHIFT_SHARE if live else keyframes.FIRST_SHIFT_SHARE
        self._pending: deque[_Pending] = deque(maxlen=MAX_PENDING)
        self._tried_shift = 0.0
        self._usable = np.zeros(0, bool)
        #: Frames of earlier first keyframes while the camera only rotated, in the first one of all
        self._turned: list[TrackedFrame] = []
        self._T_turned_first = np.eye(4)

    @property
    def newest(self) -> int:
        """Index of the newest pending frame."""
        return self._pending[-1].frame.index

    @property
    def rejected(self) -> bool:
        """Whether a pair with the present first keyframe was rejected."""
        return self._tried_shift > 0.0

    def start(self, frame: TrackedFrame, seen: SeenFrame, reference: Reference, usable: Mask
              ) -> None:
        """
        Restart with the frame of a first keyframe.

        :param seen: its images
        :param reference: the keyframe's keypoints, without depth
        :param usable: which of them (N,) are neither dynamic nor fixed to the camera
        """
        known = {f.index: f.T_keyframe_cam for f in self._turned}
        if frame.index not in known:
            self._turned = []
        self._T_turned_first = known.get(frame.index, np.eye(4))
        self._pending.clear()
        self._tried_shift = 0.0
        self._usable = usable
        self.add(frame, seen, Track(reference.pixels, usable, None))

    def clear(self) -> None:
        """Drop the pending frames."""
        self._pending.clear()
        self._turned = []

    def conclude(self, reference: Reference, camera: Camera) -> None:
        """
        Keep the rotations of the pending frames, before another first keyframe.

        :param reference: the first keyframe until now
        """
        turned = self._rotations(reference, camera)
        later = {f.index for f in turned}
        self._turned = [*(f for f in self._turned if f.index not in later), *turned]

    def add(self, frame: TrackedFrame, seen: SeenFrame, track: Track) -> None:
        """Add a pending frame; only the newest ones keep their images."""
        self._pending.append(_Pending(
            frame, seen, replace(track, found=track.found & self._usable)))
        if len(self._pending) > MAX_PENDING_IMAGES:
            old = self._pending[-1 - MAX_PENDING_IMAGES]
            self._pending[-1 - MAX_PENDING_IMAGES] = replace(old, seen=None)

    def first_pair(self, reference: Reference, camera: Camera) -> FirstPair:
        """Evaluate the newest frame as partner of the first keyframe."""
        track = self._pending[-1].track
        overlap = track.found.sum() / max(self._usable.sum(), 1)
        shift = keyframes.first_shift(track, reference, camera)
        least = keyframes.FIRST_SHIFT
        if (len(self._pending) < keyframes.PATIENT_FRAMES
                and overlap > keyframes.HURRIED_OVERLAP):
            least = max(least, self._share * camera.width)
        zoomed = not self._calibrated and keyframes.is_zoom(track, reference, camera)
        return FirstPair(shift, overlap, not zoomed and (
            shift > max(least, RETRY_GROWTH * self._tried_shift)
            or overlap <= keyframes.FIRST_OVERLAP), zoomed)

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

    def with_masks(self, placed: list[Placed], first: Keyframe, forward: MotionEvidence,
                   backward: Callable[[], MotionEvidence]) -> list[Placed]:
        """
        Detect dynamic objects in the pending frames that still have their images.

        :param placed: some of them
        :param forward: collects the evidence of the frames in order, from none
        :param backward: makes another one
        """
        images = {p.frame.index: p.seen for p in self._pending}
        seen = []
        for p in placed:
            image = images.get(p.frame.index)
            if image is not None:
                seen.append(replace(
                    image, reference=first, T_reference_cam=p.frame.T_keyframe_cam))
        masks = dict(smooth(seen, forward, backward))
        return [replace(p, mask=masks.get(p.frame.index)) for p in placed]

    def turned(self, reference: Reference, camera: Camera, keyframe: int) -> list[TrackedFrame]:
        """
        Pose the frames of a camera that only rotated; where it translated, none.

        :param keyframe: id of the first keyframe, whose map poses refer to
        """
        self.conclude(reference, camera)
        posed = [replace(frame, keyframe=keyframe) for frame in self._turned]
        self.clear()
        return posed

    def _rotations(self, reference: Reference, camera: Camera) -> list[TrackedFrame]:
        """Rotations of the pending frames, none where the camera translated."""
        shifts = np.array([keyframes.first_shift(p.track, reference, camera)
                           for p in self._pending])
        # Where it translated, the other frames have no observable pose
        if not len(shifts) or np.mean(shifts > keyframes.STILL_PIXELS) > MAX_MOVED_SHARE:
            return []
        turns = [keyframes.pure_rotation(p.track, reference, camera) for p in self._pending]
        return [replace(p.frame, T_keyframe_cam=se3.normalized(
                    self._T_turned_first @ se3.from_rt(turn.T, np.zeros(3))))
                for p, turn in zip(self._pending, turns) if turn is not None]
