# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How a keyframe enters a map: placed by its pairs, refined with the window, and verified.

All of it happens in a fork of the map's state, which the mapper commits or drops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.geometry import se3
from recon3r_ros.models.types import Encoding, View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend import appearance
from recon3r_ros.slam.backend.learned import in_scale_of, LearnedDepth
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.placement import begin, has_same_focal, place
from recon3r_ros.slam.backend.refinement import refine, solve
from recon3r_ros.slam.types import Keyframe, MapEdge, Pair, TrackedFrame

_log = logging.getLogger(__name__)

#: Agreement of a relocalised keyframe, share of what it needs, with which the map is questioned
QUESTIONED = 0.5


@dataclass(frozen=True, eq=False)
class New:
    """
    A keyframe to be added.

    :param keyframe: without pose and depth
    :param view: with its pose where tracking knows it
    :param overlap: of a first pair, see `begin`
    :param zoomed: whether its focal length may not be that of the map
    """

    keyframe: Keyframe
    encoding: Encoding
    view: View
    overlap: float = 1.0
    zoomed: bool = False

    @classmethod
    def of(cls, state: MapState, number: int, frame: TrackedFrame, view: View,
           gray: NDArray[np.uint8], overlap: float = 1.0) -> New:
        """
        Encode a view.

        :param number: id of the keyframe
        :param gray: (H', W') uint8 tracking image
        """
        encoding = state.pairing.encode(view)
        count = len(encoding.keypoints)
        unknown = np.zeros(encoding.image.shape[:2], np.float32)
        T_map_cam = np.eye(4) if view.pose is None else view.pose.T_map_cam
        keyframe = Keyframe(
            number, frame.name, frame.stamp_ns, frame.index, encoding.camera, encoding.image,
            gray, np.zeros(0, np.float32), encoding.keypoints, T_map_cam, np.zeros(count),
            np.zeros(count), unknown, unknown, np.zeros(unknown.shape, bool), frame.camera_name,
            mount=frame.mount)
        moving = view.moving
        parts: tuple[Callable[[], NDArray[Any]], ...] = (
            lambda: encoding.descriptor,
            lambda: keyframe.mask if moving is None else state.motion.masked(keyframe, moving))
        descriptor, mask = side_by_side(lambda part: part(), parts)
        return cls(replace(keyframe, descriptor=descriptor, mask=mask), encoding, view, overlap)


@dataclass(frozen=True, eq=False)
class Added:
    """
    A map with a new keyframe that is placed and verified.

    :param state: a fork
    :param pairs: of the keyframe
    :param loop: partner that closes a loop
    """

    state: MapState
    number: int
    pairs: list[Pair]
    loop: int | None = None


def insert(state: MapState, keyframe: Keyframe, new: New) -> None:
    """
    Put a keyframe into a map, without its relations to others.

    :param keyframe: the new one, with its pose
    """
    state.keyframes[keyframe.id] = keyframe
    state.pairing.insert(keyframe.id, new.encoding)
    state.motion.give(keyframe, new.encoding.features)
    state.measured.add(keyframe, new.view)
    state.next_id = keyframe.id + 1


def tracked(base: MapState, new: New, needed: float) -> Added | None:
    """
    Add a keyframe whose pose is known, or the second one of a map.

    :param needed: share of its observations that must agree with the map
    """
    state = base.fork()
    pairs, loop = state.pairing.with_partners(
        new.keyframe, new.encoding, state.keyframes, state.window, state.focal_factor,
        state.measured.metre)
    return _added(state, new, pairs, loop, needed)


def relocalised(base: MapState, new: New, candidates: int, needed: float) -> Added | None:
    """
    Add a keyframe whose pose is unknown: try groups of partners until one places it, verified.

    :param candidates: keyframes that look similar to try as partners
    :param needed: share of its observations that must agree with the map
    """
    for partners in base.pairing.relocalisation_partners(
            new.keyframe, base.keyframes, candidates):
        state = base.fork()
        pairs = state.pairing.predict(new.keyframe, new.encoding,
                                      [state.keyframes[i] for i in partners], state.focal_factor)
        added = _added(state, new, pairs, None, needed)
        if added is not None:
            return added
    return None


