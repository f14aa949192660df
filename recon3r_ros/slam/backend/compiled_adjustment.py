# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The compiled loops of bundle adjustment; see `adjustment_cost` and `bundle_adjustment`.

The L landmarks of the K keyframes are concatenated. The M observations are sorted by landmark:
those of landmark n are `first[n]` to `first[n + 1]`. Each is of a pair of keyframes, `pair` (M,);
the P `pairs` (P, 2), anchors and observers, are sorted by anchor: those of keyframe k are
`first_pair[k]` to `first_pair[k + 1]`.

A residual depends on the two poses only through T = T_observer_anchor. So it is linearised once,
for exp(xi) T. Steps of the poses move that by xi = xi_observer - Ad(T) xi_anchor, with the adjoint
of Eade, 'Lie groups for 2D and 3D transformations', section 3. The depths of an anchor are
eliminated from the equations of its pairs' xi, which are then mapped to the poses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled
from recon3r_ros.geometry.compiled_se3 import left_update, renormalised

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Least height of a point over the observer's image plane, relative to its depth in the anchor
_MIN_HEIGHT = 1e-3


@compiled()
def _relative_poses(pairs: Integers, T_cam_map: Array) -> Array:
    """Poses T_observer_anchor (P, 3, 4) of the pairs."""
    out = np.empty((len(pairs), 3, 4))
    for p in range(len(pairs)):
        A, B = T_cam_map[pairs[p, 0]], T_cam_map[pairs[p, 1]]
        for i in range(3):
            out[p, i, 3] = B[i, 3]
            for j in range(3):
                out[p, i, j] = B[i, 0] * A[j, 0] + B[i, 1] * A[j, 1] + B[i, 2] * A[j, 2]
                out[p, i, 3] -= out[p, i, j] * A[j, 3]
    return out


@compiled()
def _turned(T: Array, x: float, y: float) -> tuple[float, float, float]:
    """Rotate the ray (x, y, 1) by the rotation of T (3, 4)."""
    return (T[0, 0] * x + T[0, 1] * y + T[0, 2],
            T[1, 0] * x + T[1, 1] * y + T[1, 2],
            T[2, 0] * x + T[2, 1] * y + T[2, 2])


@compiled('Tuple((f8[:,:,::1], f8[::1], f8[::1]))(i8[::1], i8[::1], i8[:,::1], f8[:,::1], '
          'f8[:,::1], f8[:,::1], f8[:,:,::1], f8[::1], f8)')
def reproject(first: Integers, pair: Integers, pairs: Integers, plane: Array, targets: Array,
              focal: Array, T_cam_map: Array, inverse_depths: Array, factor: float
              ) -> tuple[Array, Array, Array]:
    """
    Reproject the landmarks.

    :param plane: (L, 2) landmarks' pixels from their anchors' principal points, over the focal
        lengths
    :param targets: (M, 2) observed pixels, from the observers' principal points
    :param focal: (P, 2) fx fy of the observers
    :param factor: of all focal lengths, also of those in `plane`
    :return: poses T_observer_anchor (P, 3, 4) of the pairs; squared lengths (M,) of the residuals,
        pixels, and of their derivatives by the inverse depth
    """
    relative = _relative_poses(pairs, T_cam_map)
    squared, steepness = np.empty(len(pair)), np.empty(len(pair))
    for n in range(len(plane)):
        x, y, rho = plane[n, 0] / factor, plane[n, 1] / factor, inverse_depths[n]
        for m in range(first[n], first[n + 1]):
            p = pair[m]
            T = relative[p]
            a, b, c = _turned(T, x, y)
            scale = 1 / max(c + rho * T[2, 3], _MIN_HEIGHT)
            u, v = (a + rho * T[0, 3]) * scale, (b + rho * T[1, 3]) * scale
            fx, fy = focal[p, 0] * factor, focal[p, 1] * factor
            by_x, by_y = fx * scale * (T[0, 3] - u * T[2, 3]), fy * scale * (T[1, 3] - v * T[2, 3])
            u, v = fx * u - targets[m, 0], fy * v - targets[m, 1]
            squared[m] = u * u + v * v
            steepness[m] = by_x * by_x + by_y * by_y
    return relative, squared, steepness


