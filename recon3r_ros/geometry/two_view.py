# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Relative pose of two calibrated views, and depth along their rays.

Rays are (N, 3) with z = 1 in the camera's optical frame. `T_b_a` maps points of
camera a to camera b. Hartley and Zisserman, 'Multiple View Geometry', 2nd edition: chapters 9, 11,
12.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry import compiled_two_view, se3
from recon3r_ros.geometry.compiled_two_view import epipolar_distances, refined, weighted_products

Array = NDArray[np.float64]

MIN_INLIERS = 12
_ROTATION_ITERATIONS = 10
#: Distance that costs a half, as a share of the inlier threshold; a pose whose cost shows that so
#: many matches fit is the true one
_NEAR, _ENOUGH = 0.2, 2 / 3
#: Samples of RANSAC at most, with the threshold of an inlier and with a tight one. That is so many
#: standard deviations of the noise, and at least such a share of the other
_SAMPLES, _TIGHT_SAMPLES = 1000, 300
_TIGHTNESS, _FINEST = 0.5, 0.07
#: Difference of two poses that are the same (radians, and of the translation's direction)
_SAME = 1e-4


@dataclass(frozen=True, eq=False)
class RelativePose:
    """
    Result of two-view geometry.

    :param T_b_a: (4, 4) with a translation of unit length
    :param inliers: (N,) bool
    :param sigma: robust standard deviation of their epipolar distances, normalised units
    :param cost: mean robust cost of all matches, 0 to 1
    """

    T_b_a: Array
    inliers: NDArray[np.bool_]
    sigma: float
    cost: float


def fit_rotation(rays_a: Array, rays_b: Array, sigma: float) -> Array:
    """
    Rotation that best maps one view's rays to the other's, without translation.

    IRLS of Wahba's problem with Cauchy weights, so that a few near points do not bias the fit.

    :param sigma: scale of the weights, radians
    :return: (3, 3) R_b_a
    """
    unit_a = rays_a / np.linalg.norm(rays_a, axis=1, keepdims=True)
    unit_b = rays_b / np.linalg.norm(rays_b, axis=1, keepdims=True)
    products = unit_b.T @ unit_a
    for iteration in range(_ROTATION_ITERATIONS):
        u, _, vt = np.linalg.svd(products)
        u[:, 2] *= np.linalg.det(u @ vt)
        rotation = u @ vt
        if iteration < _ROTATION_ITERATIONS - 1:
            products = weighted_products(unit_a, unit_b, rotation, sigma)
    return rotation


def parallax(rays_a: Array, rays_b: Array, R_b_a: Array) -> Array:
    """Angle (N,) in radians between b's rays and a's rays turned into b."""
    turned = rays_a @ R_b_a.T
    cross = np.linalg.norm(np.cross(turned, rays_b), axis=1)
    return np.arctan2(cross, np.sum(turned * rays_b, axis=1))


def estimate_relative_pose(rays_a: Array, rays_b: Array, threshold: float,
                           T_b_a_prior: Array | None = None, exact: bool = True
                           ) -> RelativePose | None:
    """
    Minimise the epipolar distances, from a prior of the pose and from poses that RANSAC proposes.

    The prior suffices where the pose that it leads to fits most matches as exactly as it fits
    static ones, which no wrong pose does. Else RANSAC is to find a better one. Points that move
    slowly nearly fit many poses: with the threshold of an inlier, a pose biased by them may have
    more inliers than the true one. Below the noise of the first pose, the true one has more.

    :param threshold: epipolar distance of an inlier, normalised units (pixels / focal)
    :param T_b_a_prior: (4, 4), its translation of any length; None where there is none
    :param exact: whether matches may be exact enough for a tighter threshold
    :return: the pose of the least robust cost; None where none has `MIN_INLIERS` inliers
    """
    if len(rays_a) < MIN_INLIERS:
        return None

    def sampled(distance: float, samples: int) -> RelativePose | None:
        T_b_a = _sampled(rays_a, rays_b, threshold, distance, samples)
        return None if T_b_a is None else refine_relative_pose(rays_a, rays_b, T_b_a, threshold)

    rays_a, rays_b = dense(rays_a), dense(rays_b)
    expected = second = None
    if T_b_a_prior is not None and np.linalg.norm(T_b_a_prior[:3, 3]) > 0:
        expected = refine_relative_pose(rays_a, rays_b, T_b_a_prior, threshold)
    first = sampled(threshold, _SAMPLES) if expected is None else expected
    if first is None or first.cost < 1 - _ENOUGH:
        return first
    if exact:
        second = sampled(max(_TIGHTNESS * first.sigma, _FINEST * threshold), _TIGHT_SAMPLES)
    found = [first] if second is None else [first, second]
    if expected is not None and not (second is not None and np.allclose(
            first.T_b_a, second.T_b_a, atol=_SAME)):
        other = sampled(threshold, _SAMPLES)
        found += [] if other is None else [other]
    return min(found, key=lambda pose: pose.cost)


