# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Camera pose at frame rate: keypoints of the last keyframe, tracked by KLT, and PnP on them.

Pyramidal KLT (Bouguet 2001) always matches against the keyframe's own image, so that nothing
drifts between keyframes; the previous pose only initialises the search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import expected_covariance, PnPResult, solve_pnp
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]

WINDOW = (17, 17)
_STOP = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.02)
#: Pyramid levels where the pose is predicted, and where it is not
_NEAR_LEVELS, _FAR_LEVELS = 2, 4
#: A pose needs this many inliers, and this share of the points that were found
MIN_INLIERS = 25
#: Landmarks with which a pose is sure: half of fewer may agree on a wrong one
SURE_INLIERS = 2 * MIN_INLIERS
MIN_INLIER_SHARE = 0.5
#: Reprojection error of an inlier, pixels of the tracking image
MAX_ERROR = 2.0
#: Standard deviation (pixels of the grid) of a keyframe's own keypoints, and where they do not
#: constrain its pose, of the rotation (rad) and of the position, share of the median depth
KEYPOINT_SIGMA, UNKNOWN_ROTATION, UNKNOWN_POSITION = 1.0, 0.1, 0.1


@dataclass(frozen=True, eq=False)
class Reference:
    """
    What is tracked: the keypoints of one keyframe.

    :param gray: (H, W) uint8 image of the tracking camera
    :param pixels: (N, 2) float32 in `gray`
    :param points: (N, 3) in the keyframe's camera frame, map units; NaN where unknown
    """

    gray: NDArray[np.uint8]
    pixels: NDArray[np.float32]
    points: Array


@dataclass(frozen=True, eq=False)
class Track:
    """
    One frame against the reference.

    :param pixels: (N, 2) float32 observations of the reference's keypoints
    :param found: (N,) which of them were found
    :param pose: pose of the reference in this camera (`T_cam_world` = T_cam_keyframe), or None
        where it could not be estimated
    """

    pixels: NDArray[np.float32]
    found: NDArray[np.bool_]
    pose: PnPResult | None

    @property
    def inlier_count(self) -> int:
        """Number of keypoints that agree with the pose."""
        return 0 if self.pose is None else int(self.pose.inliers.sum())


def landmark_covariance(keyframe: Keyframe) -> Array:
    """
    Covariance of a pose at a keyframe, as its own landmarks would give it.

    A keyframe's pose comes from other means than PnP, or defines the map: it is known no better
    than those of neighbouring frames.

    :return: (6, 6) of [omega, v], left perturbation in the camera frame, map units
    """
    known = expected_covariance(keyframe.landmark_points(), keyframe.camera, KEYPOINT_SIGMA)
    if known is not None:
        return known
    sigmas = [UNKNOWN_ROTATION] * 3 + [UNKNOWN_POSITION * keyframe.median_depth()] * 3
    return np.diag(np.square(sigmas))


