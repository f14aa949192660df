# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Relative pose of two calibrated views, and depth along their rays.

Rays are (N, 3) or (H, W, 3) with z = 1 in the camera's optical frame. `T_b_a` maps points of
camera a to camera b. Hartley and Zisserman, 'Multiple View Geometry', 2nd edition: chapters 9, 11,
12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3

Array = NDArray[np.float64]
#: Single or double precision
Floats = NDArray[np.floating[Any]]

MIN_INLIERS = 12
_ROTATION_ITERATIONS = 10
#: Iterations at most, and those in which the scale of the weights is adapted
_POSE_ITERATIONS, _SCALE_ITERATIONS = 80, 40
#: Scale of the weights in standard deviations of the noise, and its minimum as a share of the
#: inlier threshold
_NOISE_SCALES, _FINEST = 3.0, 0.1
#: RANSAC thresholds, tight and loose, and the scale of the cost that compares their poses, as
#: shares of the inlier threshold; the tight one suffices once this share of the matches fits
_TIGHTNESS, _NEAR, _ENOUGH = (0.07, 1.0), 0.2, 0.5
_SAMPLES = 1000


@dataclass(frozen=True, eq=False)
class RelativePose:
    """
    Result of two-view geometry.

    :param T_b_a: (4, 4) with a translation of unit length
    :param inliers: (N,) bool
    :param sigma: robust standard deviation of their epipolar distances, normalised units
    """

    T_b_a: Array
    inliers: NDArray[np.bool_]
    sigma: float


def fit_rotation(rays_a: Array, rays_b: Array, sigma: float) -> Array:
    """
    Rotation that best maps one view's rays to the other's, without translation.

    IRLS of Wahba's problem with Cauchy weights, so that a few near points do not bias the fit.

    :param sigma: scale of the weights, radians
    :return: (3, 3) R_b_a
    """
    unit_a = rays_a / np.linalg.norm(rays_a, axis=1, keepdims=True)
    unit_b = rays_b / np.linalg.norm(rays_b, axis=1, keepdims=True)
    weights = np.ones(len(unit_a))
    rotation = np.eye(3)
    for _ in range(_ROTATION_ITERATIONS):
        u, _, vt = np.linalg.svd((unit_b * weights[:, None]).T @ unit_a)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        residual = np.linalg.norm(unit_b - unit_a @ rotation.T, axis=1)
        weights = 1 / (1 + (residual / sigma) ** 2)
    return rotation


def parallax(rays_a: Array, rays_b: Array, R_b_a: Array) -> Array:
    """Angle (N,) in radians between b's rays and a's rays turned into b."""
    turned = rays_a @ R_b_a.T
    cross = np.linalg.norm(np.cross(turned, rays_b), axis=1)
    return np.arctan2(cross, np.sum(turned * rays_b, axis=1))


def estimate_relative_pose(rays_a: Array, rays_b: Array, threshold: float, exact: bool = True
                           ) -> RelativePose | None:
    """
    Estimate the essential matrix by RANSAC, then minimise the epipolar distances.

    Points that move slowly nearly fit many poses. With a loose threshold, a pose biased by them
    may have more inliers than the true one; with a tight one, the true pose has more. The noise
    may be too high for the tight threshold, so the poses are compared by a robust cost.

    :param threshold: epipolar distance of an inlier, normalised units (pixels / focal)
    :param exact: whether matches may be exact enough for a tight threshold
    :return: None where no pose has `MIN_INLIERS` inliers
    """
    if len(rays_a) < MIN_INLIERS:
        return None
    points_a, points_b = rays_a[:, :2].copy(), rays_b[:, :2].copy()
    best, least = None, np.inf
    for tightness in _TIGHTNESS if exact else _TIGHTNESS[-1:]:
        essential, mask = cv2.findEssentialMat(
            points_a, points_b, np.eye(3), np.eye(3), None, None,
            _sampling(tightness * threshold))
        if essential is None or essential.shape != (3, 3):
            continue
        count, rotation, translation, _ = cv2.recoverPose(
            essential, points_a, points_b, np.eye(3), mask=mask.copy())
        if count < MIN_INLIERS:
            continue
        T_b_a = se3.from_rt(rotation, translation[:, 0])
        squared = (_sampson(rays_a, rays_b, T_b_a)[0] / (_NEAR * threshold)) ** 2
        cost = float((squared / (1 + squared)).sum())
        if cost < least:
            best, least = T_b_a, cost
        if least < (1 - _ENOUGH) * len(squared):
            break
    return None if best is None else refine_relative_pose(rays_a, rays_b, best, threshold)


def _sampling(threshold: float) -> Any:
    """Set up RANSAC with local optimisation (Chum et al., DAGM 2003)."""
    params = cv2.UsacParams()
    params.threshold = threshold
    params.confidence = 0.9999
    params.maxIterations = _SAMPLES
    params.score = cv2.SCORE_METHOD_MSAC
    params.sampler = cv2.SAMPLING_UNIFORM
    params.loMethod = cv2.LOCAL_OPTIM_SIGMA
    params.loIterations = 10
    params.loSampleSize = 14
    params.isParallel = False
    params.randomGeneratorState = 0
    return params


