# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Joint refinement of keyframe poses and the inverse depths of their keypoints by reprojection.

Each landmark is a pixel of its anchor keyframe with an inverse depth (Civera et al., T-RO 2008), seen
in other keyframes where the predictor's correspondence field says. As every depth belongs to one
anchor, eliminating the depths (Schur complement; Triggs et al., 'Bundle Adjustment', section 6)
costs one small matrix product per anchor. MASt3R-SfM (Duisterhof et al. 2024, section 4.2) refines
its coarse 3-D alignment in the same way.

Poses are `T_cam_map`, perturbed on the left: exp(xi) T, xi = [omega, v].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recon3r_ros.geometry import se3

Array = NDArray[np.float64]

#: Residuals beyond a few pixels count ever less (Cauchy's kernel), but never at a finer scale
#: than matching can deliver, pixels of the pointmap grid
_FINEST_SIGMA = 0.1
#: nor at a coarser one than it ever needs: were the scale to follow the residuals, one bad keyframe
#: would loosen all the good ones
_COARSEST_SIGMA = 0.5
_CAUCHY_SIGMAS = 2.5
_OUTLIER_SIGMAS = 4.0
_INITIAL_DAMPING = 1e-4
_MAX_DAMPING = 1e4
#: The kernel of the first iterations is this much wider, since the start is coarse
_COARSE_SIGMAS = 4.0
_MIN_HEIGHT = 1e-3
#: Smallest inverse depth relative to the anchor's median: beyond, points are as good as infinite
_FARTHEST = 1e-3
_CONVERGED = 1e-4


@dataclass(frozen=True, eq=False)
class Observations:
    """
    Where landmarks of one keyframe are seen in another.

    :param anchor: index of the keyframe the landmarks belong to
    :param observer: index of the keyframe that sees them
    :param landmarks: (n,) indices into the anchor's landmarks, no two alike
    :param targets: (n, 2) pixels in the observer
    :param weights: (n,) relative weights, at most 1
    """

    anchor: int
    observer: int
    landmarks: NDArray[np.int64]
    targets: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class Problem:
    """
    A bundle adjustment.

    :param T_cam_map: (K, 4, 4) initial poses
    :param fixed: (K,) poses that must not move; at least one
    :param intrinsics: (K, 4) fx fy cx cy
    :param pixels: per keyframe, its landmarks' pixels (L, 2)
    :param inverse_depths: per keyframe, their initial inverse depths (L,); 0 where unknown, which
        no observation may refer to
    :param observations: who sees what
    :param focal_prior: mean and standard deviation of the logarithm of a factor common to all focal
        lengths; None where they are known
    """

    T_cam_map: Array
    fixed: NDArray[np.bool_]
    intrinsics: Array
    pixels: tuple[Array, ...]
    inverse_depths: tuple[Array, ...]
    observations: tuple[Observations, ...]
    focal_prior: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Solution:
    """
    The refined poses and depths.

    :param T_cam_map: (K, 4, 4)
    :param inverse_depths: per keyframe (L,)
    :param focal_factor: what all focal lengths are to be multiplied by
    :param sigma: robust standard deviation of the residuals, pixels
    :param inliers: per entry of `Problem.observations`, (n,) whether it agrees with the rest
    :param information: per keyframe (L,), inverse variance of its landmarks' relative depths
    """

    T_cam_map: Array
    inverse_depths: tuple[Array, ...]
    focal_factor: float
    sigma: float
    inliers: tuple[NDArray[np.bool_], ...]
    information: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class _State:
    T_cam_map: Array
    inverse_depths: tuple[Array, ...]
    log_focal: float


@dataclass(frozen=True, eq=False)
class _Linearised:
    """Residuals (n, 2) of one set of observations and their Jacobians."""

    residual: Array
    by_observer: Array
    by_anchor: Array
    by_depth: Array
    by_focal: Array


