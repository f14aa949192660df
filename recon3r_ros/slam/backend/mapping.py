# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Local mapping: the maps, and the keyframes that enter and leave them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError
from recon3r_ros.models.types import PeopleFinder, Predictor, View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend import pair_graph
from recon3r_ros.slam.backend.finishing import finish
from recon3r_ros.slam.backend.insertion import Added, insert, New, relocalised, tracked
from recon3r_ros.slam.backend.joining import joined_by_any, joined_by_newest
from recon3r_ros.slam.backend.learned import LearnedDepths
from recon3r_ros.slam.backend.loop_closure import connect
from recon3r_ros.slam.backend.map_graph import MapGraph
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.pairing import Pairing
from recon3r_ros.slam.backend.people_search import without_people
from recon3r_ros.slam.backend.placement import begin_alone, begin_measured
from recon3r_ros.slam.backend.refinement import densify, refine
from recon3r_ros.slam.backend.rendering import render, Rendered
from recon3r_ros.slam.backend.sightings import Sightings
from recon3r_ros.slam.backend.stereo_depth import StereoDepth
from recon3r_ros.slam.backend.upkeep import cull, maintain
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.options import MappingOptions
from recon3r_ros.slam.pair_table import PairTable
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.scale import DepthScale, ModelScale
from recon3r_ros.slam.types import Keyframe, Map, MetricScale, TrackedFrame

_log = logging.getLogger(__name__)


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
            state.compare_scale([number])
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
        cull(self._state, self.options.max_keyframes, in_use)
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
        state, before = added.state, self._state
        densify(state, state.ids[-1 if len(state.keyframes) > 2 else -2:])
        state.compare_scale(state.ids[-state.window:])
        self._state = state
        try:
            connect(added)
        except GeometryError as error:
            _log.info('keyframe %s rejected: %s, its depths are degenerate',
                      state.keyframes[added.number].name, error)
            self._state = before
            before.rebuild_graph()
            return False
        maintain(state)
        return True

    def _join(self, new: New) -> None:
        """Join the present map with an earlier one in which its new keyframe is relocalised."""
        for other in self._others:
            found = joined_by_newest(other, self._state, new, self.options.min_agreement)
            if found is not None:
                self._state = found
                self._others.remove(other)
                return

    def _join_all(self) -> None:
        """Try to join the present map with each other one."""
        for other in list(self._others):
            found = joined_by_any(
                self._state, other, self._next_id, self.options.min_agreement)
            if found is not None:
                self._state = found
                self._others.remove(other)

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
            state.rebuild_graph()
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
                state.leave_out(i, mask)

    def finish(self) -> None:
        """Join what belongs together; refine all keyframes jointly, and fuse their depths."""
        if not self._state.started and self._others:
            self.activate(self._others[-1].number)
        if self._state.started:
            self._join_all()
        for state in (self._state, *self._others):
            if state.started:
                finish(state)
