# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Rigid motions and small linear systems for compiled loops; `se3` has the same for everything else.

Nothing is checked, and nothing is validated: arguments are contiguous arrays of float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled

Array = NDArray[np.float64]


@compiled()
def transform(T: Array, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Transform a point by T (4, 4)."""
    return (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3],
            T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3],
            T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3])


@compiled()
def left_update(xi: Array, T: Array) -> Array:
    """Return exp(xi) T, with xi = [omega, v] as in `se3.exp`."""
    wx, wy, wz = xi[0], xi[1], xi[2]
    squared = wx * wx + wy * wy + wz * wz
    theta = np.sqrt(squared)
    if theta < 1e-4:
        a, b, c = 1 - squared / 6, 0.5 - squared / 24, 1 / 6 - squared / 120
    else:
        a = np.sin(theta) / theta
        b = 2 * (np.sin(theta / 2) / theta) ** 2
        c = (1 - a) / squared
    # Rodrigues: R = I + a W + b W^2, V = I + b W + c W^2
    W = np.array([[0.0, -wz, wy], [wz, 0.0, -wx], [-wy, wx, 0.0]])
    R, V = np.empty((3, 3)), np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            square = W[i, 0] * W[0, j] + W[i, 1] * W[1, j] + W[i, 2] * W[2, j]
            unit = 1.0 if i == j else 0.0
            R[i, j] = unit + a * W[i, j] + b * square
            V[i, j] = unit + b * W[i, j] + c * square
    out = np.zeros((4, 4))
    for i in range(3):
        for j in range(4):
            out[i, j] = R[i, 0] * T[0, j] + R[i, 1] * T[1, j] + R[i, 2] * T[2, j]
        out[i, 3] += V[i, 0] * xi[3] + V[i, 1] * xi[4] + V[i, 2] * xi[5]
    out[3, 3] = 1.0
    return out


@compiled()
def renormalised(T: Array) -> Array:
    """
    Nearest rigid motion to T (4, 4), whose rotation is one but for rounding errors.

    One iteration of Newton and Schulz's for the polar factor, R (3 I - R^T R) / 2; its error is
    the square of R's.
    """
    out = T.copy()
    for i in range(3):
        for j in range(3):
            out[i, j] = 1.5 * T[i, j]
            for k in range(3):
                out[i, j] -= 0.5 * T[i, k] * (
                    T[0, k] * T[0, j] + T[1, k] * T[1, j] + T[2, k] * T[2, j])
    return out


@compiled()
def damped_step(H: Array, g: Array, damping: float) -> Array:
    """
    Solve (H + D) x = -g by Cholesky's decomposition.

    D is Marquardt's scaling, `damping` times the diagonal of H, with a floor for directions that
    nothing constrains.

    :param H: (N, N) positive semidefinite
    :param g: (N,)
    """
    size = len(g)
    trace = 0.0
    for i in range(size):
        trace += H[i, i]
    L, x = np.zeros((size, size)), np.empty(size)
    for i in range(size):
        for j in range(i + 1):
            total = H[i, j]
            if i == j:
                total += damping * H[i, i] + 1e-12 * trace + 1e-300
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                # Rounding may leave nothing of a direction that nothing constrains
                L[i, i] = np.sqrt(max(total, 1e-12 * trace + 1e-300))
            else:
                L[i, j] = total / L[j, j]
    for i in range(size):
        total = -g[i]
        for k in range(i):
            total -= L[i, k] * x[k]
        x[i] = total / L[i, i]
    for i in range(size - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, size):
            total -= L[k, i] * x[k]
        x[i] = total / L[i, i]
    return x
