# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sim(3) graph of the keyframes: from refined poses to the corrections of loop closures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.slam.backend import alignment, appearance
from recon3r_ros.slam.types import Keyframe, Pair

Array = NDArray[np.float64]

_log = logging.getLogger(__name__)
#: Uncertainty of edges between keyframes refined jointly (radians, relative to depth)
_REFINED_SIGMA = 0.002


#: Keyframes this close to each other get an edge of the graph from their refined poses
CHAINED = 2


def chain(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Links of keyframes that were refined jointly, as far as that follows from their order."""
    return [(i, j) for n, i in enumerate(ids) for j in ids[n + 1:n + 1 + CHAINED]]


class MapGraph:
    """Similarities of keyframes; `scales`: factors of their depths by loop closures."""

    def __init__(self) -> None:
        self.scales: dict[int, float] = {}
        self._graph = alignment.PoseGraph()

    def extend(self, keyframes: Mapping[int, Keyframe], links: Iterable[tuple[int, int]]) -> None:
        """
        Add new keyframes, and edges between refined ones.

        :param keyframes: all of the map
        :param links: ids of those that were refined jointly
        """
        edges = [self._refined_edge(keyframes[i], keyframes[j]) for i, j in links]
        nodes = {i: self._similarity(k) for i, k in keyframes.items()
                 if i not in self._graph.nodes}
        self._graph.update(nodes, edges)

    @property
    def size(self) -> int:
        """How many nodes the graph has, those of culled keyframes included."""
        return len(self._graph.nodes)

    def rebuilt(self, keyframes: Mapping[int, Keyframe], retired: Collection[int],
                loops: Iterable[tuple[int, int]]) -> MapGraph:
        """
        Return a graph of the present keyframes alone.

        Its edges are measured from the present poses: iSAM2 cannot remove a keyframe, and what it
        has learned of the others through that one would be lost without it.

        :param keyframes: all of the map
        :param retired: culled keyframes, whose scales are kept
        :param loops: pairs of keyframes that closed loops
        :raises GeometryError: where the poses are degenerate
        """
        graph = self.emptied({*keyframes, *retired})
        graph.extend(keyframes, dict.fromkeys((*chain(list(keyframes)), *loops)))
        return graph

    def emptied(self, ids: Collection[int]) -> MapGraph:
        """Return a graph without nodes, with the scales of these keyframes."""
        graph = MapGraph()
        graph.scales = {i: s for i, s in self.scales.items() if i in ids}
        return graph

    def loop_edge(self, pair: Pair, partner: Keyframe, new: Keyframe,
                  metric: bool = False) -> alignment.Edge | None:
        """
        Measure the edge that closes a loop; None where depths or appearance do not agree.

        :param metric: whether the scale of the map cannot drift: the loop tells none then
        """
        to_partner = alignment.measure_edge(
            pair.forward, pair.backward, (partner.pointmap(), partner.confidence))
        to_own = alignment.align_pointmaps(
            new.pointmap(), new.confidence, pair.backward.pointmaps[0],
            pair.backward.confidences[0])
        if to_partner is None or to_own is None:
            return None
        _, rotation, translation = sim3.decompose(to_partner[0] @ to_own[0])
        T_partner_new = se3.from_rt(rotation, translation)
        if not appearance.verified(partner, new, T_partner_new):
            _log.info('loop between keyframes %d and %d rejected: the image does not look as the '
                      'map predicts it', partner.id, new.id)
            return None
        S_partner_new = T_partner_new if metric else to_partner[0] @ to_own[0]
        # From the keyframes' present depths to those that their nodes stand for
        S = (np.diag([1, 1, 1, self.scales[partner.id]]) @ S_partner_new
             @ np.diag([1, 1, 1, 1 / self.scales[new.id]]))
        return alignment.Edge(partner.id, new.id, S / S[3, 3],
                              float(np.hypot(to_partner[1], to_own[1])),
                              self._typical_depth(partner))

    def close(self, edge: alignment.Edge) -> dict[int, Array]:
        """Close a loop; the similarities (4, 4) of all nodes then, by id."""
        self._graph.update({}, [edge])
        return self._graph.settle()

    def _similarity(self, keyframe: Keyframe) -> Array:
        """Node of the graph, with the factor of the keyframe's depths since it was added."""
        T = keyframe.T_map_cam
        return sim3.compose(self.scales.setdefault(keyframe.id, 1.0), T[:3, :3], T[:3, 3])

    def _refined_edge(self, a: Keyframe, b: Keyframe) -> alignment.Edge:
        return alignment.Edge(a.id, b.id, sim3.inverse(self._similarity(a)) @ self._similarity(b),
                              _REFINED_SIGMA, self._typical_depth(a))

    def _typical_depth(self, keyframe: Keyframe) -> float:
        """Median depth in the units that the keyframe's node stands for."""
        return keyframe.median_depth() / self.scales[keyframe.id]
