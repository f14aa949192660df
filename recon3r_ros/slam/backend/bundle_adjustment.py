# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Joint refinement of keyframe poses and the inverse depths of their keypoints by reprojection.

Each landmark is a pixel of its anchor keyframe with an inverse depth (Civera et al., T-RO 2008),
observed in other keyframes by the predictor's correspondence field. As every depth belongs to
one anchor, eliminating the depths (Schur complement; Triggs et al., 'Bundle Adjustment', section
6) costs one division per landmark. MASt3R-SfM (Duisterhof et al. 2024, section 4.2) refines its
coarse 3-D alignment in the same way.

Poses are `T_cam_map`, perturbed on the left: exp(xi) T, xi = [omega, v].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend import compiled_adjustment
from recon3r_ros.slam.types import FocalEstimate

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Scalar = TypeVar('Scalar', bound=np.generic)

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
#: Smallest inverse depth relative to the anchor's median: beyond, points are effectively at
#: infinity
_FARTHEST = 1e-3
_CONVERGED = 1e-3
#: Observations of a pair err alike. The standard deviation of an estimated focal length is so many
#: times that of independent ones: estimates of calibrated sequences indoors and outdoors are up to
#: 11 of those off. So is that of a scale by the distances between the cameras of a rig
ALIKE = 10.0
#: Relative damping of a system whose unit of length is free: so little that it constrains nothing
_GAUGE_DAMPING = 1e-9
#: Unknowns of a large system
_LARGE = 300


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
    landmarks: Integers
    targets: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class RigLinks:
    """
    Keyframes of one instant of a rig, whose poses relative to each other are known.

    :param leader: (K,) index of the keyframe of the same instant that each one follows; its own
        where there is none. A leader follows nobody, and is fixed where its followers are
    :param T_cam_leader: (K, 4, 4) pose of that one in each one's camera, map units
    """

    leader: Integers
    T_cam_leader: Array

    def linked(self, T_cam_map: Array) -> Array:
        """Poses (K, 4, 4) that follow from those of the leaders."""
        return self.T_cam_leader @ T_cam_map[self.leader]

    def steps(self, begin: Integers, size: int, focal_free: bool) -> Array:
        """
        Linear map (size, n) from the steps of the leaders, and the focal length, to all steps.

        :param begin: (K,) where each one's step begins; -1 where its pose is fixed
        """
        columns, count = {}, 0
        for k in np.flatnonzero((self.leader == np.arange(len(begin))) & (begin >= 0)):
            columns[int(k)], count = count, count + 6
        out = np.zeros((size, count + focal_free))
        for k in np.flatnonzero(begin >= 0):
            column = columns[int(self.leader[k])]
            out[begin[k]:begin[k] + 6, column:column + 6] = se3.adjoint(self.T_cam_leader[k])
        if focal_free:
            out[-1, -1] = 1.0
        return out


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
    :param scale_known: whether depth priors or links are in map units, rather than in a unit that
        was estimated from the landmarks
    :param links: of keyframes on a rig; None without any
    :param metre_known: whether the links' unit of length is: else they are stretched so that the
        depths keep their median
    """

    T_cam_map: Array
    fixed: NDArray[np.bool_]
    intrinsics: Array
    pixels: tuple[Array, ...]
    inverse_depths: tuple[Array, ...]
    observations: tuple[Observations, ...]
    focal_prior: tuple[float, float] | None = None
    depth_priors: tuple[tuple[Array, Array], ...] | None = None
    scale_known: bool = False
    links: RigLinks | None = None
    metre_known: bool = True

    @property
    def holds_one_place(self) -> bool:
        """Whether the poses that are fixed are those of one place, which tells no scale."""
        fixed = np.flatnonzero(self.fixed)
        return len(fixed) == 1 or (
            self.links is not None and len(set(self.links.leader[fixed].tolist())) == 1)


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
    :param stretch: factor of the links' lengths
    """

    T_cam_map: Array
    inverse_depths: tuple[Array, ...]
    focal_factor: float
    sigma: float
    inliers: tuple[NDArray[np.bool_], ...]
    information: tuple[Array, ...]
    stretch: float = 1.0


