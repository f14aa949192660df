# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera pose from 2-D to 3-D correspondences (PnP), with covariance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera

Array = NDArray[np.float64]

MIN_INLIERS = 6
_ROUNDS = 4  # of inlier selection and refinement
_RANSAC_ITERATIONS = 500
# Cauchy's constant for an efficiency of 95 %, and the least standard deviation of tracked pixels:
# points with depth from a temporary reference fit its pose exactly and must not outweigh others
_CAUCHY, _MIN_SIGMA = 2.385, 0.15
_RAYLEIGH_MEDIAN = 1.1774  # of the length of two normal residuals
_POLISHING, _CONVERGED = 15, 0.005  # iterations at most, and the relative gain that ends them
_UNSEEN = 1e4  # residual, pixels, of a point that is not in front of the camera
_SINGULAR = 1e-12  # smallest over largest eigenvalue of the scaled normal matrix


@dataclass(frozen=True)
class PnPResult:
    """
    Pose of a camera, with its covariance.

    :param T_cam_world: (4, 4), maps world points to the camera's optical frame
    :param inliers: (N,) bool, reprojected within the threshold
    :param covariance: (6, 6) of xi = [omega, v] with T_true = exp(xi) T_cam_world, that is in the
        camera frame; rad^2, rad m, m^2
    :param rms: root mean square of the inliers' reprojection errors, pixels
    """

    T_cam_world: Array
    inliers: NDArray[np.bool_]
    covariance: Array
    rms: float


@dataclass(frozen=True)
class _Problem:
    points: Array  # (N, 3), world
    pixels: Array  # (N, 2)
    weights: Array  # (N,)
    camera: Camera
    threshold: float  # pixels

    def chosen(self, rows: NDArray[np.bool_]) -> _Problem:
        return _Problem(self.points[rows], self.pixels[rows], self.weights[rows], self.camera,
                        self.threshold)


def solve_pnp(
    points_world: ArrayLike,
    pixels: ArrayLike,
    camera: Camera,
    T_cam_world_init: ArrayLike | None = None,
    threshold_px: float = 2.0,
    weights: ArrayLike | None = None,
) -> PnPResult | None:
    """
    Pose of a camera from correspondences with outliers; deterministic.

    Refines the initial pose if there is one. If there is none, or fewer than half of the points
    are inliers of the refined pose, RANSAC (MAGSAC++ of OpenCV, on undistorted pixels) proposes
    another, and the one with more inliers is returned.

    :param points_world: points (N, 3), metres; rows that are not finite are outliers
    :param pixels: their observations (N, 2), distorted
    :param camera: the observing camera
    :param T_cam_world_init: (4, 4), initial pose; None if there is none
    :param threshold_px: largest reprojection error of an inlier
    :param weights: (N,), inverse variances up to a common factor; None for equal ones
    :returns: the pose, or None if it has fewer than 6 inliers or is underdetermined
    :raises GeometryError: if the arguments' shapes do not fit together
    """
    problem, valid = _checked(points_world, pixels, camera, threshold_px, weights)
    best = None
    if T_cam_world_init is not None:
        best = _refine(problem, valid, se3.as_array(T_cam_world_init, (4, 4), 'T_cam_world_init'))
        if best is not None and 2 * best.inliers.sum() >= valid.sum():
            return best
    T_cam_world = _ransac(problem.chosen(valid))
    if T_cam_world is None:
        return best
    other = _refine(problem, valid, T_cam_world)
    if best is None or (other is not None and other.inliers.sum() > best.inliers.sum()):
        return other
    return best


def refine_pnp(
    points_world: ArrayLike,
    pixels: ArrayLike,
    camera: Camera,
    T_cam_world_init: ArrayLike,
    threshold_px: float = 2.0,
    weights: ArrayLike | None = None,
) -> PnPResult | None:
    """
    Pose of a camera by Levenberg-Marquardt from an initial pose.

    First a Huber kernel on all points; then inlier selection and refinement alternate until the
    inliers no longer change.

    :param points_world: points (N, 3), metres; rows that are not finite are outliers
    :param pixels: their observations (N, 2), distorted
    :param camera: the observing camera
    :param T_cam_world_init: (4, 4), initial pose
    :param threshold_px: largest reprojection error of an inlier, and the kernel's width
    :param weights: (N,), inverse variances up to a common factor; None for equal ones
    :returns: the pose, or None if it has fewer than 6 inliers or is underdetermined
    :raises GeometryError: if the arguments' shapes do not fit together
    """
    problem, valid = _checked(points_world, pixels, camera, threshold_px, weights)
    return _refine(problem, valid, se3.as_array(T_cam_world_init, (4, 4), 'T_cam_world_init'))


