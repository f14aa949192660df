# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The compiled loops of two-view geometry; `two_view` has the interface.

Rays are (N, 3) with z = 1 in their camera's optical frame; T is T_b_a (4, 4).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled
from recon3r_ros.geometry.compiled_se3 import damped_step, left_update

Array = NDArray[np.float64]

#: Iterations at most, and those in which the scale of the weights is adapted
_POSE_ITERATIONS, _SCALE_ITERATIONS = 80, 40
#: Scale of the weights in standard deviations of the noise, and its minimum as a share of the
#: inlier threshold
_NOISE_SCALES, _FINEST = 3.0, 0.1
_CONVERGED = 1e-9  # step that ends the iterations, radians
#: Damping as a share of the normal matrix' trace
_DAMPING = 1e-9
#: Standard deviation of a normal variable over the median of its absolute values
_NORMAL_MEDIAN = 1.4826
#: Least distance of a point in front of camera b, along its axis, over its depth in a
LEAST_HEIGHT = 1e-6
_TINY = np.finfo(np.float64).tiny


@compiled()
def elements(T: NDArray[np.floating[Any]]) -> tuple[Any, ...]:
    """Rows of T (4, 4), which a loop then need not load again for every pixel it stores."""
    return (T[0, 0], T[0, 1], T[0, 2], T[0, 3], T[1, 0], T[1, 1], T[1, 2], T[1, 3],
            T[2, 0], T[2, 1], T[2, 2], T[2, 3])


