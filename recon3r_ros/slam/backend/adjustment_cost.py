# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What a bundle adjustment minimises, and its normal equations, at some poses and depths.

Residuals are pixels; the cost is robust (Cauchy), and includes priors of depths and the focal
length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.slam.backend import compiled_adjustment
from recon3r_ros.slam.backend.adjustment_problem import Problem

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Least scale of the Cauchy kernel, the precision of matching, pixels of the pointmap grid
FINEST_SIGMA = 0.1
#: Greatest scale: if it followed the residuals, one bad keyframe would loosen all good ones
_COARSEST_SIGMA = 0.5
#: Scale of the Cauchy kernel of depth priors, in their standard deviations
PRIOR_SIGMAS = 2.5


@dataclass(frozen=True, eq=False)
class Estimate:
    """
    The unknowns at some iteration.

    :param T_cam_map: (K, 4, 4) poses
    :param inverse_depths: (L,) of all landmarks
    :param log_focal: logarithm of the factor of all focal lengths
    """

    T_cam_map: Array
    inverse_depths: Array
    log_focal: float


@dataclass(frozen=True, eq=False)
class FlatProblem:
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
class Reprojection:
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
        return float(np.sqrt(median(self.squared))) / 1.1774

    @property
    def noise(self) -> float:
        """The inliers' standard deviation: the robust one, clipped to the plausible range."""
        return float(np.clip(self.sigma, FINEST_SIGMA, _COARSEST_SIGMA))


@dataclass(frozen=True, eq=False)
class System:
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


def flatten(problem: Problem) -> FlatProblem:
    """Bring a problem with observations into the order of the compiled loops."""
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
    return FlatProblem(
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


def median(values: Array) -> float:
    """Return the median, NaN of nothing. NumPy's own takes longer for few values."""
    if len(values) == 0 or np.isnan(values.max()):
        return np.nan
    middles = [(len(values) - 1) // 2, len(values) // 2]
    return float(np.partition(values, middles)[middles].mean())


def prior_error(flat: FlatProblem, state: Estimate) -> Array:
    """Squared distances (B,) of the depths from their priors, in standard deviations."""
    relative = state.inverse_depths[flat.with_prior] / flat.prior - 1
    return np.asarray(flat.prior_information * relative ** 2)


def cost_of(problem: Problem, flat: FlatProblem, state: Estimate, found: Reprojection, scale: float
            ) -> float:
    """
    Return the cost, in pixels^2.

    :param scale: of the Cauchy kernel of the residuals, pixels
    """
    total = scale ** 2 * float(np.sum(flat.weights * np.log1p(found.squared / scale ** 2)))
    if problem.focal_prior is not None:
        mean, sigma = problem.focal_prior
        total += FINEST_SIGMA ** 2 / sigma ** 2 * (state.log_focal - mean) ** 2
    errors = prior_error(flat, state)
    total += (FINEST_SIGMA * PRIOR_SIGMAS) ** 2 * float(
        np.log1p(errors / PRIOR_SIGMAS ** 2).sum())
    return total


def reproject(flat: FlatProblem, state: Estimate) -> Reprojection:
    """Project all landmarks into their observers' images."""
    return Reprojection(*compiled_adjustment.reproject(
        flat.first, flat.pair, flat.pairs, flat.plane, flat.targets, flat.focal,
        state.T_cam_map, state.inverse_depths, np.exp(state.log_focal)))


def normal_equations(problem: Problem, flat: FlatProblem, state: Estimate, found: Reprojection,
                     scale: float) -> System:
    """
    Linearise the cost.

    :param scale: of the Cauchy kernel of the residuals, pixels
    """
    system = System(*compiled_adjustment.normal_equations(
        flat.first, flat.pair, flat.plane, flat.targets, flat.focal, flat.weights, found.relative,
        state.inverse_depths, np.exp(state.log_focal), scale, problem.focal_prior is not None))
    # Priors are stated for residuals of unit variance, and robust as observations are
    trust = FINEST_SIGMA ** 2 * flat.prior_information / flat.prior ** 2 / (
        1 + prior_error(flat, state) / PRIOR_SIGMAS ** 2)
    system.depth_hessian[flat.with_prior] += trust
    system.depth_gradient[flat.with_prior] += trust * (
        state.inverse_depths[flat.with_prior] - flat.prior)
    if problem.focal_prior is not None:
        mean, sigma = problem.focal_prior
        system.of_focal[:] += FINEST_SIGMA ** 2 / sigma ** 2 * np.array(
            [1.0, state.log_focal - mean])
    return system


def reduced(flat: FlatProblem, state: Estimate, found: Reprojection, system: System,
            damping: float, sigma: float, focal_free: bool) -> tuple[Array, Array, Array]:
    """Eliminate the depths from the normal equations; see `compiled_adjustment.reduced`."""
    return compiled_adjustment.reduced(
        flat.first, flat.pair, flat.ends, flat.first_pair, flat.begin[flat.pairs], found.relative,
        system.hessian, system.gradient, system.by_focal, system.of_focal, system.depth_by_pose,
        system.depth_by_focal, system.depth_hessian, system.depth_gradient, state.inverse_depths,
        damping, sigma, flat.size, focal_free)