def step(before: NDArray[np.uint8], gray: NDArray[np.uint8], pixels: NDArray[np.float32]
         ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """
    Track points from one frame to the next, whatever is known of poses.

    :param before: (H, W) uint8 the earlier frame
    :param pixels: (N, 2) float32 in it
    :return: (N, 2) pixels in the later frame, and which (N,) return to where they began
    """
    moved, found = _searched(before, gray, pixels)
    return moved, found & _return(gray, before, moved, pixels)


def _searched(a: NDArray[np.uint8], b: NDArray[np.uint8], pixels: NDArray[np.float32]
              ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Search points (N, 2) of an image in another: where they are, and which (N,) were found."""
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        a, b, pixels[:, None], None, winSize=WINDOW, maxLevel=_FAR_LEVELS, criteria=_STOP)
    return moved[:, 0], status[:, 0] == 1


def _return(gray: NDArray[np.uint8], before: NDArray[np.uint8], moved: NDArray[np.float32],
            pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether (N,) points, searched in the earlier image again, end where they began."""
    back, found = _searched(gray, before, moved)
    return found & (np.linalg.norm(back - pixels, axis=1) < MAX_ERROR)


def masked(pixels: NDArray[np.float32], mask: NDArray[np.bool_], gray: NDArray[np.uint8]
           ) -> NDArray[np.bool_]:
    """
    Tell which pixels (N, 2) of an image lie in a mask.

    :param mask: (h, w) of any size, of the whole image
    :param gray: (H, W) the image
    """
    scale = np.array(mask.shape[::-1]) / gray.shape[::-1]
    u, v = np.floor((pixels + 0.5) * scale).astype(int).T
    return np.asarray(mask[v.clip(0, mask.shape[0] - 1), u.clip(0, mask.shape[1] - 1)])


class Tracker:
    """
    Follows one keyframe at a time.

    :param camera: pinhole camera of the tracking images
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self.reference: Reference | None = None
        self._pixels = np.zeros((0, 2), np.float32)
        self._T_cam_ref: Array | None = None
        self._motion = np.eye(4)

    def follow(self, reference: Reference, T_new_old: Array | None = None) -> None:
        """
        Change the reference.

        :param T_new_old: (4, 4) pose of the old reference in the new one's camera; None where the
            motion so far does not predict the next
        """
        self.reference = reference
        self._pixels = reference.pixels
        if T_new_old is None or self._T_cam_ref is None:
            self._motion, self._T_cam_ref = np.eye(4), np.eye(4)
        else:
            self._T_cam_ref = se3.normalized(self._T_cam_ref @ se3.inverse(T_new_old))

    def resume(self, T_cam_ref: Array) -> None:
        """Continue tracking from a pose (4, 4) of the reference that was found otherwise."""
        self._motion, self._T_cam_ref = np.eye(4), T_cam_ref

    def correct(self, T_cam_ref: Array) -> None:
        """Correct the pose (4, 4) of the reference in the newest frame."""
        self._T_cam_ref = T_cam_ref

    def rescale(self, factor: float) -> None:
        """Multiply all lengths by a factor: the reference's depths have been corrected."""
        if self.reference is None or self._T_cam_ref is None:
            return
        self.reference = replace(self.reference, points=self.reference.points * factor)
        self._T_cam_ref = se3.stretched(self._T_cam_ref, factor)
        self._motion = se3.stretched(self._motion, factor)

    def track(self, gray: NDArray[np.uint8], R_last_cam: Array | None = None) -> Track:
        """
        Find the reference's keypoints in an image, and its pose where enough of them have depth.

        :param gray: (H, W) uint8 image of the tracking camera
        :param R_last_cam: (3, 3) rotation since the last pose, by a gyroscope; None: as before
        """
        if self.reference is None:
            raise ValueError('track() before follow(): there is nothing to follow')
        known = np.isfinite(self.reference.points[:, 0])
        if known.sum() < MIN_INLIERS:
            everything = np.ones(len(self._pixels), bool)
            track = self._verified(
                gray, self._search(gray, self._pixels, everything, _FAR_LEVELS))
            self._pixels = np.where(track.found[:, None], track.pixels, self._pixels)
            return track
        assert self._T_cam_ref is not None
        predicted = self._motion @ self._T_cam_ref
        if R_last_cam is not None:
            predicted = self._turned(R_last_cam) @ self._T_cam_ref
        track = self._locate(gray, predicted, _NEAR_LEVELS)
        if track.pose is None and R_last_cam is not None:
            track = self._locate(gray, predicted, _FAR_LEVELS)
        if track.pose is None:
            track = self._locate(gray, self._T_cam_ref, _FAR_LEVELS)
        if track.pose is not None:
            T_cam_ref = track.pose.T_cam_world
            self._motion = se3.normalized(T_cam_ref @ se3.inverse(self._T_cam_ref))
            self._T_cam_ref = T_cam_ref
        else:
            self._motion = np.eye(4)
        return track

    def _turned(self, R_last_cam: Array) -> Array:
        """Motion (4, 4) at constant velocity of the position, with a rotation that is known."""
        position = -self._motion[:3, :3].T @ self._motion[:3, 3]  # in the camera before
        return se3.from_rt(R_last_cam.T, -R_last_cam.T @ position)

    def locate(self, gray: NDArray[np.uint8], T_cam_ref: Array) -> Track:
        """
        Estimate the reference's pose in any image, without changing the tracker's state.

        :param gray: (H, W) uint8 image of the tracking camera
        :param T_cam_ref: (4, 4) initial pose of the reference in it
        """
        return self._locate(gray, T_cam_ref, _FAR_LEVELS)

    def _verified(self, gray: NDArray[np.uint8], track: Track) -> Track:
        """Drop keypoints by their forward-backward error: there is no pose to verify them."""
        assert self.reference is not None
        if not track.found.any():
            return track
        returned = _return(gray, self.reference.gray, track.pixels, self.reference.pixels)
        return Track(track.pixels, track.found & returned, None)

    def _locate(self, gray: NDArray[np.uint8], T_cam_ref: Array, levels: int) -> Track:
        assert self.reference is not None
        points = self.reference.points
        known = np.isfinite(points[:, 0])
        guess = self.reference.pixels.copy()
        projected = self.camera.project(se3.transform(T_cam_ref, points[known]))
        guess[known] = np.where(np.isfinite(projected), projected, guess[known])
        track = self._search(gray, guess, known, levels)
        use = known & track.found
        if use.sum() < MIN_INLIERS:
            return track
        result = solve_pnp(points[use], track.pixels[use], self.camera, T_cam_ref, MAX_ERROR)
        if result is None or result.inliers.sum() < max(
                MIN_INLIERS, MIN_INLIER_SHARE * use.sum()):
            return track
        inliers = np.zeros(len(points), bool)
        inliers[use] = result.inliers
        return Track(track.pixels, track.found, PnPResult(
            result.T_cam_world, inliers, result.covariance, result.rms))

    def _search(self, gray: NDArray[np.uint8], guess: NDArray[np.float32],
                wanted: NDArray[np.bool_], levels: int) -> Track:
        assert self.reference is not None
        pixels, found = guess.astype(np.float32), np.zeros(len(guess), bool)
        if not wanted.any():
            return Track(pixels, found, None)
        start, goal = (p[wanted].reshape(-1, 1, 2) for p in (self.reference.pixels, pixels))
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            self.reference.gray, gray, start, goal, winSize=WINDOW, maxLevel=levels,
            criteria=_STOP, flags=cv2.OPTFLOW_USE_INITIAL_FLOW, minEigThreshold=1e-4)
        moved = moved[:, 0]
        height, width = gray.shape
        inside = np.all((moved >= 0) & (moved <= [width - 1, height - 1]), axis=1)
        pixels[wanted], found[wanted] = moved, (status[:, 0] == 1) & inside
        return Track(pixels, found, None)
