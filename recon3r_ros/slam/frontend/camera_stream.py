# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What belongs to one camera: its lens, what it follows, and the frames that wait for a place."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.pnp import PnPResult, solve_pnp
from recon3r_ros.slam.dynamics.motion import MotionConfig, MotionDetector
from recon3r_ros.slam.dynamics.motion_smoothing import PlacedFrame, smooth
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.bridging import corners
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.tracking import MAX_ERROR, MIN_INLIERS, Reference, Track, Tracker
from recon3r_ros.slam.options import TRACKED_INFORMATION
from recon3r_ros.slam.types import Frame, Keyframe, Map, TrackedFrame, TrackingState
from recon3r_ros.slam.visibility import Surface

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Frames that wait for a first pair; older ones stay without a pose
MAX_PENDING = 3000
#: Frames among them whose images are kept, to find dynamic objects in them
MAX_PENDING_IMAGES = 45
#: Landmarks that are tracked at most: more would not make the pose better for their cost
MAX_TRACKED = 240
#: A camera stood still when no more than this share of its frames says otherwise
MAX_MOVED_SHARE = 0.1
#: Frames without a place that are kept to be placed later
MAX_LOST = 60
#: Recent frames that blur is judged by
RECENT = 60


@dataclass(frozen=True, eq=False)
class Pending:
    """A frame that waits for depth, its tracking image and track against the first keyframe."""

    frame: TrackedFrame
    gray: Gray | None
    track: Track


@dataclass(frozen=True, eq=False)
class Lost:
    """A frame that could not be placed, kept until the camera's place is known again."""

    frame: TrackedFrame
    gray: Gray


@dataclass(frozen=True, eq=False)
class Placed:
    """
    A frame with a pose that was found afterwards.

    :param pixels: (N, 2) where it sees the landmarks of the keyframe that the pose is relative to
    :param found: (N,) which of them it sees
    :param mask: dynamic mask, in the detector's pixels; None where it was not looked for
    """

    frame: TrackedFrame
    pixels: NDArray[np.float32]
    found: Mask
    pose: PnPResult
    mask: Mask | None = None


@dataclass(frozen=True, eq=False)
class _Tracked:
    """
    A tracked frame, and what it saw of its reference.

    :param T_reference_cam: (4, 4)
    :param moving: dynamic mask of it
    :param pixels: (N, 2) of landmarks
    :param points: (N, 3) in the frame's camera frame
    :param landmarks: (N,) which ones, -1 for those of another keyframe than the reference
    """

    gray: Gray
    T_reference_cam: Array
    moving: Mask
    pixels: NDArray[np.float32]
    points: Array
    landmarks: NDArray[np.int64]

    def seen_from(self, T_new_old: Array) -> _Tracked:
        """Express it with another reference."""
        return replace(self, T_reference_cam=T_new_old @ self.T_reference_cam,
                       landmarks=np.full(len(self.landmarks), -1))

    def stretched(self, factor: float) -> _Tracked:
        """Express it in another unit of length."""
        return replace(self, T_reference_cam=se3.stretched(self.T_reference_cam, factor),
                       points=self.points * factor)