@dataclass(frozen=True, eq=False)
class _State:
    T_cam_map: Array
    inverse_depths: Array
    log_focal: float


@dataclass(frozen=True, eq=False)
class _Flat:
    """
    All landmarks (L,) concatenated, and all observations (M,), sorted by landmark.

    :param order: (M,) where the sorted observations were before
    :param first: (L + 1,) each landmark's first observation
    :param pair: (M,) the observations' pairs
    :param pairs: (P, 2) anchors and observers, sorted by anchor
    :param first_pair: (K + 1,) each keyframe's first pair
    :param begin: (K,) where the keyframes' poses begin in a step; -1 where they are fixed
    :param size: N, of a step: of the free poses and, where it is unknown, the focal length
    :param ends: (K,) of the keyframes' landmarks
    :param plane: (L, 2) landmarks' pixels from their anchors' principal points, over the focal
        lengths
    :param targets: (M, 2) from the observers' principal points
    :param weights: (M,)
    :param focal: (P, 2) fx fy of the observers
    :param with_prior: landmarks of known depth with a prior (B,)
    :param prior: (B,) prior inverse depths
    :param prior_information: (B,) of these relative depths
    """

    order: Integers
    first: Integers
    pair: Integers
    pairs: Integers
    first_pair: Integers
    begin: Integers
    size: int
    ends: Integers
    plane: Array
    targets: Array
    weights: Array
    focal: Array
    with_prior: Integers
    prior: Array
    prior_information: Array


@dataclass(frozen=True, eq=False)
class _Reprojection:
    """
    The landmarks in their observers' images.

    :param relative: (P, 3, 4) poses T_observer_anchor of the pairs
    :param squared: (M,) squared lengths of the residuals
    :param steepness: (M,) squared lengths of their derivatives by the inverse depth
    """

    relative: Array
    squared: Array
    steepness: Array

    @cached_property
    def sigma(self) -> float:
        """Robust standard deviation per axis, from the median length of a 2-D Gaussian."""
        return float(np.sqrt(_median(self.squared))) / 1.1774

    @property
    def noise(self) -> float:
        """The inliers' standard deviation: the robust one, clipped to the plausible range."""
        return float(np.clip(self.sigma, _FINEST_SIGMA, _COARSEST_SIGMA))


@dataclass(frozen=True, eq=False)
class _System:
    """
    Normal equations, see `compiled_adjustment.normal_equations`.

    :param hessian: (P, 6, 6) by the pairs' poses
    :param gradient: (P, 6)
    :param by_focal: (P, 6)
    :param of_focal: (2,)
    :param depth_by_pose: (M, 6)
    :param depth_by_focal: (L,)
    :param depth_hessian: (L,)
    :param depth_gradient: (L,)
    """

    hessian: Array
    gradient: Array
    by_focal: Array
    of_focal: Array
    depth_by_pose: Array
    depth_by_focal: Array
    depth_hessian: Array
    depth_gradient: Array


def solve(problem: Problem, iterations: int = 8) -> Solution:
    """Levenberg-Marquardt with iteratively re-weighted residuals."""
    flat = _flatten(problem)
    state, found = _minimised(problem, flat, iterations)
    stretch = 1.0
    if problem.holds_one_place and not (problem.scale_known and problem.metre_known):
        change = _change(problem, flat, state)
        state = _stretched(problem, state, change)
        stretch = 1.0 if problem.links is None else change
    return replace(_solution(problem, flat, state, found), stretch=stretch)


def estimate_focal(problem: Problem, iterations: int = 8) -> FocalEstimate:
    """
    Estimate the focal length, and how well the observations determine it.

    The variance is that of the marginal: the last entry of the inverse of the normal equations
    without the depths, times the variance of the residuals.

    :param problem: with a prior of the focal length, and initial values near the solution
    :return: the standard deviation holds for residuals that are independent of each other
    """
    flat = _flatten(problem)
    state, found = _minimised(problem, flat, iterations)
    system = _normal_equations(problem, flat, state, found, _CAUCHY_SIGMAS * found.noise)
    matrix = _reduced(flat, state, found, system, _GAUGE_DAMPING, 0.0, True)[0]
    of_focal = np.zeros(flat.size)
    of_focal[-1] = 1.0
    try:
        variance = float(np.linalg.solve(matrix, of_focal)[-1])
    except np.linalg.LinAlgError:
        variance = np.inf
    # Rounding may leave nothing of what observations hardly determine
    sigma = np.sqrt(variance) if variance > 0 else np.inf
    return FocalEstimate(float(np.exp(state.log_focal)),
                         float(max(found.sigma, _FINEST_SIGMA) * sigma))


