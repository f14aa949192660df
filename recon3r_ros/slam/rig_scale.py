# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The length of a metre in map units, by the distances between a rig's cameras.

One camera is tracked in a map without metres. Another one moves with it: its motion from one image
to another is T_k_0 = X^-1 M X, with the motion M of the tracked camera, map units, and its mount X
on that camera, metres. Of its translation c + m d only the length m of a metre is unknown, and
every correspondence of the two images, rays r_0 and r_k, constrains it by the epipolar constraint

    r_k . ((c + m d) x (R r_0)) = 0.

The more the rig turns, the better: d is the difference that a turn makes to the mount. Hand-eye
calibration with known rotation (Tsai and Lenz, T-RA 1989) on the level of image points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.frontend.bridging import corners
from recon3r_ros.slam.frontend.tracking import Reference, Tracker

Array = NDArray[np.float64]

#: Corners that are followed in a camera, at least, and share of them below which it begins anew
MIN_CORNERS, LEAST_SHARE = 30, 0.5
#: Frames between two evaluations
PERIOD = 3
#: Lengths of a metre that are searched, map units: from so much to so much, at so many steps
SHORTEST, LONGEST, STEPS = 1e-3, 1e3, 240
#: Standard deviation of a correspondence, pixels, at least; of the logarithm of a piece's result,
#: at least; and of the result that is certain
PIXEL_SIGMA, PIECE_SIGMA, CERTAIN = 0.5, 0.03, 0.3
#: Standard deviation of the tracked camera's rotations, radians
MAX_TURN = 2e-3
#: Step of a numerical derivative
_EPSILON = 1e-5
#: Pieces that are kept
MAX_PIECES = 20
_CAUCHY = 2.385
_ITERATIONS = 10


@dataclass(frozen=True)
class MetreLength:
    """
    Length of a metre in map units.

    :param value: map units
    :param sigma: standard deviation of its logarithm
    """

    value: float
    sigma: float


