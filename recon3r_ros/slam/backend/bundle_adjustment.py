# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Joint refinement of keyframe poses and the inverse depths of their keypoints by reprojection.

Each landmark is a pixel of its anchor keyframe with an inverse depth (Civera et al., T-RO 2008),
observed in other keyframes by the predictor's correspondence field. As every depth belongs to
one anchor, eliminating the depths (Schur complement; Triggs et al., 'Bundle Adjustment', section
6) costs one small matrix product per anchor. MASt3R-SfM (Duisterhof et al. 2024, section 4.2)
refines its coarse 3-D alignment in the same way.

Poses are `T_cam_map`, perturbed on the left: exp(xi) T, xi = [omega, v].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3

Array = NDArray[np.float64]

#: Least scale of the Cauchy kernel, the precision of matching, pixels of the pointmap grid
_FINEST_SIGMA = 0.1
#: Greatest scale: if it followed the residuals, one bad keyframe would loosen all good ones
_COARSEST_SIGMA = 0.5
_CAUCHY_SIGMAS = 2.5
#: The same for depth priors
_PRIOR_SIGMAS = 2.5
_OUTLIER_SIGMAS = 4.0
_INITIAL_DAMPING = 1e-4
_MAX_DAMPING = 1e4
#: The kernel of the first iterations is this much wider, as initial values are coarse
_COARSE_SIGMAS = 4.0
_MIN_HEIGHT = 1e-3
#: Smallest inverse depth relative to the anchor's median: beyond, points are effectively at
#: infinity
_FARTHEST = 1e-3
_CONVERGED = 1e-3


@dataclass(frozen=True, eq=False)
class Observations:
    """
    Observations of one keyframe's landmarks in another.

    :param anchor: index of the keyframe the landmarks belong to
    :param observer: index of the keyframe that observes them
    :param landmarks: (n,) indices into the anchor's landmarks, without duplicates
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
    :param fixed: (K,) poses that are held fixed; at least one
    :param intrinsics: (K, 4) fx fy cx cy
    :param pixels: per keyframe, its landmarks' pixels (L, 2)
    :param inverse_depths: per keyframe, their initial inverse depths (L,); 0 where unknown, which
        no observation may refer to
    :param observations: of landmarks in other keyframes
    :param focal_prior: mean and standard deviation of the logarithm of a factor common to all
        focal lengths; None where they are known
    :param depth_priors: per keyframe, prior inverse depths (L,), and the inverse variances (L,) of
        these relative depths, 0 where there is none; None without priors
    """

    T_cam_map: Array
    fixed: NDArray[np.bool_]
    intrinsics: Array
    pixels: tuple[Array, ...]
    inverse_depths: tuple[Array, ...]
    observations: tuple[Observations, ...]
    focal_prior: tuple[float, float] | None = None
    depth_priors: tuple[tuple[Array, Array], ...] | None = None


