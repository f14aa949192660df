# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Similarity between two sets of corresponding points: closed form, and robust."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import sim3
from recon3r_ros.geometry.se3 import as_array

Array = NDArray[np.float64]

_COLLINEAR = 1e-9  # second over first singular value of the cross-covariance
_SCALE_SAMPLES = 8192  # points the residuals' scale is estimated from
_GAUSSIAN = 1.4826  # standard deviation over median absolute deviation
_KERNEL = 2.5  # 98 % efficiency on the lengths of Gaussian residuals in three dimensions
_NEAREST = 0.1  # least depth that residuals are divided by, as a share of the median depth


@dataclass(frozen=True)
class RobustAlignment:
    """
    Result of `robust_procrustes`.

    :param S_target_source: similarity (4, 4), maps source points to target points
    :param weights: (N,), the given weights times the robust kernel's: near zero for outliers
    :param sigma: scale of the inliers' residuals relative to depth, dimensionless
    """

    S_target_source: Array
    weights: Array
    sigma: float


def weighted_procrustes(
    source: ArrayLike, target: ArrayLike, weights: ArrayLike, with_scale: bool = True
) -> Array:
    """
    Similarity S that minimises sum_i w_i |target_i - S source_i|^2.

    Umeyama 1991, "Least-squares estimation of transformation parameters between two point
    patterns", eqs. 40-42, with weights; never a reflection.

    :param source: points (N, 3)
    :param target: points (N, 3)
    :param weights: (N,), >= 0
    :param with_scale: False for a rigid motion
    :returns: S_target_source (4, 4)
    :raises GeometryError: if a value is not finite, fewer than three points have a weight, or they
        are collinear
    """
    source, target, weights = _checked(source, target, weights)
    return _align(source, target, weights, with_scale, symmetric=False)


def robust_procrustes(
    source: ArrayLike,
    target: ArrayLike,
    weights: ArrayLike,
    iterations: int = 10,
    with_scale: bool = True,
) -> RobustAlignment:
    """
    Similarity between two pointmaps with outliers and errors that grow with depth.

    Iteratively reweighted least squares with the Geman-McClure kernel (a Cauchy kernel's outliers
    keep a constant influence on Horn's scale, which sums squares) on |target_i - S source_i| /
    depth_i where depth_i is the distance to the target frame's origin: the geometric mean of that
    of target_i and of S source_i, since the target's alone would favour points whose noise brought
    them near and so bias the scale. The kernel's scale is the weighted median absolute residual.
    The similarity's scale is Horn's symmetric one (1987, "Closed-form solution of absolute
    orientation using unit quaternions", "Symmetry in scale"): both sides are noisy, and a
    least-squares scale would shrink a little at every edge of a chain.

    :param source: points (N, 3)
    :param target: points (N, 3), in the frame of their camera
    :param weights: (N,), >= 0, e.g. the product of the confidences
    :param iterations: of reweighting
    :param with_scale: False for a rigid motion
    :returns: the similarity, final weights and residual scale
    :raises GeometryError: as `weighted_procrustes`
    """
    source, target, weights = _checked(source, target, weights)
    target_depth = _lengths(target)
    nearest = _NEAREST * max(float(np.median(target_depth[weights > 0])), 1e-300)
    S = _align(source, target, weights, with_scale, symmetric=True)
    kernel, sigma = np.ones_like(weights), 0.0
    for _ in range(iterations):
        predicted = sim3.transform(S, source)
        depth = np.maximum(np.sqrt(target_depth * _lengths(predicted)), nearest)
        residual = _lengths(target - predicted) / depth
        sigma = _GAUSSIAN * _weighted_median(residual, weights)
        # the floor is rounding: a perfect fit must not divide by zero
        kernel = 1 / (1 + (residual / (_KERNEL * max(sigma, 1e-12))) ** 2) ** 2
        factors = weights * kernel * (nearest / depth) ** 2
        previous, S = S, _align(source, target, factors, with_scale, symmetric=True)
        if np.abs(S - previous).max() <= 1e-8 * np.abs(S).max():
            break
    return RobustAlignment(S, weights * kernel, sigma)


def _checked(
    source: ArrayLike, target: ArrayLike, weights: ArrayLike
) -> tuple[Array, Array, Array]:
    source = as_array(source, (None, 3), 'source')
    target = as_array(target, (source.shape[-2], 3), 'target')
    weights = as_array(weights, (source.shape[-2],), 'weights')
    for name, array in (('source', source), ('target', target), ('weights', weights)):
        if array.ndim != (1 if name == 'weights' else 2):
            raise GeometryError(f'{name}: got shape {array.shape}, expected one set of points')
        if not np.isfinite(array).all():
            raise GeometryError(f'{name}: got values that are not finite, expected finite ones')
    if (weights < 0).any():
        raise GeometryError(f'weights: got {weights.min()}, expected >= 0')
    used = int(np.count_nonzero(weights))
    if used < 3:
        raise GeometryError(f'procrustes: got {used} points with a weight, expected at least 3')
    return source, target, weights


def _align(
    source: Array, target: Array, weights: Array, with_scale: bool, symmetric: bool
) -> Array:
    weights = weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    p, q = source - source_mean, target - target_mean
    covariance = (q * weights[:, None]).T @ p
    U, D, Vt = np.linalg.svd(covariance)
    rounding = 1e-15 * (1e-300 + np.abs(source).max() * np.abs(target).max())
    if D[1] <= max(_COLLINEAR * D[0], rounding):
        raise GeometryError(f'procrustes: got coincident or collinear points (singular values '
                            f'{D}), expected points that span a plane')
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    R = (U * signs) @ Vt
    scale = 1.0
    if with_scale:
        source_spread = float(weights @ np.einsum('ni,ni->n', p, p))
        target_spread = float(weights @ np.einsum('ni,ni->n', q, q))
        scale = (np.sqrt(target_spread / source_spread) if symmetric
                 else float(D @ signs) / source_spread)
    return sim3.compose(scale, R, target_mean - scale * (R @ source_mean))


def _lengths(vectors: Array) -> Array:
    """Norms, several times faster than `np.linalg.norm` over a short axis."""
    return np.asarray(np.sqrt(np.einsum('ni,ni->n', vectors, vectors)))


def _weighted_median(values: Array, weights: Array) -> float:
    stride = -(-len(values) // _SCALE_SAMPLES)
    if np.count_nonzero(weights[::stride]) >= 3:
        values, weights = values[::stride], weights[::stride]
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(total, 0.5 * total[-1])]])