def expected_covariance(
    points_cam: ArrayLike, camera: Camera, sigma_px: float
) -> Array | None:
    """
    Covariance that PnP on these points would have, for a pose estimated otherwise.

    :param points_cam: (N, 3) in the camera's frame, metres; rows that are not finite are ignored
    :param camera: the observing camera
    :param sigma_px: standard deviation of their observations, pixels
    :returns: (6, 6) as of `PnPResult`, or None if fewer than 6 points are finite or the pose is
        underdetermined
    :raises GeometryError: if the points are not (N, 3)
    """
    points = se3.as_array(points_cam, (None, 3), 'points_cam')
    points = points[np.isfinite(points).all(-1)]
    if len(points) < MIN_INLIERS:
        return None
    pixels = camera.project(points)
    problem = _Problem(points, pixels, np.ones(len(points)), camera, 1.0)
    inverse = _inverse_normal(problem.chosen(np.asarray(np.isfinite(pixels).all(-1))), np.eye(4))
    return None if inverse is None else sigma_px**2 * inverse


def _checked(
    points_world: ArrayLike,
    pixels: ArrayLike,
    camera: Camera,
    threshold_px: float,
    weights: ArrayLike | None,
) -> tuple[_Problem, NDArray[np.bool_]]:
    points = se3.as_array(points_world, (None, 3), 'points_world')
    where = se3.as_array(pixels, (len(points), 2), 'pixels')
    factors = se3.as_array(np.ones(len(points)) if weights is None else weights,
                           (len(points),), 'weights')
    if points.ndim != 2 or where.ndim != 2 or factors.ndim != 1:
        raise GeometryError(f'points_world: got shape {points.shape}, expected (N, 3)')
    if not threshold_px > 0:
        raise GeometryError(f'threshold_px: got {threshold_px}, expected > 0')
    valid = np.isfinite(points).all(-1) & np.isfinite(where).all(-1)
    valid &= np.isfinite(factors) & (factors > 0)
    return _Problem(points, where, factors, camera, threshold_px), valid


def _ransac(problem: _Problem) -> Array | None:
    camera = problem.camera
    rays = camera.unproject(problem.pixels)
    known = np.isfinite(rays).all(-1)
    if known.sum() < MIN_INLIERS:
        return None
    pinhole = rays[known, :2] * (camera.fx, camera.fy) + (camera.cx, camera.cy)
    params = cv2.UsacParams()
    params.randomGeneratorState = 1
    params.confidence = 0.999
    params.maxIterations = _RANSAC_ITERATIONS
    params.score = cv2.SCORE_METHOD_MAGSAC
    params.sampler = cv2.SAMPLING_UNIFORM
    params.loMethod = cv2.LOCAL_OPTIM_INNER_LO
    params.loIterations = 5
    params.loSampleSize = 14
    params.threshold = problem.threshold
    try:
        found, _, omega, t, _ = cv2.solvePnPRansac(
            problem.points[known], pinhole, camera.K, np.zeros(4), params=params)
    except cv2.error:  # OpenCV throws where every sample is degenerate
        return None
    if not found or not (np.isfinite(omega).all() and np.isfinite(t).all()):
        return None
    return se3.from_rt(se3.so3_exp(np.ravel(omega)), np.ravel(t))


def _refine(problem: _Problem, valid: NDArray[np.bool_], T: Array) -> PnPResult | None:
    if valid.sum() < MIN_INLIERS or not np.isfinite(T).all():
        return None
    guess = T
    T = _levenberg_marquardt(problem.chosen(valid), T, iterations=10, tolerance=1e-3)
    inliers = np.zeros(len(valid), dtype=bool)
    for _ in range(_ROUNDS):
        previous, inliers = inliers, valid & (_residuals(problem, T) < problem.threshold)
        if inliers.sum() < MIN_INLIERS:
            return None
        if np.array_equal(inliers, previous):
            break
        T = _levenberg_marquardt(problem.chosen(inliers), T, iterations=5, tolerance=1e-6)
    T = _polished(problem, valid, T)
    known = problem.chosen(valid)
    if _typical(known, guess) < _typical(known, T):
        # A good initial pose lacks the bias that outliers gave the fit to all points
        T = _polished(problem, valid, guess)
    inliers = valid & (_residuals(problem, T) < problem.threshold)
    if inliers.sum() < MIN_INLIERS:
        return None
    return _result(problem, inliers, T)


def _polished(everything: _Problem, valid: NDArray[np.bool_], T: Array) -> Array:
    """
    Iterate with a Cauchy kernel whose width follows the median residual.

    Points that move slowly, or slide along an occlusion boundary, stay within the threshold for a
    while and bias the pose.
    """
    inliers = valid & (_residuals(everything, T) < everything.threshold)
    if inliers.sum() < MIN_INLIERS:
        return T
    problem, median = everything.chosen(inliers), np.inf
    for _ in range(_POLISHING):
        residuals, J = _linearise(problem, T)
        squared = problem.weights * np.sum(residuals**2, axis=-1)
        last, median = median, float(np.sqrt(np.median(squared)))
        if median > (1 - _CONVERGED) * last:
            break
        width = _CAUCHY * max(median / _RAYLEIGH_MEDIAN, _MIN_SIGMA)
        weights = problem.weights / (1 + squared / width**2)
        H = _normal_matrix(J, weights)
        H[np.diag_indices(6)] += 1e-9 * np.diagonal(H) + 1e-12 * H.trace() + 1e-300
        T = se3.exp(-np.linalg.solve(
            H, (weights[:, None] * residuals).ravel() @ J.reshape(-1, 6))) @ T
    return T