@dataclass(frozen=True, eq=False)
class Solution:
    """
    The refined poses and depths.

    :param T_cam_map: (K, 4, 4)
    :param inverse_depths: per keyframe (L,)
    :param focal_factor: factor to multiply all focal lengths by
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
    inverse_depths: Array
    log_focal: float


@dataclass(frozen=True, eq=False)
class _Flat:
    """
    All observations (M,) concatenated, to be linearised at once.

    :param anchors: (M,) keyframes
    :param observers: (M,) keyframes
    :param landmarks: (M,) indices into all keyframes' landmarks (L,), concatenated
    :param pixels: (M, 2) of the landmarks in their anchors
    :param targets: (M, 2)
    :param weights: (M,)
    :param groups: per entry of `Problem.observations`, its slice of the observations
    :param spans: per keyframe, its slice of the landmarks
    :param prior: (L,) prior inverse depths
    :param prior_information: (L,) of these relative depths
    """

    anchors: NDArray[np.int64]
    observers: NDArray[np.int64]
    landmarks: NDArray[np.int64]
    pixels: Array
    targets: Array
    weights: Array
    groups: tuple[slice, ...]
    spans: tuple[slice, ...]
    prior: Array
    prior_information: Array


@dataclass(frozen=True, eq=False)
class _Linearised:
    """
    Residuals (M, 2) and their derivatives.

    :param squared: (M,) squared lengths of the residuals
    :param by_cameras: (M, 2, 13) by observer's and anchor's pose and the logarithm of the focal
        length
    :param by_depth: (M, 2)
    """

    residual: Array
    squared: Array
    by_cameras: Array
    by_depth: Array


def solve(problem: Problem, iterations: int = 8) -> Solution:
    """Levenberg-Marquardt with iteratively re-weighted residuals."""
    flat = _flatten(problem)
    state = _State(problem.T_cam_map, np.concatenate(problem.inverse_depths), 0.0)
    damping = _INITIAL_DAMPING
    linear = _linearise(problem, flat, state)
    for iteration in range(iterations):
        coarse = _COARSE_SIGMAS if iteration < 2 else 1.0
        scale = _CAUCHY_SIGMAS * coarse * _noise(linear)
        weights = flat.weights / (1 + linear.squared / scale ** 2)
        cost = _cost(problem, flat, linear, state, scale)
        while damping < _MAX_DAMPING:
            candidate = _step(problem, flat, state, linear, weights, damping)
            new_linear = _linearise(problem, flat, candidate)
            new_cost = _cost(problem, flat, new_linear, candidate, scale)
            if new_cost <= cost:
                break
            damping *= 10
        else:
            break
        state, linear, damping = candidate, new_linear, max(damping / 10, 1e-8)
        if iteration >= 2 and cost - new_cost < _CONVERGED * cost:
            break
    if problem.fixed.sum() == 1:
        state = _keep_scale(problem, flat, state)
    return _solution(flat, state, linear)


def _flatten(problem: Problem) -> _Flat:
    ends = np.cumsum([len(d) for d in problem.inverse_depths])
    starts = ends - [len(d) for d in problem.inverse_depths]
    observations = problem.observations
    sizes = [len(o.landmarks) for o in observations]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    priors = problem.depth_priors or [(np.ones(len(d)), np.zeros(len(d)))
                                      for d in problem.inverse_depths]
    return _Flat(
        np.repeat([o.anchor for o in observations], sizes).astype(np.int64),
        np.repeat([o.observer for o in observations], sizes).astype(np.int64),
        np.concatenate([o.landmarks + starts[o.anchor] for o in observations]),
        np.concatenate([problem.pixels[o.anchor][o.landmarks] for o in observations]),
        np.concatenate([o.targets for o in observations]),
        np.concatenate([o.weights for o in observations]),
        tuple(slice(a, b) for a, b in zip(offsets[:-1], offsets[1:])),
        tuple(slice(a, b) for a, b in zip(starts, ends)),
        np.concatenate([mean for mean, _ in priors]),
        np.concatenate([information for _, information in priors]))


def _solution(flat: _Flat, state: _State, linear: _Linearised) -> Solution:
    noise = _noise(linear)
    good = linear.squared < (_OUTLIER_SIGMAS * noise) ** 2
    rho = state.inverse_depths
    relative = np.sum(linear.by_depth ** 2, axis=1) * rho[flat.landmarks] ** 2
    information = _by_landmark(flat, good * relative / noise ** 2, len(rho))
    information += flat.prior_information / (1 + _prior_error(flat, state) / _PRIOR_SIGMAS ** 2)
    return Solution(
        state.T_cam_map, tuple(rho[s] for s in flat.spans), float(np.exp(state.log_focal)),
        _robust_sigma(linear), tuple(good[g] for g in flat.groups),
        tuple(information[s] for s in flat.spans))


def _by_landmark(flat: _Flat, values: Array, count: int) -> Array:
    """Sum the observations' values (M,) for each of `count` landmarks."""
    # NumPy's stubs do not know that weights make the counts float64
    return np.asarray(np.bincount(flat.landmarks, values, count), np.float64)


def _keep_scale(problem: Problem, flat: _Flat, state: _State) -> _State:
    """Fix the unobservable scale: the depths keep their median."""
    before = np.concatenate(problem.inverse_depths)
    seen = np.unique(flat.landmarks)
    ratio = float(np.median(state.inverse_depths[seen] / before[seen]))
    anchor = se3.inverse(problem.T_cam_map[np.flatnonzero(problem.fixed)[0]])
    relative = state.T_cam_map @ anchor
    relative[:, :3, 3] *= ratio
    return _State(relative @ se3.inverse(anchor), state.inverse_depths / ratio, state.log_focal)


