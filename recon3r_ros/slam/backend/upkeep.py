# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Upkeep of a map that grows: its metre, final depths, a check of the focal length, culling."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from recon3r_ros.slam.backend import pair_graph, self_calibration
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.refinement import (
    ANCHORS,
    densify,
    judge_metre,
    SELF_CALIBRATION_KEYFRAMES,
    solve,
)

#: The pose graph is rebuilt when it has so many times the map's keyframes: of culled ones, too
GRAPH_SIZE = 2
#: Growth of a map whose metre the cameras of a rig tell, until the whole of it is adjusted again
GROWN = 4 / 3


def maintain(state: MapState) -> None:
    """Do what is due with a new keyframe, which the pose graph has taken."""
    _estimate_metre(state)
    _leave_window(state)
    if len(state.keyframes) == self_calibration.KEYFRAMES:
        self_calibration.check(state)


def cull(state: MapState, most: int, in_use: Collection[int]) -> None:
    """
    Cull the most redundant keyframe, where there are too many.

    :param most: keyframes that the map may have
    :param in_use: keyframes that cameras are tracked against, which stay
    """
    ids = state.ids
    # The first one is the map's origin, the newest ones are still being refined
    settled = range(1, len(ids) - state.window - ANCHORS)
    candidates = [n for n in settled if ids[n] not in in_use]
    if len(ids) <= most or not candidates:
        return
    lost, kept = pair_graph.most_redundant(
        np.stack([k.T_map_cam for k in state.keyframes.values()]),
        np.array([k.median_depth() for k in state.keyframes.values()]), candidates)
    state.retire(ids[lost], ids[kept])
    if state.graph.size > GRAPH_SIZE * len(state.keyframes):
        state.rebuild_graph()


def _estimate_metre(state: MapState) -> None:
    """Estimate the length of a metre with the whole map, whenever that has grown enough."""
    count, measured = len(state.keyframes), state.measured
    if not measured.estimated:
        return
    if count > SELF_CALIBRATION_KEYFRAMES:
        if count < GROWN * measured.estimated_with:
            return
        solve(state, state.ids, {state.ids[0]})
        state.rebuild_graph()
    measured.estimated_with = count
    judge_metre(state)


def _leave_window(state: MapState) -> None:
    """Fuse the final depth of the keyframe that leaves the window, and drop its images."""
    ids = state.ids
    if len(ids) <= state.window:
        return
    densify(state, [ids[-state.window - 1]])
    state.drop_vanished(ids[-state.window - 1])
    state.change(ids[-state.window - 1], attention=None)
    recent = set(ids[-state.window:])
    state.pairing.keep(recent, state.keyframes)
    state.dense.keep_any(recent)
    state.learned.keep(recent)
    state.measured.keep(recent)
    state.motion.keep(recent)