def solve(problem: Problem, iterations: int = 10) -> Solution:
    """Levenberg-Marquardt with iteratively re-weighted residuals."""
    state = _State(problem.T_cam_map, problem.inverse_depths, 0.0)
    damping = _INITIAL_DAMPING
    linear = [_linearise(problem, state, o) for o in problem.observations]
    for iteration in range(iterations):
        coarse = _COARSE_SIGMAS if iteration < 2 else 1.0
        scale = _CAUCHY_SIGMAS * coarse * _noise(linear)
        weights = [_cauchy(o, li.residual, scale) for o, li in
                   zip(problem.observations, linear)]
        cost = _cost(problem, linear, state, scale)
        while damping < _MAX_DAMPING:
            candidate = _step(problem, state, linear, weights, damping)
            new_linear = [_linearise(problem, candidate, o) for o in problem.observations]
            new_cost = _cost(problem, new_linear, candidate, scale)
            if new_cost <= cost:
                break
            damping *= 10
        else:
            break
        state, linear, damping = candidate, new_linear, max(damping / 10, 1e-8)
        if iteration >= 2 and cost - new_cost < _CONVERGED * cost:
            break
    sigma = _robust_sigma(linear)
    if problem.fixed.sum() == 1:
        state = _keep_scale(problem, state)
    noise = _noise(linear)
    inliers = tuple(np.linalg.norm(li.residual, axis=1) < _OUTLIER_SIGMAS * noise for li in linear)
    information = [np.zeros(len(d)) for d in state.inverse_depths]
    for o, li, good in zip(problem.observations, linear, inliers):
        relative = np.sum(li.by_depth ** 2, axis=1) * state.inverse_depths[o.anchor][
            o.landmarks] ** 2
        information[o.anchor][o.landmarks] += good * relative / noise ** 2
    return Solution(state.T_cam_map, state.inverse_depths, float(np.exp(state.log_focal)), sigma,
                    inliers, tuple(information))


def _keep_scale(problem: Problem, state: _State) -> _State:
    """Undo the drift of a scale that nothing determines: the depths keep their median."""
    before = np.concatenate(problem.inverse_depths)
    known = before > 0
    ratio = float(np.median(np.concatenate(state.inverse_depths)[known] / before[known]))
    anchor = se3.inverse(problem.T_cam_map[np.flatnonzero(problem.fixed)[0]])
    relative = state.T_cam_map @ anchor
    relative[:, :3, 3] *= ratio
    return _State(relative @ se3.inverse(anchor), tuple(d / ratio for d in state.inverse_depths),
                  state.log_focal)


def _robust_sigma(linear: list[_Linearised]) -> float:
    """Standard deviation per axis, from the median length of a two-dimensional Gaussian."""
    lengths = np.concatenate([np.linalg.norm(li.residual, axis=1) for li in linear])
    return float(np.median(lengths)) / 1.1774


def _noise(linear: list[_Linearised]) -> float:
    """Standard deviation of good matches: that of the residuals, within what is plausible."""
    return float(np.clip(_robust_sigma(linear), _FINEST_SIGMA, _COARSEST_SIGMA))


def _cauchy(observations: Observations, residual: Array, scale: float) -> Array:
    return observations.weights / (1 + np.sum(residual ** 2, axis=1) / scale ** 2)


def _cost(problem: Problem, linear: list[_Linearised], state: _State, scale: float) -> float:
    total = sum(float(np.sum(o.weights * np.log1p(np.sum(li.residual ** 2, axis=1) / scale ** 2)))
                for o, li in zip(problem.observations, linear)) * scale ** 2
    if problem.focal_prior is not None:
        mean, sigma = problem.focal_prior
        total += _FINEST_SIGMA ** 2 / sigma ** 2 * (state.log_focal - mean) ** 2
    return total


def _linearise(problem: Problem, state: _State, o: Observations) -> _Linearised:
    factor = np.exp(state.log_focal)
    fx, fy, cx, cy = problem.intrinsics[o.anchor] * [factor, factor, 1, 1]
    pixels = problem.pixels[o.anchor][o.landmarks]
    rho = state.inverse_depths[o.anchor][o.landmarks]
    rays = np.column_stack([(pixels[:, 0] - cx) / fx, (pixels[:, 1] - cy) / fy, np.ones(len(rho))])
    T = state.T_cam_map[o.observer] @ se3.inverse(state.T_cam_map[o.anchor])
    rotation, translation = T[:3, :3], T[:3, 3]
    h = rays @ rotation.T + rho[:, None] * translation
    height = np.maximum(h[:, 2], _MIN_HEIGHT)
    fx, fy, cx, cy = problem.intrinsics[o.observer] * [factor, factor, 1, 1]
    x, y = h[:, 0] / height, h[:, 1] / height
    projected = np.column_stack([fx * x, fy * y])
    by_h = np.zeros((len(rho), 2, 3))
    by_h[:, 0, 0], by_h[:, 0, 2] = fx / height, -fx * x / height
    by_h[:, 1, 1], by_h[:, 1, 2] = fy / height, -fy * y / height
    # d h = omega x h + rho v for the observer, -R (omega x ray + rho v) for the anchor
    by_observer = np.concatenate([-by_h @ se3.hat(h), by_h * rho[:, None, None]], axis=2)
    turned = by_h @ rotation
    by_anchor = np.concatenate([turned @ se3.hat(rays), -turned * rho[:, None, None]], axis=2)
    flat = rays * [-1.0, -1.0, 0.0]
    return _Linearised(
        projected + [cx, cy] - o.targets, by_observer, by_anchor, by_h @ translation,
        np.einsum('nij,nj->ni', turned, flat) + projected)