def _robust_sigma(linear: _Linearised) -> float:
    """Return the standard deviation per axis, from the median length of a 2-D Gaussian."""
    return float(np.sqrt(np.median(linear.squared))) / 1.1774


def _noise(linear: _Linearised) -> float:
    """Return the inliers' standard deviation: the robust one, clipped to the plausible range."""
    return float(np.clip(_robust_sigma(linear), _FINEST_SIGMA, _COARSEST_SIGMA))


def _prior_error(flat: _Flat, state: _State) -> Array:
    """Squared distance (L,) of the depths from their priors, in standard deviations."""
    relative = state.inverse_depths / flat.prior - 1
    return np.asarray(flat.prior_information * relative ** 2 * (state.inverse_depths > 0))


def _cost(problem: Problem, flat: _Flat, linear: _Linearised, state: _State, scale: float
          ) -> float:
    total = scale ** 2 * float(flat.weights @ np.log1p(linear.squared / scale ** 2))
    if problem.focal_prior is not None:
        mean, sigma = problem.focal_prior
        total += _FINEST_SIGMA ** 2 / sigma ** 2 * (state.log_focal - mean) ** 2
    errors = _prior_error(flat, state)
    total += (_FINEST_SIGMA * _PRIOR_SIGMAS) ** 2 * float(
        np.log1p(errors / _PRIOR_SIGMAS ** 2).sum())
    return total


def _linearise(problem: Problem, flat: _Flat, state: _State) -> _Linearised:
    intrinsics = problem.intrinsics * np.array([1, 1, 0, 0]) * np.exp(state.log_focal)
    centres = problem.intrinsics[:, 2:]
    rays = np.ones((len(flat.landmarks), 3))
    rays[:, :2] = (flat.pixels - centres[flat.anchors]) / intrinsics[flat.anchors, :2]
    rho = state.inverse_depths[flat.landmarks, None]
    # One relative pose for each group of observations, not for each observation
    rotation, translation = np.empty((len(rho), 3, 3)), np.empty((len(rho), 3))
    from_anchor = se3.inverse(state.T_cam_map)
    for o, group in zip(problem.observations, flat.groups):
        T = state.T_cam_map[o.observer] @ from_anchor[o.anchor]
        rotation[group], translation[group] = T[:3, :3], T[:3, 3]
    turned_rays = (rotation @ rays[..., None])[..., 0]
    h = turned_rays + rho * translation
    height = np.maximum(h[:, 2], _MIN_HEIGHT)
    focal = intrinsics[flat.observers, :2]
    plane = h[:, :2] / height[:, None]
    projected = focal * plane
    # by_h (M, 2, 3) has only four entries: products with it are written out
    slope = focal / height[:, None]

    def by_h(v: Array) -> Array:
        """Return the derivative of the projection along directions (M, 3) of h."""
        return slope * (v[:, :2] - plane * v[:, 2:])

    by_cameras = np.empty((len(rho), 2, 13))
    basis = np.eye(3)
    for k in range(3):
        # d h = omega x h + rho v for the observer, -R (omega x ray + rho v) for the anchor
        by_cameras[:, :, k] = by_h(np.cross(basis[k], h))
        by_cameras[:, :, 3 + k] = by_h(rho * basis[k])
        column = rotation[:, :, k]
        by_cameras[:, :, 6 + k] = -by_h(np.cross(column, turned_rays))
        by_cameras[:, :, 9 + k] = -by_h(rho * column)
    flat_rays = rotation[:, :, 2] - turned_rays
    by_cameras[:, :, 12] = by_h(flat_rays) + projected
    residual = projected + centres[flat.observers] - flat.targets
    return _Linearised(residual, np.einsum('ni,ni->n', residual, residual), by_cameras,
                       by_h(translation))


