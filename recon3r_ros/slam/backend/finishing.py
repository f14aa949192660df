# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A map after its last keyframe: all keyframes refined jointly, and their depths fused."""

from __future__ import annotations

import logging

import numpy as np
from recon3r_ros.slam.backend import self_calibration
from recon3r_ros.slam.backend.fine_refinement import refine_finely
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.refinement import densify, judge_metre, solve

_log = logging.getLogger(__name__)

#: Iterations of the bundle adjustment of all keyframes
GLOBAL_ITERATIONS = 15


def finish(state: MapState) -> None:
    """
    Refine a map that has depth; keyframes whose observations disagree with it are dropped.

    :param state: with a first keyframe, which stays the map's origin
    """
    ids = state.ids
    before = {i: state.keyframes[i].landmarks for i in ids}
    solve(state, ids, {ids[0]}, GLOBAL_ITERATIONS)
    refined = refine_finely(state)
    if refined is not None:
        self_calibration.check_finely(state, refined.problem)
        for i in refined.wrong:
            _log.info('keyframe %s dropped: its observations disagree with the map',
                      state.keyframes[i].name)
            state.drop(i)
        ids = state.ids
    judge_metre(state)
    # Older keyframes have no pairs any more: their depths are scaled as their landmarks
    for i in ids:
        keyframe = state.keyframes[i]
        known = (before[i] > 0) & (keyframe.landmarks > 0)
        if known.any():
            change = np.float32(np.median(keyframe.landmarks[known] / before[i][known]))
            state.change(i, inverse_depth=keyframe.inverse_depth * change)
    densify(state, ids[-state.window:])
    for i, mask in state.motion.of_all(state.keyframes[max(state.keyframes)]).items():
        if i in state.keyframes:
            state.leave_out(i, mask)
    for i in ids[-state.window:]:
        state.drop_vanished(i)
