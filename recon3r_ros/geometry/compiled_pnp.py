# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The compiled loops of PnP: robust refinement of a pose; `pnp` has the interface.

Points (N, 3) in the world, pixels (N, 2), weights (N,); `used` and `valid` (N,) choose rows; K is
(fx, fy, cx, cy), T is T_cam_world (4, 4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled
from recon3r_ros.geometry.compiled_se3 import damped_step, left_update, transform

Array = NDArray[np.float64]

MIN_INLIERS = 6
_ROUNDS = 4  # of inlier selection and refinement
# Cauchy's constant for an efficiency of 95 %, and the least standard deviation of tracked pixels:
# points with depth from a temporary reference fit its pose exactly and must not outweigh others
_CAUCHY, _MIN_SIGMA = 2.385, 0.15
_RAYLEIGH_MEDIAN = 1.1774  # of the length of two normal residuals
_POLISHING, _CONVERGED = 15, 0.005  # iterations at most, and the relative gain that ends them
_UNSEEN = 1e4  # residual, pixels, of a point that is not in front of the camera


@compiled('f8[::1](f8[:,::1], f8[:,::1], f8[::1], f8[:,::1])')
def distances(points: Array, pixels: Array, K: Array, T: Array) -> Array:
    """Reprojection errors, pixels; infinite for points that are not in front of the camera."""
    out = np.empty(len(points))
    for n in range(len(points)):
        x, y, z = transform(T, points[n, 0], points[n, 1], points[n, 2])
        if z > 0:
            u, v = K[0] * x / z + K[2] - pixels[n, 0], K[1] * y / z + K[3] - pixels[n, 1]
            out[n] = np.sqrt(u * u + v * v)
        else:
            out[n] = np.inf
        if not out[n] >= 0:
            out[n] = np.inf
    return out


@compiled()
def _within(points: Array, pixels: Array, used: NDArray[np.bool_], K: Array, T: Array,
            threshold: float) -> NDArray[np.bool_]:
    """Which rows have a reprojection error below the threshold."""
    return used & (distances(points, pixels, K, T) < threshold)


@compiled()
def _unclipped(distances: Array) -> Array:
    return np.where(np.isfinite(distances), distances, _UNSEEN)


@compiled()
def _linearise(point: Array, pixel: Array, K: Array, T: Array, row_u: Array, row_v: Array
               ) -> tuple[float, float, bool]:
    """Residual of one point, and its two rows of the Jacobian by xi in exp(xi) T."""
    x, y, z = transform(T, point[0], point[1], point[2])
    if not z > 0:
        return _UNSEEN, _UNSEEN, False
    a, c = K[0] / z, K[1] / z
    b, d = -a * x / z, -c * y / z
    row_u[0], row_u[1], row_u[2] = y * b, z * a - x * b, -y * a
    row_u[3], row_u[4], row_u[5] = a, 0.0, b
    row_v[0], row_v[1], row_v[2] = y * d - z * c, -x * d, x * c
    row_v[3], row_v[4], row_v[5] = 0.0, c, d
    return a * x + K[2] - pixel[0], c * y + K[3] - pixel[1], True


@compiled()
def _add(H: Array, g: Array, row_u: Array, row_v: Array, u: float, v: float, weight: float
         ) -> None:
    for i in range(6):
        by_u, by_v = weight * row_u[i], weight * row_v[i]
        g[i] += by_u * u + by_v * v
        for j in range(i + 1):
            H[i, j] += by_u * row_u[j] + by_v * row_v[j]


@compiled()
def _mirror(H: Array) -> None:
    for i in range(6):
        for j in range(i):
            H[j, i] = H[i, j]


@compiled('f8(f8[:,::1], f8[:,::1], f8[::1], b1[::1], f8[::1], f8[:,::1], f8, f8[:,::1], f8[::1])')
def normal_equations(points: Array, pixels: Array, weights: Array, used: NDArray[np.bool_],
                     K: Array, T: Array, width: float, H: Array, g: Array) -> float:
    """
    Accumulate H (6, 6) and g (6,) of the Huber cost by xi in exp(xi) T.

    :param width: of the kernel, pixels; infinite for least squares
    :return: the cost
    """
    H[:], g[:] = 0.0, 0.0
    cost = 0.0
    row_u, row_v = np.zeros(6), np.zeros(6)
    for n in range(len(points)):
        if not used[n]:
            continue
        u, v, seen = _linearise(points[n], pixels[n], K, T, row_u, row_v)
        length = np.sqrt(u * u + v * v)
        factor = min(1.0, width / max(length, 1e-12))
        cost += weights[n] * (0.5 * length * length if length <= width
                              else width * (length - 0.5 * width))
        if seen:
            _add(H, g, row_u, row_v, u, v, weights[n] * factor)
    _mirror(H)
    return cost


@compiled()
def _levenberg_marquardt(points: Array, pixels: Array, weights: Array, used: NDArray[np.bool_],
                         K: Array, threshold: float, T: Array, iterations: int, tolerance: float
                         ) -> Array:
    """Minimise the Huber cost from T, until an iteration lowers it by less than `tolerance`."""
    damping = 1e-6
    H, g = np.empty((6, 6)), np.empty(6)
    H_new, g_new = np.empty((6, 6)), np.empty(6)
    cost = normal_equations(points, pixels, weights, used, K, T, threshold, H, g)
    for _ in range(iterations):
        # Marquardt's scaling, with a floor for directions no point constrains
        T_new = left_update(damped_step(H, g, damping), T)
        cost_new = normal_equations(
            points, pixels, weights, used, K, T_new, threshold, H_new, g_new)
        if cost_new <= cost:
            converged = cost - cost_new <= tolerance * cost
            T, cost = T_new, cost_new
            H, H_new, g, g_new = H_new, H, g_new, g
            damping *= 0.1
            if converged:
                break
        else:
            damping = max(damping, 1e-6) * 100
    return T


@compiled()
def _polished(points: Array, pixels: Array, weights: Array, valid: NDArray[np.bool_], K: Array,
              threshold: float, T: Array) -> Array:
    """
    Iterate with a Cauchy kernel whose width follows the median residual.

    Points that move slowly, or slide along an occlusion boundary, stay within the threshold for a
    while and bias the pose.
    """
    used = _within(points, pixels, valid, K, T, threshold)
    if used.sum() < MIN_INLIERS:
        return T
    points, pixels, weights = points[used], pixels[used], weights[used]
    median = np.inf
    H, g, row_u, row_v = np.empty((6, 6)), np.empty(6), np.empty(6), np.empty(6)
    for _ in range(_POLISHING):
        lengths = np.sqrt(weights) * _unclipped(distances(points, pixels, K, T))
        last, median = median, np.median(lengths)
        if median > (1 - _CONVERGED) * last:
            break
        width = _CAUCHY * max(median / _RAYLEIGH_MEDIAN, _MIN_SIGMA)
        H[:], g[:] = 0.0, 0.0
        for n in range(len(points)):
            u, v, seen = _linearise(points[n], pixels[n], K, T, row_u, row_v)
            if seen:
                _add(H, g, row_u, row_v, u, v,
                     weights[n] / (1 + (lengths[n] / width) ** 2))
        _mirror(H)
        T = left_update(damped_step(H, g, 1e-9), T)
    return T


@compiled('Tuple((f8[:,::1], b1[::1]))(f8[:,::1], f8[:,::1], f8[::1], b1[::1], f8[::1], f8, '
          'f8[:,::1])')
def refined(points: Array, pixels: Array, weights: Array, valid: NDArray[np.bool_], K: Array,
             threshold: float, guess: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Refine a pose; with its inliers, none where it has too few."""
    T = _levenberg_marquardt(points, pixels, weights, valid, K, threshold, guess, 10, 1e-3)
    inliers = np.zeros(len(valid), np.bool_)
    for _ in range(_ROUNDS):
        previous, inliers = inliers, _within(points, pixels, valid, K, T, threshold)
        if inliers.sum() < MIN_INLIERS:
            return T, np.zeros(len(valid), np.bool_)
        if np.all(inliers == previous):
            break
        T = _levenberg_marquardt(points, pixels, weights, inliers, K, threshold, T, 5, 1e-6)
    T = _polished(points, pixels, weights, valid, K, threshold, T)
    known = np.sqrt(weights[valid])
    points_known, pixels_known = points[valid], pixels[valid]
    at_guess = np.median(known * distances(points_known, pixels_known, K, guess))
    if at_guess < np.median(known * distances(points_known, pixels_known, K, T)):
        # A good initial pose lacks the bias that outliers gave the fit to all points
        T = _polished(points, pixels, weights, valid, K, threshold, guess)
    return T, _within(points, pixels, valid, K, T, threshold)


@compiled('Tuple((f8, f8))(f8[:,::1], f8[:,::1], f8[::1], f8[:,::1], i8)')
def focal_change(points: Array, pixels: Array, K: Array, T: Array, iterations: int
                 ) -> tuple[float, float]:
    """
    Estimate pose and focal length together, with Cauchy's kernel, from a pose T.

    :return: logarithm of the focal length over that of K, and the inverse of its variance; 0
        where it is not determined
    """
    H, g, row_u, row_v = np.empty((7, 7)), np.empty(7), np.empty(7), np.empty(7)
    log_focal, information = 0.0, 0.0
    for i in range(iterations + 1):
        factor = np.exp(log_focal)
        scaled = np.array([K[0] * factor, K[1] * factor, K[2], K[3]])
        lengths = _unclipped(distances(points, pixels, scaled, T))
        sigma = max(np.median(lengths) / _RAYLEIGH_MEDIAN, _MIN_SIGMA)
        H[:], g[:] = 0.0, 0.0
        for n in range(len(points)):
            u, v, seen = _linearise(points[n], pixels[n], scaled, T, row_u, row_v)
            if not seen:
                continue
            row_u[6] = u + pixels[n, 0] - K[2]
            row_v[6] = v + pixels[n, 1] - K[3]
            weight = 1 / (1 + (lengths[n] / (_CAUCHY * sigma)) ** 2)
            for a in range(7):
                by_u, by_v = weight * row_u[a], weight * row_v[a]
                g[a] += by_u * u + by_v * v
                for b in range(a + 1):
                    H[a, b] += by_u * row_u[b] + by_v * row_v[b]
        for a in range(7):
            for b in range(a):
                H[b, a] = H[a, b]
        if i == iterations:
            unit = np.zeros(7)
            unit[6] = -1.0
            variance = damped_step(H, unit, 1e-9)[6]
            information = 1 / (sigma ** 2 * variance) if variance > 0 else 0.0
        else:
            step = damped_step(H, g, 1e-9)
            T = left_update(step[:6], T)
            log_focal = min(max(log_focal + step[6], -1.0), 1.0)
    return log_focal, information