@compiled()
def turned(T: tuple[Any, ...], x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
    """Rotate a point by `elements`."""
    return (T[0] * x + T[1] * y + T[2] * z, T[4] * x + T[5] * y + T[6] * z,
            T[8] * x + T[9] * y + T[10] * z)


@compiled()
def along_ray(T: tuple[Any, ...], x: Any, y: Any, z: Any, u: Any, v: Any, tiny: Any, least: Any
              ) -> tuple[Any, Any, Any]:
    """
    Triangulate one match as `two_view.triangulate` does.

    :param T: `elements` of T_b_a, in the precision of all
    :param x: of a's ray, as y and z
    :param u: of b's ray with z = 1, as v
    :param tiny: smallest squared slope
    :param least: smallest distance
    :return: inverse depth in a, distance along b's axis over the depth in a, sensitivity
    """
    turned_x, turned_y, turned_z = turned(T, x, y, z)
    offset_u, offset_v = turned_x - u * turned_z, turned_y - v * turned_z
    slope_u, slope_v = T[3] - u * T[11], T[7] - v * T[11]
    squared = max(slope_u * slope_u + slope_v * slope_v, tiny)
    inverse_depth = -(offset_u * slope_u + offset_v * slope_v) / squared
    height = turned_z + inverse_depth * T[11]
    sensitivity = np.sqrt(squared) * abs(inverse_depth) / max(abs(height), least)
    return inverse_depth, height, sensitivity


@compiled('Tuple((f8[::1], f8[::1], b1[::1]))(f8[:,::1], f8[:,::1], f8[:,::1])')
def triangulate(rays_a: Array, rays_b: Array, T: Array
                ) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Inverse depths (N,), sensitivities (N,), and which (N,) are in front of both cameras."""
    motion = elements(T)
    inverse_depth, sensitivity = np.empty(len(rays_a)), np.empty(len(rays_a))
    in_front = np.empty(len(rays_a), np.bool_)
    for n in range(len(rays_a)):
        inverse_depth[n], height, sensitivity[n] = along_ray(
            motion, rays_a[n, 0], rays_a[n, 1], rays_a[n, 2], rays_b[n, 0], rays_b[n, 1],
            _TINY, LEAST_HEIGHT)
        in_front[n] = inverse_depth[n] > 0 and height > LEAST_HEIGHT
    return inverse_depth, sensitivity, in_front


@compiled('f8[:,::1](f8[:,::1], f8[:,::1], f8[:,::1], f8)')
def weighted_products(unit_a: Array, unit_b: Array, R: Array, sigma: float) -> Array:
    """Sum of b a^T (3, 3) over unit rays (N, 3), with Cauchy weights of b - R a."""
    out = np.zeros((3, 3))
    for n in range(len(unit_a)):
        squared = 0.0
        for i in range(3):
            off = unit_b[n, i] - (R[i, 0] * unit_a[n, 0] + R[i, 1] * unit_a[n, 1]
                                  + R[i, 2] * unit_a[n, 2])
            squared += off * off
        weight = 1 / (1 + squared / (sigma * sigma))
        for i in range(3):
            for j in range(3):
                out[i, j] += weight * unit_b[n, i] * unit_a[n, j]
    return out


@compiled()
def _tangent_basis(x: float, y: float, z: float) -> Array:
    """Two unit vectors (2, 3) orthogonal to a unit vector."""
    basis = np.zeros((2, 3))
    if abs(z) < 0.9:  # across the vector and the z axis, or else the x axis
        basis[0, 0], basis[0, 1] = y, -x
    else:
        basis[0, 1], basis[0, 2] = z, -y
    length = np.sqrt(basis[0, 0] ** 2 + basis[0, 1] ** 2 + basis[0, 2] ** 2)
    for k in range(3):
        basis[0, k] /= length
    basis[1, 0] = y * basis[0, 2] - z * basis[0, 1]
    basis[1, 1] = z * basis[0, 0] - x * basis[0, 2]
    basis[1, 2] = x * basis[0, 1] - y * basis[0, 0]
    return basis


@compiled()
def _sampson(T: tuple[Any, ...], x: float, y: float, z: float, u: float, v: float
             ) -> tuple[float, ...]:
    """
    Signed Sampson distance of a match, its scale, a's ray turned into b, and b x t.

    :param T: `elements`
    """
    e_x, e_y, e_z = turned(T, x, y, z)
    t_x, t_y, t_z = T[3], T[7], T[11]
    line_x, line_y, line_z = t_y * e_z - t_z * e_y, t_z * e_x - t_x * e_z, t_x * e_y - t_y * e_x
    n_x, n_y, n_z = v * t_z - t_y, t_x - u * t_z, u * t_y - v * t_x
    back_x, back_y = T[0] * n_x + T[4] * n_y + T[8] * n_z, T[1] * n_x + T[5] * n_y + T[9] * n_z
    scale = 1 / np.sqrt(max(
        line_x * line_x + line_y * line_y + back_x * back_x + back_y * back_y, 1e-18))
    return (u * line_x + v * line_y + line_z) * scale, scale, e_x, e_y, e_z, n_x, n_y, n_z


@compiled()
def _signed_distances(rays_a: Array, rays_b: Array, T: Array) -> Array:
    """Signed Sampson distances (N,)."""
    motion, out = elements(T), np.empty(len(rays_a))
    for n in range(len(rays_a)):
        out[n] = _sampson(motion, rays_a[n, 0], rays_a[n, 1], rays_a[n, 2], rays_b[n, 0],
                          rays_b[n, 1])[0]
    return out


@compiled('f8[::1](f8[:,::1], f8[:,::1], f8[:,::1], f8)')
def epipolar_distances(rays_a: Array, rays_b: Array, T: Array, threshold: float) -> Array:
    """
    Sampson distances (N,); infinite for points that are not in front of both cameras.

    Noise may put distant points, of little parallax, beyond infinity, that is behind the cameras.

    :param threshold: epipolar distance of an inlier
    """
    distances = _signed_distances(rays_a, rays_b, T)
    _, sensitivity, in_front = triangulate(rays_a, rays_b, T)
    for n in range(len(distances)):
        possible = in_front[n] or sensitivity[n] < 2 * threshold
        distances[n] = abs(distances[n]) if possible else np.inf
    return distances


@compiled()
def _median(values: Array, count: int) -> float:
    """Median of a buffer's first values, by Hoare's selection, which changes their order."""
    middle, low, high = count // 2, 0, count - 1
    while low < high:
        pivot, i, j = values[middle], low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i, j = i + 1, j - 1
        if j < middle:
            low = i
        if i > middle:
            high = j
    if count % 2:
        return values[middle]
    below = values[0]
    for n in range(1, middle):
        below = max(below, values[n])
    return 0.5 * (below + values[middle])


@compiled()
def _scale(residuals: Array, threshold: float, last: float) -> float:
    """Scale of the weights by the noise of the matches; the last one where none is near."""
    near, count = np.empty(len(residuals)), 0
    for n in range(len(residuals)):
        if abs(residuals[n]) < 2 * threshold:
            near[count] = abs(residuals[n])
            count += 1
    if count == 0:
        return last
    noise = _NORMAL_MEDIAN * _median(near, count)
    return min(max(_NOISE_SCALES * noise, _FINEST * threshold), threshold)


@compiled()
def _accumulate(rays_a: Array, rays_b: Array, T: Array, scale: float, H: Array, g: Array) -> None:
    """
    Accumulate H (5, 5), its lower triangle, and g (5,), the scale of each distance held fixed.

    By xi = [omega, s] with exp(omega) R and t + B s, where B is the tangent basis of t.
    """
    motion, basis = elements(T), _tangent_basis(T[0, 3], T[1, 3], T[2, 3])
    for i in range(5):
        g[i] = 0.0
        for j in range(5):
            H[i, j] = 0.0
    row = np.empty(5)
    for n in range(len(rays_a)):
        u, v = rays_b[n, 0], rays_b[n, 1]
        residual, length, e_x, e_y, e_z, n_x, n_y, n_z = _sampson(
            motion, rays_a[n, 0], rays_a[n, 1], rays_a[n, 2], u, v)
        weight = 1 / (1 + (residual / scale) ** 2) ** 2
        # b . (t x exp(w) R a): the derivative by w is (R a) x (b x t)
        row[0] = (e_y * n_z - e_z * n_y) * length
        row[1] = (e_z * n_x - e_x * n_z) * length
        row[2] = (e_x * n_y - e_y * n_x) * length
        # and by t (R a) x b
        c_x, c_y, c_z = e_y - e_z * v, e_z * u - e_x, e_x * v - e_y * u
        for k in range(2):
            row[3 + k] = (c_x * basis[k, 0] + c_y * basis[k, 1] + c_z * basis[k, 2]) * length
        for i in range(5):
            weighted = weight * row[i]
            g[i] += weighted * residual
            for j in range(i + 1):
                H[i, j] += weighted * row[j]


@compiled()
def _retracted(T: Array, step: Array) -> Array:
    """Apply a step; the translation stays on the unit sphere."""
    basis = _tangent_basis(T[0, 3], T[1, 3], T[2, 3])
    twist = np.zeros(6)
    for i in range(3):
        twist[i] = step[i]
    out, squared = left_update(twist, T), 0.0
    for i in range(3):
        out[i, 3] = T[i, 3] + basis[0, i] * step[3] + basis[1, i] * step[4]
        squared += out[i, 3] * out[i, 3]
    for i in range(3):
        out[i, 3] /= np.sqrt(squared)
    return out


@compiled('f8[:,::1](f8[:,::1], f8[:,::1], f8[:,::1], f8)')
def refined(rays_a: Array, rays_b: Array, T: Array, threshold: float) -> Array:
    """Minimise the Sampson distances; see `two_view.refine_relative_pose`."""
    scale = threshold
    H, g = np.empty((5, 5)), np.empty(5)
    for iteration in range(_POSE_ITERATIONS):
        if iteration < _SCALE_ITERATIONS:
            scale = _scale(_signed_distances(rays_a, rays_b, T), threshold, scale)
        _accumulate(rays_a, rays_b, T, scale, H, g)
        trace = H[0, 0] + H[1, 1] + H[2, 2] + H[3, 3] + H[4, 4]
        for i in range(5):
            H[i, i] += _DAMPING * trace
        step = damped_step(H, g, 0.0)
        T = _retracted(T, step)
        largest = 0.0
        for i in range(5):
            largest = max(largest, abs(step[i]))
        if largest < _CONVERGED:
            break
    return T
