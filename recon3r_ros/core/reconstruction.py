# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The whole pipeline behind one method: a frame goes in, what it changed comes out.

Used by the command line and by the ROS node alike.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.core import keyframes
from recon3r_ros.core.mapping import Mapper, TRACKED_INFORMATION
from recon3r_ros.core.motion import MotionDetector
from recon3r_ros.core.rectification import Rectifier
from recon3r_ros.core.tracking import MAX_ERROR, MIN_INLIERS, Reference, Track, Tracker
from recon3r_ros.core.types import Frame, Keyframe, StageTimes, TrackedFrame, TrackingState, Update
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.pnp import PnPResult, refine_pnp, solve_pnp
from recon3r_ros.inference.types import Predictor

Array = NDArray[np.float64]

#: Frames that wait for a first pair; older ones stay without a pose
MAX_PENDING = 3000
#: Frames among them whose images are kept, to find what moves in them
MAX_PENDING_IMAGES = 45
#: Landmarks that are tracked at most: more would not make the pose better for their cost
MAX_TRACKED = 240
#: A camera stood still when no more than this share of its frames says otherwise
MAX_MOVED_SHARE = 0.1
#: Frames without a place that are kept to be placed later
MAX_LOST = 60
#: Frames that are placed anew at the end, the newest ones
MAX_SIGHTINGS = 5000
#: Recent frames that blur is judged by
RECENT = 60
#: A first pair that had too little depth is tried again when its shift has grown by this
RETRY_GROWTH = 1.3
#: Share of keypoints that must agree with the poses of the frames between a first pair: two views
#: of a plane, or of something that moves, can be explained in a wrong way, but not what lies
#: between
PLAUSIBLE_SHARE = 0.7
#: Share of keypoints found again below which initialisation starts afresh
RESTART_OVERLAP = 0.25


@dataclass(frozen=True, eq=False)
class _Pending:
    """A frame that waits for depth, its tracking image and track against the first keyframe."""

    frame: TrackedFrame
    gray: NDArray[np.uint8] | None
    track: Track


@dataclass(frozen=True, eq=False)
class _Lost:
    """A frame that could not be placed, kept until the camera's place is known again."""

    frame: TrackedFrame
    gray: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Sighting:
    """Where a tracked frame saw its keyframe's landmarks, to place it anew as they are refined."""

    row: int
    pixels: NDArray[np.float32]
    found: NDArray[np.bool_]