def scale_sigma(problem: Problem) -> float:
    """
    Tell how well the links determine the scale of the poses, at the solution.

    :param problem: of which one place is fixed, with links
    :return: standard deviation of the logarithm of the distance from the fixed place to the
        farthest one, for residuals that are independent of each other
    """
    assert problem.links is not None
    flat = _flatten(problem)
    poses = problem.links.linked(problem.T_cam_map)
    state = _State(dense(poses, np.float64), np.concatenate(problem.inverse_depths), 0.0)
    found = _reproject(flat, state)
    system = _normal_equations(problem, flat, state, found, _CAUCHY_SIGMAS * found.noise)
    matrix = _reduced(flat, state, found, system, _GAUGE_DAMPING, 0.0,
                      problem.focal_prior is not None)[0]
    steps = problem.links.steps(flat.begin, flat.size, problem.focal_prior is not None)
    places = se3.inverse(poses)[:, :3, 3]
    way = places - places[np.flatnonzero(problem.fixed)[0]]
    way[flat.begin < 0] = 0
    farthest = int(np.argmax(np.linalg.norm(way, axis=1)))
    length = float(np.linalg.norm(way[farthest]))
    if length == 0:
        return np.inf
    # exp(xi) T moves the centre of the camera by -R^T v
    row = np.zeros(flat.size)
    row[flat.begin[farthest] + 3:flat.begin[farthest] + 6] = (
        -poses[farthest, :3, :3] @ way[farthest] / length ** 2)
    own = row @ steps
    try:
        variance = float(own @ np.linalg.solve(steps.T @ matrix @ steps, own))
    except np.linalg.LinAlgError:
        return np.inf
    return max(found.sigma, _FINEST_SIGMA) * float(np.sqrt(variance)) if variance > 0 else np.inf


def _minimised(problem: Problem, flat: _Flat, iterations: int) -> tuple[_State, _Reprojection]:
    """Minimise the cost from the initial values."""
    poses = problem.T_cam_map if problem.links is None else problem.links.linked(problem.T_cam_map)
    state = _State(dense(poses, np.float64),
                   np.concatenate(problem.inverse_depths), 0.0)
    damping = _INITIAL_DAMPING
    found = _reproject(flat, state)
    for iteration in range(iterations):
        coarse = _COARSE_SIGMAS if iteration < 2 else 1.0
        scale = _CAUCHY_SIGMAS * coarse * found.noise
        cost = _cost(problem, flat, state, found, scale)
        system = _normal_equations(problem, flat, state, found, scale)
        while damping < _MAX_DAMPING:
            candidate = _step(problem, flat, state, found, system, damping)
            new_found = _reproject(flat, candidate)
            new_cost = _cost(problem, flat, candidate, new_found, scale)
            if new_cost <= cost:
                break
            damping *= 10
        else:
            break
        state, found, damping = candidate, new_found, max(damping / 10, 1e-8)
        if iteration >= 2 and cost - new_cost < _CONVERGED * cost:
            break
    return state, found


