# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Local mapping: keyframes, windowed bundle adjustment, loop closure, culling."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.models.types import Encoding, Predictor, View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend import appearance, pair_graph
from recon3r_ros.slam.backend.fine_refinement import refine_finely
from recon3r_ros.slam.backend.learned import (
    in_scale_of,
    LearnedDepth,
    LearnedDepths,
)
from recon3r_ros.slam.backend.map_graph import MapGraph
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.pairing import Pairing
from recon3r_ros.slam.backend.placement import begin, begin_alone, place
from recon3r_ros.slam.backend.refinement import ANCHORS, densify, refine, solve, WINDOW
from recon3r_ros.slam.backend.sightings import Sightings
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.options import MappingOptions
from recon3r_ros.slam.pair_table import PairTable
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.scale import ModelScale
from recon3r_ros.slam.types import (
    Keyframe,
    Map,
    MapEdge,
    MetricScale,
    Pair,
    Retired,
    TrackedFrame,
)

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]

#: Iterations of the bundle adjustment of all keyframes, at the end
GLOBAL_ITERATIONS = 15
#: Keyframes this close to each other get an edge of the graph from their refined poses
CHAINED = 2
#: Agreement of a relocalised keyframe, share of what it needs, with which the map is questioned
QUESTIONED = 0.5


@dataclass(frozen=True, eq=False)
class New:
    """A keyframe to be added, its encoding and view, and its overlap as of a first pair."""

    keyframe: Keyframe
    encoding: Encoding
    view: View
    overlap: float


