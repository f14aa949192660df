# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Poses of frames relative to a keyframe: against the keyframe itself, or a temporary reference.

Where the motion from the keyframe is too large before the next one is there, the newest tracked
frame is the temporary reference, with the landmarks that it observes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.slam.frontend.bridging import corners
from recon3r_ros.slam.frontend.coasting import (
    LAST_SIGMA,
    POSITION_DRIFT,
    Predicted,
    Turned,
    UNTURNED,
)
from recon3r_ros.slam.frontend.tracking import (
    MIN_INLIERS,
    Reference,
    step,
    SURE_INLIERS,
    Track,
    Tracker,
)
from recon3r_ros.slam.imu.samples import Turn
from recon3r_ros.slam.options import FrontendOptions, TRACKED_INFORMATION
from recon3r_ros.slam.types import Keyframe
from recon3r_ros.slam.visibility import Surface

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Median motion of the landmarks from frame to frame that is verified: so many times the usual
#: one, and this share of the image's width
JUMP, MIN_JUMP = 4.0, 0.02
#: Share of the landmarks that must be tracked from the frame before for a verdict, and share of
#: the motion by which they may end elsewhere than by the pose
MIN_TRACKED, JUMP_ERROR = 0.5, 0.25
#: Share of the usual motion that a frame replaces
NEW_MOTION = 0.2
#: Step of the camera up to which none is a jump: share of the depth, and radians
MIN_STEP = 0.02


@dataclass(frozen=True, eq=False)
class _Tracked:
    """
    A tracked frame, and its observations of its keyframe.

    :param T_keyframe_cam: (4, 4)
    :param moving: dynamic mask of it
    :param pixels: (N, 2) of landmarks
    :param points: (N, 3) in the frame's camera frame
    :param landmarks: (N,) their indices, -1 for those of another keyframe
    :param sigma: standard deviation of its rotation, radians
    """

    gray: Gray
    T_keyframe_cam: Array
    moving: Mask
    pixels: NDArray[np.float32]
    points: Array
    landmarks: NDArray[np.int64]
    sigma: float

    def seen_from(self, T_new_old: Array) -> _Tracked:
        """Express it relative to another keyframe."""
        return replace(self, T_keyframe_cam=T_new_old @ self.T_keyframe_cam,
                       landmarks=np.full(len(self.landmarks), -1))

    def stretched(self, factor: float) -> _Tracked:
        """Express it in another unit of length."""
        return replace(self, T_keyframe_cam=se3.stretched(self.T_keyframe_cam, factor),
                       points=self.points * factor)


