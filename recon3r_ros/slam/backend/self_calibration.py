# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether the images contradict the focal lengths that were given for them.

The map keeps the given ones. A map made with a wrong focal length is distorted, and what is
observed in it fits it: where there is a contradiction, the focal length is estimated with
observations that are made again, in a copy of the map.
"""

from __future__ import annotations

from dataclasses import replace
import math

from recon3r_ros.slam.backend.adjustment_problem import Problem
from recon3r_ros.slam.backend.bundle_adjustment import ALIKE, estimate_focal
from recon3r_ros.slam.backend.fine_refinement import refine_finely
from recon3r_ros.slam.backend.learned import LearnedDepths
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.refinement import problem_of
from recon3r_ros.slam.types import FocalEstimate

#: Share by which a focal length must be off: several times what focusing changes it by, and what
#: lens distortion that is not modelled, or a handful of noisy keyframes, make of it
LEAST = 0.1
#: Standard deviations by which an estimate must differ
SURE = 2.0
#: Mean and standard deviation of the logarithm of the factor: almost any is as likely
_PRIOR = (0.0, 1.0)
_ITERATIONS = 15
#: Times that observations are made again, and change of the logarithm that ends them
_ROUNDS, _CONVERGED = 4, 0.01
#: Keyframes with which a map that goes on is checked, once
KEYFRAMES = 24


def check(state: MapState) -> None:
    """Check the focal length of a map that goes on, by the observations made while mapping."""
    keyframes = list(state.keyframes.values())
    observations = state.seen.among(keyframes)
    if state.calibrated and observations:
        check_finely(state, problem_of(state, state.ids, {state.ids[0]}, observations,
                                       [k.camera for k in keyframes]), 1)


def check_finely(state: MapState, problem: Problem | None, rounds: int = _ROUNDS) -> None:
    """
    Check the focal length of a map.

    :param problem: adjustment of all its keyframes, at its solution; None without observations
    :param rounds: times that observations are made again at most
    """
    state.focal_contradiction = None
    if not state.calibrated or problem is None or not _contradicts(_since(state, problem)):
        return
    copy = replace(state.fork(), calibrated=False, learned=LearnedDepths())
    factor = 0.0
    for _ in range(rounds):
        if factor and abs(math.log(copy.focal_factor / factor)) < _CONVERGED:
            break
        factor = copy.focal_factor
        again = refine_finely(copy)
        if again is None:
            return
        problem = again.problem
    # A given one that has been refined by measured depth is compared as it was given
    found = FocalEstimate(copy.focal_factor, _estimate(problem).sigma)
    if _contradicts(found):
        state.focal_contradiction = found


def _estimate(problem: Problem) -> FocalEstimate:
    """Estimate a focal length by observations alone: networks may have learned another one."""
    found = estimate_focal(replace(problem, focal_prior=_PRIOR, depth_priors=None), _ITERATIONS)
    return replace(found, sigma=ALIKE * found.sigma)


def _since(state: MapState, problem: Problem) -> FocalEstimate:
    """Estimate it relative to the given one."""
    found = _estimate(problem)
    return replace(found, factor=found.factor * state.focal_factor)


def _contradicts(found: FocalEstimate) -> bool:
    return abs(math.log(found.factor)) > max(math.log(1 + LEAST), SURE * found.sigma)
