# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Pose of a rig from the 2-D to 3-D correspondences of all its cameras.

The generalised absolute pose problem (Nister and Stewenius, JMIV 2007), refined from an initial
pose: the normal equations of each camera's reprojection errors, mapped to the rig by the adjoint
of its mounting, are solved together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.compiled_pnp import distances, normal_equations

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Observations that a pose needs
MIN_INLIERS = 6
#: Iterations at most, and the length of a step, radians or map units over depth, that ends them
_ITERATIONS, _CONVERGED = 20, 1e-7
#: Relative damping of a step
_DAMPING = 1e-9
#: Width of Cauchy's kernel in standard deviations; of the first iterations, which is wider
_CAUCHY, _COARSE, _COARSE_ITERATIONS = 2.385, 3.0, 3
#: Standard deviation of an observation is at least this, pixels
_MIN_SIGMA = 0.15
_RAYLEIGH_MEDIAN = 1.1774  # of the length of two normal residuals


@dataclass(frozen=True, eq=False)
class CameraObservations:
    """
    What one camera of a rig observes.

    :param points: (N, 3) world
    :param pixels: (N, 2) their observations
    :param camera: pinhole
    :param T_rig_cam: (4, 4) in the units of the world
    """

    points: Array
    pixels: Array
    camera: Camera
    T_rig_cam: Array


@dataclass(frozen=True, eq=False)
class RigPose:
    """
    Pose of a rig.

    :param T_rig_world: (4, 4)
    :param inliers: per camera, (N,) which observations agree
    :param covariance: (6, 6) of xi = [omega, v] with T_true = exp(xi) T_rig_world
    :param rms: root mean square of the inliers' reprojection errors, pixels
    """

    T_rig_world: Array
    inliers: tuple[Mask, ...]
    covariance: Array
    rms: float

    def covariance_of(self, T_rig_cam: Array) -> Array:
        """Covariance (6, 6) of the pose of a camera on the rig, in the camera's frame."""
        A = se3.adjoint(se3.inverse(T_rig_cam))
        return np.asarray(A @ self.covariance @ A.T)


def refine_rig_pose(observed: Sequence[CameraObservations], T_rig_world: Array,
                    threshold: float = 2.0) -> RigPose | None:
    """
    Refine the pose of a rig by all its cameras' observations, some of which may be wrong.

    :param T_rig_world: (4, 4) initial pose, within the reach of a local search
    :param threshold: largest reprojection error of an inlier, pixels
    :return: None where fewer than 6 observations agree, or they do not determine the pose
    """
    cameras = [_Camera(dense(o.points), dense(o.pixels),
                       pinhole.parameters(o.camera, np.float64), se3.inverse(o.T_rig_cam))
               for o in observed]
    T = dense(np.asarray(T_rig_world, np.float64))
    for iteration in range(_ITERATIONS):
        errors = [c.errors(T) for c in cameras]
        coarse = _COARSE if iteration < _COARSE_ITERATIONS else 1.0
        width = coarse * _CAUCHY * _sigma(errors, coarse * threshold)
        H, g = _normal(cameras, T, [_cauchy(e, width) for e in errors])
        try:
            step = -np.linalg.solve(H + np.diag(_DAMPING * np.diagonal(H)), g)
        except np.linalg.LinAlgError:
            return None
        T = dense(se3.exp(step) @ T)
        if iteration >= _COARSE_ITERATIONS and np.linalg.norm(step) < _CONVERGED:
            break
    errors = [c.errors(T) for c in cameras]
    inliers = tuple(e < threshold for e in errors)
    squared = np.concatenate([e[good] for e, good in zip(errors, inliers)]) ** 2
    if len(squared) < MIN_INLIERS:
        return None
    H, _ = _normal(cameras, T, [good.astype(np.float64) for good in inliers])
    scales = np.sqrt(np.diagonal(H))
    if not scales.min() > 0 or np.linalg.cond(H / np.outer(scales, scales)) > 1e12:
        return None
    variance = float(squared.sum()) / (2 * len(squared) - 6)
    return RigPose(se3.normalized(T), inliers, np.asarray(variance * np.linalg.inv(H), np.float64),
                   float(np.sqrt(squared.mean())))


@dataclass(frozen=True, eq=False)
class _Camera:
    points: Array
    pixels: Array
    K: Array
    T_cam_rig: Array

    def errors(self, T_rig_world: Array) -> Array:
        return distances(self.points, self.pixels, self.K, dense(self.T_cam_rig @ T_rig_world))


def _sigma(errors: Sequence[Array], most: float) -> float:
    """Return the standard deviation of the observations that are not far off, pixels."""
    together = np.concatenate(errors)
    near = together[together < most]
    return max(float(np.median(near)) / _RAYLEIGH_MEDIAN, _MIN_SIGMA) if len(near) else most


def _cauchy(errors: Array, width: float) -> Array:
    return np.where(np.isfinite(errors), 1 / (1 + (errors / width) ** 2), 0.0)


def _normal(cameras: Sequence[_Camera], T_rig_world: Array, weights: Sequence[Array]
            ) -> tuple[Array, Array]:
    """Return the normal matrix (6, 6) and gradient (6,) by xi in exp(xi) T_rig_world."""
    H, g = np.zeros((6, 6)), np.zeros(6)
    own_H, own_g = np.zeros((6, 6)), np.zeros(6)
    for camera, weight in zip(cameras, weights):
        normal_equations(camera.points, camera.pixels, weight, weight > 0, camera.K,
                         dense(camera.T_cam_rig @ T_rig_world), np.inf, own_H, own_g)
        A = se3.adjoint(camera.T_cam_rig)
        H += A.T @ own_H @ A
        g += A.T @ own_g
    return H, g
