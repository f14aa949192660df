# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The pose graph takes a new keyframe; where it closes a loop, the whole map is corrected."""

from __future__ import annotations

from dataclasses import replace
import logging

import numpy as np
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.slam.backend.insertion import Added
from recon3r_ros.slam.backend.map_graph import CHAINED
from recon3r_ros.slam.backend.refinement import refine

_log = logging.getLogger(__name__)


def connect(added: Added) -> None:
    """
    Add refined poses to the graph; where a loop closes, apply its correction.

    :raises GeometryError: where the graph cannot take the keyframe, as its depths are degenerate
    """
    state, new_id, pairs, loop = added.state, added.number, added.pairs, added.loop
    recent = set(state.ids[-state.window:])
    partners = {p.partner for p in pairs} - {loop}
    state.graph.extend(state.keyframes, [
        (i, j) for i, j in state.seen.pairs
        if (i in recent and i < j <= i + CHAINED) or (j == new_id and i in partners)]
        + [(e.i, e.j) for e in state.edges if e.j == new_id and not pairs])
    edge = None if loop is None else state.graph.loop_edge(
        pairs[-1], state.keyframes[loop], state.keyframes[new_id],
        state.measured.metre is not None)
    if edge is None:
        return
    for i, S in state.graph.close(edge).items():
        if i not in state.keyframes:
            continue
        scale, rotation, translation = sim3.decompose(S)
        change = scale / state.graph.scales[i]
        keyframe = state.keyframes[i]
        state.graph.scales[i] = float(scale)
        state.model_scale.rescale(i, float(change))
        state.rig_scale.rescale(i, float(change))
        state.change(i, T_map_cam=se3.normalized(se3.from_rt(rotation, translation)),
                     landmarks=keyframe.landmarks / change,
                     inverse_depth=keyframe.inverse_depth / np.float32(change))
    refine(state, {p.partner for p in pairs})
    state.edges = [replace(e, loop=True) if (e.i, e.j) == (edge.i, edge.j) else e
                   for e in state.edges]
    _log.info('loop closed between keyframes %d and %d', edge.i, edge.j)
