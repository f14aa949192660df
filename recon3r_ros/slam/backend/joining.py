# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two maps of one place are joined by a keyframe that is in both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend.map_graph import chain, MapGraph
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.sightings import Sightings
from recon3r_ros.slam.types import at, Keyframe

#: Landmarks whose depths must be known in both maps, and spread (logarithm) of their ratio
MIN_COMMON, MAX_SPREAD = 20, 0.15


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