@compiled()
def _times_adjoint(v: Array, T: Array, out: Array) -> None:
    """Store Ad(T)^T v, for T (3, 4) and a vector v (6,)."""
    # Ad = [[R, 0], [t^ R, R]], and (t^)^T w = w x t
    a = v[0] + v[4] * T[2, 3] - v[5] * T[1, 3]
    b = v[1] + v[5] * T[0, 3] - v[3] * T[2, 3]
    c = v[2] + v[3] * T[1, 3] - v[4] * T[0, 3]
    for i in range(3):
        out[i] = a * T[0, i] + b * T[1, i] + c * T[2, i]
        out[3 + i] = v[3] * T[0, i] + v[4] * T[1, i] + v[5] * T[2, i]


@compiled('Tuple((f8[:,:,::1], f8[:,::1], f8[:,::1], f8[::1], f8[:,::1], f8[::1], f8[::1], '
          'f8[::1]))(i8[::1], i8[::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[::1], f8[:,:,::1], '
          'f8[::1], f8, f8, b1)')
def normal_equations(first: Integers, pair: Integers, plane: Array, targets: Array, focal: Array,
                     weights: Array, relative: Array, inverse_depths: Array, factor: float,
                     scale: float, focal_free: bool
                     ) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array]:
    """
    Accumulate the normal equations of the residuals, weighted by Cauchy's kernel.

    See `reproject` for the other arguments.

    :param weights: (M,)
    :param relative: (P, 3, 4) poses T_observer_anchor
    :param scale: of the kernel, pixels
    :param focal_free: whether the focal length is unknown
    :return: second derivatives by the pairs' xi (P, 6, 6), lower triangles, and first ones (P, 6);
        mixed ones with the logarithm of the focal length (P, 6); second and first one by that
        (2,); mixed ones of the inverse depths with their observations' xi (M, 6) and with the
        focal length (L,); second (L,) and first ones (L,) by the inverse depths
    """
    hessian, gradient = np.zeros((len(relative), 6, 6)), np.zeros((len(relative), 6))
    by_focal, of_focal = np.zeros((len(relative), 6)), np.zeros(2)
    depth_by_pose, depth_by_focal = np.empty((len(pair), 6)), np.zeros(len(plane))
    depth_hessian, depth_gradient = np.zeros(len(plane)), np.zeros(len(plane))
    tightness = 1 / scale ** 2
    for n in range(len(plane)):
        x, y, rho = plane[n, 0] / factor, plane[n, 1] / factor, inverse_depths[n]
        for m in range(first[n], first[n + 1]):
            p = pair[m]
            T = relative[p]
            a, b, c = _turned(T, x, y)
            tx, ty, tz = T[0, 3], T[1, 3], T[2, 3]
            hx, hy, hz = a + rho * tx, b + rho * ty, c + rho * tz
            slope = 1 / max(hz, _MIN_HEIGHT)
            px, py = hx * slope, hy * slope
            fx, fy = focal[p, 0] * factor, focal[p, 1] * factor
            sx, sy = fx * slope, fy * slope
            u, v = fx * px - targets[m, 0], fy * py - targets[m, 1]
            w = weights[m] / (1 + (u * u + v * v) * tightness)
            # The projection's derivative by h is ((sx, 0, -sx px), (0, sy, -sy py)). That of h by
            # the inverse depth is t, and xi = (omega, v) moves h by omega x h + rho v
            du, dv = sx * (tx - px * tz), sy * (ty - py * tz)
            wu, wv = w * du, w * dv
            depth_hessian[n] += wu * du + wv * dv
            depth_gradient[n] += wu * u + wv * v
            by_u = (-sx * px * hy, sx * (hz + px * hx), -sx * hy, sx * rho, 0.0, -sx * rho * px)
            by_v = (-sy * (hz + py * hy), sy * py * hx, sy * hx, 0.0, sy * rho, -sy * rho * py)
            for i in range(6):
                depth_by_pose[m, i] = wu * by_u[i] + wv * by_v[i]
                iu, iv = w * by_u[i], w * by_v[i]
                gradient[p, i] += iu * u + iv * v
                for j in range(i + 1):
                    hessian[p, i, j] += iu * by_u[j] + iv * by_v[j]
            if focal_free:
                # h moves by R (0, 0, 1) - R ray, and the projection grows
                kz = T[2, 2] - c
                ku = sx * (T[0, 2] - a - px * kz) + fx * px
                kv = sy * (T[1, 2] - b - py * kz) + fy * py
                for i in range(6):
                    by_focal[p, i] += w * (ku * by_u[i] + kv * by_v[i])
                depth_by_focal[n] += wu * ku + wv * kv
                of_focal[0] += w * (ku * ku + kv * kv)
                of_focal[1] += w * (ku * u + kv * v)
    return (hessian, gradient, by_focal, of_focal, depth_by_pose, depth_by_focal, depth_hessian,
            depth_gradient)


