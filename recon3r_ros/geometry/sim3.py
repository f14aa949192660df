# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Similarity transforms: Sim(3) as matrices [[s R, t], [0, 1]].

In this form composition is the matrix product, and rigid motions are the case s = 1. All functions
work on any number of leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3

Array = NDArray[np.float64]


def compose(scale: ArrayLike, R: ArrayLike, t: ArrayLike) -> Array:
    """
    Similarity from its parts: x -> scale R x + t.

    :param scale: scales (...), > 0
    :param R: rotations (..., 3, 3)
    :param t: translations (..., 3)
    :returns: similarities (..., 4, 4)
    :raises GeometryError: if a scale is not positive and finite
    """
    scale = np.asarray(scale, dtype=np.float64)
    if not np.all(np.isfinite(scale) & (scale > 0)):
        raise GeometryError(f'scale: got {np.ravel(scale)[:4]}, expected > 0 and finite')
    return se3.from_rt(scale[..., None, None] * se3.as_array(R, (3, 3), 'R'), t)


def decompose(S: ArrayLike) -> tuple[Array, Array, Array]:
    """
    Parts of a similarity; the inverse of `compose`.

    :param S: similarities (..., 4, 4)
    :returns: scales (...), rotations (..., 3, 3) and translations (..., 3)
    :raises GeometryError: if a scale is not positive and finite
    """
    S = se3.as_array(S, (4, 4), 'S')
    determinant = np.linalg.det(S[..., :3, :3])
    if not np.all(np.isfinite(determinant) & (determinant > 0)):
        raise GeometryError(f'S: got determinant {np.ravel(determinant)[:4]}, expected > 0')
    scale = np.cbrt(determinant)
    return scale, S[..., :3, :3] / scale[..., None, None], S[..., :3, 3].copy()


def inverse(S: ArrayLike) -> Array:
    """
    Inverse of a similarity: `inverse(S_a_b)` is S_b_a.

    :param S: similarities (..., 4, 4)
    :returns: similarities (..., 4, 4)
    :raises GeometryError: if a scale is not positive and finite
    """
    scale, R, t = decompose(S)
    R_inverse = np.swapaxes(R, -1, -2)
    t_inverse = -(R_inverse @ t[..., None])[..., 0] / scale[..., None]
    return compose(1 / scale, R_inverse, t_inverse)


def transform(S: ArrayLike, points: ArrayLike) -> Array:
    """
    Map points of frame b to frame a, given S_a_b.

    :param S: similarities (..., 4, 4)
    :param points: points (..., N, 3); leading axes broadcast with those of S
    :returns: points (..., N, 3)
    """
    return se3.transform(S, points)
