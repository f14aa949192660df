# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Initial poses of new keyframes, and the unit of length of a new map."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.geometry.pnp import focal_change, PnPResult, solve_pnp
from recon3r_ros.slam.backend import alignment
from recon3r_ros.slam.backend.learned import LearnedDepth, MAX_INFORMATION
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.options import TRACKED_INFORMATION
from recon3r_ros.slam.types import at, Keyframe, Pair

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)
#: Least correspondences of keypoints to estimate a keyframe's pose
MIN_PLACED = 25
#: Share of a first pair's static keypoints that must have depth, and with what confidence (inverse
#: variance): below it the error of the pair's pose, which confidences do not include, would
#: dominate its depths. Where the overlap falls below a half, the next pair will be no better, and
#: less must do
MIN_FIRST_SHARE, SURE = 0.25, 900.0
LITTLE_OVERLAP, LEAST_FIRST_SHARE = 0.5, 0.15
#: Reprojection error of PnP on the partners' landmarks, grid pixels
PLACING_ERROR = 2.0
#: Change of the logarithm of the focal length up to which it is the same
SAME_FOCAL = 0.05


def begin_alone(state: MapState, i: int) -> bool:
    """
    Initialise the first keyframe with predicted depth; its median becomes the unit of length.

    :return: whether there is enough
    """
    prediction = state.pairing.predict_alone(state.keyframes[i], state.focal_factor)
    focal = state.pairing.focal()
    if focal is not None and not state.calibrated:
        state.refocus(float(np.exp(focal)))
    keyframe = state.keyframes[i]
    learned = LearnedDepth.of(prediction)
    depths, confidences = learned.at(keyframe.keypoints)
    if (confidences > 0).sum() < MIN_PLACED:
        return False
    state.learned.add(i, i, learned)
    landmarks = np.where(confidences > 0, np.median(depths[confidences > 0]) / np.where(
        depths > 0, depths, 1.0), 0.0)
    state.change(i, landmarks=landmarks,
                 information=np.minimum(confidences, MAX_INFORMATION))
    return True


def begin_measured(state: MapState, i: int) -> bool:
    """
    Initialise the first keyframe with measured depth; its median becomes the unit of length.

    With a guessed focal length it is left to a pair, which estimates that: in metres, a wrong
    focal length would not show.

    :return: whether enough of its static keypoints have measured depth
    """
    keyframe = state.keyframes[i]
    static = ~at(keyframe.mask, keyframe.keypoints)
    depths = state.measured.of_landmarks(keyframe)
    known = depths > 0
    if not state.calibrated or known.sum() < max(MIN_PLACED, MIN_FIRST_SHARE * static.sum()):
        return False
    state.measured.metre = 1 / float(np.median(depths[known]))
    inverse_depths, information = state.measured.prior(keyframe)
    state.change(i, landmarks=np.where(known, inverse_depths, 0.0), information=information)
    return True


def begin(state: MapState, pair: Pair, overlap: float) -> Array | None:
    """
    Pose the second keyframe; the first one's median depth becomes the unit of length.

    :param overlap: share of the first one's keypoints that the second one observes
    :return: its T_map_cam (4, 4); None where the pair has too little depth
    """
    first = state.keyframes[pair.partner]
    sure = at(pair.of_partner.confidence, first.keypoints) > SURE
    static = ~at(first.mask, first.keypoints)
    sure &= static
    edge = alignment.measure_edge(pair.forward, pair.backward, None)
    share = MIN_FIRST_SHARE if overlap > LITTLE_OVERLAP else LEAST_FIRST_SHARE
    if edge is None or sure.sum() < max(MIN_PLACED, share * static.sum()):
        return None
    own = at(pair.forward.pointmaps[0], first.keypoints)[:, 2]
    unit = 1 / float(np.median(own[sure]))
    state.change(first.id, landmarks=np.where(
        static & (at(pair.of_partner.confidence, first.keypoints) > 0), 1 / (own * unit), 0))
    _, rotation, translation = sim3.decompose(edge[0])
    return first.T_map_cam @ se3.from_rt(rotation, unit * translation)


def place(state: MapState, new: Keyframe, pairs: list[Pair], T_map_cam: Array | None
          ) -> Array | None:
    """
    Pose of a new keyframe by PnP on its partners' landmarks.

    :param T_map_cam: (4, 4) by tracking, where it is known
    :return: (4, 4); that by tracking where too few landmarks are observed
    """
    result = pose_by(state, new, pairs, T_map_cam)
    if result is None or result.inliers.sum() < MIN_PLACED:
        return T_map_cam
    return se3.inverse(result.T_cam_world)


def pose_by(state: MapState, new: Keyframe, pairs: list[Pair], T_map_cam: Array | None
            ) -> PnPResult | None:
    """
    Estimate a view's pose in the map by PnP on its partners' landmarks.

    :param T_map_cam: (4, 4) to begin with, where it is known
    :return: None where it is undetermined
    """
    return solve_pnp(*_observed(state, pairs), new.camera,
                     None if T_map_cam is None else se3.inverse(T_map_cam), PLACING_ERROR)


def has_same_focal(state: MapState, new: Keyframe, pairs: list[Pair], T_map_cam: Array) -> bool:
    """
    Verify that a new keyframe's focal length is that of the map, before it is adjusted.

    :param T_map_cam: (4, 4) by `place`
    """
    change, sigma = focal_change(*_observed(state, pairs), new.camera, se3.inverse(T_map_cam))
    if abs(change) + 2 * sigma < SAME_FOCAL:
        return True
    _log.info('keyframe %s rejected: it does not have the focal length of the map, or it cannot '
              'be told', new.name)
    return False


def _observed(state: MapState, pairs: list[Pair]) -> tuple[Array, Array]:
    """Landmarks of a new keyframe's partners (N, 3), map frame, and its pixels (N, 2) of them."""
    points, pixels = [], []
    for pair in pairs:
        partner = state.keyframes[pair.partner]
        known = (at(pair.of_partner.confidence, partner.keypoints) > 0) & (
            partner.information > TRACKED_INFORMATION)
        points.append(se3.transform(partner.T_map_cam, partner.landmark_points()[known]))
        pixels.append(at(pair.of_partner.targets, partner.keypoints)[known])
    return np.concatenate(points), np.concatenate(pixels)
