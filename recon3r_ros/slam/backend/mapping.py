# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Local mapping: keyframes, windowed bundle adjustment, loop closure, culling."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.models.types import PeopleFinder, Predictor, View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend import pair_graph, self_calibration
from recon3r_ros.slam.backend.fine_refinement import refine_finely
from recon3r_ros.slam.backend.insertion import Added, insert, New, relocalised, tracked
from recon3r_ros.slam.backend.joining import joined, relative_scale
from recon3r_ros.slam.backend.learned import LearnedDepths
from recon3r_ros.slam.backend.map_graph import CHAINED, MapGraph
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.pairing import Pairing
from recon3r_ros.slam.backend.people_search import without_people
from recon3r_ros.slam.backend.placement import begin_alone, begin_measured
from recon3r_ros.slam.backend.refinement import (
    ANCHORS,
    densify,
    judge_metre,
    refine,
    SELF_CALIBRATION_KEYFRAMES,
    solve,
)
from recon3r_ros.slam.backend.rendering import render, Rendered
from recon3r_ros.slam.backend.sightings import Sightings
from recon3r_ros.slam.backend.stereo_depth import StereoDepth
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.options import MappingOptions
from recon3r_ros.slam.pair_table import PairTable
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.scale import DepthScale, ModelScale
from recon3r_ros.slam.types import (
    Keyframe,
    Map,
    MetricScale,
    Pair,
    TrackedFrame,
)

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]

#: The pose graph is rebuilt when it has so many times the map's keyframes: of culled ones, too
GRAPH_SIZE = 2
#: Iterations of the bundle adjustment of all keyframes, at the end
GLOBAL_ITERATIONS = 15
#: Growth of a map whose metre the cameras of a rig tell, until the whole of it is adjusted again
GROWN = 4 / 3
#: Keyframes of a map that are tried to join it with another, at the end
JOIN_ATTEMPTS = 6


