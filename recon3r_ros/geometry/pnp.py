# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera pose from 2-D to 3-D correspondences (PnP), with covariance."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import compiled_pnp, pinhole, se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.compiled_pnp import distances, MIN_INLIERS, normal_equations, refined

Array = NDArray[np.float64]

_RANSAC_ITERATIONS = 500
_FOCAL_ITERATIONS = 5
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
    K: Array  # (4,) fx fy cx cy
    threshold: float  # pixels


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
    are inliers of the refined pose, RANSAC (MAGSAC++ of OpenCV) proposes
    another, and the one with more inliers is returned.

    :param points_world: points (N, 3), metres; rows that are not finite are outliers
    :param pixels: their observations (N, 2)
    :param camera: the observing camera, a pinhole
    :param T_cam_world_init: (4, 4), initial pose; None if there is none
    :param threshold_px: largest reprojection error of an inlier
    :param weights: (N,), inverse variances up to a common factor; None for equal ones
    :returns: the pose, or None if it has fewer than 6 inliers or is underdetermined
    :raises GeometryError: if the arguments' shapes do not fit together, or for a camera with
        distortion
    """
    problem, valid = _checked(points_world, pixels, camera, threshold_px, weights)
    best = None
    if T_cam_world_init is not None:
        best = _refine(problem, valid, se3.as_array(T_cam_world_init, (4, 4), 'T_cam_world_init'))
        if best is not None and 2 * best.inliers.sum() >= valid.sum():
            return best
    T_cam_world = _ransac(problem, valid)
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
    :param pixels: their observations (N, 2)
    :param camera: the observing camera, a pinhole
    :param T_cam_world_init: (4, 4), initial pose
    :param threshold_px: largest reprojection error of an inlier, and the kernel's width
    :param weights: (N,), inverse variances up to a common factor; None for equal ones
    :returns: the pose, or None if it has fewer than 6 inliers or is underdetermined
    :raises GeometryError: if the arguments' shapes do not fit together, or for a camera with
        distortion
    """
    problem, valid = _checked(points_world, pixels, camera, threshold_px, weights)
    return _refine(problem, valid, se3.as_array(T_cam_world_init, (4, 4), 'T_cam_world_init'))


def focal_change(
    points_world: ArrayLike, pixels: ArrayLike, camera: Camera, T_cam_world: ArrayLike
) -> tuple[float, float]:
    """
    Change of a camera's focal length that explains its observations best, with another pose.

    Points at different depths tell a zoom from an approach. Robust against some outliers.

    :param points_world: points (N, 3), metres
    :param pixels: their observations (N, 2)
    :param camera: the observing camera, a pinhole, as it was before
    :param T_cam_world: (4, 4), pose by the focal length as it was before
    :returns: logarithm of the new focal length over the camera's, and its standard deviation;
        infinite where it is not determined
    :raises GeometryError: if the arguments' shapes do not fit together, or for a camera with
        distortion
    """
    problem, valid = _checked(points_world, pixels, camera, 1.0, None)
    if valid.sum() < MIN_INLIERS:
        return 0.0, np.inf
    change, information = compiled_pnp.focal_change(
        problem.points[valid], problem.pixels[valid], problem.K,
        dense(se3.as_array(T_cam_world, (4, 4), 'T_cam_world')), _FOCAL_ITERATIONS)
    return change, 1 / float(np.sqrt(information)) if information > 0 else np.inf


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
    problem, seen = _checked(points, camera.project(points), camera, 1.0, None)
    inverse = _inverse_normal(problem, seen, np.eye(4))
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
    if not camera.is_pinhole:
        raise GeometryError(f'camera: got {camera}, expected a pinhole: rectify the pixels first')
    if not threshold_px > 0:
        raise GeometryError(f'threshold_px: got {threshold_px}, expected > 0')
    K = pinhole.parameters(camera, np.float64)
    valid = np.isfinite(points).all(-1) & np.isfinite(where).all(-1)
    valid &= np.isfinite(factors) & (factors > 0)
    problem = _Problem(dense(points), dense(where),
                       dense(factors), K, float(threshold_px))
    return problem, valid


def _ransac(problem: _Problem, valid: NDArray[np.bool_]) -> Array | None:
    if valid.sum() < MIN_INLIERS:
        return None
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
    fx, fy, cx, cy = problem.K
    try:
        found, _, omega, t, _ = cv2.solvePnPRansac(
            problem.points[valid], problem.pixels[valid],
            np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.zeros(4), params=params)
    except cv2.error:  # OpenCV throws where every sample is degenerate
        return None
    if not found or not (np.isfinite(omega).all() and np.isfinite(t).all()):
        return None
    return se3.from_rt(se3.so3_exp(np.ravel(omega)), np.ravel(t))


def _refine(problem: _Problem, valid: NDArray[np.bool_], guess: Array) -> PnPResult | None:
    if valid.sum() < MIN_INLIERS or not np.isfinite(guess).all():
        return None
    T, inliers = refined(problem.points, problem.pixels, problem.weights, valid, problem.K,
                          problem.threshold, dense(guess))
    if inliers.sum() < MIN_INLIERS:
        return None
    inverse = _inverse_normal(problem, inliers, T)
    if inverse is None:
        return None
    squared = distances(problem.points[inliers], problem.pixels[inliers], problem.K, T) ** 2
    variance = float(problem.weights[inliers] @ squared) / (2 * len(squared) - 6)
    return PnPResult(se3.normalized(T), inliers, variance * inverse,
                     float(np.sqrt(squared.mean())))


def _inverse_normal(problem: _Problem, used: NDArray[np.bool_], T: Array) -> Array | None:
    """Inverse of the normal matrix, symmetric; None if it is singular."""
    H, g = np.zeros((6, 6)), np.zeros(6)
    normal_equations(problem.points, problem.pixels, problem.weights, used, problem.K, T,
                      np.inf, H, g)
    scales = np.sqrt(np.diagonal(H))
    if not scales.min() > 0:
        return None
    eigenvalues = np.linalg.eigvalsh(H / np.outer(scales, scales))
    if not eigenvalues[0] > _SINGULAR * eigenvalues[-1]:
        return None
    inverse = np.linalg.inv(H)
    return (inverse + inverse.T) / 2
