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

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend import compiled_adjustment
from recon3r_ros.slam.backend.adjustment_cost import (
    cost_of,
    Estimate,
    FINEST_SIGMA,
    FlatProblem,
    flatten,
    median,
    normal_equations,
    prior_error,
    PRIOR_SIGMAS,
    reduced,
    reproject,
    Reprojection,
    System,
)
from recon3r_ros.slam.backend.adjustment_problem import Problem, Solution
from recon3r_ros.slam.types import FocalEstimate

Array = NDArray[np.float64]
Scalar = TypeVar('Scalar', bound=np.generic)

#: Scale of the Cauchy kernel, in the residuals' standard deviations
_CAUCHY_SIGMAS = 2.5
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


def solve(problem: Problem, iterations: int = 8) -> Solution:
    """Levenberg-Marquardt with iteratively re-weighted residuals."""
    flat = flatten(problem)
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
    flat = flatten(problem)
    state, found = _minimised(problem, flat, iterations)
    system = normal_equations(problem, flat, state, found, _CAUCHY_SIGMAS * found.noise)
    matrix = reduced(flat, state, found, system, _GAUGE_DAMPING, 0.0, True)[0]
    of_focal = np.zeros(flat.size)
    of_focal[-1] = 1.0
    try:
        variance = float(np.linalg.solve(matrix, of_focal)[-1])
    except np.linalg.LinAlgError:
        variance = np.inf
    # Rounding may leave nothing of what observations hardly determine
    sigma = np.sqrt(variance) if variance > 0 else np.inf
    return FocalEstimate(float(np.exp(state.log_focal)),
                         float(max(found.sigma, FINEST_SIGMA) * sigma))


def scale_sigma(problem: Problem) -> float:
    """
    Tell how well the links determine the scale of the poses, at the solution.

    :param problem: of which one place is fixed, with links
    :return: standard deviation of the logarithm of the distance from the fixed place to the
        farthest one, for residuals that are independent of each other
    """
    assert problem.links is not None
    flat = flatten(problem)
    poses = problem.links.linked(problem.T_cam_map)
    state = Estimate(dense(poses, np.float64), np.concatenate(problem.inverse_depths), 0.0)
    found = reproject(flat, state)
    system = normal_equations(problem, flat, state, found, _CAUCHY_SIGMAS * found.noise)
    matrix = reduced(flat, state, found, system, _GAUGE_DAMPING, 0.0,
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
    return max(found.sigma, FINEST_SIGMA) * float(np.sqrt(variance)) if variance > 0 else np.inf


def _minimised(problem: Problem, flat: FlatProblem, iterations: int
               ) -> tuple[Estimate, Reprojection]:
    """Minimise the cost from the initial values."""
    poses = problem.T_cam_map if problem.links is None else problem.links.linked(problem.T_cam_map)
    state = Estimate(dense(poses, np.float64), np.concatenate(problem.inverse_depths), 0.0)
    damping = _INITIAL_DAMPING
    found = reproject(flat, state)
    for iteration in range(iterations):
        coarse = _COARSE_SIGMAS if iteration < 2 else 1.0
        scale = _CAUCHY_SIGMAS * coarse * found.noise
        cost = cost_of(problem, flat, state, found, scale)
        system = normal_equations(problem, flat, state, found, scale)
        while damping < _MAX_DAMPING:
            candidate = _step(problem, flat, state, found, system, damping)
            new_found = reproject(flat, candidate)
            new_cost = cost_of(problem, flat, candidate, new_found, scale)
            if new_cost <= cost:
                break
            damping *= 10
        else:
            break
        state, found, damping = candidate, new_found, max(damping / 10, 1e-8)
        if iteration >= 2 and cost - new_cost < _CONVERGED * cost:
            break
    return state, found


def _solution(problem: Problem, flat: FlatProblem, state: Estimate, found: Reprojection
              ) -> Solution:
    noise = found.noise
    good = found.squared < (_OUTLIER_SIGMAS * noise) ** 2
    rho = state.inverse_depths
    landmarks = np.repeat(np.arange(len(rho)), np.diff(flat.first))
    information = rho ** 2 * np.bincount(landmarks, good * found.steepness / noise ** 2, len(rho))
    if problem.depth_priors is not None:
        trust = np.concatenate([information for _, information in problem.depth_priors])
        trust[flat.with_prior] /= 1 + prior_error(flat, state) / PRIOR_SIGMAS ** 2
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


def _change(problem: Problem, flat: FlatProblem, state: Estimate) -> float:
    """Factor by which the inverse depths have grown, where nothing tells the scale."""
    before = np.concatenate(problem.inverse_depths)
    seen = np.diff(flat.first) > 0
    return median(state.inverse_depths[seen] / before[seen])


def _stretched(problem: Problem, state: Estimate, factor: float) -> Estimate:
    """Multiply all lengths by a factor; the pose that is fixed stays."""
    anchor = se3.inverse(problem.T_cam_map[np.flatnonzero(problem.fixed)[0]])
    relative = state.T_cam_map @ anchor
    relative[:, :3, 3] *= factor
    return Estimate(relative @ se3.inverse(anchor), state.inverse_depths / factor, state.log_focal)


def _step(problem: Problem, flat: FlatProblem, state: Estimate, found: Reprojection,
          system: System, damping: float) -> Estimate:
    rho, focal_free = state.inverse_depths, problem.focal_prior is not None
    columns = flat.begin[flat.pairs]
    matrix, gradient, inverse = reduced(
        flat, state, found, system, damping, FINEST_SIGMA, focal_free)
    if problem.links is None:
        step = _solved(matrix, gradient)
    else:
        steps = problem.links.steps(flat.begin, flat.size, focal_free)
        step = steps @ _solved(dense(steps.T @ matrix @ steps), steps.T @ gradient)
    poses, depths = compiled_adjustment.moved(
        flat.first, flat.pair, columns, found.relative, system.depth_by_pose,
        system.depth_by_focal, inverse, system.depth_gradient, step, flat.begin, state.T_cam_map,
        rho, _FARTHEST * median(rho[rho > 0]), focal_free)
    return Estimate(poses, depths, state.log_focal + (step[-1] if focal_free else 0.0))


def _solved(matrix: Array, gradient: Array) -> Array:
    """Step that the normal equations give; the matrix is overwritten."""
    if len(gradient) > _LARGE:
        return np.asarray(np.linalg.solve(matrix, -gradient), np.float64)
    # LAPACK's threads would wait for each other for longer than this takes
    return compiled_adjustment.solved(matrix, -gradient)