def _step(problem: Problem, flat: _Flat, state: _State, linear: _Linearised, weights: Array,
          damping: float) -> _State:
    count = len(state.T_cam_map)
    size = 6 * count + 1
    focal = size - 1
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    rho = state.inverse_depths
    weighted = linear.by_cameras * weights[:, None, None]
    weighted_depth = linear.by_depth * weights[:, None]
    depth_hessian = _by_landmark(
        flat, np.einsum('ni,ni->n', weighted_depth, linear.by_depth), len(rho))
    depth_gradient = _by_landmark(
        flat, np.einsum('ni,ni->n', weighted_depth, linear.residual), len(rho))
    # Priors are stated for residuals of unit variance, and robust as observations are
    trust = _FINEST_SIGMA ** 2 * flat.prior_information / flat.prior ** 2 / (
        1 + _prior_error(flat, state) / _PRIOR_SIGMAS ** 2)
    depth_hessian += trust
    depth_gradient += trust * (rho - flat.prior) * (rho > 0)
    cross = np.einsum('nij,ni->nj', weighted, linear.by_depth)
    coupling: list[dict[int, Array]] = [{} for _ in range(count)]
    for o, group in zip(problem.observations, flat.groups):
        columns = np.r_[6 * o.observer:6 * o.observer + 6, 6 * o.anchor:6 * o.anchor + 6, focal]
        jacobian = weighted[group].reshape(-1, 13)
        hessian[np.ix_(columns, columns)] += jacobian.T @ linear.by_cameras[group].reshape(-1, 13)
        gradient[columns] += jacobian.T @ linear.residual[group].ravel()
        blocks, length = coupling[o.anchor], len(problem.inverse_depths[o.anchor])
        for key, part in ((o.observer, cross[group, :6]), (o.anchor, cross[group, 6:12]),
                          (count, cross[group, 12:])):
            if key not in blocks:
                blocks[key] = np.zeros((length, part.shape[1]))
            blocks[key][o.landmarks] += part
    free = np.append(np.repeat(~problem.fixed, 6), problem.focal_prior is not None)
    if problem.focal_prior is not None:
        mean, sigma = problem.focal_prior
        # The prior is stated for residuals of unit variance
        hessian[focal, focal] += _FINEST_SIGMA ** 2 / sigma ** 2
        gradient[focal] += _FINEST_SIGMA ** 2 / sigma ** 2 * (state.log_focal - mean)
    # Depths without parallax must not follow noise: a proximal term damps them
    proximal = (_FINEST_SIGMA / np.maximum(rho, 1e-12)) ** 2
    inverse = np.where(depth_hessian > 0, 1 / (depth_hessian * (1 + damping) + proximal), 0.0)
    for span, blocks in zip(flat.spans, coupling):
        if not blocks:
            continue
        columns = np.concatenate([np.arange(6 * k, 6 * k + b.shape[1]) for k, b in blocks.items()])
        stacked = np.hstack(list(blocks.values()))
        scaled = stacked * inverse[span, None]
        hessian[np.ix_(columns, columns)] -= stacked.T @ scaled
        gradient[columns] -= scaled.T @ depth_gradient[span]
    reduced = hessian[np.ix_(free, free)]
    diagonal = np.maximum(np.diag(reduced), 1e-9)
    step = np.zeros(size)
    step[free] = np.linalg.solve(reduced + np.diag(damping * diagonal + 1e-9), -gradient[free])
    change = depth_gradient
    for span, blocks in zip(flat.spans, coupling):
        for key, block in blocks.items():
            change[span] += block @ step[6 * key:6 * key + block.shape[1]]
    poses = se3.normalized(se3.exp(step[:focal].reshape(count, 6)) @ state.T_cam_map)
    return _State(poses, _moved_depths(rho, -inverse * change), state.log_focal + step[focal])


def _moved_depths(inverse_depths: Array, change: Array) -> Array:
    """Apply a step that never crosses infinity and never more than triples a depth."""
    known = inverse_depths > 0
    if not known.any():
        return inverse_depths
    floor = _FARTHEST * float(np.median(inverse_depths[known]))
    moved = np.clip(inverse_depths + change, inverse_depths / 3, inverse_depths * 3)
    return np.where(known, np.maximum(moved, floor), 0.0)