def _typical(problem: _Problem, T: Array) -> float:
    """Median of the weighted residuals."""
    return float(np.median(np.sqrt(problem.weights) * _residuals(problem, T)))


def _result(problem: _Problem, inliers: NDArray[np.bool_], T: Array) -> PnPResult | None:
    used = problem.chosen(inliers)
    inverse = _inverse_normal(used, T)
    if inverse is None:
        return None
    squared = _residuals(used, T)**2
    variance = float(used.weights @ squared) / (2 * len(squared) - 6)
    return PnPResult(se3.normalized(T), inliers, variance * inverse,
                     float(np.sqrt(squared.mean())))


def _inverse_normal(problem: _Problem, T: Array) -> Array | None:
    """Inverse of the normal matrix, symmetric; None if it is singular."""
    H = _normal_matrix(_linearise(problem, T)[1], problem.weights)
    scales = np.sqrt(np.diagonal(H))
    if not scales.min() > 0:
        return None
    eigenvalues = np.linalg.eigvalsh(H / np.outer(scales, scales))
    if not eigenvalues[0] > _SINGULAR * eigenvalues[-1]:
        return None
    inverse = np.linalg.inv(H)
    return (inverse + inverse.T) / 2


def _levenberg_marquardt(
    problem: _Problem, T: Array, iterations: int, tolerance: float
) -> Array:
    """Minimise the Huber cost from T, until an iteration lowers it by less than `tolerance`."""
    damping = 1e-6
    residuals, J = _linearise(problem, T)
    weights, cost = _huber(problem, residuals)
    for _ in range(iterations):
        H = _normal_matrix(J, weights)
        gradient = (weights[:, None] * residuals).ravel() @ J.reshape(-1, 6)
        # Marquardt's scaling, with a floor for directions no point constrains
        H[np.diag_indices(6)] += damping * np.diagonal(H) + 1e-12 * H.trace() + 1e-300
        step = -np.linalg.solve(H, gradient)
        T_new = se3.exp(step) @ T
        residuals_new, J_new = _linearise(problem, T_new)
        weights_new, cost_new = _huber(problem, residuals_new)
        if cost_new <= cost:
            converged = cost - cost_new <= tolerance * cost
            T, residuals, J, weights, cost = T_new, residuals_new, J_new, weights_new, cost_new
            damping *= 0.1
            if converged:
                break
        else:
            damping = max(damping, 1e-6) * 100
    return T


def _residuals(problem: _Problem, T: Array) -> Array:
    with np.errstate(invalid='ignore'):
        pixels = problem.camera.project(se3.transform(T, problem.points))
        errors = np.sqrt(np.sum((pixels - problem.pixels) ** 2, axis=-1))
    return np.where(np.isnan(errors), np.inf, errors)


def _linearise(problem: _Problem, T: Array) -> tuple[Array, Array]:
    """Reprojection errors (N, 2), and their Jacobian (N, 2, 6) by xi in exp(xi) T."""
    points = se3.transform(T, problem.points)
    pixels, by_point = problem.camera.project_with_jacobian(points)
    residuals = pixels - problem.pixels
    J = np.empty((len(points), 2, 6))
    J[..., 3:] = by_point
    # d(omega x p) contracted with the derivative j by p is p x j
    px, py, pz = points.T[:, :, None]
    jx, jy, jz = by_point[..., 0], by_point[..., 1], by_point[..., 2]
    J[..., 0] = py * jz - pz * jy
    J[..., 1] = pz * jx - px * jz
    J[..., 2] = px * jy - py * jx
    unseen = ~np.isfinite(residuals).all(-1)
    if unseen.any():
        residuals[unseen], J[unseen] = _UNSEEN, 0.0
    return residuals, J


def _normal_matrix(J: Array, weights: Array) -> Array:
    flat = J.reshape(-1, 6)
    return np.asarray((flat * np.repeat(weights, 2)[:, None]).T @ flat, dtype=np.float64)


def _huber(problem: _Problem, residuals: Array) -> tuple[Array, float]:
    """Weights (N,) of the kernel, and its cost."""
    length = np.sqrt(np.sum(residuals**2, axis=-1))
    width = problem.threshold
    factor = np.minimum(1.0, width / np.maximum(length, 1e-12))
    cost = np.where(length <= width, 0.5 * length**2, width * (length - 0.5 * width))
    return problem.weights * factor, float(problem.weights @ cost)