@compiled()
def _times(s: float, v: Array) -> tuple[float, float, float, float, float, float]:
    """Return s v for a vector v (6,), a value: the compiler must not expect that it changes."""
    return s * v[0], s * v[1], s * v[2], s * v[3], s * v[4], s * v[5]


@compiled()
def _eliminate(first: Integers, pair: Integers, begin: int, end: int, pair_0: int,
               columns: Integers, depth_by_pose: Array, depth_by_focal: Array, inverse: Array,
               depth_gradient: Array, H: Array, g: Array, f: Array, focal_free: bool) -> None:
    """
    Eliminate the landmarks `begin` to `end` of a keyframe from the equations of its n pairs.

    :param pair_0: its first pair
    :param H: (n, n, 6, 6) blocks of half the Hessian, to which its transpose is to be added
    :param g: (n, 6) gradient
    :param f: (n, 6) rows of the focal length
    """
    for n in range(begin, end):
        if inverse[n] == 0:
            continue
        for m in range(first[n], first[n + 1]):
            if columns[pair[m], 0] < 0 and columns[pair[m], 1] < 0:
                continue
            i = pair[m] - pair_0
            c, s = _times(1.0, depth_by_pose[m]), _times(inverse[n], depth_by_pose[m])
            for o in range(first[n], m):
                if columns[pair[o], 0] >= 0 or columns[pair[o], 1] >= 0:
                    j = pair[o] - pair_0
                    for a in range(6):
                        value = depth_by_pose[o, a]
                        for b in range(6):
                            H[j, i, a, b] -= value * s[b]
            for a in range(6):
                H[i, i, a, a] -= 0.5 * s[a] * c[a]
                for b in range(a):
                    H[i, i, a, b] -= s[a] * c[b]
            for a in range(6):
                g[i, a] -= s[a] * depth_gradient[n]
                if focal_free:
                    f[i, a] -= s[a] * depth_by_focal[n]


@compiled()
def _add_row(out: Array, begin: int, v: Array, sign: float) -> None:
    for i in range(6):
        out[begin + i] += sign * v[i]


@compiled()
def _add(X: Array, out: Array, column_a: int, columns_b: Integers, relative: Array, H: Array,
         g: Array, f: Array, focal_free: bool) -> None:
    """Map the equations of the pairs of one anchor to the poses, see `_eliminate`."""
    mapped, by_a = np.empty(6), np.empty((6, 6))
    for i in range(len(g)):
        at = columns_b[i]
        by_a[:] = 0  # rows of the anchor's pose, by xi_i
        for j in range(len(g)):
            for a in range(6):
                if at >= 0 and columns_b[j] >= 0:
                    for b in range(6):
                        X[at + a, columns_b[j] + b] += H[i, j, a, b]
                if column_a >= 0:
                    _times_adjoint(H[i, j, a], relative[j], mapped)
                    for b in range(6):
                        by_a[b, a] -= mapped[b]
        if at >= 0:
            _add_row(out, at, g[i], 1.0)
            if focal_free:
                _add_row(X[-1], at, f[i], 1.0)
        if column_a < 0:
            continue
        for a in range(6):
            _times_adjoint(by_a[a], relative[i], mapped)
            _add_row(X[column_a + a], column_a, mapped, -1.0)
            if at >= 0:
                _add_row(X[column_a + a], at, by_a[a], 1.0)
                for b in range(6):
                    X[at + b, column_a + a] += by_a[a, b]
        _times_adjoint(g[i], relative[i], mapped)
        _add_row(out, column_a, mapped, -1.0)
        if focal_free:
            _times_adjoint(f[i], relative[i], mapped)
            _add_row(X[-1], column_a, mapped, -1.0)