def _added(state: MapState, new: New, pairs: list[Pair], loop: int | None, needed: float
           ) -> Added | None:
    if not pairs:
        return _carried(state, new)
    keyframe, view = new.keyframe, new.view
    T_map_cam = None if view.pose is None else view.pose.T_map_cam
    known = T_map_cam is not None or not state.started
    if not state.started:
        T_map_cam = begin(state, pairs[0], new.overlap)
    else:
        T_map_cam = place(state, keyframe, pairs, T_map_cam)
    if T_map_cam is None or (
            new.zoomed and not has_same_focal(state, keyframe, pairs, T_map_cam)):
        return None
    insert(state, replace(keyframe, T_map_cam=T_map_cam), new)
    pairs = _mask_movers(state, pairs, keyframe.id)
    for pair in pairs:
        _connect(state, pair, keyframe.id)
    _scale(state, pairs, keyframe.id)
    for i in state.ids[-state.window:]:
        state.change(i, landmarks=state.seen.triangulated(state.keyframes[i], state.keyframes))
        state.change(i, landmarks=state.measured.completed(state.keyframes[i]))
    others = [k for i, k in state.keyframes.items() if i != keyframe.id]
    partners = {p.partner for p in pairs} | state.seen.reobserve(
        state.keyframes[keyframe.id], others)
    agreement = refine(state, partners)
    if not known and QUESTIONED * needed < agreement < needed:
        # The map may have drifted since the partners: adjust all of it
        solve(state, state.ids, {state.ids[0]})
        agreement = refine(state, partners)
    if agreement < needed:
        _log.info('keyframe %s rejected: %.0f %% of its observations agree with the map, '
                  '%.0f %% are needed', keyframe.name, 100 * agreement, 100 * needed)
        return None
    if not known and not is_verified(
            state.keyframes[keyframe.id], [state.keyframes[i] for i in partners]):
        return None
    state.pairing.archive[keyframe.id] = ArchivedView.of(view, state.focal_factor)
    state.edges += [MapEdge(p.partner, keyframe.id) for p in pairs]
    return Added(state, keyframe.id, pairs, loop)


def _carried(state: MapState, new: New) -> Added | None:
    """
    Add a keyframe that no other of its camera overlaps with, where its rig knows the pose.

    The next one of its camera gives depth to both.
    """
    keyframe, view = new.keyframe, new.view
    if keyframe.mount is None or view.pose is None or state.measured.metre is None:
        return None
    before = state.ids[-1]
    insert(state, keyframe, new)
    state.pairing.archive[keyframe.id] = ArchivedView.of(view, state.focal_factor)
    state.edges.append(MapEdge(before, keyframe.id))
    return Added(state, keyframe.id, [])


def _mask_movers(state: MapState, pairs: list[Pair], new_id: int) -> list[Pair]:
    """
    Mask the dynamic objects that a new keyframe's pairs show, in it and in others.

    :return: the pairs, predicted again where the predictor can exclude masks
    """
    changed = state.motion.update(pairs, state.keyframes[new_id], state.keyframes)
    state.change(new_id, attention=state.motion.attended)
    for i, mask in changed.items():
        state.exclude(i, mask)
    if not state.pairing.predictor.reweights:
        return pairs
    return _predict_again(state, pairs, new_id, set(changed))


def _predict_again(state: MapState, pairs: list[Pair], new_id: int, changed: set[int]
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


def is_verified(new: Keyframe, partners: Iterable[Keyframe]) -> bool:
    """Verify a relocalised view's pose by its appearance in keyframes."""
    found = [likeness for likeness in (
        appearance.likeness(k, new, se3.inverse(k.T_map_cam) @ new.T_map_cam)
        for k in partners) if likeness is not None]
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


def _connect(state: MapState, pair: Pair, new_id: int) -> None:
    """Record observations of landmarks, and what the pair shows."""
    for anchor_id, observer_id, c in ((pair.partner, new_id, pair.of_partner),
                                      (new_id, pair.partner, pair.of_new)):
        state.seen.record(state.keyframes[anchor_id], observer_id, c)
        state.dense[anchor_id, observer_id] = c
    for i, labels in zip((pair.partner, new_id), pair.forward.labels or ()):
        # By the first pair that shows anything known: one pair's objects are the same in both
        if state.keyframes[i].labels is None and labels.classes.any():
            state.change(i, labels=labels)
    if pair.forward.learned:
        state.learned.add(pair.partner, new_id, LearnedDepth.of(pair.forward, pair.window))
        state.learned.add(new_id, pair.partner, LearnedDepth.of(pair.backward, pair.window))


def _scale(state: MapState, pairs: list[Pair], new_id: int) -> None:
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