class CameraStream:
    """
    One camera's view of the map.

    :param frame: its first one
    :param motion: how dynamic objects are handled
    :raises InputError: where the camera's size is not the image's
    """

    def __init__(self, frame: Frame, motion: MotionConfig = MotionConfig()) -> None:
        self.name = frame.camera_name
        self._motion = motion
        self.rectifier = Rectifier.of(frame)
        self.tracker = Tracker(self.rectifier.tracking_camera)
        self.detector = MotionDetector(self.rectifier.tracking_camera, motion.rest_s)
        self.state = TrackingState.INITIALISING
        self.reference: int | None = None
        # What is tracked against: usually the reference keyframe, and all points its landmarks
        self._T_reference_tracked = np.eye(4)
        self._landmarks = np.zeros(0, int)
        self._count = 0
        self._last: _Tracked | None = None
        self.pending: deque[Pending] = deque(maxlen=MAX_PENDING)
        self.lost: deque[Lost] = deque(maxlen=MAX_LOST)
        self.tried_shift = 0.0
        self._sharpness: deque[float] = deque(maxlen=RECENT)

    def refocus(self, factor: float) -> None:
        """Set the focal length of an uncalibrated camera to `factor` times the guess."""
        self.rectifier.refocus(factor)
        self.tracker.camera = self.detector.camera = self.rectifier.tracking_camera

    def T_reference_cam(self, pose: PnPResult) -> Array:
        """Pose (4, 4) of a frame in its reference keyframe, from what it was tracked against."""
        return self._T_reference_tracked @ se3.inverse(pose.T_cam_world)

    def follow(self, keyframe: Keyframe, T_cam_ref: Array | None) -> None:
        """
        Take a keyframe for reference.

        :param T_cam_ref: (4, 4) pose of the former reference in the keyframe's camera, as it was
            tracked; None where it was not
        """
        camera = self.rectifier.tracking_camera
        scale = np.array([camera.width / keyframe.camera.width,
                          camera.height / keyframe.camera.height])
        pixels = (keyframe.keypoints + 0.5) * scale - 0.5
        points = keyframe.landmark_points()
        unfit = keyframe.mask[keyframe.keypoints[:, 1], keyframe.keypoints[:, 0]]
        points[unfit | (keyframe.information < TRACKED_INFORMATION)] = np.nan
        known = np.flatnonzero(np.isfinite(points[:, 0]))
        surplus = np.setdiff1d(known, known[::1 + len(known) // MAX_TRACKED])
        points[surplus] = np.nan
        self.tracker.follow(
            Reference(keyframe.gray, pixels.astype(np.float32), points),
            None if T_cam_ref is None else T_cam_ref @ self._T_reference_tracked)
        self._T_reference_tracked = np.eye(4)
        if self._last is not None:
            self._last = None if T_cam_ref is None else self._last.seen_from(T_cam_ref)
        self._count = len(points)
        self._landmarks = np.arange(self._count)
        if T_cam_ref is not None:
            self.detector.follow(keyframe, T_cam_ref)
        self.reference = keyframe.id

    def take_over_scale(self, before: Map, known: Map) -> None:
        """
        Go on in a map in which another camera has closed a loop, which scaled the reference.

        :param before: the map until now
        """
        if self.reference is None or self.reference not in known.keyframes:
            return
        factor = known.scale_of(self.reference) / before.scale_of(self.reference)
        if factor == 1.0:
            return
        self.tracker.rescale(factor)
        self._T_reference_tracked = se3.stretched(self._T_reference_tracked, factor)
        if self._last is not None:
            self._last = self._last.stretched(factor)
        self.detector.follow(known.keyframes[self.reference], np.eye(4))

    def track(self, gray: Gray, keyframe: Keyframe) -> Track:
        """
        Find a frame's pose.

        :param keyframe: the reference
        """
        track = self.tracker.track(gray)
        if track.pose is None and self._last is not None:
            # The step from the frame before is smaller
            self.bridge(keyframe)
            track = self.tracker.track(gray)
        return track

    def remember(self, gray: Gray, track: Track, moving: Mask) -> None:
        """
        Keep a tracked frame, the newest one, for `bridge`.

        :param track: with a pose
        :param moving: dynamic mask of it, of any size
        """
        assert track.pose is not None and self.tracker.reference is not None
        # Only what the keyframe itself knows, lest errors add up
        own = np.flatnonzero(track.pose.inliers & (self._landmarks >= 0))
        points = se3.transform(track.pose.T_cam_world, self.tracker.reference.points[own])
        self._last = _Tracked(gray, self.T_reference_cam(track.pose), moving, track.pixels[own],
                              points, self._landmarks[own])

    def bridge(self, keyframe: Keyframe) -> None:
        """
        Track against the newest tracked frame, until a keyframe of it, or one near it, is made.

        It takes over the landmarks that it sees; new corners get the depth that the reference has
        where they are, which is good enough until the keyframe's own depths are known.

        :param keyframe: the reference
        """
        last = self._last
        assert last is not None
        fresh = corners(last.gray, last.moving, last.pixels)
        camera = self.rectifier.tracking_camera
        depth = Surface.seen(keyframe, se3.inverse(last.T_reference_cam), camera).depth(fresh)
        points = np.concatenate([last.points, camera.unproject(fresh) * depth[:, None]])
        if np.isfinite(points[:, 0]).sum() < 2 * MIN_INLIERS:
            return
        pixels = np.concatenate([last.pixels, fresh])
        self.tracker.follow(Reference(last.gray, pixels, points),
                            se3.inverse(last.T_reference_cam) @ self._T_reference_tracked)
        self._T_reference_tracked = last.T_reference_cam
        self._landmarks = np.concatenate([last.landmarks, np.full(len(fresh), -1)])

    def sighting(self, track: Track) -> tuple[NDArray[np.float32], Mask]:
        """Pixels (N, 2) where a frame sees the reference's landmarks, and which (N,) it sees."""
        assert track.pose is not None
        seen = track.pose.inliers & (self._landmarks >= 0)
        pixels = np.zeros((self._count, 2), np.float32)
        found = np.zeros(self._count, bool)
        pixels[self._landmarks[seen]], found[self._landmarks[seen]] = track.pixels[seen], True
        return pixels, found

    def start(self, keyframe: Keyframe, frame: Frame) -> None:
        """Follow a first keyframe, which has no depth, made of a frame."""
        self.follow(keyframe, None)
        self.detector.reset()
        self.pending.clear()
        self.tried_shift = 0.0
        assert self.tracker.reference is not None
        self.wait(Pending(untracked(frame), keyframe.gray, Track(
            self.tracker.reference.pixels, np.ones(len(keyframe.keypoints), bool), None)))

    def moving(self, frame: Frame, gray: Gray, T_keyframe_cam: Array, keyframe: Keyframe) -> Mask:
        """Find the dynamic objects in a tracked frame, in the detector's pixels."""
        if self._motion.detect:
            mask = self.detector.detect(gray, T_keyframe_cam, keyframe, frame.stamp_ns)
        else:
            mask = np.zeros((self.detector.height, self.detector.width), bool)
        if frame.mask is not None:
            mask = mask | self.rectifier.mask_from_source(frame.mask, mask.shape)
        return mask

    def unfit(self, frame: Frame, moving: Mask) -> Mask:
        """
        Mask what of the newest frame has no place in the map: it moves, or did not long ago.

        :param moving: its `moving`
        """
        return moving | self.detector.unsettled(frame.stamp_ns)

    def is_blurred(self, gray: Gray) -> bool:
        """Tell whether a frame has much less detail than those before it."""
        sharpness = keyframes.sharpness(gray)
        self._sharpness.append(sharpness)
        return sharpness < keyframes.MIN_SHARPNESS * float(np.median(self._sharpness))

    def wait(self, pending: Pending) -> None:
        """Keep a frame until there is depth; only the last ones keep their images."""
        self.pending.append(pending)
        if len(self.pending) > MAX_PENDING_IMAGES:
            old = self.pending[-1 - MAX_PENDING_IMAGES]
            self.pending[-1 - MAX_PENDING_IMAGES] = Pending(old.frame, None, old.track)

    def pending_placed(self, first: Keyframe) -> tuple[list[Placed], float]:
        """
        Place the frames seen before there was depth, by PnP on the first keyframe.

        :return: those that could be placed, and the median share of their keypoints that agree
        """
        points = first.landmark_points()
        known = np.isfinite(points[:, 0])
        placed, shares = [], []
        T = np.eye(4)
        for pending in self.pending:
            use = pending.track.found & known
            result = solve_pnp(points[use], pending.track.pixels[use],
                               self.rectifier.tracking_camera, T, MAX_ERROR)
            if result is None or result.inliers.sum() < MIN_INLIERS:
                continue
            T = result.T_cam_world
            shares.append(float(result.inliers.mean()))
            placed.append(Placed(pending.frame, pending.track.pixels, use, result))
        return placed, float(np.median(shares or [1.0]))

    def with_masks(self, placed: list[Placed], first: Keyframe) -> list[Placed]:
        """Find the dynamic objects in pending frames that were placed and have their images."""
        if not self._motion.detect:
            return placed
        grays = {id(p.frame): p.gray for p in self.pending}
        seen = []
        for p in placed:
            gray = grays.get(id(p.frame))
            if gray is not None:
                seen.append(PlacedFrame(p.frame.index, gray, first,
                                        se3.inverse(p.pose.T_cam_world), p.frame.stamp_ns))
        masks = dict(smooth(seen, self.detector,
                            lambda: MotionDetector(self.rectifier.tracking_camera)))
        return [replace(p, mask=masks.get(p.frame.index)) for p in placed]

    def pending_turned(self) -> list[tuple[TrackedFrame, Array]]:
        """Rotations T_keyframe_cam (4, 4) of the waiting frames, where the camera only turned."""
        reference = self.tracker.reference
        if not self.pending or reference is None:
            return []
        shifts = np.array([keyframes.first_shift(p.track, reference, self.tracker.camera)
                           for p in self.pending])
        posed = []
        # Where it did move, nobody knows where the rest of the frames were
        if np.mean(shifts > keyframes.STILL_PIXELS) <= MAX_MOVED_SHARE:
            for pending in self.pending:
                turn = keyframes.pure_rotation(pending.track, reference, self.tracker.camera)
                if turn is not None:
                    posed.append((pending.frame, se3.from_rt(turn.T, np.zeros(3))))
        self.pending.clear()
        return posed

    def lost_placed(self, keyframe: Keyframe) -> list[Placed]:
        """Place the frames since track was lost, from the keyframe that found it outwards."""
        earlier = [x for x in reversed(self.lost) if x.frame.stamp_ns < keyframe.stamp_ns]
        later = [x for x in self.lost if x.frame.stamp_ns > keyframe.stamp_ns]
        self.lost.clear()
        placed = []
        for side in (earlier, later):
            T_cam_ref = np.eye(4)
            for lost in side:
                track = self.tracker.locate(lost.gray, T_cam_ref)
                if track.pose is None:
                    break
                T_cam_ref = track.pose.T_cam_world
                placed.append(Placed(lost.frame, track.pixels, track.pose.inliers, track.pose))
        # The next frame is looked for where the last of the later ones was, or the keyframe
        self.tracker.resume(T_cam_ref)
        return placed


def untracked(frame: Frame) -> TrackedFrame:
    """Make the record of a frame that has no pose yet."""
    return TrackedFrame(
        frame.name, frame.stamp_ns, frame.index, camera_name=frame.camera_name)