@compiled('Tuple((f8[:,::1], f8[::1], f8[::1]))(i8[::1], i8[::1], i8[::1], i8[::1], i8[:,::1], '
          'f8[:,:,::1], f8[:,:,::1], f8[:,::1], f8[:,::1], f8[::1], f8[:,::1], f8[::1], f8[::1], '
          'f8[::1], f8[::1], f8, f8, i8, b1)')
def reduced(first: Integers, pair: Integers, ends: Integers, first_pair: Integers,
            columns: Integers, relative: Array, hessian: Array, gradient: Array, by_focal: Array,
            of_focal: Array, depth_by_pose: Array, depth_by_focal: Array, depth_hessian: Array,
            depth_gradient: Array, inverse_depths: Array, damping: float, sigma: float, size: int,
            focal_free: bool) -> tuple[Array, Array, Array]:
    """
    Damp the normal equations, and eliminate the inverse depths.

    See `normal_equations` for the other arguments.

    :param ends: (K,) of the keyframes' landmarks
    :param columns: (P, 2) where the poses of the pairs' anchors and observers begin; -1 where they
        are fixed
    :param sigma: pixels, standard deviation that the costs are stated for
    :param size: N, of the unknowns: the poses and, where it is unknown, the focal length, the last
    :return: matrix (N, N) and gradient (N,); reciprocals (L,) of the depths' damped Hessian, 0 for
        those that do not move
    """
    X, out, inverse = np.zeros((size, size)), np.zeros(size), np.zeros(len(depth_hessian))
    if focal_free:
        X[-1, -1], out[-1] = of_focal
    for n in range(len(inverse)):
        if depth_hessian[n] > 0:
            # Depths without parallax must not follow noise: a proximal term damps them
            proximal = (sigma / max(inverse_depths[n], 1e-12)) ** 2
            inverse[n] = 1 / (depth_hessian[n] * (1 + damping) + proximal)
        if focal_free:
            X[-1, -1] -= inverse[n] * depth_by_focal[n] ** 2
            out[-1] -= inverse[n] * depth_by_focal[n] * depth_gradient[n]
    for k in range(len(ends)):
        p, count = first_pair[k], first_pair[k + 1] - first_pair[k]
        if count == 0:
            continue
        H, g, f = np.zeros((count, count, 6, 6)), np.empty((count, 6)), np.empty((count, 6))
        for i in range(count):
            for a in range(6):
                g[i, a], f[i, a] = gradient[p + i, a], by_focal[p + i, a]
                for b in range(a + 1):
                    H[i, i, a, b] = (1.0 if b < a else 0.5) * hessian[p + i, a, b]
        _eliminate(first, pair, 0 if k == 0 else ends[k - 1], ends[k], p, columns, depth_by_pose,
                   depth_by_focal, inverse, depth_gradient, H, g, f, focal_free)
        for i in range(count):
            for j in range(i + 1):
                for a in range(6):
                    for b in range(6 if j < i else a + 1):
                        H[i, j, a, b] += H[j, i, b, a]
                        H[j, i, b, a] = H[i, j, a, b]
        _add(X, out, columns[p, 0], columns[p:p + count, 1], relative[p:p + count], H, g, f,
             focal_free)
    if focal_free:
        for i in range(size):
            X[i, -1] = X[-1, i]
    for i in range(size):
        X[i, i] += damping * max(X[i, i], 1e-9) + 1e-9
    return X, out, inverse


