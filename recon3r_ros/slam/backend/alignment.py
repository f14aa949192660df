# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From pairwise pointmaps to one frame: DUSt3R's global alignment, incrementally.

Each edge gives a similarity in closed form by IRLS-Procrustes (the minimum of DUSt3R's eq. 5 for
one edge, its scale included); the keyframes are Sim(3) nodes of a GTSAM iSAM2 graph (Kaess et al.,
IJRR 2012), which distributes the correction of a loop closure (Strasdat et al., 'Scale Drift-Aware
Large Scale Monocular SLAM', RSS 2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import sim3
from recon3r_ros.geometry.procrustes import robust_procrustes
from recon3r_ros.models.types import Prediction

# GTSAM is loaded when the first graph is made: the node, whose mapper is another process, has none
if TYPE_CHECKING:
    import gtsam

Array = NDArray[np.float64]

#: Pointmaps are subsampled to about this many points an edge; more would be correlated
EDGE_POINTS = 4000
MIN_EDGE_POINTS = 50
#: Confidences are clipped to this value, so that a few points do not dominate
MAX_CONFIDENCE = 400.0
#: Confidence below which a point is excluded: a relative depth error above 1 / sqrt(.)
MIN_CONFIDENCE = 10.0
#: Errors of neighbouring points are correlated: an edge counts as this many points at most
INDEPENDENT_POINTS = 100
_HUBER = 1.345
_ANCHOR_SIGMA = 1e-6


@dataclass(frozen=True, eq=False)
class Edge:
    """
    A measured similarity between keyframes.

    :param i: reference keyframe
    :param j: other keyframe
    :param S_i_j: (4, 4) maps j's camera frame to i's
    :param sigma: standard deviation of rotation (radians), translation (relative to depth) and
        log scale
    :param depth: typical depth in i, which the translation's sigma is multiplied by
    """

    i: int
    j: int
    S_i_j: Array
    sigma: float
    depth: float


def align_pointmaps(source: NDArray[np.float32], source_confidence: NDArray[np.float32],
                    target: NDArray[np.float32], target_confidence: NDArray[np.float32]
                    ) -> tuple[Array, float] | None:
    """
    Similarity between two pointmaps of the same pixels.

    :param source: (H, W, 3)
    :param source_confidence: (H, W)
    :param target: (H, W, 3)
    :param target_confidence: (H, W)
    :return: S_target_source (4, 4) and the sigma of its parameters, or None where the pointmaps
        share too few confident points
    """
    step = max(1, int(np.sqrt(source_confidence.size / EDGE_POINTS)))
    confidence = np.minimum(source_confidence[::step, ::step], target_confidence[::step, ::step])
    use = confidence > MIN_CONFIDENCE
    if use.sum() < MIN_EDGE_POINTS:
        return None
    try:
        fit = robust_procrustes(source[::step, ::step][use], target[::step, ::step][use],
                                np.minimum(confidence[use], MAX_CONFIDENCE))
    except GeometryError:
        return None
    return fit.S_target_source, fit.sigma / np.sqrt(min(use.sum(), INDEPENDENT_POINTS))


def measure_edge(forward: Prediction, backward: Prediction,
                 canonical: tuple[NDArray[np.float32], NDArray[np.float32]] | None
                 ) -> tuple[Array, float] | None:
    """
    Similarity from view j's own pointmap to view i's camera frame.

    :param forward: prediction for (i, j), in i's frame
    :param backward: prediction for (j, i), in j's frame
    :param canonical: i's pointmap (H, W, 3) in map units and its confidence; None where i has none
        yet, which leaves the prediction's scale
    :return: S_i_j (4, 4) from the units of `backward` to map units, and its sigma
    """
    between = align_pointmaps(backward.pointmaps[0], backward.confidences[0],
                              forward.pointmaps[1], forward.confidences[1])
    if between is None:
        return None
    if canonical is None:
        return between
    own = align_pointmaps(forward.pointmaps[0], forward.confidences[0], *canonical)
    if own is None:
        return None
    return own[0] @ between[0], float(np.hypot(own[1], between[1]))


class PoseGraph:
    """Keyframes as similarities T_map_keyframe, edges as robust measurements, solved by iSAM2."""

    def __init__(self) -> None:
        import gtsam
        parameters = gtsam.ISAM2Params()
        # The defaults relinearise so rarely that a closed loop falls short of the optimum
        parameters.relinearizeSkip = 1
        parameters.setRelinearizeThreshold(0.001)
        self._isam = gtsam.ISAM2(parameters)
        self._factors: dict[tuple[int, int], int] = {}
        self.nodes: set[int] = set()

    def update(self, initial: dict[int, Array], edges: list[Edge]) -> dict[int, Array]:
        """
        Add keyframes and add or replace edges.

        :param initial: S_map_keyframe (4, 4) of new keyframes; the very first one is fixed
        :param edges: measurements; one between the same keyframes replaces an older one
        :return: S_map_keyframe (4, 4) of all keyframes
        :raises GeometryError: where the system is too poorly conditioned to be solved; the graph
            cannot be used any more
        """
        import gtsam
        graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
        keys: list[tuple[int, int] | None] = []
        for node, S in initial.items():
            values.insert(node, _to_gtsam(S))
            if not self.nodes:
                graph.add(gtsam.PriorFactorSimilarity3(
                    node, _to_gtsam(S), gtsam.noiseModel.Isotropic.Sigma(7, _ANCHOR_SIGMA)))
                keys.append(None)
            self.nodes.add(node)
        replaced = []
        for edge in edges:
            key = (edge.i, edge.j)
            if key in self._factors:
                replaced.append(self._factors.pop(key))
            sigmas = edge.sigma * np.array([1, 1, 1, edge.depth, edge.depth, edge.depth, 1])
            noise = gtsam.noiseModel.Robust.Create(
                gtsam.noiseModel.mEstimator.Huber.Create(_HUBER),
                gtsam.noiseModel.Diagonal.Sigmas(sigmas))
            graph.add(gtsam.BetweenFactorSimilarity3(
                edge.i, edge.j, _to_gtsam(edge.S_i_j), noise))
            keys.append(key)
        try:
            result = self._isam.update(graph, values, replaced)
        except RuntimeError as error:
            raise GeometryError('the pose graph is indeterminate') from error
        for added, index in zip(keys, result.getNewFactorsIndices()):
            if added is not None:
                self._factors[added] = index
        return self.estimate()

    def settle(self) -> dict[int, Array]:
        """Iterate until a large correction has propagated through the graph."""
        for _ in range(10):
            self._isam.update()
        return self.estimate()

    def estimate(self) -> dict[int, Array]:
        """Return S_map_keyframe (4, 4) of all keyframes."""
        values = self._isam.calculateEstimate()
        return {node: _from_gtsam(values.atSimilarity3(node)) for node in self.nodes}


def _to_gtsam(S: Array) -> gtsam.Similarity3:
    """Both act as s R p + t; GTSAM's stores t / s."""
    import gtsam
    scale, rotation, translation = sim3.decompose(S)
    return gtsam.Similarity3(gtsam.Rot3(rotation), translation / scale, float(scale))


def _from_gtsam(similarity: gtsam.Similarity3) -> Array:
    scale = similarity.scale()
    return sim3.compose(scale, similarity.rotation().matrix(), scale * similarity.translation())