def _flatten(problem: Problem) -> _Flat:
    observations = problem.observations
    counts = np.array([len(d) for d in problem.inverse_depths])
    ends = np.cumsum(counts)
    unsorted = np.array([(o.anchor, o.observer) for o in observations], np.int64)
    by_anchor = np.argsort(unsorted[:, 0], kind='stable')
    pairs = unsorted[by_anchor]
    sizes = [len(o.landmarks) for o in observations]
    landmarks = np.concatenate([o.landmarks for o in observations])
    landmarks += np.repeat((ends - counts)[unsorted[:, 0]], sizes)
    order = np.argsort(landmarks, kind='stable')
    pair = np.repeat(np.argsort(by_anchor), sizes)[order]
    focal, centres = problem.intrinsics[:, :2], problem.intrinsics[:, 2:]
    plane = np.concatenate(problem.pixels) - np.repeat(centres, counts, axis=0)
    plane /= np.repeat(focal, counts, axis=0)
    targets = np.concatenate([o.targets for o in observations])
    targets -= np.repeat(centres[unsorted[:, 1]], sizes, axis=0)
    free = ~problem.fixed
    with_prior, prior, prior_information = _priors(problem)
    return _Flat(
        order, np.append(0, np.cumsum(np.bincount(landmarks, minlength=ends[-1]))), pair, pairs,
        np.searchsorted(pairs[:, 0], np.arange(len(counts) + 1)),
        np.where(free, 6 * (np.cumsum(free) - 1), -1),
        6 * int(free.sum()) + (problem.focal_prior is not None), ends,
        dense(plane), dense(targets.take(order, axis=0)),
        np.concatenate([o.weights for o in observations])[order], focal[pairs[:, 1]],
        with_prior, prior, prior_information)


def _priors(problem: Problem) -> tuple[Integers, Array, Array]:
    """Landmarks of known depth with a prior (B,), and mean and information (B,) of the priors."""
    if problem.depth_priors is None:
        return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
    mean, information = (np.concatenate(values) for values in zip(*problem.depth_priors))
    known = np.flatnonzero((information > 0) & (np.concatenate(problem.inverse_depths) > 0))
    return known, mean[known], information[known]


def _solution(problem: Problem, flat: _Flat, state: _State, found: _Reprojection) -> Solution:
    noise = found.noise
    good = found.squared < (_OUTLIER_SIGMAS * noise) ** 2
    rho = state.inverse_depths
    landmarks = np.repeat(np.arange(len(rho)), np.diff(flat.first))
    information = rho ** 2 * np.bincount(landmarks, good * found.steepness / noise ** 2, len(rho))
    if problem.depth_priors is not None:
        trust = np.concatenate([information for _, information in problem.depth_priors])
        trust[flat.with_prior] /= 1 + _prior_error(flat, state) / _PRIOR_SIGMAS ** 2
        information += trust
    inliers = np.empty_like(good)
    inliers[flat.order] = good
    counts = [len(d) for d in problem.inverse_depths]
    return Solution(
        state.T_cam_map, _split(rho, counts), float(np.exp(state.log_focal)), found.sigma,
        _split(inliers, [len(o.landmarks) for o in problem.observations]),
        _split(information, counts))


def _split(values: NDArray[Scalar], counts: list[int]) -> tuple[NDArray[Scalar], ...]:
    ends = np.cumsum(counts)
    return tuple(values[end - count:end] for count, end in zip(counts, ends))


def _change(problem: Problem, flat: _Flat, state: _State) -> float:
    """Factor by which the inverse depths have grown, where nothing tells the scale."""
    before = np.concatenate(problem.inverse_depths)
    seen = np.diff(flat.first) > 0
    return _median(state.inverse_depths[seen] / before[seen])


def _stretched(problem: Problem, state: _State, factor: float) -> _State:
    """Multiply all lengths by a factor; the pose that is fixed stays."""
    anchor = se3.inverse(problem.T_cam_map[np.flatnonzero(problem.fixed)[0]])
    relative = state.T_cam_map @ anchor
    relative[:, :3, 3] *= factor
    return _State(relative @ se3.inverse(anchor), state.inverse_depths / factor, state.log_focal)


