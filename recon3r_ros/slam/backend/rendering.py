# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Pose and depth of a frame that does not become a keyframe, by a network (MUSt3R, section 3.3).

The frame is rendered against the memory of its camera's window, or predicted with one keyframe
where a predictor takes pairs. The map stays as it is, but for the memory, which is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.models.types import View
from recon3r_ros.slam.backend.insertion import is_verified, New
from recon3r_ros.slam.backend.learned import LearnedDepth, length_of, MIN_INFORMATION
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.placement import MIN_PLACED, pose_by
from recon3r_ros.slam.types import Keyframe, TrackedFrame

#: Id of a rendered frame: that of no keyframe
NO_KEYFRAME = -1


@dataclass(frozen=True, eq=False)
class Rendered:
    """
    A frame with pose and depth by a network.

    :param view: as a keyframe without landmarks, with pose and depth in map units; the depth is
        unknown on dynamic objects, and everywhere where the network's unit is
    :param pose: of its camera in the map, by the landmarks of the keyframe it was rendered with
    :param partner: id of that keyframe
    """

    view: Keyframe
    pose: PnPResult
    partner: int


def render(state: MapState, frame: TrackedFrame, view: View, gray: NDArray[np.uint8],
           reference: int, needed: float) -> Rendered | None:
    """
    Estimate pose and depth of a frame in a map.

    A pose that tracking does not know is verified by appearance, as that of a relocalised
    keyframe.

    :param view: with its dynamic mask, and its pose where tracking knows it
    :param gray: (H', W') uint8 tracking image
    :param reference: keyframe it is tracked against, or was last
    :param needed: share of the partner's landmarks that must agree with the pose
    :return: None where it does not show what the partner does
    """
    if reference not in state.keyframes:
        return None
    new = New.of(state, NO_KEYFRAME, frame, view, gray)
    pairs = state.pairing.rendered(new.keyframe, new.encoding, state.keyframes, reference,
                                   state.focal_factor, state.measured.metre,
                                   view.pose is not None)
    if not pairs:
        return None
    pair, = pairs
    partner = state.keyframes[pair.partner]
    pose = pose_by(state, new.keyframe, pairs, None if view.pose is None else view.pose.T_map_cam)
    if pose is None or pose.inliers.sum() < max(MIN_PLACED, needed * len(pose.inliers)):
        return None
    found = replace(new.keyframe, T_map_cam=se3.inverse(pose.T_cam_world))
    if view.pose is None and not is_verified(found, [partner]):
        return None
    learned = LearnedDepth.of(pair.backward)
    length = length_of([(partner, pair.backward)], found.T_map_cam)
    if length is not None:
        usable = (learned.depth > 0) & (learned.confidence > MIN_INFORMATION) & ~found.mask
        inverse = usable / (length * np.where(usable, learned.depth, 1.0))
        found = replace(found, inverse_depth=inverse.astype(np.float32),
                        confidence=np.where(usable, learned.confidence, 0).astype(np.float32))
    return Rendered(found, pose, partner.id)
