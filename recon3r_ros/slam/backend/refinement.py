# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windowed bundle adjustment of a map's keyframes, and fusion of their depths."""

from __future__ import annotations

from dataclasses import replace
import math

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.backend import bundle_adjustment, depth
from recon3r_ros.slam.backend.adjustment_problem import Observations, Problem, Solution
from recon3r_ros.slam.backend.bundle_adjustment import ALIKE
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.rig_links import links_of
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]

#: Keyframes before the window that are held fixed
ANCHORS = 3
#: With unknown focal length, or an unknown distance between the cameras of a rig, all keyframes
#: are refined jointly until there are this many
SELF_CALIBRATION_KEYFRAMES = 24


def refine(state: MapState, partners: set[int]) -> float:
    """
    Adjust the window; older keyframes are held fixed.

    :param partners: keyframes that the newest one was predicted with
    :return: share of the newest keyframe's observations that agree with the rest
    """
    ids = state.ids
    unsure = not state.calibrated or state.measured.estimated
    if unsure and len(ids) <= SELF_CALIBRATION_KEYFRAMES:
        return solve(state, ids, {ids[0]})
    window = ids[-state.window:]
    anchors = set(ids[-state.window - ANCHORS:-state.window]) | (partners - set(window))
    return solve(state, sorted(anchors | set(window)), anchors or {ids[0]})


def solve(state: MapState, ids: list[int], fixed: set[int], iterations: int = 5) -> float:
    """
    Adjust some keyframes, their landmarks and, where it is unknown, the focal length.

    :param fixed: those whose poses are held fixed
    :return: share of the last one's observations that agree with the rest
    """
    keyframes = [state.keyframes[i] for i in ids]
    observations = state.seen.among(keyframes)
    if not observations:
        return 0.0  # a first keyframe alone
    solution = adjusted(state, ids, fixed, observations, [k.camera for k in keyframes], iterations)
    for n, i in enumerate(ids):
        state.change(i, T_map_cam=se3.inverse(solution.T_cam_map[n]),
                     landmarks=solution.inverse_depths[n], information=np.maximum(
                         solution.information[n], state.keyframes[i].information * (i in fixed)))
    take_over_unknowns(state, solution)
    agreement = [good for o, good in zip(observations, solution.inliers)
                 if len(ids) - 1 in (o.anchor, o.observer)]
    return float(np.concatenate(agreement).mean()) if any(map(len, agreement)) else 0.0


def take_over_unknowns(state: MapState, solution: Solution) -> None:
    """Take over the focal length and the length of a metre, where they are estimated."""
    if solution.focal_factor != 1.0:
        state.refocus(solution.focal_factor)
    if state.measured.metre is not None:
        state.measured.metre *= solution.stretch


def judge_metre(state: MapState) -> None:
    """Find how certain the length of a metre is that the cameras of a rig have given."""
    if not state.measured.estimated:
        return
    ids = state.ids
    keyframes = [state.keyframes[i] for i in ids]
    observations = state.seen.among(keyframes)
    if not observations:
        return
    problem = problem_of(state, ids, {ids[0]}, observations, [k.camera for k in keyframes])
    state.measured.sigma = math.inf if problem.links is None else (
        ALIKE * bundle_adjustment.scale_sigma(problem))


def adjusted(state: MapState, ids: list[int], fixed: set[int], observations: list[Observations],
             cameras: list[Camera], iterations: int,
             focal_prior: tuple[float, float] | None = None) -> Solution:
    """
    Adjust some keyframes as `solve` does, but change nothing.

    :param observations: of their landmarks, by their positions; targets are pixels of the grid
    :param cameras: of their views, in any size: errors are measured in their pixels
    :param focal_prior: see `Problem`, where a given focal length is refined; None keeps it
    """
    return bundle_adjustment.solve(
        problem_of(state, ids, fixed, observations, cameras, focal_prior), iterations)


def problem_of(state: MapState, ids: list[int], fixed: set[int], observations: list[Observations],
               cameras: list[Camera], focal_prior: tuple[float, float] | None = None) -> Problem:
    """Make the bundle adjustment of some keyframes; see `adjusted`."""
    keyframes = [state.keyframes[i] for i in ids]
    links = links_of(keyframes, state.measured.metre)
    held = np.array([i in fixed for i in ids])
    if links is not None:
        held = (np.bincount(links.leader, held, len(ids)) > 0)[links.leader]
    return Problem(
        T_cam_map=np.stack([se3.inverse(k.T_map_cam) for k in keyframes]),
        fixed=held,
        intrinsics=np.array([[c.fx, c.fy, c.cx, c.cy] for c in cameras]),
        pixels=tuple(_pixels_in(c, k, k.keypoints) for c, k in zip(cameras, keyframes)),
        inverse_depths=tuple(k.landmarks for k in keyframes),
        observations=tuple(replace(o, targets=_pixels_in(
            cameras[o.observer], keyframes[o.observer], o.targets)) for o in observations),
        focal_prior=(focal_prior if state.calibrated
                     else state.pairing.focal_prior(state.focal_factor)),
        depth_priors=tuple(_prior(state, k) for k in keyframes),
        scale_known=links is not None or state.measured.fix_scale(ids), links=links,
        metre_known=not state.measured.estimated)


def _prior(state: MapState, keyframe: Keyframe) -> tuple[Array, Array]:
    """Prior of a keyframe's landmarks: measured where possible, elsewhere predicted."""
    measured = state.measured.prior(keyframe)
    predicted = state.learned.prior(keyframe, state.keyframes)
    known = measured[1] > 0
    return (np.where(known, measured[0], predicted[0]),
            np.where(known, measured[1], predicted[1]))


def _pixels_in(camera: Camera, keyframe: Keyframe, pixels: NDArray[np.int32] | Array) -> Array:
    """Bring pixels (N, 2) of a keyframe's grid to those of another camera of the same view."""
    if (camera.width, camera.height) == (keyframe.camera.width, keyframe.camera.height):
        return pixels.astype(np.float64)
    scale = [camera.width / keyframe.camera.width, camera.height / keyframe.camera.height]
    return np.asarray((pixels + 0.5) * scale - 0.5)


def densify(state: MapState, ids: list[int]) -> None:
    """Fuse all predictions of the depths of some keyframes."""
    votes = {i: _votes(state, i) for i in ids}
    known = [i for i in ids if votes[i]]

    def fused(i: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return depth.fuse(state.keyframes[i].rays(), votes[i])

    for i, (inverse_depth, confidence) in zip(known, side_by_side(fused, known)):
        static = ~state.keyframes[i].mask
        state.change(i, inverse_depth=inverse_depth * static, confidence=confidence * static)


def _votes(state: MapState, i: int) -> list[depth.Vote]:
    keyframe = state.keyframes[i]
    measured = state.measured.votes(keyframe)
    learned = state.learned.votes(keyframe, state.keyframes)
    if learned:
        return [*measured, *learned]
    return [*measured, *(depth.TriangulatedVote(
        se3.inverse(state.keyframes[observer].T_map_cam) @ keyframe.T_map_cam,
        state.keyframes[observer].camera, c.targets, c.confidence)
        for observer, c in state.dense.of(i))]
