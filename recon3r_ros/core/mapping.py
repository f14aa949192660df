# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes and what ties them: pairs predicted, poses and depths refined, loops closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.core import alignment, bundle_adjustment, depth, pair_graph
from recon3r_ros.core.archive import ArchivedView
from recon3r_ros.core.correspondence import Correspondence
from recon3r_ros.core.keyframe_motion import KeyframeMotion
from recon3r_ros.core.learned import in_scale_of, LearnedDepth, LearnedDepths, MAX_INFORMATION
from recon3r_ros.core.map_graph import MapGraph
from recon3r_ros.core.motion import MotionConfig
from recon3r_ros.core.pairing import Pair, Pairing
from recon3r_ros.core.saved_map import SavedMap
from recon3r_ros.core.scale import ModelScale
from recon3r_ros.core.sightings import Sightings
from recon3r_ros.core.types import (
    at,
    Keyframe,
    Map,
    MapEdge,
    MetricScale,
    Retired,
    TrackedFrame,
)
from recon3r_ros.core.vanished import Vanished
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.geometry.pnp import solve_pnp
from recon3r_ros.inference.types import Encoding, Predictor, View

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]

#: Newest keyframes that are refined whenever one is added, and older ones that hold them in place
WINDOW, ANCHORS = 7, 3
#: Correspondences of keypoints that place a keyframe
MIN_PLACED = 25
#: Share of a first pair's keypoints that must have depth, and how sure (inverse variance): with
#: less, the error of the pair's pose, which no confidence contains, would rule its depths
MIN_FIRST_SHARE, SURE = 0.25, 900.0
#: A landmark may place cameras when its relative depth is known to 1 / sqrt(.)
TRACKED_INFORMATION = 10.0
#: Share of a new keyframe's observations that must agree with the map
MIN_AGREEMENT = 0.5
#: Reprojection error, grid pixels, when a keyframe is placed by its partners' landmarks
_PLACING_ERROR = 2.0
#: With unknown focal length, all keyframes are refined together until there are this many
SELF_CALIBRATION_KEYFRAMES = 24
_GLOBAL_ITERATIONS = 15
#: Keyframes this close to each other get an edge of the graph from their refined poses
CHAINED = 2
#: Keyframes of a map, each of which takes about 1.5 MB
MAX_KEYFRAMES = 500