class KeyframeTracker:
    """
    Tracks frames of one camera against the landmarks of a keyframe.

    :param camera: pinhole camera of the tracking images
    :param max_landmarks: that are tracked; may be changed, for the keyframes that follow
    """

    def __init__(self, camera: Camera,
                 max_landmarks: int = FrontendOptions.tracked_landmarks) -> None:
        self.max_landmarks = max_landmarks
        self._begin(camera)

    def forget(self) -> None:
        """Follow no keyframe any more, as at first; camera and number of landmarks remain."""
        self._begin(self.camera)

    def _begin(self, camera: Camera) -> None:
        self._tracker = Tracker(camera)
        self._keyframe: int | None = None
        # Of the reference: usually the keyframe, and all points its landmarks
        self._T_keyframe_reference = np.eye(4)
        self._landmarks = np.zeros(0, int)
        self._count = 0
        self._last: _Tracked | None = None
        #: Median motion of the landmarks from frame to frame, pixels
        self._usual_motion = np.inf
        #: Mean step of the camera from frame to frame: share of the depth, and radians
        self._usual_step = np.inf
        #: Rotation since the last tracked frame, by a gyroscope
        self._turned: Turned | None = None

    @property
    def camera(self) -> Camera:
        """Pinhole camera of the tracking images."""
        return self._tracker.camera

    @camera.setter
    def camera(self, camera: Camera) -> None:
        self._tracker.camera = camera

    @property
    def keyframe(self) -> int | None:
        """Id of the keyframe that poses are relative to."""
        return self._keyframe

    @property
    def reference(self) -> Reference | None:
        """What is tracked: a keyframe's keypoints, or a temporary reference."""
        return self._tracker.reference

    @property
    def T_keyframe_reference(self) -> Array:
        """Pose (4, 4) of the reference relative to the keyframe."""
        return self._T_keyframe_reference

    def T_keyframe_cam(self, pose: PnPResult) -> Array:
        """Pose (4, 4) of a frame relative to the keyframe, from that in the reference."""
        return self._T_keyframe_reference @ se3.inverse(pose.T_cam_world)

    def follow(self, keyframe: Keyframe, T_cam_old: Array | None) -> None:
        """
        Track against a keyframe from now on.

        :param T_cam_old: (4, 4) pose of the former keyframe in this one's camera, as tracked; None
            where it was not
        """
        reference = self._reference_of(keyframe)
        self._tracker.follow(
            reference, None if T_cam_old is None else T_cam_old @ self._T_keyframe_reference)
        self._T_keyframe_reference = np.eye(4)
        if self._last is not None:
            self._last = None if T_cam_old is None else self._last.seen_from(T_cam_old)
        if T_cam_old is None:
            self._turned = None
        self._count = len(reference.points)
        self._landmarks = np.arange(self._count)
        self._keyframe = keyframe.id

    def _reference_of(self, keyframe: Keyframe) -> Reference:
        """Return the keypoints of a keyframe, with depth where it is certain enough."""
        scale = np.array([self.camera.width / keyframe.camera.width,
                          self.camera.height / keyframe.camera.height])
        pixels = (keyframe.keypoints + 0.5) * scale - 0.5
        points = keyframe.landmark_points()
        unfit = keyframe.mask[keyframe.keypoints[:, 1], keyframe.keypoints[:, 0]]
        points[unfit | (keyframe.information < TRACKED_INFORMATION)] = np.nan
        known = np.flatnonzero(np.isfinite(points[:, 0]))
        surplus = np.setdiff1d(known, known[::1 + len(known) // self.max_landmarks])
        points[surplus] = np.nan
        return Reference(keyframe.gray, pixels.astype(np.float32), points)

    def turn(self, turn: Turn | None) -> None:
        """
        Take the rotation of the next frame since the one before, by a gyroscope.

        :param turn: None where it is not known
        """
        self._turned = None if turn is None or self._turned is None else self._turned.then(turn)

    def predicted(self) -> Predicted | None:
        """
        Predict the pose of a frame that cannot be tracked, by the gyroscope.

        :return: None where tracking was lost for so long that the pose is not certain enough
        """
        turned, last = self._turned, self._last
        if turned is None or last is None or not turned.certain:
            return None
        T_keyframe_cam = last.T_keyframe_cam @ se3.from_rt(turned.R_last_cam, np.zeros(3))
        depth = float(np.median(last.points[:, 2])) if len(last.points) else 1.0
        position = POSITION_DRIFT * depth * turned.duration_s
        sigma = float(np.hypot(last.sigma, LAST_SIGMA)) + turned.sigma
        return Predicted(T_keyframe_cam, sigma, np.diag(
            np.square([sigma] * 3 + [position] * 3)))

    def find(self, gray: Gray, keyframe: Keyframe, T_cam_keyframe: Array) -> Track:
        """
        Estimate a frame's pose relative to another keyframe; the state does not change.

        :param T_cam_keyframe: (4, 4) as predicted
        """
        other = Tracker(self.camera)
        other.follow(self._reference_of(keyframe))
        return other.locate(gray, T_cam_keyframe)

    def follow_again(self) -> None:
        """Track against the same reference as if no frame had been tracked yet."""
        assert self._tracker.reference is not None
        self._tracker.follow(self._tracker.reference)

    def follow_newest(self, keyframe: Keyframe) -> None:
        """
        Make the newest tracked frame the temporary reference.

        New corners get the keyframe's depth, which is good enough until the next keyframe has its
        own. With too few points of known depth the reference is kept.

        :param keyframe: the one that poses are relative to
        """
        last = self._last
        assert last is not None
        fresh = corners(last.gray, last.moving, last.pixels)
        depth = Surface.seen(keyframe, se3.inverse(last.T_keyframe_cam), self.camera).depth(fresh)
        points = np.concatenate([last.points, self.camera.unproject(fresh) * depth[:, None]])
        if np.isfinite(points[:, 0]).sum() < 2 * MIN_INLIERS:
            return
        pixels = np.concatenate([last.pixels, fresh])
        self._tracker.follow(Reference(last.gray, pixels, points),
                             se3.inverse(last.T_keyframe_cam) @ self._T_keyframe_reference)
        self._T_keyframe_reference = last.T_keyframe_cam
        self._landmarks = np.concatenate([last.landmarks, np.full(len(fresh), -1)])

    def rescale(self, factor: float) -> None:
        """Multiply all lengths by a factor: the keyframe's depths have been corrected."""
        self._tracker.rescale(factor)
        self._T_keyframe_reference = se3.stretched(self._T_keyframe_reference, factor)
        if self._last is not None:
            self._last = self._last.stretched(factor)

    def resume(self, T_cam_reference: Array) -> None:
        """Continue tracking from a pose (4, 4) of the reference that was found otherwise."""
        self._tracker.resume(T_cam_reference)
        self._turned = UNTURNED

    def correct(self, T_cam_reference: Array) -> None:
        """Correct the pose (4, 4) of the newest frame, which was tracked."""
        self._tracker.correct(T_cam_reference)

    def expect(self, T_keyframe_cam: Array) -> None:
        """Search the next frame's landmarks from a pose (4, 4) that was found otherwise."""
        self._tracker.resume(se3.inverse(T_keyframe_cam) @ self._T_keyframe_reference)
        self._last = None

    def track(self, gray: Gray, keyframe: Keyframe | None = None) -> Track:
        """
        Estimate a frame's pose.

        :param keyframe: the one that poses are relative to; None where it has no depth yet
        """
        track = self._track(gray)
        if track.pose is None and self._last is not None and keyframe is not None:
            # The motion from the frame before is smaller
            self.follow_newest(keyframe)
            track = self._track(gray)
        return track

    def _track(self, gray: Gray) -> Track:
        """Estimate a frame's pose; none where it jumps against the motion of the image."""
        turned = None if self._turned is None else self._turned.R_last_cam
        track, last = self._tracker.track(gray, turned), self._last
        if track.pose is None or last is None or (
                self._follows_image(track, track.pose, last, gray)
                and self._follows_path(track.pose, last)):
            return track
        self._tracker.resume(se3.inverse(last.T_keyframe_cam) @ self._T_keyframe_reference)
        return replace(track, pose=None)

    def _follows_image(self, track: Track, pose: PnPResult, last: _Tracked, gray: Gray) -> bool:
        """
        Verify a pose that jumps by the motion of the image from the frame before.

        On a periodic texture, landmarks can be found a period away, where all of them agree.
        """
        where = np.full(self._count, -1)
        own = np.flatnonzero(pose.inliers & (self._landmarks >= 0))
        where[self._landmarks[own]] = own
        both = last.landmarks >= 0
        both[both] = where[last.landmarks[both]] >= 0
        if both.sum() < MIN_INLIERS:
            return True
        before, now = last.pixels[both], track.pixels[where[last.landmarks[both]]]
        motion = float(np.median(np.linalg.norm(now - before, axis=1)))
        if motion > max(JUMP * self._usual_motion, MIN_JUMP * self.camera.width):
            seen, sure = step(last.gray, gray, before)
            error = np.linalg.norm(seen - now, axis=1)[sure]
            if sure.mean() > MIN_TRACKED and np.median(error) > JUMP_ERROR * motion:
                return False
        self._usual_motion = _usual(self._usual_motion, motion)
        return True

    def _follows_path(self, pose: PnPResult, last: _Tracked) -> bool:
        """
        Verify a pose of few landmarks by the way from the frame before.

        Half of them may agree on a wrong pose; such a pose lies off the path.
        """
        T = se3.inverse(last.T_keyframe_cam) @ self.T_keyframe_cam(pose)
        if self._turned is not None:
            T[:3, :3] = self._turned.R_last_cam.T @ T[:3, :3]
        depth = float(np.median(last.points[:, 2])) if len(last.points) else np.inf
        step = (float(np.linalg.norm(T[:3, 3])) / depth
                + float(se3.rotation_angle(T[:3, :3])))
        if pose.inliers.sum() < SURE_INLIERS and step > max(JUMP * self._usual_step, MIN_STEP):
            return False
        self._usual_step = _usual(self._usual_step, step)
        return True

    def locate(self, gray: Gray, T_cam_reference: Array) -> Track:
        """
        Estimate the pose of the reference in any image.

        :param T_cam_reference: (4, 4) initial pose
        """
        return self._tracker.locate(gray, T_cam_reference)

    def remember(self, gray: Gray, track: Track, moving: Mask) -> None:
        """
        Keep a tracked frame, the newest one, as a possible temporary reference.

        :param track: with a pose
        :param moving: dynamic mask of it, of any size
        """
        assert track.pose is not None and self._tracker.reference is not None
        # Only the keyframe's own landmarks, so that errors do not accumulate
        own = np.flatnonzero(track.pose.inliers & (self._landmarks >= 0))
        points = se3.transform(track.pose.T_cam_world, self._tracker.reference.points[own])
        self._last = _Tracked(gray, self.T_keyframe_cam(track.pose), moving, track.pixels[own],
                              points, self._landmarks[own], float(np.sqrt(
                                  np.linalg.eigvalsh(track.pose.covariance[:3, :3])[-1])))
        self._turned = UNTURNED

    def observations(self, track: Track) -> tuple[NDArray[np.float32], Mask]:
        """Observations (K, 2) of the keyframe's landmarks, pixels, and which (K,) there are."""
        assert track.pose is not None
        seen = track.pose.inliers & (self._landmarks >= 0)
        pixels = np.zeros((self._count, 2), np.float32)
        found = np.zeros(self._count, bool)
        pixels[self._landmarks[seen]], found[self._landmarks[seen]] = track.pixels[seen], True
        return pixels, found


def _usual(before: float, newest: float) -> float:
    """Mean over the recent frames; infinite before the first one."""
    return newest if np.isinf(before) else before + NEW_MOTION * (newest - before)
