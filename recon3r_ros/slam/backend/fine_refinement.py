# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The last refinement of a map: bundle adjustment of observations as precise as the full images.

Those that are made while mapping come from a coarse grid and few partners, and err alike: over
many keyframes a map drifts. Here each landmark is searched in all keyframes that overlap most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
import math

import numpy as np
from recon3r_ros.compiled import dense
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend import compiled_patches
from recon3r_ros.slam.backend.adjustment_problem import Observations, Problem, Solution
from recon3r_ros.slam.backend.bundle_adjustment import ALIKE
from recon3r_ros.slam.backend.fine_matching import finest_size, Levels, levels_of, match, overlap
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.refinement import adjusted, problem_of, take_over_unknowns
from recon3r_ros.slam.backend.sightings import MIN_CORRESPONDENCES
from recon3r_ros.slam.types import Keyframe

#: Keyframes in which another one's landmarks are searched: those that should show most of them
PARTNERS = 8
#: Levels of the images to search on in each round: coarse ones until the poses are good
ROUNDS = ((2, 1), (0,))
_ITERATIONS = 30
#: Share of a keyframe's precise observations that must agree, of the usual share, which wrong
#: intrinsics lower. One at a wrong place, which half of its coarse observations fitted by chance,
#: had 0.4 of it; right ones have 0.9 to 1.1
MIN_AGREEMENT = 0.5
#: Standard deviation of a given focal length's logarithm: nominal ones are some percent off
GIVEN_FOCAL = 0.02
#: Keyframes whose images are kept in memory at once
_IMAGES = 48


@dataclass(frozen=True, eq=False)
class Refined:
    """
    Result of the refinement.

    :param problem: the last adjustment, at its solution
    :param wrong: ids of keyframes with which the others disagree
    """

    problem: Problem
    wrong: list[int]


def refine_finely(state: MapState) -> Refined | None:
    """
    Refine all keyframes, whose poses and depths are nearly right.

    :return: None where nothing was found
    """
    last = None
    archive = state.pairing.archive
    ids = [i for i in state.ids if i in archive]
    sizes = {i: finest_size(archive[i].camera.width, archive[i].camera.height) for i in ids}
    images = lru_cache(_IMAGES)(lambda i: levels_of(archive[i].gray()))
    partners = _partners([state.keyframes[i] for i in ids])
    for levels in ROUNDS:
        keyframes = [state.keyframes[i] for i in ids]
        precise = [o for n in range(len(ids))
                   for o in _observed(keyframes, n, partners[n], images, levels)]
        if not precise:
            break
        observations = [*precise, *_bridges(state, keyframes, precise)]
        cameras = [k.camera.resized(*sizes[k.id]) for k in keyframes]
        solution = adjusted(state, ids, {ids[0]}, observations, cameras, _ITERATIONS,
                            _focal_prior(state, ids))
        _apply(state, ids, observations, solution)
        last = precise, observations, solution
    if last is None:
        return None
    precise, observations, solution = last
    return Refined(
        problem_of(state, ids, {ids[0]}, observations,
                   [state.keyframes[i].camera.resized(*sizes[i]) for i in ids]),
        [ids[n] for n in _disagreeing(precise, solution, len(ids))])


def _focal_prior(state: MapState, ids: list[int]) -> tuple[float, float] | None:
    """
    Prior of a given focal length's factor; None where it is kept.

    Where depth is measured, a wrong focal length makes motion and depth disagree on the length of
    a metre, and the map bends: there it is refined. The prior is that of the given value, in the
    currency of the observations, which are worth less than as many independent ones.
    """
    cameras = {state.keyframes[i].camera_name for i in ids}
    if not state.calibrated or len(cameras) > 1 or not state.measured.fix_scale(ids):
        return None
    return -math.log(state.focal_factor), GIVEN_FOCAL / ALIKE


def _partners(keyframes: list[Keyframe]) -> list[list[int]]:
    """Where to search the landmarks of each keyframe; all by their positions."""
    found = []
    for anchor in keyframes:
        counts = np.array([0 if k is anchor else len(overlap(anchor, k)[0]) for k in keyframes])
        most = np.argsort(-counts, kind='stable')[:PARTNERS]
        found.append([int(m) for m in most if counts[m] >= MIN_CORRESPONDENCES])
    return found


def _observed(keyframes: list[Keyframe], n: int, partners: list[int],
              images: Callable[[int], Levels], levels: Sequence[int]) -> list[Observations]:
    """Search the landmarks of the keyframe at position n in its partners."""
    anchor = keyframes[n]
    sources, slopes = images(anchor.id), compiled_patches.slopes(
        dense(anchor.inverse_depth), dense(anchor.mask), dense(anchor.keypoints),
        dense(anchor.landmarks))

    def observed(m: int) -> Observations:
        landmarks, targets = match(
            anchor, keyframes[m], sources, images(keyframes[m].id), slopes, levels)
        return Observations(n, m, landmarks, targets, np.ones(len(landmarks)))

    return [o for o in side_by_side(observed, partners)
            if len(o.landmarks) >= MIN_CORRESPONDENCES]


def _bridges(state: MapState, keyframes: list[Keyframe], found: list[Observations]
             ) -> list[Observations]:
    """Observations made while mapping, between groups that no precise ones connect."""
    first, second = np.array([(o.anchor, o.observer) for o in found]).T
    group = np.arange(len(keyframes))
    for _ in keyframes:  # no way through the pairs is longer
        np.minimum.at(group, first, group[second])
        np.minimum.at(group, second, group[first])
    return [o for o in state.seen.among(keyframes) if group[o.anchor] != group[o.observer]]


def _disagreeing(found: list[Observations], solution: Solution, count: int) -> list[int]:
    """Keyframes, by position, that contradict the others; never the first, their origin."""
    made, agreeing = np.zeros(count), np.zeros(count)
    for o, inliers in zip(found, solution.inliers):  # those between groups come last
        for n in (o.anchor, o.observer):
            made[n] += len(inliers)
            agreeing[n] += inliers.sum()
    share = agreeing[made > 0] / made[made > 0]
    # Of two that disagree, nothing tells which one is wrong
    return [n for n in range(1, count)
            if count > 2 and agreeing[n] < MIN_AGREEMENT * np.median(share) * made[n]]


def _apply(state: MapState, ids: list[int], observations: list[Observations], solution: Solution
           ) -> None:
    """Take over a solution; landmarks without observations are scaled as their keyframe's."""
    for n, i in enumerate(ids):
        keyframe, landmarks = state.keyframes[i], solution.inverse_depths[n]
        seen = np.zeros(len(landmarks), bool)
        for o in observations:
            if o.anchor == n:
                seen[o.landmarks] = True
        if seen.any():
            change = float(np.median(landmarks[seen] / keyframe.landmarks[seen]))
            landmarks = np.where(seen, landmarks, keyframe.landmarks * change)
        state.change(i, T_map_cam=se3.inverse(solution.T_cam_map[n]), landmarks=landmarks,
                     information=np.where(seen, solution.information[n], keyframe.information))
    take_over_unknowns(state, solution)