def refine_relative_pose(rays_a: Array, rays_b: Array, T_b_a: Array, threshold: float
                         ) -> RelativePose | None:
    """
    Minimise the Sampson distances by robust Gauss-Newton over the five degrees of freedom.

    Hartley and Zisserman, eq. 11.9. The translation stays on the unit sphere. The scale of the
    weights is reduced to the noise of the matches, so that slowly moving points do not bias the
    pose.
    """
    scale = threshold
    for iteration in range(_POSE_ITERATIONS):
        residual, jacobian = _sampson(rays_a, rays_b, T_b_a)
        near = np.abs(residual[np.abs(residual) < 2 * threshold])
        if len(near) and iteration < _SCALE_ITERATIONS:
            noise = 1.4826 * float(np.median(near))
            scale = float(np.clip(_NOISE_SCALES * noise, _FINEST * threshold, threshold))
        weights = 1 / (1 + (residual / scale) ** 2) ** 2
        normal = jacobian.T @ (jacobian * weights[:, None])
        step = np.linalg.solve(normal + 1e-9 * np.trace(normal) * np.eye(5),
                               -jacobian.T @ (weights * residual))
        T_b_a = _retract(T_b_a, step)
        if np.abs(step).max() < 1e-9:
            break
    residual, _ = _sampson(rays_a, rays_b, T_b_a)
    _, sensitivity, in_front = triangulate(rays_a, rays_b, T_b_a)
    # Noise may put distant points beyond infinity, that is behind the camera
    possible = in_front | (sensitivity < 2 * threshold)
    inliers = (np.abs(residual) < 2 * threshold) & possible
    if inliers.sum() < MIN_INLIERS:
        return None
    sigma = 1.4826 * float(np.median(np.abs(residual[inliers])))
    return RelativePose(T_b_a, inliers, sigma)


def _tangent_basis(direction: Array) -> Array:
    """Two unit vectors (3, 2) orthogonal to a unit vector."""
    _, _, vt = np.linalg.svd(direction[None])
    return vt[1:].T


def _retract(T_b_a: Array, step: Array) -> Array:
    rotation = se3.so3_exp(step[:3]) @ T_b_a[:3, :3]
    translation = T_b_a[:3, 3] + _tangent_basis(T_b_a[:3, 3]) @ step[3:]
    return se3.from_rt(rotation, translation / np.linalg.norm(translation))


def _sampson(rays_a: Array, rays_b: Array, T_b_a: Array) -> tuple[Array, Array]:
    """Signed Sampson distances (N,) and their Jacobian (N, 5), the denominator held fixed."""
    rotation, translation = T_b_a[:3, :3], T_b_a[:3, 3]
    turned = rays_a @ rotation.T
    line_b = np.cross(translation, turned)
    line_a = np.cross(rays_b, translation) @ rotation
    algebraic = np.sum(rays_b * line_b, axis=1)
    scale = 1 / np.sqrt(np.maximum(
        np.sum(line_b[:, :2] ** 2, axis=1) + np.sum(line_a[:, :2] ** 2, axis=1), 1e-18))
    # b . (t x exp(w) R a): the derivative by w is (R a) x (b x t)
    by_rotation = np.cross(turned, np.cross(rays_b, translation))
    by_translation = np.cross(turned, rays_b) @ _tangent_basis(translation)
    return algebraic * scale, np.hstack([by_rotation, by_translation]) * scale[:, None]


def triangulate(rays_a: Floats, rays_b: Floats, T_b_a: Floats
                ) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """
    Inverse depths along a's rays that bring the points nearest to b's rays.

    The point of ray x with inverse depth rho projects in b as h = R x + rho t; both image
    equations are linear in rho.

    :param rays_a: (..., 3)
    :param rays_b: (..., 3) matches in b
    :return: inverse depth (...) in units of 1 / `T_b_a`'s translation, its sensitivity (...): how
        far the projection in b moves, in normalised units, for a relative change of depth of one;
        and whether the point lies in front of both cameras
    """
    dtype = rays_a.dtype
    rotation, translation = T_b_a[:3, :3].astype(dtype), T_b_a[:3, 3].astype(dtype)
    turned = rays_a @ rotation.T
    offset = turned[..., :2] - rays_b[..., :2] * turned[..., 2:]
    slope = translation[:2] - rays_b[..., :2] * translation[2]
    squared = np.maximum(np.sum(slope * slope, axis=-1), np.finfo(dtype).tiny)
    inverse_depth = -np.sum(offset * slope, axis=-1) / squared
    height = turned[..., 2] + inverse_depth * translation[2]
    in_front = (inverse_depth > 0) & (height > 1e-6)
    sensitivity = np.sqrt(squared) * np.abs(inverse_depth) / np.maximum(np.abs(height), 1e-6)
    return inverse_depth, sensitivity, in_front
