# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Rotations and rigid motions as matrices: SO(3) and SE(3).

All functions work on any number of leading axes. A tangent vector is [omega, v], rotation first as
in GTSAM's Pose3, in radians and metres; perturbations are applied on the left, `exp(xi) @ T`.
Formulae: Eade, "Lie groups for 2D and 3D transformations", sections 2 and 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from recon3r_ros.errors import GeometryError

Array = NDArray[np.float64]

_SMALL_ANGLE = 1e-2  # below it the Taylor series of the coefficients is exact to rounding


def as_array(values: ArrayLike, tail: tuple[int | None, ...], name: str) -> Array:
    """
    Convert to float64 and check the trailing axes.

    :param values: anything array-like
    :param tail: expected trailing shape; None accepts any length
    :param name: what to call the argument in the error
    :returns: the array, float64
    :raises GeometryError: if the shape does not end in `tail`
    """
    array = np.asarray(values, dtype=np.float64)
    got = array.shape[max(array.ndim - len(tail), 0):]
    if len(got) != len(tail) or any(w is not None and g != w for g, w in zip(got, tail)):
        wanted = ', '.join('N' if w is None else str(w) for w in tail)
        raise GeometryError(f'{name}: got shape {array.shape}, expected (..., {wanted})')
    return array


def hat(w: ArrayLike) -> Array:
    """
    Skew-symmetric matrix of a vector, whose product with p is w x p.

    :param w: vectors (..., 3)
    :returns: matrices (..., 3, 3)
    """
    w = as_array(w, (3,), 'w')
    out = np.zeros((*w.shape, 3))
    out[..., 0, 1], out[..., 0, 2] = -w[..., 2], w[..., 1]
    out[..., 1, 0], out[..., 1, 2] = w[..., 2], -w[..., 0]
    out[..., 2, 0], out[..., 2, 1] = -w[..., 1], w[..., 0]
    return out


def so3_exp(w: ArrayLike) -> Array:
    """
    Rotation of |w| radians about w (Rodrigues).

    :param w: rotation vectors (..., 3), radians
    :returns: rotations (..., 3, 3)
    """
    w = as_array(w, (3,), 'w')
    theta = np.linalg.norm(w, axis=-1)[..., None, None]
    skew = hat(w)
    # sin(t)/t and (1 - cos(t))/t^2 written with sinc, which is exact at zero
    a = np.sinc(theta / np.pi)
    b = 0.5 * np.sinc(theta / (2 * np.pi)) ** 2
    return np.asarray(np.eye(3) + a * skew + b * (skew @ skew))


def so3_log(R: ArrayLike) -> Array:
    """
    Rotation vector of a rotation, at most pi long; the inverse of `so3_exp`.

    Goes through the unit quaternion, so that it keeps full precision near 0 and near pi.

    :param R: rotations (..., 3, 3)
    :returns: rotation vectors (..., 3), radians
    """
    quat_xyzw = quat_xyzw_from_matrix(R)
    vector, scalar = quat_xyzw[..., :3], quat_xyzw[..., 3:]
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    safe = np.where(length > 1e-9, length, 1.0)
    factor = np.where(length > 1e-9, 2 * np.arctan2(length, scalar) / safe, 2.0)
    return np.asarray(factor * vector)


def rotation_angle(R: ArrayLike) -> Array:
    """
    Angle of a rotation.

    :param R: rotations (..., 3, 3)
    :returns: angles (...), radians in [0, pi]
    """
    quat_xyzw = quat_xyzw_from_matrix(R)
    return np.asarray(2 * np.arctan2(np.linalg.norm(quat_xyzw[..., :3], axis=-1),
                                     quat_xyzw[..., 3]))


