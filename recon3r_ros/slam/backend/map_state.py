# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
All mutable data of a map in one value, with which a keyframe is tried, committed or dropped.

A rejected keyframe changes nothing: its data go into a fork, which replaces the state it was
forked from, or is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend.learned import LearnedDepths
from recon3r_ros.slam.backend.map_graph import MapGraph
from recon3r_ros.slam.backend.measured import MeasuredDepths
from recon3r_ros.slam.backend.pairing import Pairing
from recon3r_ros.slam.backend.sightings import Sightings
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion
from recon3r_ros.slam.dynamics.vanished import Vanished
from recon3r_ros.slam.pair_table import PairTable
from recon3r_ros.slam.scale import DepthScale, ModelScale
from recon3r_ros.slam.types import (
    at,
    Correspondence,
    FocalEstimate,
    Keyframe,
    Map,
    MapEdge,
    Retired,
)

#: Newest keyframes of a camera, or of each camera of a rig, that are refined whenever one is added
WINDOW = 7


@dataclass
class MapState:
    """
    The data of one map.

    :param pairing: views and encodings of the keyframes, and the focal lengths that predictions
        estimate
    :param motion: dynamic objects in the keyframes of the window
    :param keyframes: by id, oldest first
    :param focal_factor: true over initial focal length, of an uncalibrated camera, or of a
        calibrated one that measured depth has refined
    :param calibrated: whether the focal length is known
    :param focal_contradiction: see `Map`
    :param number: of the map, in the order of their beginning
    :param next_id: of the next keyframe
    :param seen: observations of landmarks
    :param dense: correspondences of the window's pairs, by anchor and observer
    :param learned: depths that networks predicted
    :param measured: depths that a depth camera or a stereo rig measured
    :param vanished: votes of newer keyframes on vanished objects
    :param model_scale: metres by networks that predict them
    :param rig_scale: metres by stereo
    :param graph: Sim(3) graph of the keyframes. Its solver cannot be copied: a keyframe is added
        once it has been committed
    :param edges: keyframes that were processed jointly
    :param retired: keyframes that were culled, by id
    """

    pairing: Pairing
    motion: KeyframeMotion
    keyframes: dict[int, Keyframe] = field(default_factory=dict)
    focal_factor: float = 1.0
    calibrated: bool = True
    focal_contradiction: FocalEstimate | None = None
    number: int = 0
    next_id: int = 0
    seen: Sightings = field(default_factory=Sightings)
    dense: PairTable[Correspondence] = field(default_factory=PairTable)
    learned: LearnedDepths = field(default_factory=LearnedDepths)
    measured: MeasuredDepths = field(default_factory=MeasuredDepths)
    vanished: Vanished = field(default_factory=Vanished)
    model_scale: ModelScale = field(default_factory=ModelScale)
    rig_scale: DepthScale = field(default_factory=DepthScale)
    graph: MapGraph = field(default_factory=MapGraph)
    edges: list[MapEdge] = field(default_factory=list)
    retired: dict[int, Retired] = field(default_factory=dict)

    def fork(self) -> MapState:
        """Return a copy that may be changed without changing this one; keyframes are values."""
        return replace(
            self, pairing=self.pairing.copy(), motion=self.motion.copy(),
            keyframes=dict(self.keyframes), seen=self.seen.copy(), dense=self.dense.copy(),
            learned=self.learned.copy(), measured=self.measured.copy(),
            vanished=self.vanished.copy(), model_scale=self.model_scale.copy(),
            rig_scale=self.rig_scale.copy(), edges=list(self.edges), retired=dict(self.retired))

    def snapshot(self) -> Map:
        """Return the map as it is now."""
        return Map(dict(self.keyframes), dict(self.graph.scales), tuple(self.edges),
                   self.focal_factor, dict(self.retired), self.model_scale.estimate, self.number,
                   self.focal_contradiction, self.measured.metre,
                   self.focal_factor if self.calibrated else 1.0,
                   self.rig_scale.estimate or self.measured.rig_metric)

    @property
    def started(self) -> bool:
        """Whether there is depth."""
        return self.snapshot().started

    @property
    def ids(self) -> list[int]:
        """Return the ids of the keyframes, oldest first."""
        return list(self.keyframes)

    @property
    def loops(self) -> list[tuple[int, int]]:
        """Pairs of keyframes, older and newer, that closed loops."""
        return [(e.i, e.j) for e in self.edges if e.loop]

    @property
    def window(self) -> int:
        """How many of the newest keyframes are refined whenever one is added."""
        return WINDOW * max(1, len(
            {k.camera_name for k in self.keyframes.values() if k.mount is not None}))

    def change(self, i: int, **changes: Any) -> None:
        """Change fields of a keyframe."""
        self.keyframes[i] = replace(self.keyframes[i], **changes)

    def exclude(self, i: int, mask: NDArray[np.bool_]) -> None:
        """Exclude a part of a keyframe (H, W) from the map."""
        keyframe = self.keyframes[i]
        static = ~at(mask, keyframe.keypoints)
        self.change(i, mask=mask, inverse_depth=keyframe.inverse_depth * ~mask,
                    confidence=keyframe.confidence * ~mask, landmarks=keyframe.landmarks * static,
                    information=keyframe.information * static)

    def leave_out(self, i: int, mask: NDArray[np.bool_]) -> None:
        """Exclude dynamic objects in a keyframe from the map; the mask is of any size."""
        self.exclude(i, self.motion.leave_out(self.keyframes[i], mask))

    def drop_vanished(self, newer: int) -> None:
        """Exclude objects of older keyframes that a newer one, with final depth, sees through."""
        older = [k for i, k in self.keyframes.items() if i < newer]
        for i, gone in self.vanished.update(older, self.keyframes[newer]).items():
            self.exclude(i, self.keyframes[i].mask | gone)

    def compare_scale(self, ids: list[int]) -> None:
        """
        Estimate the scale of the map from metric predictions, and from stereo.

        :param ids: keyframes whose predictions are new
        """
        for i in ids:
            self.model_scale.add(i, self.learned.metres(self.keyframes[i], self.keyframes))
        for i, measured in self.measured.by_rig.items():
            self.rig_scale.add(measured.depth, self.keyframes[i], measured.noise)

    def rebuild_graph(self) -> None:
        """Make the pose graph anew, from the present poses, or empty where they are degenerate."""
        try:
            self.graph = self.graph.rebuilt(self.keyframes, self.retired, self.loops)
        except GeometryError:
            self.graph = self.graph.emptied({*self.keyframes, *self.retired})

    def refocus(self, factor: float) -> None:
        """Multiply the focal length by a factor."""
        self.focal_factor *= factor
        for i, k in self.keyframes.items():
            self.change(i, camera=replace(k.camera, fx=k.camera.fx * factor,
                                          fy=k.camera.fy * factor))

    def drop(self, i: int) -> None:
        """Remove a keyframe whose pose is wrong, and those that were culled beside it."""
        self.forget(i)
        lost = {i}
        while True:
            beside = {j for j, r in self.retired.items() if r.keyframe in lost}
            if not beside:
                return
            self.retired = {j: r for j, r in self.retired.items() if j not in beside}
            lost |= beside

    def retire(self, i: int, near: int) -> None:
        """
        Cull a keyframe.

        :param near: id of the one that replaces it, also as the end of loops
        """
        ends = [b if a == i else a for a, b in self.loops if i in (a, b)]
        old, kept = self.forget(i), self.keyframes[near]
        self.retired[i] = Retired(
            near, se3.normalized(se3.inverse(kept.T_map_cam) @ old.T_map_cam),
            self.graph.scales[near], self.graph.scales[i])
        self.edges += [MapEdge(min(end, near), max(end, near), True) for end in ends
                       if end != near and (min(end, near), max(end, near)) not in self.loops]

    def forget(self, i: int) -> Keyframe:
        """Remove a keyframe with all its data; return it."""
        keyframe = self.keyframes.pop(i)
        self.pairing.keep(self.keyframes, self.keyframes)
        self.seen.forget(i)
        self.dense.forget(i)
        self.learned.forget(i)
        self.measured.forget(i)
        self.motion.forget(i)
        self.vanished.forget(i)
        self.edges = [e for e in self.edges if i not in (e.i, e.j)]
        return keyframe