@compiled('f8[::1](f8[:,::1], f8[::1])')
def solved(A: Array, b: Array) -> Array:
    """
    Solve A x = b by Cholesky's decomposition A = R^T R; rows of R end at their last entry.

    :param A: (N, N) positive definite, with eigenvalues of 1e-9 and more; overwritten, as b is
    :param b: (N,)
    """
    end = np.empty(len(b), np.int64)
    for i in range(len(b)):
        end[i] = len(b)
        while A[i, end[i] - 1] == 0 and end[i] > i + 1:
            end[i] -= 1
        row = A[i]
        for k in range(i):
            above, factor = A[k], A[k, i]
            if factor != 0:
                end[i] = max(end[i], end[k])
                b[i] -= factor * b[k]
                for j in range(i, end[k]):
                    row[j] -= factor * above[j]
        # Rounding may leave less of a direction that nothing constrains
        scale = 1 / np.sqrt(max(row[i], 1e-9))
        b[i] *= scale
        for j in range(i, end[i]):
            row[j] *= scale
    for i in range(len(b) - 1, -1, -1):
        for j in range(i + 1, end[i]):
            b[i] -= A[i, j] * b[j]
        b[i] /= A[i, i]
    return b


@compiled()
def _steps_of_pairs(columns: Integers, relative: Array, step: Array) -> Array:
    """Return the steps xi (P, 6) of the pairs, see the module's description."""
    out, twist = np.zeros((len(columns), 6)), np.empty(6)
    for p in range(len(columns)):
        a, b = columns[p, 0], columns[p, 1]
        if b >= 0:
            _add_row(out[p], 0, step[b:b + 6], 1.0)
        if a >= 0:
            T = relative[p]
            for i in range(3):
                twist[i] = T[i, 0] * step[a] + T[i, 1] * step[a + 1] + T[i, 2] * step[a + 2]
                twist[3 + i] = T[i, 0] * step[a + 3] + T[i, 1] * step[a + 4]
                twist[3 + i] += T[i, 2] * step[a + 5]
            twist[3] += T[1, 3] * twist[2] - T[2, 3] * twist[1]
            twist[4] += T[2, 3] * twist[0] - T[0, 3] * twist[2]
            twist[5] += T[0, 3] * twist[1] - T[1, 3] * twist[0]
            _add_row(out[p], 0, twist, -1.0)
    return out


@compiled('Tuple((f8[:,:,::1], f8[::1]))(i8[::1], i8[::1], i8[:,::1], f8[:,:,::1], f8[:,::1], '
          'f8[::1], f8[::1], f8[::1], f8[::1], i8[::1], f8[:,:,::1], f8[::1], f8, b1)')
def moved(first: Integers, pair: Integers, columns: Integers, relative: Array,
          depth_by_pose: Array, depth_by_focal: Array, inverse: Array, depth_gradient: Array,
          step: Array, begin: Integers, T_cam_map: Array, inverse_depths: Array, least: float,
          focal_free: bool) -> tuple[Array, Array]:
    """
    Apply a step of the poses and the focal length, and that of the inverse depths it implies.

    No depth crosses infinity or is more than tripled. See `reduced` for the other arguments.

    :param inverse: (L,) from `reduced`
    :param step: (N,)
    :param begin: (K,) where the keyframes' poses begin in it; -1 where they are fixed
    :param least: inverse depth
    :return: poses (K, 4, 4), and inverse depths (L,), 0 where they are unknown
    """
    poses, depths = T_cam_map.copy(), np.zeros(len(inverse))
    for k in range(len(begin)):
        if begin[k] >= 0:
            poses[k] = renormalised(left_update(step[begin[k]:begin[k] + 6], T_cam_map[k]))
    xi = _steps_of_pairs(columns, relative, step)
    for n in range(len(inverse)):
        rho = inverse_depths[n]
        if not rho > 0:
            continue
        total = depth_gradient[n]
        for m in range(first[n], first[n + 1]):
            for a in range(6):
                total += depth_by_pose[m, a] * xi[pair[m], a]
        if focal_free:
            total += depth_by_focal[n] * step[-1]
        depths[n] = max(min(max(rho - inverse[n] * total, rho / 3), rho * 3), least)
    return poses, depths