@dataclass(frozen=True, eq=False)
class _Motion:
    """
    Two images of a camera.

    :param first: rays (N, 3) of corners in the first one
    :param second: rays (N, 3) of the same in the second one
    :param R: (3, 3) rotation from the first to the second one
    :param c: (3,) translation, map units, without the mount
    :param d: (3,) what the mount adds to it for each map unit that a metre has
    :param position_sigma: standard deviation of `c`, map units
    :param focal: pixels
    """

    first: Array
    second: Array
    R: Array
    c: Array
    d: Array
    position_sigma: float
    focal: float

    def errors(self, metre: float, turn: Array | None = None) -> Array:
        """
        Epipolar errors (N,), pixels, to first order (Sampson).

        :param turn: (3,) correction of the rotation, radians
        """
        R = self.R if turn is None else se3.so3_exp(turn) @ self.R
        t = self.c + metre * self.d
        normals = np.cross(t, self.first @ R.T)
        back = np.cross(self.second, t) @ R
        size = np.sqrt((normals[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1))
        return np.asarray(self.focal * (self.second * normals).sum(1) / np.maximum(size, 1e-12))

    def estimate(self) -> MetreLength | None:
        """
        Find the length of a metre that the correspondences agree with best.

        The camera's own images know its rotation better than the tracked camera does: it is
        estimated with it.
        """
        lengths = np.geomspace(SHORTEST, LONGEST, STEPS)
        costs = [np.log1p((self.errors(m) / (_CAUCHY * PIXEL_SIGMA)) ** 2).sum() for m in lengths]
        best = int(np.argmin(costs))
        if best in (0, STEPS - 1):
            return None
        x, sigma = np.array([np.log(lengths[best]), 0.0, 0.0, 0.0]), np.inf
        for _ in range(_ITERATIONS):
            errors = self.errors(float(np.exp(x[0])), x[1:])
            J = np.stack([(self.errors(float(np.exp((x + e)[0])), (x + e)[1:]) - errors) / _EPSILON
                          for e in _EPSILON * np.eye(4)], axis=1)
            noise = max(float(np.median(np.abs(errors))) / 0.6745, PIXEL_SIGMA)
            weights = 1 / (1 + (errors / (_CAUCHY * noise)) ** 2)
            H = J.T @ (weights[:, None] * J)
            H += np.diag([0.0] + [noise ** 2 / MAX_TURN ** 2] * 3)
            gradient = J.T @ (weights * errors)
            gradient[1:] += noise ** 2 / MAX_TURN ** 2 * x[1:]
            try:
                x = x - np.clip(np.linalg.solve(H, gradient), -0.2, 0.2)
                sigma = noise * float(np.sqrt(np.linalg.inv(H)[0, 0]))
            except np.linalg.LinAlgError:
                return None
        if not (np.log(SHORTEST) < x[0] < np.log(LONGEST) and np.isfinite(sigma)):
            return None
        metre = float(np.exp(x[0]))
        t = self.c + metre * self.d
        t /= max(float(np.linalg.norm(t)), 1e-12)
        across = metre * float(np.linalg.norm(self.d - (self.d @ t) * t))
        return MetreLength(metre, float(np.linalg.norm(
            [sigma, self.position_sigma / max(across, 1e-12), PIECE_SIGMA])))


class RigScale:
    """
    Estimates the length of a metre in map units while the rig moves.

    :param T_leader_cam: (4, 4) pose of a camera in that of the tracked one, metres
    :param camera: pinhole camera of its tracking images
    """

    def __init__(self, T_leader_cam: Array, camera: Camera) -> None:
        self._T_leader_cam = T_leader_cam
        self._camera = camera
        self._tracker = Tracker(camera)
        self._T_map_first, self._first_sigma = np.eye(4), 0.0
        self._frames = 0
        self._pieces: list[MetreLength] = []
        self._present: MetreLength | None = None

    def add(self, gray: NDArray[np.uint8], T_map_leader: Array, covariance: Array
            ) -> MetreLength | None:
        """
        Add an instant.

        :param gray: (H, W) tracking image of the camera
        :param T_map_leader: (4, 4) pose of the tracked camera, map units
        :param covariance: (6, 6) of it, of [omega, v], left perturbation in the camera frame
        :return: the length, once it is certain
        """
        self._frames += 1
        sigma = float(np.sqrt(np.trace(covariance[3:, 3:]) / 3))
        reference = self._tracker.reference
        if reference is None:
            self._begin(gray, T_map_leader, sigma)
            return None
        track = self._tracker.track(gray)
        found = track.found
        if self._frames % PERIOD == 0 and found.sum() >= MIN_CORNERS:
            motion = self._motion(T_map_leader, sigma, reference.pixels[found],
                                  track.pixels[found])
            estimate = motion.estimate()
            if estimate is not None and (
                    self._present is None or estimate.sigma <= self._present.sigma):
                self._present = estimate
        if found.sum() < max(MIN_CORNERS, LEAST_SHARE * len(found)):
            self._begin(gray, T_map_leader, sigma)
        return self._combined()

    def leave_map(self) -> None:
        """Begin anew, in another map."""
        self._tracker = Tracker(self._camera)
        self._pieces, self._present = [], None

    def _begin(self, gray: NDArray[np.uint8], T_map_leader: Array, sigma: float) -> None:
        """Follow the corners of an image from now on."""
        if self._present is not None:
            self._pieces = [*self._pieces, self._present][-MAX_PIECES:]
            self._present = None
        pixels = corners(gray, np.zeros((1, 1), bool), np.zeros((0, 2), np.float32))
        self._tracker = Tracker(self._camera)
        if len(pixels) >= MIN_CORNERS:
            self._tracker.follow(Reference(gray, pixels, np.full((len(pixels), 3), np.nan)))
            self._T_map_first, self._first_sigma = T_map_leader, sigma

    def _motion(self, T_map_leader: Array, sigma: float, first: NDArray[np.float32],
                second: NDArray[np.float32]) -> _Motion:
        M = se3.inverse(T_map_leader) @ self._T_map_first
        R_x, t_x = self._T_leader_cam[:3, :3], self._T_leader_cam[:3, 3]
        return _Motion(
            self._camera.unproject(first), self._camera.unproject(second),
            R_x.T @ M[:3, :3] @ R_x, R_x.T @ M[:3, 3], R_x.T @ (M[:3, :3] - np.eye(3)) @ t_x,
            float(np.hypot(sigma, self._first_sigma)), self._camera.fx)

    def _combined(self) -> MetreLength | None:
        pieces = [*self._pieces, *([] if self._present is None else [self._present])]
        if not pieces:
            return None
        logs = np.log([p.value for p in pieces])
        information = np.array([p.sigma ** -2 for p in pieces])
        mean = float(information @ logs / information.sum())
        # Pieces that disagree are less certain than they say
        spread = max(1.0, float(information @ (logs - mean) ** 2) / max(len(logs) - 1, 1))
        sigma = float(np.sqrt(spread / information.sum()))
        return MetreLength(float(np.exp(mean)), sigma) if sigma < CERTAIN else None