def quat_xyzw_from_matrix(R: ArrayLike) -> Array:
    """
    Convert a rotation to its unit quaternion with w >= 0.

    Shepperd's method: of the four rows of 4 q q^T, which are linear in R, take the one with the
    largest diagonal element; it never cancels.

    :param R: rotations (..., 3, 3)
    :returns: quaternions (..., 4), order x y z w
    """
    R = as_array(R, (3, 3), 'R')
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    outer = np.empty((*R.shape[:-2], 4, 4))
    outer[..., 0, 0] = 1 + xx - yy - zz
    outer[..., 1, 1] = 1 - xx + yy - zz
    outer[..., 2, 2] = 1 - xx - yy + zz
    outer[..., 3, 3] = 1 + xx + yy + zz
    for i, j in ((0, 1), (0, 2), (1, 2)):
        outer[..., i, j] = outer[..., j, i] = R[..., i, j] + R[..., j, i]
    for i, (j, k) in enumerate(((2, 1), (0, 2), (1, 0))):
        outer[..., i, 3] = outer[..., 3, i] = R[..., j, k] - R[..., k, j]
    best = np.argmax(np.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    row = np.take_along_axis(outer, best[..., None, None], axis=-2)[..., 0, :]
    row = row / np.linalg.norm(row, axis=-1, keepdims=True)
    return np.asarray(np.where(row[..., 3:] < 0, -row, row))


def matrix_from_quat_xyzw(q: ArrayLike) -> Array:
    """
    Rotation of a quaternion, which need not be of unit length.

    :param q: quaternions (..., 4), order x y z w
    :returns: rotations (..., 3, 3)
    :raises GeometryError: if a quaternion is zero or not finite
    """
    q = as_array(q, (4,), 'quat_xyzw')
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if not np.all(np.isfinite(norm) & (norm > 1e-12)):
        raise GeometryError(f'quat_xyzw: got length {np.ravel(norm)[:4]}, expected non-zero')
    unit = q / norm
    skew = hat(unit[..., :3])
    return np.asarray(np.eye(3) + 2 * unit[..., 3, None, None] * skew + 2 * (skew @ skew))


def from_rt(R: ArrayLike, t: ArrayLike) -> Array:
    """
    Rigid motion from its rotation and translation.

    :param R: rotations (..., 3, 3)
    :param t: translations (..., 3), metres
    :returns: transforms (..., 4, 4)
    """
    R, t = as_array(R, (3, 3), 'R'), as_array(t, (3,), 't')
    T = np.zeros((*np.broadcast_shapes(R.shape[:-2], t.shape[:-1]), 4, 4))
    T[..., :3, :3] = R
    T[..., :3, 3] = t
    T[..., 3, 3] = 1.0
    return T


def exp(xi: ArrayLike) -> Array:
    """
    Exponential map of SE(3).

    :param xi: tangent vectors (..., 6), [omega, v], radians and metres
    :returns: transforms (..., 4, 4)
    """
    xi = as_array(xi, (6,), 'xi')
    w, v = xi[..., :3], xi[..., 3:]
    theta = np.linalg.norm(w, axis=-1)[..., None, None]
    skew = hat(w)
    skew2 = skew @ skew
    a, b = np.sinc(theta / np.pi), 0.5 * np.sinc(theta / (2 * np.pi)) ** 2
    small = theta < _SMALL_ANGLE
    safe = np.where(small, 1.0, theta)
    # (t - sin t) / t^3
    c = np.where(small, 1 / 6 - theta**2 / 120 + theta**4 / 5040, (safe - np.sin(safe)) / safe**3)
    V = np.eye(3) + b * skew + c * skew2
    return from_rt(np.eye(3) + a * skew + b * skew2, (V @ v[..., None])[..., 0])


def log(T: ArrayLike) -> Array:
    """
    Logarithm of SE(3); the rotation part is at most pi long.

    :param T: transforms (..., 4, 4)
    :returns: tangent vectors (..., 6), [omega, v]
    """
    T = as_array(T, (4, 4), 'T')
    w = so3_log(T[..., :3, :3])
    theta = np.linalg.norm(w, axis=-1)[..., None, None]
    skew = hat(w)
    small = theta < _SMALL_ANGLE
    half = np.where(small, 1.0, theta) / 2
    # (1 - (t/2) cot(t/2)) / t^2
    d = np.where(small, 1 / 12 + theta**2 / 720 + theta**4 / 30240,
                 (1 - half / np.tan(half)) / (4 * half**2))
    V_inverse = np.eye(3) - 0.5 * skew + d * (skew @ skew)
    return np.concatenate([w, (V_inverse @ T[..., :3, 3:])[..., 0]], axis=-1)


def adjoint(T: ArrayLike) -> Array:
    """
    Adjoint of a rigid motion: T exp(xi) = exp(Ad xi) T (Eade, 'Lie groups', section 3).

    :param T: (4, 4)
    :returns: (6, 6), for tangent vectors [omega, v]
    """
    T = as_array(T, (4, 4), 'T')
    out = np.zeros((6, 6))
    out[:3, :3] = out[3:, 3:] = T[:3, :3]
    out[3:, :3] = hat(T[:3, 3]) @ T[:3, :3]
    return out


def normalized(T: ArrayLike) -> Array:
    """
    Nearest rigid motion: restores a proper rotation after rounding errors.

    `inverse` transposes the rotation, so that in a long chain of inverses and products an error in
    its orthogonality doubles at every step and finally corrupts the pose.

    :param T: transforms (..., 4, 4), nearly rigid
    :returns: transforms (..., 4, 4)
    """
    T = as_array(T, (4, 4), 'T')
    u, _, vt = np.linalg.svd(T[..., :3, :3])
    flip = np.ones((*T.shape[:-2], 1, 3))
    flip[..., 0, 2] = np.linalg.det(u @ vt)
    return from_rt((u * flip) @ vt, T[..., :3, 3])


def inverse(T: ArrayLike) -> Array:
    """
    Inverse of a rigid motion: `inverse(T_a_b)` is T_b_a.

    :param T: transforms (..., 4, 4)
    :returns: transforms (..., 4, 4)
    """
    T = as_array(T, (4, 4), 'T')
    R_inverse = np.swapaxes(T[..., :3, :3], -1, -2)
    return from_rt(R_inverse, -(R_inverse @ T[..., :3, 3:])[..., 0])


def stretched(T: ArrayLike, factor: float) -> Array:
    """
    Change the unit of length of a rigid motion.

    :param T: (..., 4, 4)
    :param factor: new units per old unit
    :return: (..., 4, 4), the translation scaled
    """
    out = np.array(T, dtype=np.float64)
    out[..., :3, 3] *= factor
    return out


def transform(T: ArrayLike, points: ArrayLike) -> Array:
    """
    Map points of frame b to frame a, given T_a_b.

    :param T: transforms (..., 4, 4), rigid or similarity
    :param points: points (..., N, 3), metres; leading axes broadcast with those of T
    :returns: points (..., N, 3)
    """
    T, points = as_array(T, (4, 4), 'T'), as_array(points, (None, 3), 'points')
    return np.asarray(points @ np.swapaxes(T[..., :3, :3], -1, -2) + T[..., None, :3, 3])
