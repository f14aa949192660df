# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Extrinsics of two calibrated cameras, refined by matches; the baseline's length is not observable.

Rays are (N, 3) with z = 1. `T_a_b` maps points of camera b to camera a. Errors are Sampson's:
Hartley and Zisserman, 'Multiple View Geometry', 2nd edition, 11.4.3. Robust fitting by graduated
non-convexity: Black and Rangarajan, 'On the unification of line processes', IJCV 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3

Array = NDArray[np.float64]

_STEP = 1e-6
_ITERATIONS, _FACTOR, _SETTLED = 16, 0.5, 1e-5
#: Scale of the robust weights in the beginning, in median errors of the given extrinsics
_WIDE = 3.0
#: Median absolute deviation to standard deviation of a normal distribution
_MAD = 1.4826


@dataclass(frozen=True, eq=False)
class RefinedExtrinsics:
    """
    Result of a refinement.

    :param T_a_b: (4, 4), with the given length of the baseline
    :param rotation: (3,) rotation vector from the given to the refined orientation of camera b, in
        frame a, radians
    :param direction: angle between the given and the refined direction of the baseline, radians
    :param rotation_sigma: (3,) standard deviations of `rotation`
    :param direction_sigma: that of the direction, the larger one of its two angles
    :param errors: (N,) epipolar errors with T_a_b, normalised units
    """

    T_a_b: Array
    rotation: Array
    direction: float
    rotation_sigma: Array
    direction_sigma: float
    errors: Array


def epipolar_errors(T_a_b: Array, rays_a: Array, rays_b: Array) -> Array:
    """
    Return signed Sampson errors (N,) of matches, normalised units.

    :param T_a_b: (4, 4) with a translation that is not zero
    """
    t = T_a_b[:3, 3]
    E = se3.hat(t / np.linalg.norm(t)) @ T_a_b[:3, :3]
    lines_a, lines_b = rays_b @ E.T, rays_a @ E
    squares = (lines_a[:, :2] ** 2).sum(axis=1) + (lines_b[:, :2] ** 2).sum(axis=1)
    return np.asarray((rays_a * lines_a).sum(axis=1) / np.sqrt(np.maximum(squares, 1e-18)))


def refine_extrinsics(T_a_b: Array, rays_a: Array, rays_b: Array, noise: float,
                      rotation_prior: float, direction_prior: float) -> RefinedExtrinsics:
    """
    Refine rotation and direction of the baseline.

    :param T_a_b: (4, 4) as given; the priors hold what matches do not tell
    :param noise: least standard deviation of an error, normalised units
    :param rotation_prior: standard deviation of the given rotation, radians
    :param direction_prior: that of the given direction, radians
    """
    tangent = _tangent(T_a_b[:3, 3])
    information = np.diag([rotation_prior ** -2] * 3 + [direction_prior ** -2] * 2)
    x, H = np.zeros(5), information
    scale = max(_WIDE * _deviation(epipolar_errors(T_a_b, rays_a, rays_b)), noise)
    for _ in range(_ITERATIONS):
        T = _changed(T_a_b, x, tangent)
        errors = epipolar_errors(T, rays_a, rays_b)
        J = np.stack([(epipolar_errors(_changed(T_a_b, x + _STEP * step, tangent), rays_a, rays_b)
                       - errors) / _STEP for step in np.eye(5)], axis=1)
        weights = (scale ** 2 / (scale ** 2 + errors ** 2)) ** 2  # Geman and McClure
        sigma = max(noise, _deviation(errors))
        weighted = J * weights[:, None] / sigma ** 2
        H = weighted.T @ J + information
        step = np.linalg.solve(H, weighted.T @ errors + information @ x)
        x = x - step
        if scale <= 2 * sigma and np.abs(step).max() < _SETTLED:
            break
        scale = max(scale * _FACTOR, 2 * sigma)
    T = _changed(T_a_b, x, tangent)
    sigmas = np.sqrt(np.diag(np.linalg.inv(H)))
    return RefinedExtrinsics(
        T, x[:3], float(np.linalg.norm(x[3:])), sigmas[:3], float(sigmas[3:].max()),
        epipolar_errors(T, rays_a, rays_b))


def _deviation(errors: Array) -> float:
    return _MAD * float(np.median(np.abs(errors)))


def _tangent(t: Array) -> Array:
    """Two unit vectors (2, 3) that are perpendicular to a direction."""
    _, _, vt = np.linalg.svd(t[None])
    return np.asarray(vt[1:])


def _changed(T_a_b: Array, x: Array, tangent: Array) -> Array:
    """Turn the orientation by x[:3], and the baseline by the angles x[3:]."""
    t = T_a_b[:3, 3]
    axis = np.cross(t / np.linalg.norm(t), x[3:] @ tangent)
    return se3.from_rt(se3.so3_exp(x[:3]) @ T_a_b[:3, :3], se3.so3_exp(axis) @ t)