def _median(values: Array) -> float:
    """Return the median, NaN of nothing. NumPy's own takes longer for few values."""
    if len(values) == 0 or np.isnan(values.max()):
        return np.nan
    middles = [(len(values) - 1) // 2, len(values) // 2]
    return float(np.partition(values, middles)[middles].mean())


def _prior_error(flat: _Flat, state: _State) -> Array:
    """Squared distances (B,) of the depths from their priors, in standard deviations."""
    relative = state.inverse_depths[flat.with_prior] / flat.prior - 1
    return np.asarray(flat.prior_information * relative ** 2)


def _cost(problem: Problem, flat: _Flat, state: _State, found: _Reprojection, scale: float
          ) -> float:
    total = scale ** 2 * float(np.sum(flat.weights * np.log1p(found.squared / scale ** 2)))
    if problem.focal_prior is not None:
        mean, sigma = problem.focal_prior
        total += _FINEST_SIGMA ** 2 / sigma ** 2 * (state.log_focal - mean) ** 2
    errors = _prior_error(flat, state)
    total += (_FINEST_SIGMA * _PRIOR_SIGMAS) ** 2 * float(
        np.log1p(errors / _PRIOR_SIGMAS ** 2).sum())
    return total


def _reproject(flat: _Flat, state: _State) -> _Reprojection:
    return _Reprojection(*compiled_adjustment.reproject(
        flat.first, flat.pair, flat.pairs, flat.plane, flat.targets, flat.focal,
        state.T_cam_map, state.inverse_depths, np.exp(state.log_focal)))


def _normal_equations(problem: Problem, flat: _Flat, state: _State, found: _Reprojection,
                      scale: float) -> _System:
    system = _System(*compiled_adjustment.normal_equations(
        flat.first, flat.pair, flat.plane, flat.targets, flat.focal, flat.weights, found.relative,
        state.inverse_depths, np.exp(state.log_focal), scale, problem.focal_prior is not None))
    # Priors are stated for residuals of unit variance, and robust as observations are
    trust = _FINEST_SIGMA ** 2 * flat.prior_information / flat.prior ** 2 / (
        1 + _prior_error(flat, state) / _PRIOR_SIGMAS ** 2)
    system.depth_hessian[flat.with_prior] += trust
    system.depth_gradient[flat.with_prior] += trust * (
        state.inverse_depths[flat.with_prior] - flat.prior)
    if problem.focal_prior is not None:
        mean, sigma = problem.focal_prior
        system.of_focal[:] += _FINEST_SIGMA ** 2 / sigma ** 2 * np.array(
            [1.0, state.log_focal - mean])
    return system


def _step(problem: Problem, flat: _Flat, state: _State, found: _Reprojection, system: _System,
          damping: float) -> _State:
    rho, focal_free = state.inverse_depths, problem.focal_prior is not None
    columns = flat.begin[flat.pairs]
    matrix, gradient, inverse = _reduced(
        flat, state, found, system, damping, _FINEST_SIGMA, focal_free)
    if problem.links is None:
        step = _solved(matrix, gradient)
    else:
        steps = problem.links.steps(flat.begin, flat.size, focal_free)
        step = steps @ _solved(dense(steps.T @ matrix @ steps), steps.T @ gradient)
    poses, depths = compiled_adjustment.moved(
        flat.first, flat.pair, columns, found.relative, system.depth_by_pose,
        system.depth_by_focal, inverse, system.depth_gradient, step, flat.begin, state.T_cam_map,
        rho, _FARTHEST * _median(rho[rho > 0]), focal_free)
    return _State(poses, depths, state.log_focal + (step[-1] if focal_free else 0.0))


def _solved(matrix: Array, gradient: Array) -> Array:
    """Step that the normal equations give; the matrix is overwritten."""
    if len(gradient) > _LARGE:
        return np.asarray(np.linalg.solve(matrix, -gradient), np.float64)
    # LAPACK's threads would wait for each other for longer than this takes
    return compiled_adjustment.solved(matrix, -gradient)


def _reduced(flat: _Flat, state: _State, found: _Reprojection, system: _System, damping: float,
             sigma: float, focal_free: bool) -> tuple[Array, Array, Array]:
    """See `compiled_adjustment.reduced`."""
    return compiled_adjustment.reduced(
        flat.first, flat.pair, flat.ends, flat.first_pair, flat.begin[flat.pairs], found.relative,
        system.hessian, system.gradient, system.by_focal, system.of_focal, system.depth_by_pose,
        system.depth_by_focal, system.depth_hessian, system.depth_gradient, state.inverse_depths,
        damping, sigma, flat.size, focal_free)