def _step(problem: Problem, state: _State, linear: list[_Linearised], weights: list[Array],
          damping: float) -> _State:
    count = len(state.T_cam_map)
    size = 6 * count + 1
    focal = size - 1
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    depth_hessian = [np.zeros(len(d)) for d in state.inverse_depths]
    depth_gradient = [np.zeros(len(d)) for d in state.inverse_depths]
    coupling: list[dict[int, Array]] = [{} for _ in range(count)]
    for o, li, w in zip(problem.observations, linear, weights):
        columns = np.r_[6 * o.observer:6 * o.observer + 6, 6 * o.anchor:6 * o.anchor + 6, focal]
        jacobian = np.concatenate([li.by_observer, li.by_anchor, li.by_focal[..., None]], axis=2)
        weighted = jacobian * w[:, None, None]
        flat, flat_weighted = jacobian.reshape(-1, 13), weighted.reshape(-1, 13)
        hessian[np.ix_(columns, columns)] += flat_weighted.T @ flat
        gradient[columns] += flat_weighted.T @ li.residual.ravel()
        depth_hessian[o.anchor][o.landmarks] += w * np.sum(li.by_depth ** 2, axis=1)
        depth_gradient[o.anchor][o.landmarks] += w * np.sum(li.by_depth * li.residual, axis=1)
        cross = np.einsum('nij,ni->nj', weighted, li.by_depth)
        blocks = coupling[o.anchor]
        for key, part in ((o.observer, cross[:, :6]), (o.anchor, cross[:, 6:12]),
                          (count, cross[:, 12:])):
            if key not in blocks:
                blocks[key] = np.zeros((len(depth_hessian[o.anchor]), part.shape[1]))
            blocks[key][o.landmarks] += part
    free = np.append(np.repeat(~problem.fixed, 6), problem.focal_prior is not None)
    if problem.focal_prior is not None:
        mean, sigma = problem.focal_prior
        # The prior is stated for residuals of unit variance
        hessian[focal, focal] += _FINEST_SIGMA ** 2 / sigma ** 2
        gradient[focal] += _FINEST_SIGMA ** 2 / sigma ** 2 * (state.log_focal - mean)
    inverse_diagonal = []
    for anchor, blocks in enumerate(coupling):
        # Depths without parallax must not be thrown about by noise: a proximal term holds them
        proximal = (_FINEST_SIGMA / np.maximum(state.inverse_depths[anchor], 1e-12)) ** 2
        diagonal = depth_hessian[anchor] * (1 + damping) + proximal
        movable = depth_hessian[anchor] > 0
        inverse = np.where(movable, 1 / np.maximum(diagonal, 1e-12), 0.0)
        inverse_diagonal.append(inverse)
        if not blocks:
            continue
        columns = np.concatenate([np.arange(6 * k, 6 * k + b.shape[1]) for k, b in blocks.items()])
        stacked = np.hstack(list(blocks.values()))
        scaled = stacked * inverse[:, None]
        hessian[np.ix_(columns, columns)] -= stacked.T @ scaled
        gradient[columns] -= scaled.T @ depth_gradient[anchor]
    reduced = hessian[np.ix_(free, free)]
    diagonal = np.maximum(np.diag(reduced), 1e-9)
    step = np.zeros(size)
    step[free] = np.linalg.solve(reduced + np.diag(damping * diagonal + 1e-9), -gradient[free])
    depths = []
    for anchor, blocks in enumerate(coupling):
        change = depth_gradient[anchor].copy()
        for key, block in blocks.items():
            change += block @ step[6 * key:6 * key + block.shape[1]]
        depths.append(_moved_depths(state.inverse_depths[anchor],
                                    -inverse_diagonal[anchor] * change))
    poses = se3.normalized(se3.exp(step[:focal].reshape(count, 6)) @ state.T_cam_map)
    return _State(poses, tuple(depths), state.log_focal + step[focal])


def _moved_depths(inverse_depths: Array, change: Array) -> Array:
    """Apply a step that never crosses infinity and never more than triples a depth."""
    known = inverse_depths > 0
    if not known.any():
        return inverse_depths
    floor = _FARTHEST * float(np.median(inverse_depths[known]))
    moved = np.clip(inverse_depths + change, inverse_depths / 3, inverse_depths * 3)
    return np.where(known, np.maximum(moved, floor), 0.0)