class Mapper:
    """
    The keyframes of the present map, and earlier maps; all poses and depths are in map units.

    A further map begins where tracking is lost for long. It is joined with an earlier one as soon
    as one of its keyframes is relocalised there.

    :param predictor: what predicts pointmaps
    :param options: may be replaced between two keyframes
    :param motion: how dynamic objects are handled
    """

    def __init__(self, predictor: Predictor, options: MappingOptions = MappingOptions(),
                 motion: MotionConfig = MotionConfig()) -> None:
        self.options = options
        self._predictor = predictor
        self._motion_config = motion
        self._stereo = StereoDepth()
        self.clear()

    def clear(self) -> None:
        """Forget all keyframes."""
        self._state = self._empty()
        self._others: list[MapState] = []
        #: What maps that were forgotten have not used: frames may still refer to their keyframes
        self._free_id = self._free_number = 0

    def _empty(self) -> MapState:
        return MapState(Pairing(self._predictor), KeyframeMotion(self._motion_config))

    @property
    def keyframes(self) -> dict[int, Keyframe]:
        """The keyframes, by id, oldest first."""
        return self._state.keyframes

    def snapshot(self) -> Map:
        """Return the map as it is now."""
        return self._state.snapshot()

    def others(self) -> list[Map]:
        """Return the earlier maps as they are now."""
        return [state.snapshot() for state in self._others]

    def activate(self, number: int) -> None:
        """Continue in an earlier map, unless that was lost with a mapper."""
        state = next((s for s in self._others if s.number == number), None)
        if state is not None:
            self._others = [s for s in (*self._others, self._state)
                            if s is not state and s.started]
            self._state = state

    def forget_map(self, number: int) -> None:
        """Drop an earlier map, unless that was lost with a mapper, or goes on by now."""
        for state in self._others:
            if state.number == number:
                self._free_id = max(self._free_id, state.next_id)
                self._free_number = max(self._free_number, number + 1)
        self._others = [state for state in self._others if state.number != number]

    @property
    def views(self) -> dict[int, ArchivedView]:
        """The images of the keyframes, by id."""
        return dict(self._state.pairing.archive)

    def saved(self, metric: MetricScale | None) -> SavedMap:
        """Return all that `restore` needs, with up-to-date depths."""
        return self._saved(self._state, metric)

    def saved_earlier(self, metrics: Mapping[int, MetricScale | None]) -> list[SavedMap]:
        """
        Return the same of earlier maps.

        :param metrics: scales by the number of the map
        """
        return [self._saved(state, metrics.get(state.number)) for state in self._others]

    @staticmethod
    def _saved(state: MapState, metric: MetricScale | None) -> SavedMap:
        densify(state, state.ids[-state.window:])
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
        state.rig_scale = DepthScale(known.rig_metric)
        state.calibrated = all(v.calibrated for v in views.values())
        state.number = known.number
        self._take_in(known, views)

    def _take_in(self, known: Map, views: Mapping[int, ArchivedView]) -> None:
        state = self._state
        state.keyframes = dict(known.keyframes)
        state.focal_factor = known.focal_factor
        state.measured.metre = known.metre
        state.next_id = max(state.keyframes) + 1
        state.pairing.archive = dict(views)
        state.edges = list(known.edges)
        # Depths of a saved map include the factors of loop closures
        state.graph = state.graph.rebuilt(state.keyframes, state.retired, state.loops)

    def start(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8]) -> int:
        """
        Begin a map with a first keyframe; the present one is kept, if there is one.

        :return: the keyframe's id; it has depth if one view suffices
        """
        if self._state.started:
            self._others.append(self._state)
        self._state = state = self._empty()
        number = self._next_id
        state.number = max(self._free_number, *(other.number + 1 for other in self._others), 0)
        view = self._prepared(frame.camera_name, view)
        new = New.of(state, number, frame, view, gray)
        state.calibrated = view.calibrated
        insert(state, new.keyframe, new)
        if begin_measured(state, number) or (
                self._predictor.single_view and begin_alone(state, number)):
            densify(state, [number])
            self._compare_scale(state, [number])
        state.pairing.archive[number] = ArchivedView.of(view, state.focal_factor)
        return number

    @property
    def _next_id(self) -> int:
        """Return the id of the next keyframe: they are unique in all maps."""
        return max(self._free_id, *(s.next_id for s in (self._state, *self._others)))

    def add(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8],
            in_use: Collection[int] = (), overlap: float = 1.0, zoomed: bool = False
            ) -> int | None:
        """
        Add a keyframe: predict it with its partners, estimate its pose, refine the window.

        :param view: with its dynamic mask, and its pose where tracking knows it
        :param gray: (H', W') uint8 tracking image
        :param in_use: keyframes that cameras are tracked against, which are not culled
        :param overlap: of a first pair, see `begin`
        :param zoomed: whether the focal length is to be verified, of one without a pose
        :return: its id, or None where no partner shows the same scene with enough parallax, or
            where too few of its observations agree with the map
        """
        state = self._state
        view = self._prepared(frame.camera_name, view)
        new = replace(New.of(state, self._next_id, frame, view, gray, overlap), zoomed=zoomed)
        needed = self.options.min_agreement
        added = (relocalised(state, new, pair_graph.LOST_CANDIDATES, needed)
                 if view.pose is None and state.started else tracked(state, new, needed))
        if added is None:
            return None
        if not self._commit(added):
            return None
        self._cull(self._state, in_use)
        self._join(new)
        return added.number

    def find_people(self, image: NDArray[np.uint8]
                    ) -> tuple[NDArray[np.uint16], dict[int, float]] | None:
        """
        Find the people in an image by the predictor's network; the map stays as it is.

        :param image: (H, W, 3) RGB or (H, W) grey
        :return: as `PeopleFinder.find`; None where the predictor is none, too
        """
        finder = self._predictor
        return finder.find(image) if isinstance(finder, PeopleFinder) else None

    def _prepared(self, camera_name: str, view: View) -> View:
        """Add what is measured in a view that may become a keyframe, and people."""
        view = self._stereo.measured(camera_name, view)
        finder = self._predictor
        if view.searched or not isinstance(finder, PeopleFinder):
            return view
        return without_people(view, finder)

    def render(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8], reference: int
               ) -> Rendered | None:
        """
        Estimate pose and depth of a frame that does not become a keyframe; see `render`.

        :param view: with its dynamic mask, and its pose where tracking knows it
        :param gray: (H', W') uint8 tracking image
        :param reference: keyframe it is tracked against, or was last
        """
        return render(self._state, frame, self._stereo.measured(frame.camera_name, view), gray,
                      reference, self.options.min_agreement)

    def complete(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8], candidates: int
                 ) -> int | None:
        """
        Relocalise a keyframe after the last frame; nothing is culled or joined, see `take_back`.

        :param view: with its dynamic mask
        :param gray: (H', W') uint8 tracking image
        :param candidates: similar keyframes to try as partners
        :return: its id, or None where it is not in the map
        """
        view = self._prepared(frame.camera_name, view)
        new = New.of(self._state, self._next_id, frame, view, gray)
        added = relocalised(self._state, new, candidates, self.options.min_agreement)
        return None if added is None or not self._commit(added) else added.number

    def recall(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8]) -> int | None:
        """
        Relocalise a keyframe in an earlier map, which becomes the present one.

        :param view: with its dynamic mask
        :param gray: (H', W') uint8 tracking image
        :return: its id, or None where it is in none of them
        """
        view = self._prepared(frame.camera_name, view)
        new = New.of(self._state, self._next_id, frame, view, gray)
        for other in self._others:
            added = relocalised(
                other, new, pair_graph.LOST_CANDIDATES, self.options.min_agreement)
            if added is not None:
                self.activate(other.number)
                return added.number if self._commit(added) else None
        return None

    def _commit(self, added: Added) -> bool:
        """Take over a map with a new keyframe, unless the pose graph cannot take the keyframe."""
        state, number, before = added.state, added.number, self._state
        densify(state, state.ids[-1 if len(state.keyframes) > 2 else -2:])
        self._compare_scale(state, state.ids[-state.window:])
        self._state = state
        try:
            self._close(state, number, added.pairs, added.loop)
        except GeometryError as error:
            _log.info('keyframe %s rejected: %s, its depths are degenerate',
                      state.keyframes[number].name, error)
            self._state = before
            self._rebuild_graph(before)
            return False
        self._estimate_metre(state)
        self._leave_window(state)
        if len(state.keyframes) == self_calibration.KEYFRAMES:
            self_calibration.check(state)
        return True

    def _estimate_metre(self, state: MapState) -> None:
        """Estimate the length of a metre with the whole map, whenever that has grown enough."""
        count, measured = len(state.keyframes), state.measured
        if not measured.estimated:
            return
        if count > SELF_CALIBRATION_KEYFRAMES:
            if count < GROWN * measured.estimated_with:
                return
            solve(state, state.ids, {state.ids[0]})
            self._rebuild_graph(state)
        measured.estimated_with = count
        judge_metre(state)

    @staticmethod
    def _rebuild_graph(state: MapState) -> None:
        """Make the pose graph anew, from the present poses, or empty where they are degenerate."""
        try:
            state.graph = state.graph.rebuilt(state.keyframes, state.retired, state.loops)
        except GeometryError:
            state.graph = state.graph.emptied({*state.keyframes, *state.retired})

    def _join(self, new: New) -> None:
        """Join the present map with an earlier one in which its new keyframe is relocalised."""
        own = [k.descriptor for k in self._state.keyframes.values()]
        for other in self._others:
            if pair_graph.looks_known([k.descriptor for k in other.keyframes.values()], own):
                added = relocalised(other, replace(new, view=replace(new.view, pose=None)),
                                    pair_graph.LOST_CANDIDATES, self.options.min_agreement)
                if added is not None and self._joined(added, self._state, new.keyframe.id):
                    self._others.remove(other)
                    return

    def _joined(self, added: Added, addition: MapState, number: int) -> bool:
        """
        Make a map of two the present one.

        :param added: the one map, with a keyframe of the other
        :param number: the keyframe's id in the other map
        """
        here, there = added.state.keyframes[added.number], addition.keyframes[number]
        scale = relative_scale(here, there)
        if scale is None:
            return False
        T_base_addition = here.T_map_cam @ se3.inverse(se3.stretched(there.T_map_cam, scale))
        try:
            self._state = joined(
                added.state, addition, scale, T_base_addition, (added.number, number))
        except GeometryError:
            return False
        refine(self._state, {p.partner for p in added.pairs})
        _log.info('maps %d and %d joined at keyframe %s', added.state.number, addition.number,
                  there.name)
        return True

    def _join_all(self) -> None:
        """Try to join the present map with each other one, by keyframes spread over that."""
        for other in list(self._others):
            ids = other.ids
            for i in ids[::max(1, len(ids) // JOIN_ATTEMPTS)]:
                k = other.keyframes[i]
                new = New.of(self._state, self._next_id, TrackedFrame(
                    k.name, k.stamp_ns, k.index, camera_name=k.camera_name),
                    other.pairing.archive[i].view(other.focal_factor), k.gray)
                if new.keyframe.image.shape != k.image.shape:
                    continue
                added = relocalised(self._state, new, pair_graph.LOST_CANDIDATES,
                                    self.options.min_agreement)
                if added is not None and self._joined(added, other, i):
                    self._others.remove(other)
                    break

    def take_back(self, i: int) -> None:
        """Drop a keyframe that others do not refer to: its pose has been found to be wrong."""
        self._state.forget(i)

    def set_metre(self, metre: float) -> None:
        """Take over the length of a metre in map units, as the cameras of a rig give it."""
        self._state.measured.metre, self._state.measured.estimated = metre, True

    def withdraw(self, camera_name: str, index: int, in_use: Collection[int]) -> None:
        """
        Drop the keyframes of a camera from a frame on, and adjust the window without them.

        :param index: of the frame
        :param in_use: keyframes that other cameras are tracked against, which stay
        """
        state = self._state
        kept = {*state.ids[:2], *in_use, *(r.keyframe for r in state.retired.values())}
        dropped = [i for i, k in state.keyframes.items()
                   if k.camera_name == camera_name and k.index >= index and i not in kept]
        for i in dropped:
            state.forget(i)
        if dropped:
            self._rebuild_graph(state)
            refine(state, set())

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
        for i in state.measured.ids - {first.id}:
            state.measured.forget(i)
        state.change(first.id, mask=state.motion.given(first.id))
        state.motion = KeyframeMotion(self._motion_config)
        state.motion.give(state.keyframes[first.id], state.pairing.features(first.id))
        state.graph = MapGraph()
        state.rig_scale = DepthScale()

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
        """Join what belongs together; refine all keyframes jointly, and fuse their depths."""
        if not self._state.started and self._others:
            self.activate(self._others[-1].number)
        if self._state.started:
            self._join_all()
        for state in (self._state, *self._others):
            if state.started:
                self._finish(state)

    def _finish(self, state: MapState) -> None:
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
                state.exclude(i, state.motion.leave_out(state.keyframes[i], mask))
        for i in ids[-state.window:]:
            self._drop_vanished(state, i)

    def _compare_scale(self, state: MapState, ids: list[int]) -> None:
        """Estimate the scale of the map from metric predictions, and from stereo."""
        for i in ids:
            state.model_scale.add(i, state.learned.metres(state.keyframes[i], state.keyframes))
        for i, measured in state.measured.by_rig.items():
            state.rig_scale.add(measured.depth, state.keyframes[i], measured.noise)

    def _close(self, state: MapState, new_id: int, pairs: list[Pair], loop: int | None) -> None:
        """Add refined poses to the graph; where a loop closes, apply its correction."""
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

    def _leave_window(self, state: MapState) -> None:
        """Fuse the final depth of the keyframe that leaves the window, and drop its images."""
        ids = state.ids
        if len(ids) <= state.window:
            return
        densify(state, [ids[-state.window - 1]])
        self._drop_vanished(state, ids[-state.window - 1])
        state.change(ids[-state.window - 1], attention=None)
        recent = set(ids[-state.window:])
        state.pairing.keep(recent, state.keyframes)
        state.dense.keep_any(recent)
        state.learned.keep(recent)
        state.measured.keep(recent)
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
        settled = range(1, len(ids) - state.window - ANCHORS)
        candidates = [n for n in settled if ids[n] not in in_use]
        if len(ids) <= self.options.max_keyframes or not candidates:
            return
        lost, kept = pair_graph.most_redundant(
            np.stack([k.T_map_cam for k in state.keyframes.values()]),
            np.array([k.median_depth() for k in state.keyframes.values()]), candidates)
        state.retire(ids[lost], ids[kept])
        if state.graph.size > GRAPH_SIZE * len(state.keyframes):
            self._rebuild_graph(state)
