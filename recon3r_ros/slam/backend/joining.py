# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two maps of one place are joined by a keyframe that is in both."""

from __future__ import annotations

from dataclasses import replace
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend import pair_graph
from recon3r_ros.slam.backend.insertion import Added, New, relocalised
from recon3r_ros.slam.backend.map_graph import chain, MapGraph
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.refinement import refine
from recon3r_ros.slam.backend.sightings import Sightings
from recon3r_ros.slam.types import at, Keyframe, TrackedFrame

_log = logging.getLogger(__name__)

#: Landmarks whose depths must be known in both maps, and spread (logarithm) of their ratio
MIN_COMMON, MAX_SPREAD = 20, 0.15
#: Keyframes of a map, spread over it, by which it is tried to be joined with another
ATTEMPTS = 6


def joined_by_newest(base: MapState, addition: MapState, new: New, needed: float
                     ) -> MapState | None:
    """
    Join two maps by the newest keyframe of one, where it is relocalised in the other.

    :param base: stays as it is; the joined map is in its frame and units
    :param new: the keyframe, which is in the addition already
    :param needed: share of its observations that must agree with the base
    :return: None where they are not of one place
    """
    if not pair_graph.looks_known([k.descriptor for k in base.keyframes.values()],
                                  [k.descriptor for k in addition.keyframes.values()]):
        return None
    added = relocalised(base, replace(new, view=replace(new.view, pose=None)),
                        pair_graph.LOST_CANDIDATES, needed)
    return None if added is None else _joined_by(added, addition, new.keyframe.id)


def joined_by_any(base: MapState, addition: MapState, number: int, needed: float
                  ) -> MapState | None:
    """
    Join two maps by any keyframe of one that is relocalised in the other.

    :param base: stays as it is; the joined map is in its frame and units
    :param number: id that is free in both maps
    :param needed: share of a keyframe's observations that must agree with the base
    :return: None where they are not of one place
    """
    ids = addition.ids
    for i in ids[::max(1, len(ids) // ATTEMPTS)]:
        k = addition.keyframes[i]
        new = New.of(base, number, TrackedFrame(
            k.name, k.stamp_ns, k.index, camera_name=k.camera_name),
            addition.pairing.archive[i].view(addition.focal_factor), k.gray)
        if new.keyframe.image.shape != k.image.shape:
            continue
        added = relocalised(base, new, pair_graph.LOST_CANDIDATES, needed)
        found = None if added is None else _joined_by(added, addition, i)
        if found is not None:
            return found
    return None


def _joined_by(added: Added, addition: MapState, number: int) -> MapState | None:
    """
    Make one map of two; None where their depths do not agree, or are degenerate.

    :param added: the one map, with a keyframe of the other
    :param number: the keyframe's id in the other map
    """
    here, there = added.state.keyframes[added.number], addition.keyframes[number]
    scale = relative_scale(here, there)
    if scale is None:
        return None
    T_base_addition = here.T_map_cam @ se3.inverse(se3.stretched(there.T_map_cam, scale))
    try:
        state = joined(added.state, addition, scale, T_base_addition, (added.number, number))
    except GeometryError:
        return None
    refine(state, {p.partner for p in added.pairs})
    _log.info('maps %d and %d joined at keyframe %s', added.state.number, addition.number,
              there.name)
    return state


def relative_scale(known: Keyframe, other: Keyframe) -> float | None:
    """
    Factor from the units of another map to those of this one, by one image that is in both.

    :param known: the image in this map
    :param other: in the other map, with dense depth, on the same grid
    :return: None where too few depths are known in both, or where they do not agree
    """
    here, there = known.landmarks, at(other.inverse_depth, known.keypoints)
    both = (here > 0) & (there > 0)
    if both.sum() < MIN_COMMON:
        return None
    ratios = np.log(there[both] / here[both])
    factor = float(np.median(ratios))
    if np.median(np.abs(ratios - factor)) > MAX_SPREAD:
        return None
    return float(np.exp(factor))


def joined(base: MapState, addition: MapState, scale: float,
           T_base_addition: NDArray[np.float64], link: tuple[int, int]) -> MapState:
    """
    Add all of a map to another; the newest keyframes are those of the addition.

    :param base: a fork; of a keyframe in both, its observations are kept, else the addition's
    :param scale: factor from the addition's units of length to the base's
    :param T_base_addition: (4, 4) in the base's units
    :param link: keyframes of the base and of the addition at one place; may be the same
    """
    keyframes = dict(base.keyframes)
    addition = addition.fork()
    addition.refocus(base.focal_factor / addition.focal_factor)
    for i, k in addition.keyframes.items():
        keyframes[i] = replace(
            k, T_map_cam=se3.normalized(T_base_addition @ se3.stretched(k.T_map_cam, scale)),
            landmarks=k.landmarks / scale,
            inverse_depth=k.inverse_depth / np.float32(scale))
    keyframes = {i: keyframes[i] for i in sorted(keyframes)}
    graph = MapGraph()
    graph.scales = {**base.graph.scales,
                    **{i: s * scale for i, s in addition.graph.scales.items()}}
    pairing = addition.pairing.copy()
    pairing.archive = {**base.pairing.archive, **pairing.archive}
    seen = {(o.anchor, o.observer): o for state in (addition, base) for o in state.seen.saved()}
    edges = list(dict.fromkeys((*base.edges, *addition.edges)))
    graph.extend(keyframes, {
        *(pair for state in (base, addition) for pair in chain(state.ids)),
        *((e.i, e.j) for e in edges if e.i in keyframes and e.j in keyframes
          and (e.i in addition.keyframes) != (e.j in addition.keyframes)),
        *((link,) if link[0] != link[1] else ())})
    return replace(
        addition, number=base.number, next_id=max(base.next_id, addition.next_id),
        keyframes=keyframes, pairing=pairing, graph=graph,
        seen=Sightings(seen.values()), edges=edges, focal_factor=base.focal_factor,
        retired={**base.retired, **addition.retired},
        measured=base.measured.joined(addition.measured, scale),
        model_scale=base.model_scale.copy(),
        rig_scale=base.rig_scale.joined(addition.rig_scale, scale))