class Mapper:
    """
    The keyframes of one map; all poses and depths are in map units.

    :param predictor: what predicts pointmaps
    :param max_keyframes: beyond which the most redundant ones go
    :param motion: how what moves is handled
    """

    def __init__(self, predictor: Predictor, max_keyframes: int = MAX_KEYFRAMES,
                 motion: MotionConfig = MotionConfig()) -> None:
        self._predictor = predictor
        self._motion_config = motion
        self._max_keyframes = max(max_keyframes, WINDOW + ANCHORS + 2)
        self.clear()

    def clear(self) -> None:
        """Forget all keyframes."""
        self.keyframes: dict[int, Keyframe] = {}
        self.focal_factor = 1.0
        self._calibrated = True
        self._next_id = 0
        self._pairing = Pairing(self._predictor)
        self._seen = Sightings()
        self._dense: dict[tuple[int, int], Correspondence] = {}
        self._learned = LearnedDepths()
        self._motion = KeyframeMotion(self._motion_config)
        self._vanished = Vanished()
        self._model_scale = ModelScale()
        self._graph = MapGraph()
        self._edges: list[MapEdge] = []
        self._retired: dict[int, Retired] = {}

    @property
    def started(self) -> bool:
        """Whether there is depth."""
        return self.snapshot().started

    def snapshot(self) -> Map:
        """Return the map as it is now."""
        return Map(dict(self.keyframes), dict(self._graph.scales), tuple(self._edges),
                   self.focal_factor, dict(self._retired), self._model_scale.estimate)

    def saved(self, metric: MetricScale | None) -> SavedMap:
        """Return all that `restore` needs; depths contain all that is known by now."""
        self._densify(list(self.keyframes)[-WINDOW:])
        return SavedMap(self.snapshot(), dict(self._pairing.archive), self._seen.saved(),
                        self._calibrated, metric)

    def restore(self, saved: SavedMap) -> None:
        """Go on in a saved map in place of the present one."""
        self.clear()
        self.keyframes = dict(saved.map.keyframes)
        self.focal_factor = saved.map.focal_factor
        self._calibrated = saved.calibrated
        self._next_id = max(self.keyframes) + 1
        self._pairing.archive = dict(saved.views)
        self._seen = Sightings(saved.observations)
        self._edges = list(saved.map.edges)
        ids = list(self.keyframes)
        # Depths are as they are: whatever loops scaled is part of them
        self._graph.extend(self.keyframes, [(i, j) for n, i in enumerate(ids)
                                            for j in ids[n + 1:n + 1 + CHAINED]])

    def start(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8],
              moving: NDArray[np.bool_] | None = None) -> int:
        """Begin with a first keyframe and return its id; it has depth if one view gives any."""
        self.clear()
        keyframe, encoding = self._make(frame, view, gray, np.eye(4), moving)
        self._calibrated = view.calibrated
        self._motion.give(keyframe, encoding.features)
        self._insert(keyframe, encoding)
        if self._predictor.single_view:
            self._begin_alone(keyframe.id)
        self._pairing.archive[keyframe.id] = ArchivedView.of(view, self.focal_factor)
        return keyframe.id

    def add(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8],
            T_map_cam: Array | None, moving: NDArray[np.bool_] | None = None) -> int | None:
        """
        Add a keyframe: predict it with its partners, place it, refine its neighbourhood.

        :param gray: (H', W') uint8 tracking image
        :param T_map_cam: (4, 4) its pose where tracking knows it
        :param moving: (h, w) of any size, what moves in it
        :return: its id, or None where no partner shows the same scene with enough parallax
        """
        keyframe, encoding = self._make(frame, view, gray, T_map_cam, moving)
        known = T_map_cam is not None or not self.started
        pairs, loop = self._pairing.with_partners(
            keyframe, encoding, self.keyframes, known, WINDOW, self.focal_factor)
        if not pairs:
            return None
        before = (dict(self.keyframes), self._seen.copy(), dict(self._dense),
                  self._learned.copy(), self._motion.copy(), self.focal_factor)
        if not self.started:
            T_map_cam = self._begin(pairs[0])
        else:
            T_map_cam = self._place(keyframe, pairs, T_map_cam)
        if T_map_cam is None:
            return None
        agreement = 0.0
        try:
            self._insert(replace(keyframe, T_map_cam=T_map_cam), encoding)
            self._motion.give(keyframe, encoding.features)
            pairs = self._mask_movers(pairs, keyframe.id)
            for pair in pairs:
                self._connect(pair, keyframe.id)
            for i in list(self.keyframes)[-WINDOW:]:
                self._set(i, landmarks=self._seen.triangulated(self.keyframes[i], self.keyframes))
            others = [k for i, k in self.keyframes.items() if i != keyframe.id]
            partners = {p.partner for p in pairs} | self._seen.reobserve(
                self.keyframes[keyframe.id], others)
            agreement = self._refine(partners)
        finally:
            if agreement < MIN_AGREEMENT:
                (self.keyframes, self._seen, self._dense, self._learned,
                 self._motion, self.focal_factor) = before
                self._next_id = keyframe.id
                self._pairing.keep(self.keyframes, self.keyframes)
        if agreement < MIN_AGREEMENT:
            _log.info('keyframe %s contradicts the map and is left out', frame.name)
            return None
        self._pairing.archive[keyframe.id] = ArchivedView.of(view, self.focal_factor)
        self._edges += [MapEdge(p.partner, keyframe.id, p.partner == loop) for p in pairs]
        self._densify(list(self.keyframes)[-1 if len(self.keyframes) > 2 else -2:])
        self._compare_scale(list(self.keyframes)[-WINDOW:])
        self._close(keyframe.id, pairs, loop)
        self._leave_window()
        self._retire()
        return keyframe.id

    def take_back_first_pair(self) -> None:
        """Forget the second keyframe and what it said about the first one's depths."""
        first = self.keyframes[min(self.keyframes)]
        nothing = np.zeros(len(first.keypoints))
        unknown = np.zeros_like(first.inverse_depth)
        self.keyframes = {first.id: replace(
            first, T_map_cam=np.eye(4), landmarks=nothing, information=nothing,
            inverse_depth=unknown, confidence=unknown)}
        self._refocus(1 / self.focal_factor)
        self._pairing.keep(self.keyframes, self.keyframes)
        self._next_id = first.id + 1
        self._seen, self._dense, self._edges = Sightings(), {}, []
        self._learned = LearnedDepths()
        self._set(first.id, mask=self._motion.given(first.id))
        self._motion = KeyframeMotion(self._motion_config)
        self._motion.give(self.keyframes[first.id], self._pairing.features(first.id))
        self._graph = MapGraph()

    def leave_out(self, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        """
        Take what moves out of the map.

        :param masks: by keyframe, of any size
        """
        for i, mask in masks.items():
            if i in self.keyframes:
                self._exclude(i, self._motion.leave_out(self.keyframes[i], mask))

    def finish(self) -> None:
        """Refine all keyframes together and give each its final depth."""
        if not self.started:
            return
        ids = list(self.keyframes)
        before = {i: self.keyframes[i].landmarks for i in ids}
        self._solve(ids, {ids[0]}, _GLOBAL_ITERATIONS)
        # The pairs of older keyframes are gone: their depths follow their landmarks in scale
        for i in ids[:-WINDOW]:
            keyframe = self.keyframes[i]
            known = (before[i] > 0) & (keyframe.landmarks > 0)
            if known.any():
                change = np.float32(np.median(keyframe.landmarks[known] / before[i][known]))
                self._set(i, inverse_depth=keyframe.inverse_depth * change)
        self._densify(ids[-WINDOW:])
        self.leave_out(self._motion.of_all(self.keyframes[max(self.keyframes)]))
        for i in ids[-WINDOW:]:
            self._drop_vanished(i)

    def _make(self, frame: TrackedFrame, view: View, gray: NDArray[np.uint8],
              T_map_cam: Array | None, moving: NDArray[np.bool_] | None
              ) -> tuple[Keyframe, Encoding]:
        encoding = self._pairing.encode(replace(view, moving=moving))
        count = len(encoding.keypoints)
        unknown = np.zeros(encoding.image.shape[:2], np.float32)
        keyframe = Keyframe(
            self._next_id, frame.name, frame.stamp_ns, frame.index, encoding.camera,
            encoding.image, gray, encoding.descriptor, encoding.keypoints,
            np.eye(4) if T_map_cam is None else T_map_cam, np.zeros(count), np.zeros(count),
            unknown, unknown, np.zeros(unknown.shape, bool), frame.camera_name)
        if moving is not None:
            keyframe = replace(keyframe, mask=self._motion.masked(keyframe, moving))
        return keyframe, encoding

    def _insert(self, keyframe: Keyframe, encoding: Encoding) -> None:
        self.keyframes[keyframe.id] = keyframe
        self._pairing.insert(keyframe.id, encoding)
        self._next_id = keyframe.id + 1

    def _begin_alone(self, i: int) -> None:
        """Give the first keyframe the depth that its image shows; its median becomes the unit."""
        prediction = self._pairing.predict_alone(self.keyframes[i], self.focal_factor)
        focal = self._pairing.focal()
        if focal is not None and not self._calibrated:
            self._refocus(float(np.exp(focal)))
        keyframe = self.keyframes[i]
        learned = LearnedDepth.of(prediction)
        depths, confidences = learned.at(keyframe.keypoints)
        if (confidences > 0).sum() < MIN_PLACED:
            return
        self._learned.add(i, i, learned)
        landmarks = np.where(confidences > 0, np.median(depths[confidences > 0]) / np.where(
            depths > 0, depths, 1.0), 0.0)
        self._set(i, landmarks=landmarks,
                  information=np.minimum(confidences, MAX_INFORMATION))
        self._densify([i])
        self._compare_scale([i])

    def _begin(self, pair: Pair) -> Array | None:
        """Place the second keyframe; the first one's median depth becomes the unit of length."""
        first = self.keyframes[pair.partner]
        sure = at(pair.of_partner.confidence, first.keypoints) > SURE
        edge = alignment.measure_edge(pair.forward, pair.backward, None)
        if edge is None or sure.mean() < MIN_FIRST_SHARE:
            return None
        own = at(pair.forward.pointmaps[0], first.keypoints)[:, 2]
        unit = 1 / float(np.median(own[sure]))
        static = ~at(first.mask, first.keypoints)
        self._set(first.id, landmarks=np.where(
            static & (at(pair.of_partner.confidence, first.keypoints) > 0), 1 / (own * unit), 0))
        _, rotation, translation = sim3.decompose(edge[0])
        return first.T_map_cam @ se3.from_rt(rotation, unit * translation)

    def _place(self, new: Keyframe, pairs: list[Pair], T_map_cam: Array | None) -> Array | None:
        """Pose of a new keyframe from its partners' landmarks that it sees."""
        points, pixels = [], []
        for pair in pairs:
            partner = self.keyframes[pair.partner]
            known = (at(pair.of_partner.confidence, partner.keypoints) > 0) & (
                partner.information > TRACKED_INFORMATION)
            points.append(se3.transform(partner.T_map_cam, partner.landmark_points()[known]))
            pixels.append(at(pair.of_partner.targets, partner.keypoints)[known])
        result = solve_pnp(np.concatenate(points), np.concatenate(pixels), new.camera,
                           None if T_map_cam is None else se3.inverse(T_map_cam), _PLACING_ERROR)
        if result is None or result.inliers.sum() < MIN_PLACED:
            return T_map_cam
        return se3.inverse(result.T_cam_world)

    def _mask_movers(self, pairs: list[Pair], new_id: int) -> list[Pair]:
        """
        Mask what a new keyframe's pairs say of what moves, in it and in others.

        :return: the pairs, predicted once more where the predictor can leave aside what moves
        """
        changed = self._motion.update(pairs, self.keyframes[new_id], self.keyframes)
        for i, mask in changed.items():
            self._exclude(i, mask)
        if not self._predictor.reweights:
            return pairs
        return self._predict_again(pairs, new_id, set(changed))

    def _predict_again(self, pairs: list[Pair], new_id: int, changed: set[int]) -> list[Pair]:
        """Predict those pairs of the window again in which other things move than was known."""
        new = self.keyframes[new_id]
        touched = [p for p in pairs if {p.partner, new_id} & changed
                   and self._pairing.holds(p.partner)]
        again = {p.partner: p for p in self._pairing.predict_again(
            new, [self.keyframes[p.partner] for p in touched])} if touched else {}
        for i, j in {(max(p), min(p)) for p in self._learned.pairs if p[0] != p[1]}:
            if {i, j} & changed and self._pairing.holds(i) and self._pairing.holds(j):
                pair, = self._pairing.predict_again(self.keyframes[i], [self.keyframes[j]])
                self._learned.add(j, i, LearnedDepth.of(pair.forward))
                self._learned.add(i, j, LearnedDepth.of(pair.backward))
        return [again.get(p.partner, p) for p in pairs]

    def _connect(self, pair: Pair, new_id: int) -> None:
        """Record who sees which landmarks."""
        for anchor_id, observer_id, c in ((pair.partner, new_id, pair.of_partner),
                                          (new_id, pair.partner, pair.of_new)):
            self._seen.record(self.keyframes[anchor_id], observer_id, c)
            self._dense[anchor_id, observer_id] = c
        if pair.forward.learned:
            self._learned.add(pair.partner, new_id, LearnedDepth.of(pair.forward))
            self._learned.add(new_id, pair.partner, LearnedDepth.of(pair.backward))
            self._set(new_id, landmarks=in_scale_of(
                self.keyframes[pair.partner], self.keyframes[new_id], pair.backward))

    def _compare_scale(self, ids: list[int]) -> None:
        """Learn the map unit's length from predictions that are metric."""
        for i in ids:
            self._model_scale.add(i, self._learned.metres(self.keyframes[i]))

    def _refine(self, partners: set[int]) -> float:
        """
        Bundle adjustment of the window, held in place by older keyframes.

        :return: share of the newest keyframe's observations that agree with the rest
        """
        ids = list(self.keyframes)
        if not self._calibrated and len(ids) <= SELF_CALIBRATION_KEYFRAMES:
            return self._solve(ids, {ids[0]})
        window = ids[-WINDOW:]
        anchors = set(ids[-WINDOW - ANCHORS:-WINDOW]) | (partners - set(window))
        return self._solve(sorted(anchors | set(window)), anchors or {ids[0]})

    def _solve(self, ids: list[int], fixed: set[int], iterations: int = 5) -> float:
        keyframes = [self.keyframes[i] for i in ids]
        observations = self._seen.among(keyframes)
        if not observations:
            return 0.0  # a first keyframe alone
        solution = bundle_adjustment.solve(bundle_adjustment.Problem(
            T_cam_map=np.stack([se3.inverse(k.T_map_cam) for k in keyframes]),
            fixed=np.array([i in fixed for i in ids]),
            intrinsics=np.array([[k.camera.fx, k.camera.fy, k.camera.cx, k.camera.cy]
                                 for k in keyframes]),
            pixels=tuple(k.keypoints.astype(float) for k in keyframes),
            inverse_depths=tuple(k.landmarks for k in keyframes),
            observations=tuple(observations),
            focal_prior=None if self._calibrated else self._pairing.focal_prior(
                self.focal_factor),
            depth_priors=tuple(self._learned.prior(k) for k in keyframes)),
            iterations)
        for n, i in enumerate(ids):
            self._set(i, T_map_cam=se3.inverse(solution.T_cam_map[n]),
                      landmarks=solution.inverse_depths[n], information=np.maximum(
                          solution.information[n], self.keyframes[i].information * (i in fixed)))
        if not self._calibrated:
            self._refocus(solution.focal_factor)
        agreement = [good for o, good in zip(observations, solution.inliers)
                     if len(ids) - 1 in (o.anchor, o.observer)]
        return float(np.concatenate(agreement).mean()) if agreement else 0.0

    def _refocus(self, factor: float) -> None:
        self.focal_factor *= factor
        for i, k in self.keyframes.items():
            self._set(i, camera=replace(k.camera, fx=k.camera.fx * factor,
                                        fy=k.camera.fy * factor))

    def _close(self, new_id: int, pairs: list[Pair], loop: int | None) -> None:
        """Tell the graph what has been refined; where a loop closes, take over what it says."""
        recent = set(list(self.keyframes)[-WINDOW:])
        partners = {p.partner for p in pairs} - {loop}
        self._graph.extend(self.keyframes, [
            (i, j) for i, j in self._seen.pairs
            if (i in recent and i < j <= i + CHAINED) or (j == new_id and i in partners)])
        edge = None if loop is None else self._graph.loop_edge(
            pairs[-1], self.keyframes[loop], self.keyframes[new_id])
        if edge is None:
            return
        for i, S in self._graph.close(edge).items():
            if i not in self.keyframes:
                continue
            scale, rotation, translation = sim3.decompose(S)
            change = scale / self._graph.scales[i]
            keyframe = self.keyframes[i]
            self._graph.scales[i] = float(scale)
            self._model_scale.rescale(i, float(change))
            self._set(i, T_map_cam=se3.normalized(se3.from_rt(rotation, translation)),
                      landmarks=keyframe.landmarks / change,
                      inverse_depth=keyframe.inverse_depth / np.float32(change))
        self._refine({p.partner for p in pairs})
        _log.info('loop closed between keyframes %d and %d', edge.i, edge.j)

    def _leave_window(self) -> None:
        """Give the keyframe that leaves the window its final depth, and let its images go."""
        ids = list(self.keyframes)
        if len(ids) <= WINDOW:
            return
        self._densify([ids[-WINDOW - 1]])
        self._drop_vanished(ids[-WINDOW - 1])
        recent = set(ids[-WINDOW:])
        self._pairing.keep(recent, self.keyframes)
        self._dense = {pair: c for pair, c in self._dense.items() if recent & set(pair)}
        self._learned.keep(recent)
        self._motion.keep(recent)

    def _drop_vanished(self, new_id: int) -> None:
        """Take out of older keyframes what a newer one, whose depth is final, sees through."""
        older = [k for i, k in self.keyframes.items() if i < new_id]
        for i, gone in self._vanished.update(older, self.keyframes[new_id]).items():
            self._exclude(i, self.keyframes[i].mask | gone)

    def _exclude(self, i: int, mask: NDArray[np.bool_]) -> None:
        """Take a part of a keyframe (H, W) out of the map."""
        keyframe = self.keyframes[i]
        static = ~at(mask, keyframe.keypoints)
        self._set(i, mask=mask, inverse_depth=keyframe.inverse_depth * ~mask,
                  confidence=keyframe.confidence * ~mask, landmarks=keyframe.landmarks * static,
                  information=keyframe.information * static)

    def _retire(self) -> None:
        """Let the keyframe go that shows least of its own, where there are too many."""
        if len(self.keyframes) <= self._max_keyframes:
            return
        # The first one is the map's origin, the newest ones are still being refined
        ids = list(self.keyframes)
        lost, kept = pair_graph.most_redundant(
            np.stack([k.T_map_cam for k in self.keyframes.values()]),
            np.array([k.median_depth() for k in self.keyframes.values()]),
            1, len(ids) - WINDOW - ANCHORS)
        old, near = self.keyframes.pop(ids[lost]), self.keyframes[ids[kept]]
        self._retired[old.id] = Retired(
            near.id, se3.normalized(se3.inverse(near.T_map_cam) @ old.T_map_cam),
            self._graph.scales[near.id], self._graph.scales[old.id])
        self._pairing.keep(self.keyframes, self.keyframes)
        self._seen.forget(old.id)
        self._dense = {pair: c for pair, c in self._dense.items() if old.id not in pair}
        self._vanished.forget(old.id)
        self._edges = [e for e in self._edges if old.id not in (e.i, e.j)]

    def _densify(self, ids: list[int]) -> None:
        for i in ids:
            votes = self._votes(i)
            if votes:
                inverse_depth, confidence = depth.fuse(self.keyframes[i].rays(), votes)
                static = ~self.keyframes[i].mask
                self._set(i, inverse_depth=inverse_depth * static, confidence=confidence * static)

    def _votes(self, i: int) -> list[depth.Vote]:
        """Collect what each prediction says of a keyframe's depths."""
        keyframe = self.keyframes[i]
        learned = self._learned.votes(keyframe)
        if learned:
            return learned
        return [depth.TriangulatedVote(
            se3.inverse(self.keyframes[observer].T_map_cam) @ keyframe.T_map_cam,
            self.keyframes[observer].camera, c.targets, c.confidence)
            for (anchor, observer), c in self._dense.items() if anchor == i]

    def _set(self, i: int, **changes: Any) -> None:
        self.keyframes[i] = replace(self.keyframes[i], **changes)
