# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Exponential map and logarithm of Sim(3): small changes of similarities, for tests of several."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.sim3 import compose, decompose

Array = NDArray[np.float64]

_NODES = 24  # exact to rounding for |lambda + i theta| < 30


def exp(xi: ArrayLike) -> Array:
    """
    Exponential map of Sim(3).

    :param xi: tangent vectors (..., 7), [omega, v, lambda]
    :returns: similarities (..., 4, 4)
    """
    xi = se3.as_array(xi, (7,), 'xi')
    w, v, log_scale = xi[..., :3], xi[..., 3:6], xi[..., 6]
    t = (_translation_matrix(w, log_scale) @ v[..., None])[..., 0]
    return compose(np.exp(log_scale), se3.so3_exp(w), t)


def log(S: ArrayLike) -> Array:
    """
    Logarithm of Sim(3); the rotation part is at most pi long.

    :param S: similarities (..., 4, 4)
    :returns: tangent vectors (..., 7), [omega, v, lambda]
    """
    scale, R, t = decompose(S)
    w, log_scale = se3.so3_log(R), np.log(scale)
    v = np.linalg.solve(_translation_matrix(w, log_scale), t[..., None])[..., 0]
    return np.concatenate([w, v, log_scale[..., None]], axis=-1)


def _translation_matrix(w: Array, log_scale: Array) -> Array:
    """
    Matrix V with t = V v: the integral over u in [0, 1] of exp(u lambda) exp(u hat(omega)).

    Eade, "Lie groups for 2D and 3D transformations", section 6
    gives V = A I + B hat + C hat^2 in a closed form with a removable singularity at theta = 0, at
    lambda = 0 and at both. The integrals that define A, B and C have none; the integrands are
    entire, so that Gauss-Legendre quadrature evaluates them to rounding everywhere.

    :param w: rotation vectors (..., 3)
    :param log_scale: lambda (...)
    :returns: matrices (..., 3, 3)
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    u = (nodes + 1) / 2
    phase = np.linalg.norm(w, axis=-1)[..., None] * u / np.pi
    growth = np.exp(log_scale[..., None] * u) * (weights / 2)
    a = np.sum(growth, axis=-1)[..., None, None]
    b = np.sum(growth * u * np.sinc(phase), axis=-1)[..., None, None]
    c = np.sum(growth * 0.5 * (u * np.sinc(phase / 2)) ** 2, axis=-1)[..., None, None]
    skew = se3.hat(w)
    return np.asarray(a * np.eye(3) + b * skew + c * (skew @ skew))