class Reconstruction:
    """
    Poses, depth and motion from a stream of frames of one camera.

    :param predictor: what predicts pointmaps
    """

    def __init__(self, predictor: Predictor) -> None:
        self.mapper = Mapper(predictor)
        self.state = TrackingState.INITIALISING
        self._rectifier: Rectifier | None = None
        self._tracker: Tracker | None = None
        self._detector: MotionDetector | None = None
        self._sharpness: deque[float] = deque(maxlen=RECENT)
        self._pending: deque[_Pending] = deque(maxlen=MAX_PENDING)
        self._lost: deque[_Lost] = deque(maxlen=MAX_LOST)
        self._tried_shift = 0.0
        self._tracked: list[TrackedFrame] = []
        self._sightings: deque[_Sighting] = deque(maxlen=MAX_SIGHTINGS)

    def add(self, frame: Frame) -> Update:
        """
        Process one frame.

        :raises InputError: for an image whose size differs from its camera's or from the first's
        """
        if self._rectifier is None:
            self._rectifier = Rectifier.of(frame)
        self._rectifier.check(frame)
        begin = perf_counter()
        gray = self._rectifier.tracking_image(frame)
        if not self.mapper.started:
            return self._initialise(frame, gray)
        return self._follow(frame, gray, begin)

    def finish(self) -> Update:
        """
        Refine everything together once no frame will follow.

        A camera that never moved has no map, but it has a pose: that of the first frame, turned.
        """
        self.mapper.finish()
        self._place_anew()
        frames = () if self.mapper.started else self._pose_turned()
        return Update(self.state, frames, None)

    def _place_anew(self) -> None:
        """Pose the frames again: their keyframes' landmarks are better known than they were."""
        previous: TrackedFrame | None = None
        for sighting in self._sightings:
            tracked = self._tracked[sighting.row]
            points = self.mapper.keyframes[tracked.keyframe].landmark_points()
            use = sighting.found & np.isfinite(points[:, 0])
            if use.sum() < MIN_INLIERS:
                continue
            result = self._refined(points[use], sighting.pixels[use], tracked.T_keyframe_cam)
            if previous is not None and previous.keyframe == tracked.keyframe and (
                    result is None or result.inliers.mean() < PLAUSIBLE_SHARE):
                # Its pose may have been found with wrong depths, the one before it is right now
                other = self._refined(points[use], sighting.pixels[use], previous.T_keyframe_cam)
                if result is None or (other is not None
                                      and other.inliers.sum() > result.inliers.sum()):
                    result = other
            if result is not None and result.inliers.sum() >= MIN_INLIERS:
                previous = self._tracked[sighting.row] = replace(
                    tracked, T_keyframe_cam=se3.inverse(result.T_cam_world),
                    covariance=result.covariance, scale=self.mapper.scale_of(tracked.keyframe))
        self._sightings.clear()

    def _refined(self, points: Array, pixels: NDArray[np.float32], T_keyframe_cam: Array
                 ) -> PnPResult | None:
        assert self._rectifier is not None
        return refine_pnp(points, pixels, self._rectifier.tracking_camera,
                          se3.inverse(T_keyframe_cam), MAX_ERROR)

    def _pose_turned(self) -> tuple[TrackedFrame, ...]:
        """Poses of the waiting frames whose keypoints moved as under a mere turn of the camera."""
        if not self._pending:
            return ()
        assert self._tracker is not None and self._tracker.reference is not None
        shifts = np.array([keyframes.first_shift(
            p.track, self._tracker.reference, self._tracker.camera) for p in self._pending])
        if np.mean(shifts > keyframes.STILL_PIXELS) > MAX_MOVED_SHARE:
            # It did move, and where the rest was nobody knows
            self._pending.clear()
            return ()
        posed = []
        for pending in self._pending:
            turn = keyframes.pure_rotation(
                pending.track, self._tracker.reference, self._tracker.camera)
            if turn is not None:
                T = se3.from_rt(turn.T, np.zeros(3))
                posed.append(self._record(pending.frame, self.mapper.newest.id, T,
                                          np.zeros((6, 6))))
        self._pending.clear()
        return tuple(posed)

    def trajectory(self) -> list[tuple[TrackedFrame, Array]]:
        """All tracked frames with their poses T_map_cam (4, 4) as they are known now."""
        return [(f, self.pose_of(f)) for f in self._tracked]

    def pose_of(self, frame: TrackedFrame) -> Array:
        """Pose T_map_cam (4, 4) of a frame as its keyframe's pose is known now."""
        return self.mapper.pose_in_map(frame.keyframe, frame.T_keyframe_cam, frame.scale)

    def _initialise(self, frame: Frame, gray: NDArray[np.uint8]) -> Update:
        if not self.mapper.keyframes:
            return self._start(frame, gray)
        assert self._rectifier is not None
        assert self._tracker is not None and self._tracker.reference is not None
        reference = self._tracker.reference
        track = self._tracker.track(gray)
        overlap = float(track.found.mean()) if len(track.found) else 0.0
        shift = keyframes.first_shift(track, reference, self._tracker.camera)
        self._wait(_Pending(_untracked(frame), gray, track))
        worth = shift > max(keyframes.FIRST_SHIFT, RETRY_GROWTH * self._tried_shift)
        if not worth and overlap > keyframes.FIRST_OVERLAP:
            return Update(self.state, (), None)
        keyframe = self._add_keyframe(frame, gray, None)
        if keyframe is not None:
            poses = self._pending_poses()
            shares = [p.inliers.sum() / len(p.inliers) for p in poses if p is not None]
            if np.median(shares or [1.0]) >= PLAUSIBLE_SHARE:
                return Update(self.state, self._record_pending(poses), keyframe)
            self.mapper.take_back_first_pair()
            self._rectifier.refocus(self.mapper.focal_factor)
            self._tracker.camera = self._rectifier.tracking_camera
            self._tracker.follow(reference)
            self.state = TrackingState.INITIALISING
        self._tried_shift = max(self._tried_shift, shift)
        if overlap < RESTART_OVERLAP:
            return self._start(frame, gray)
        return Update(self.state, (), None)

    def _start(self, frame: Frame, gray: NDArray[np.uint8]) -> Update:
        assert self._rectifier is not None
        keyframe = self.mapper.start(frame, self._rectifier.view(frame), gray)
        self._tracker = Tracker(self._rectifier.tracking_camera)
        self._detector = MotionDetector(self._rectifier.tracking_camera)
        self._follow_keyframe(keyframe, gray, None)
        self._pending.clear()
        self._tried_shift = 0.0
        count = len(keyframe.keypoints)
        assert self._tracker.reference is not None
        self._wait(_Pending(_untracked(frame), gray, Track(
            self._tracker.reference.pixels, np.ones(count, bool), None)))
        return Update(self.state, (), None)

    def _wait(self, pending: _Pending) -> None:
        """Keep a frame until there is depth; only the last ones keep their images."""
        self._pending.append(pending)
        if len(self._pending) > MAX_PENDING_IMAGES:
            old = self._pending[-1 - MAX_PENDING_IMAGES]
            self._pending[-1 - MAX_PENDING_IMAGES] = _Pending(old.frame, None, old.track)

    def _pending_poses(self) -> list[PnPResult | None]:
        """Poses of the frames seen before there was depth, by PnP on the first keyframe."""
        assert self._rectifier is not None
        first = next(iter(self.mapper.keyframes.values()))
        points = first.landmark_points()
        poses: list[PnPResult | None] = []
        T = np.eye(4)
        for pending in self._pending:
            use = pending.track.found & np.isfinite(points[:, 0])
            result = solve_pnp(points[use], pending.track.pixels[use],
                               self._rectifier.tracking_camera, T, MAX_ERROR)
            if result is not None and result.inliers.sum() < MIN_INLIERS:
                result = None
            if result is not None:
                T = result.T_cam_world
            poses.append(result)
        return poses

    def _record_pending(self, poses: list[PnPResult | None]) -> tuple[TrackedFrame, ...]:
        first = next(iter(self.mapper.keyframes.values()))
        known = np.isfinite(first.landmark_points()[:, 0])
        placed = [(pending, pose) for pending, pose in zip(self._pending, poses)
                  if pose is not None]
        masks = self._pending_masks(
            [(p.gray, se3.inverse(pose.T_cam_world)) for p, pose in placed], first)
        posed = []
        for (pending, pose), mask in zip(placed, masks):
            self._sight(pending.track.pixels, pending.track.found & known)
            posed.append(self._record(pending.frame, first.id, se3.inverse(pose.T_cam_world),
                                      pose.covariance, mask))
        newest = self.mapper.newest
        if not any(p.index == newest.index for p in posed):
            posed.append(self._record_keyframe(newest))
        self._pending.clear()
        return tuple(posed)

    def _pending_masks(self, frames: list[tuple[NDArray[np.uint8] | None, Array]],
                       keyframe: Keyframe) -> list[NDArray[np.bool_] | None]:
        """
        Find what moves in frames that are all at hand.

        Evidence grows with time, so that the first frames have little: they are looked at
        backwards in time, the others forwards.
        """
        assert self._rectifier is not None
        forward = [None if gray is None else self._moving(gray, T, keyframe)
                   for gray, T in frames]
        backward = MotionDetector(self._rectifier.tracking_camera)
        half = len(frames) // 2
        for i in range(len(frames) - 1, -1, -1):
            gray, T = frames[i]
            if gray is not None:
                mask = backward.detect(gray, T, keyframe)
                forward[i] = mask if i < half else forward[i]
        return forward

    def _follow(self, frame: Frame, gray: NDArray[np.uint8], begin: float) -> Update:
        assert self._tracker is not None and self._tracker.reference is not None
        track = self._tracker.track(gray)
        tracked_at = perf_counter()
        keyframe = None
        if track.pose is None:
            keyframe = self._add_keyframe(frame, gray, None)
            if keyframe is None:
                self.state = TrackingState.LOST
                assert self._detector is not None
                self._detector.reset()
                self._lost.append(_Lost(_untracked(frame), gray))
                return Update(self.state, (), None)
            found = (self._record_keyframe(keyframe), *self._pose_lost())
            return Update(self.state, found, keyframe)
        self.state = TrackingState.TRACKING
        self._lost.clear()
        T_ref_cam = se3.inverse(track.pose.T_cam_world)
        mask = self._moving(gray, T_ref_cam, self.mapper.newest)
        masked_at = perf_counter()
        self._sight(track.pixels, track.pose.inliers)
        tracked = self._record(_untracked(frame), self.mapper.newest.id, T_ref_cam,
                               track.pose.covariance, mask)
        sharpness = keyframes.sharpness(gray)
        self._sharpness.append(sharpness)
        blurred = sharpness < keyframes.MIN_SHARPNESS * float(np.median(self._sharpness))
        if keyframes.is_due(track, self._tracker.reference, blurred):
            keyframe = self._add_keyframe(frame, gray, track, mask)
        return Update(self.state, (tracked,), keyframe, StageTimes(
            tracked_at - begin, masked_at - tracked_at, perf_counter() - masked_at))

    def _pose_lost(self) -> tuple[TrackedFrame, ...]:
        """Poses of the frames since track was lost, backwards from the keyframe that found it."""
        assert self._tracker is not None
        T_cam_ref = np.eye(4)
        posed = []
        for lost in reversed(self._lost):
            track = self._tracker.locate(lost.gray, T_cam_ref)
            if track.pose is None:
                break
            T_cam_ref = track.pose.T_cam_world
            self._sight(track.pixels, track.pose.inliers)
            posed.append(self._record(lost.frame, self.mapper.newest.id, se3.inverse(T_cam_ref),
                                      track.pose.covariance))
        self._lost.clear()
        return tuple(posed)

    def _moving(self, gray: NDArray[np.uint8], T_keyframe_cam: Array, keyframe: Keyframe
                ) -> NDArray[np.bool_]:
        """Find what moves in a tracked frame, in the detector's pixels."""
        assert self._detector is not None
        return self._detector.detect(gray, T_keyframe_cam, keyframe)

    def _add_keyframe(self, frame: Frame, gray: NDArray[np.uint8], track: Track | None,
                      moving: NDArray[np.bool_] | None = None) -> Keyframe | None:
        assert self._rectifier is not None
        T_map_cam, T_cam_ref = None, None
        if track is not None and track.pose is not None:
            T_cam_ref = track.pose.T_cam_world
            T_map_cam = self.mapper.newest.T_map_cam @ se3.inverse(T_cam_ref)
        view = self._rectifier.view(frame)
        keyframe = self.mapper.add(frame, view, gray, T_map_cam, moving)
        if keyframe is not None:
            self._rectifier.refocus(self.mapper.focal_factor)
            self._follow_keyframe(keyframe, gray, T_cam_ref)
            self.state = TrackingState.TRACKING
        return keyframe

    def _follow_keyframe(self, keyframe: Keyframe, gray: NDArray[np.uint8],
                         T_cam_ref: Array | None) -> None:
        assert self._tracker is not None and self._rectifier is not None
        camera = self._rectifier.tracking_camera
        scale = np.array([camera.width / keyframe.camera.width,
                          camera.height / keyframe.camera.height])
        pixels = (keyframe.keypoints + 0.5) * scale - 0.5
        points = keyframe.landmark_points()
        unfit = keyframe.mask[keyframe.keypoints[:, 1], keyframe.keypoints[:, 0]]
        points[unfit | (keyframe.information < TRACKED_INFORMATION)] = np.nan
        known = np.flatnonzero(np.isfinite(points[:, 0]))
        surplus = np.setdiff1d(known, known[::1 + len(known) // MAX_TRACKED])
        points[surplus] = np.nan
        assert self._detector is not None
        self._tracker.camera = self._detector.camera = camera
        self._tracker.follow(Reference(gray, pixels.astype(np.float32), points), T_cam_ref)

    def _record_keyframe(self, keyframe: Keyframe) -> TrackedFrame:
        frame = TrackedFrame(keyframe.name, keyframe.stamp_ns, keyframe.index)
        return self._record(frame, keyframe.id, np.eye(4), np.zeros((6, 6)))

    def _sight(self, pixels: NDArray[np.float32], found: NDArray[np.bool_]) -> None:
        self._sightings.append(_Sighting(len(self._tracked), pixels, found))

    def _record(self, frame: TrackedFrame, keyframe: int, T_keyframe_cam: Array,
                covariance: Array, moving: NDArray[np.bool_] | None = None) -> TrackedFrame:
        assert self._rectifier is not None
        tracked = replace(
            frame, keyframe=keyframe, T_keyframe_cam=T_keyframe_cam, covariance=covariance,
            scale=self.mapper.scale_of(keyframe))
        self._tracked.append(tracked)
        if moving is None:
            return tracked
        return replace(tracked, mask=self._rectifier.mask_to_source(moving))


def _untracked(frame: Frame) -> TrackedFrame:
    return TrackedFrame(frame.name, frame.stamp_ns, frame.index)