def _sampled(rays_a: Array, rays_b: Array, threshold: float, distance: float, samples: int
             ) -> Array | None:
    """
    Estimate an essential matrix by RANSAC; of its four poses, take the one with least cost.

    :param distance: epipolar distance of RANSAC's inliers
    :param samples: largest number
    """
    essential, _ = cv2.findEssentialMat(
        rays_a[:, :2].copy(), rays_b[:, :2].copy(), np.eye(3), np.eye(3), None, None,
        _sampling(distance, samples))
    if essential is None or essential.shape != (3, 3):
        return None
    first, second, translation = cv2.decomposeEssentialMat(essential)
    return min((se3.from_rt(rotation, sign * translation[:, 0])
                for rotation in (first, second) for sign in (1, -1)),
               key=lambda T: _cost(epipolar_distances(rays_a, rays_b, T, threshold), threshold))


def _sampling(threshold: float, samples: int) -> Any:
    """Set up RANSAC, without local optimisation: the pose is refined."""
    params = cv2.UsacParams()
    params.threshold = threshold
    params.confidence = 0.9999
    params.maxIterations = samples
    params.score = cv2.SCORE_METHOD_MSAC
    params.sampler = cv2.SAMPLING_UNIFORM
    params.loMethod = cv2.LOCAL_OPTIM_NULL
    params.isParallel = False
    params.randomGeneratorState = 0
    return params


def _cost(distances: Array, threshold: float) -> float:
    """Mean robust cost, 0 to 1; a half at a fraction of the threshold, see `_NEAR`."""
    return 1 - float(np.mean(1 / (1 + (distances / (_NEAR * threshold)) ** 2)))


def refine_relative_pose(rays_a: Array, rays_b: Array, T_b_a: Array, threshold: float
                         ) -> RelativePose | None:
    """
    Minimise the Sampson distances by robust Gauss-Newton over the five degrees of freedom.

    Hartley and Zisserman, eq. 11.9. The translation stays on the unit sphere. The scale of the
    weights is reduced to the noise of the matches, so that slowly moving points do not bias the
    pose.

    :param T_b_a: (4, 4) initial pose, its translation of any length but 0
    :param threshold: epipolar distance of an inlier, normalised units
    """
    rays_a, rays_b = dense(rays_a), dense(rays_b)
    T_b_a = refined(rays_a, rays_b, se3.from_rt(
        T_b_a[:3, :3], T_b_a[:3, 3] / np.linalg.norm(T_b_a[:3, 3])), threshold)
    distances = epipolar_distances(rays_a, rays_b, T_b_a, threshold)
    inliers = distances < 2 * threshold
    if inliers.sum() < MIN_INLIERS:
        return None
    sigma = 1.4826 * float(np.median(distances[inliers]))
    return RelativePose(T_b_a, inliers, sigma, _cost(distances, threshold))


def triangulate(rays_a: Array, rays_b: Array, T_b_a: Array
                ) -> tuple[Array, Array, NDArray[np.bool_]]:
    """
    Inverse depths along a's rays that bring the points nearest to b's rays.

    The point of ray x with inverse depth rho projects in b as h = R x + rho t; both image
    equations are linear in rho.

    :param rays_a: (N, 3)
    :param rays_b: (N, 3) matches in b
    :return: inverse depth (N,) in units of 1 / `T_b_a`'s translation, its sensitivity (N,): how
        far the projection in b moves, in normalised units, for a relative change of depth of one;
        and whether the point lies in front of both cameras
    """
    return compiled_two_view.triangulate(*(dense(values, np.float64)
                                           for values in (rays_a, rays_b, T_b_a)))