class Mapper:
    """
    The keyframes of one map; all poses and depths are in map units.

    :param predictor: what predicts pointmaps
    :param options: may be replaced between two keyframes
    :param motion: how dynamic objects are handled
    """

    def __init__(self, predictor: Predictor, options: MappingOptions = MappingOptions(),
                 motion: MotionConfig = MotionConfig()) -> None:
        self.options = options
        self._predictor = predictor
        self._motion_config = motion
        self.clear()

    def clear(self) -> None:
        """Forget all keyframes."""
        self._state = MapState(Pairing(self._predictor), KeyframeMotion(self._motion_config))

    @property
    def keyframes(self) -> dict[int, Keyframe]:
        """The keyframes, by id, oldest first."""
        return self._state.keyframes

    def snapshot(self) -> Map:
        """Return the map as it is now."""
        return self._state.snapshot()

    @property
    def views(self) -> dict[int, ArchivedView]:
        """The images of the keyframes, by id."""
        return dict(self._state.pairing.archive)

    def saved(self, metric: MetricScale | None) -> SavedMap:
        """Return all that `restore` needs, with up-to-date depths."""
        state = self._state
        densify(state, state.ids[-WINDOW:])
        return SavedMap(state.snapshot(), dict(state.pairing.archive), state.seen.saved(),
                        state.calibrated, metric)

    def restore(self, saved: SavedMap) -> None:
        """Continue mapping in a saved map instead of the present one."""
        self.clear()
        self._take_in(saved.map, saved.views)
        self._state.calibrated = saved.calibrated
        self._state.seen = Sightings(saved.observations)

    def recover(self, known: Map, views: Mapping[int, ArchivedView]) -> None:
        """
        Continue mapping in a map whose mapper has ended, with cameras tracked in it.

        Observations, encodings and the evidence of dynamic objects are lost; poses, depths and
        the scales that frames' poses refer to are not.

        :param known: the last known map
        :param views: the images of its keyframes
        """
        self.clear()
        if not known.keyframes:
            return
        state = self._state
        state.graph.scales = dict(known.scales)
        state.retired = dict(known.retired)
        state.model_scale = ModelScale(known.metric)
        state.calibrated = all(v.calibrated for v in views.values())
        self._take_in(known, views)

    def _take_in(self, known: Map, views: Mapping[int, ArchivedView]) -> None:
        state = self._state
        state.keyframes = dict(known.keyframes)
        state.focal_factor = known.focal_factor
        state.next_id = max(state.keyframes) + 1
        state.pairing.archive = dict(views)
        state.edges = list(known.edges)
        ids = state.ids
        # Depths of a saved map include the factors of loop closures
        state.graph.extend(state.keyframes, [(i, j) for n, i in enumerate(ids)
                                             for j in ids[n + 1:n + 1 + CHAINED]])

    def start(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8]) -> int:
        """Begin with a first keyframe and return its id; it has depth if one view suffices."""
        self.clear()
        state = self._state
        keyframe, encoding = self._make(state, frame, view, gray)
        state.calibrated = view.calibrated
        self._insert(state, keyframe, encoding)
        if self._predictor.single_view and begin_alone(state, keyframe.id):
            densify(state, [keyframe.id])
            self._compare_scale(state, [keyframe.id])
        state.pairing.archive[keyframe.id] = ArchivedView.of(view, state.focal_factor)
        return keyframe.id

    def add(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8],
            in_use: Collection[int] = (), overlap: float = 1.0,
            candidates: int = pair_graph.LOST_CANDIDATES) -> int | None:
        """
        Add a keyframe: predict it with its partners, estimate its pose, refine the window.

        :param view: with its dynamic mask, and its pose where tracking knows it
        :param gray: (H', W') uint8 tracking image
        :param in_use: keyframes that cameras are tracked against, which are not culled
        :param overlap: of a first pair, see `begin`
        :param candidates: similar keyframes to try as partners, where its pose is unknown
        :return: its id, or None where no partner shows the same scene with enough parallax, or
            where too few of its observations agree with the map
        """
        state = self._state.fork()
        keyframe, encoding = self._make(state, frame, view, gray)
        new = New(keyframe, encoding, view, overlap)
        if view.pose is None and state.started:
            return self._relocalise(new, in_use, candidates)
        pairs, loop = state.pairing.with_partners(
            keyframe, encoding, state.keyframes, WINDOW, state.focal_factor)
        return self._added(state, new, pairs, loop, in_use)

    def _relocalise(self, new: New, in_use: Collection[int], candidates: int) -> int | None:
        """Try groups of partners until one of them places the keyframe, verified."""
        for partners in self._state.pairing.relocalisation_partners(
                new.keyframe, self._state.keyframes, candidates):
            state = self._state.fork()
            pairs = state.pairing.predict(
                new.keyframe, new.encoding, [state.keyframes[i] for i in partners],
                state.focal_factor)
            made = self._added(state, new, pairs, None, in_use)
            if made is not None:
                return made
        return None

    def _added(self, state: MapState, new: New, pairs: list[Pair], loop: int | None,
               in_use: Collection[int]) -> int | None:
        """
        Place a keyframe by its pairs, and refine the window; commit it if it is verified.

        :param state: a fork of the present one
        :param loop: the partner that closes a loop
        """
        if not pairs:
            return None
        keyframe, view = new.keyframe, new.view
        T_map_cam = None if view.pose is None else view.pose.T_map_cam
        known = T_map_cam is not None or not state.started
        if not state.started:
            T_map_cam = begin(state, pairs[0], new.overlap)
        else:
            T_map_cam = place(state, keyframe, pairs, T_map_cam)
        if T_map_cam is None:
            return None
        self._insert(state, replace(keyframe, T_map_cam=T_map_cam), new.encoding)
        pairs = self._mask_movers(state, pairs, keyframe.id)
        for pair in pairs:
            self._connect(state, pair, keyframe.id)
        self._scale(state, pairs, keyframe.id)
        for i in state.ids[-WINDOW:]:
            state.change(i, landmarks=state.seen.triangulated(state.keyframes[i], state.keyframes))
        others = [k for i, k in state.keyframes.items() if i != keyframe.id]
        partners = {p.partner for p in pairs} | state.seen.reobserve(
            state.keyframes[keyframe.id], others)
        agreement = refine(state, partners)
        needed = self.options.min_agreement
        if not known and QUESTIONED * needed < agreement < needed:
            # The map may have drifted since the partners: adjust all of it
            solve(state, state.ids, {state.ids[0]})
            agreement = refine(state, partners)
        if agreement < needed:
            _log.info('keyframe %s rejected: %.0f %% of its observations agree with the map, '
                      '%.0f %% are needed', keyframe.name, 100 * agreement, 100 * needed)
            return None
        if not known and not self._verified(state, keyframe.id, partners):
            return None
        state.pairing.archive[keyframe.id] = ArchivedView.of(view, state.focal_factor)
        state.edges += [MapEdge(p.partner, keyframe.id, p.partner == loop) for p in pairs]
        densify(state, state.ids[-1 if len(state.keyframes) > 2 else -2:])
        self._compare_scale(state, state.ids[-WINDOW:])
        self._state = state
        self._close(state, keyframe.id, pairs, loop)
        self._leave_window(state)
        self._cull(state, in_use)
        return keyframe.id

    def take_back(self, i: int) -> None:
        """Drop a keyframe that others do not refer to: its pose has been found to be wrong."""
        self._state.forget(i)

    def take_back_first_pair(self) -> None:
        """Drop the second keyframe and the first one's depths."""
        state = self._state
        first = state.keyframes[min(state.keyframes)]
        nothing = np.zeros(len(first.keypoints))
        unknown = np.zeros_like(first.inverse_depth)
        state.keyframes = {first.id: replace(
            first, T_map_cam=np.eye(4), landmarks=nothing, information=nothing,
            inverse_depth=unknown, confidence=unknown)}
        state.refocus(1 / state.focal_factor)
        state.pairing.keep(state.keyframes, state.keyframes)
        state.next_id = first.id + 1
        state.seen, state.dense, state.edges = Sightings(), PairTable(), []
        state.learned = LearnedDepths()
        state.change(first.id, mask=state.motion.given(first.id))
        state.motion = KeyframeMotion(self._motion_config)
        state.motion.give(state.keyframes[first.id], state.pairing.features(first.id))
        state.graph = MapGraph()

    def leave_out(self, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        """
        Exclude dynamic objects from the map.

        :param masks: by keyframe, of any size
        """
        state = self._state
        for i, mask in masks.items():
            if i in state.keyframes:
                state.exclude(i, state.motion.leave_out(state.keyframes[i], mask))

    def finish(self) -> None:
        """Refine all keyframes jointly and fuse the final depth of each."""
        state = self._state
        if not state.started:
            return
        ids = state.ids
        before = {i: state.keyframes[i].landmarks for i in ids}
        solve(state, ids, {ids[0]}, GLOBAL_ITERATIONS)
        refine_finely(state)
        # Older keyframes have no pairs any more: their depths are scaled as their landmarks
        for i in ids[:-WINDOW]:
            keyframe = state.keyframes[i]
            known = (before[i] > 0) & (keyframe.landmarks > 0)
            if known.any():
                change = np.float32(np.median(keyframe.landmarks[known] / before[i][known]))
                state.change(i, inverse_depth=keyframe.inverse_depth * change)
        densify(state, ids[-WINDOW:])
        self.leave_out(state.motion.of_all(state.keyframes[max(state.keyframes)]))
        for i in ids[-WINDOW:]:
            self._drop_vanished(state, i)

    def _make(self, state: MapState, frame: TrackedFrame, view: View, gray: NDArray[np.uint8]
              ) -> tuple[Keyframe, Encoding]:
        encoding = state.pairing.encode(view)
        count = len(encoding.keypoints)
        unknown = np.zeros(encoding.image.shape[:2], np.float32)
        T_map_cam = np.eye(4) if view.pose is None else view.pose.T_map_cam
        keyframe = Keyframe(
            state.next_id, frame.name, frame.stamp_ns, frame.index, encoding.camera,
            encoding.image, gray, encoding.descriptor, encoding.keypoints,
            T_map_cam, np.zeros(count), np.zeros(count),
            unknown, unknown, np.zeros(unknown.shape, bool), frame.camera_name)
        if view.moving is not None:
            keyframe = replace(keyframe, mask=state.motion.masked(keyframe, view.moving))
        return keyframe, encoding

    def _insert(self, state: MapState, keyframe: Keyframe, encoding: Encoding) -> None:
        state.keyframes[keyframe.id] = keyframe
        state.pairing.insert(keyframe.id, encoding)
        state.motion.give(keyframe, encoding.features)
        state.next_id = keyframe.id + 1

    def _mask_movers(self, state: MapState, pairs: list[Pair], new_id: int) -> list[Pair]:
        """
        Mask the dynamic objects that a new keyframe's pairs show, in it and in others.

        :return: the pairs, predicted again where the predictor can exclude masks
        """
        changed = state.motion.update(pairs, state.keyframes[new_id], state.keyframes)
        state.change(new_id, attention=state.motion.attended)
        for i, mask in changed.items():
            state.exclude(i, mask)
        if not self._predictor.reweights:
            return pairs
        return self._predict_again(state, pairs, new_id, set(changed))

    def _predict_again(self, state: MapState, pairs: list[Pair], new_id: int, changed: set[int]
                       ) -> list[Pair]:
        """Predict those pairs of the window again whose masks have changed."""
        new = state.keyframes[new_id]
        touched = [p for p in pairs if {p.partner, new_id} & changed
                   and state.pairing.holds(p.partner)]
        again = {p.partner: p for p in state.pairing.predict_again(
            new, [state.keyframes[p.partner] for p in touched])} if touched else {}
        for i, j in {(max(p), min(p)) for p in state.learned.pairs if p[0] != p[1]}:
            if {i, j} & changed and state.pairing.holds(i) and state.pairing.holds(j):
                pair, = state.pairing.predict_again(state.keyframes[i], [state.keyframes[j]])
                state.learned.add(j, i, LearnedDepth.of(pair.forward))
                state.learned.add(i, j, LearnedDepth.of(pair.backward))
        return [again.get(p.partner, p) for p in pairs]

    def _verified(self, state: MapState, new_id: int, partners: Collection[int]) -> bool:
        """Verify a relocalised keyframe's pose by its appearance in its partners."""
        new = state.keyframes[new_id]
        found = [likeness for likeness in (
            appearance.likeness(k, new, se3.inverse(k.T_map_cam) @ new.T_map_cam)
            for k in (state.keyframes[i] for i in partners)) if likeness is not None]
        if any(likeness.verified for likeness in found):
            return True
        if not found:
            _log.info('keyframe %s rejected: it shares too little texture with the map to verify '
                      'its pose by appearance', new.name)
        else:
            best = max(found, key=lambda likeness: likeness.share / likeness.needed)
            _log.info('keyframe %s rejected: %.0f %% of its textured blocks look as the map '
                      'predicts, %.0f %% are needed', new.name, 100 * best.share,
                      100 * best.needed)
        return False

    def _connect(self, state: MapState, pair: Pair, new_id: int) -> None:
        """Record observations of landmarks."""
        for anchor_id, observer_id, c in ((pair.partner, new_id, pair.of_partner),
                                          (new_id, pair.partner, pair.of_new)):
            state.seen.record(state.keyframes[anchor_id], observer_id, c)
            state.dense[anchor_id, observer_id] = c
        if pair.forward.learned:
            state.learned.add(pair.partner, new_id, LearnedDepth.of(pair.forward, pair.window))
            state.learned.add(new_id, pair.partner, LearnedDepth.of(pair.backward, pair.window))

    def _scale(self, state: MapState, pairs: list[Pair], new_id: int) -> None:
        """Initialise a new keyframe's landmarks with predicted depth, window by window."""
        windows: dict[int | tuple[int], list[Pair]] = {}
        for pair in pairs:
            if pair.forward.learned:
                windows.setdefault(
                    (pair.partner,) if pair.window is None else pair.window, []).append(pair)
        for together in windows.values():
            state.change(new_id, landmarks=in_scale_of(
                [(state.keyframes[p.partner], p.backward) for p in together],
                state.keyframes[new_id]))

    def _compare_scale(self, state: MapState, ids: list[int]) -> None:
        """Estimate the scale of the map from metric predictions."""
        for i in ids:
            state.model_scale.add(i, state.learned.metres(state.keyframes[i], state.keyframes))

    def _close(self, state: MapState, new_id: int, pairs: list[Pair], loop: int | None) -> None:
        """Add refined poses to the graph; where a loop closes, apply its correction."""
        recent = set(state.ids[-WINDOW:])
        partners = {p.partner for p in pairs} - {loop}
        state.graph.extend(state.keyframes, [
            (i, j) for i, j in state.seen.pairs
            if (i in recent and i < j <= i + CHAINED) or (j == new_id and i in partners)])
        edge = None if loop is None else state.graph.loop_edge(
            pairs[-1], state.keyframes[loop], state.keyframes[new_id])
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
            state.change(i, T_map_cam=se3.normalized(se3.from_rt(rotation, translation)),
                      landmarks=keyframe.landmarks / change,
                      inverse_depth=keyframe.inverse_depth / np.float32(change))
        refine(state, {p.partner for p in pairs})
        _log.info('loop closed between keyframes %d and %d', edge.i, edge.j)

    def _leave_window(self, state: MapState) -> None:
        """Fuse the final depth of the keyframe that leaves the window, and drop its images."""
        ids = state.ids
        if len(ids) <= WINDOW:
            return
        densify(state, [ids[-WINDOW - 1]])
        self._drop_vanished(state, ids[-WINDOW - 1])
        state.change(ids[-WINDOW - 1], attention=None)
        recent = set(ids[-WINDOW:])
        state.pairing.keep(recent, state.keyframes)
        state.dense.keep_any(recent)
        state.learned.keep(recent)
        state.motion.keep(recent)

    def _drop_vanished(self, state: MapState, new_id: int) -> None:
        """Exclude objects of older keyframes that a newer one, with final depth, sees through."""
        older = [k for i, k in state.keyframes.items() if i < new_id]
        for i, gone in state.vanished.update(older, state.keyframes[new_id]).items():
            state.exclude(i, state.keyframes[i].mask | gone)

    def _cull(self, state: MapState, in_use: Collection[int]) -> None:
        """Cull the most redundant keyframe, where there are too many."""
        ids = state.ids
        # The first one is the map's origin, the newest ones are still being refined
        candidates = [n for n in range(1, len(ids) - WINDOW - ANCHORS) if ids[n] not in in_use]
        if len(ids) <= self.options.max_keyframes or not candidates:
            return
        lost, kept = pair_graph.most_redundant(
            np.stack([k.T_map_cam for k in state.keyframes.values()]),
            np.array([k.median_depth() for k in state.keyframes.values()]), candidates)
        old, near = state.forget(ids[lost]), state.keyframes[ids[kept]]
        state.retired[old.id] = Retired(
            near.id, se3.normalized(se3.inverse(near.T_map_cam) @ old.T_map_cam),
            state.graph.scales[near.id], state.graph.scales[old.id])
