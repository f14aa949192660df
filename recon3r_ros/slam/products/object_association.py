# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Objects of the map: instances of label images, associated over views.

Numbers of instances mean something in their own image only. The points of a new keyframe are seen
in the keyframes before, whose instances are objects already: a point is of an object where most of
the views that have the object and see the point say so. Instances and objects of one class are
matched one to one by the intersection over union of their points (Hungarian method, Kuhn 1955),
as PanopticFusion does with rendered images of the map (Narita et al., IROS 2019). An instance
without a match begins an object; one that fits two objects alike is unknown. Objects that views
show as one instance, time and again, are merged.

An object gets a number when another view has it, clearly, or two others: one image may err.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.products.cloud import reliable_pixels
from recon3r_ros.slam.products.labels import LabelledView, near, Objects, visible
from recon3r_ros.slam.semantics import Labels

Integers = NDArray[np.int64]

#: Points of a keyframe at most: of more, every second, third ... row and column is taken
MAX_POINTS = 20_000
#: Points that an instance, and what it shares with an object, consist of at least
MIN_POINTS = 30
#: Share of an instance's pixels that its class needs, and of the views of a point that an object
#: does
MIN_SHARE = 0.5
#: Intersection over union of an instance and its object at least: the lower one of those by which
#: instances count as found in ScanNet's benchmark (Dai et al., CVPR 2017)
MIN_IOU = 0.25
#: An instance is unknown where a second object's is more than this share of the best one's
AMBIGUOUS = 0.7
#: Share of an object's points that an instance must have to cover it
COVERED = 0.6
#: Objects are merged where so many views cover both by one instance, and so many times as many as
#: show them as two
MERGING_VIEWS, MERGING_RATIO = 3, 4
#: Objects that the instances of a keyframe are compared with: those with the most points in view
CANDIDATES = 512
#: Sum of the intersections over union of an object's views for a number: one clear match, or two
CONFIRMED = 0.5
#: Largest number of an object
MOST = 65535


@dataclass(frozen=True)
class Segment:
    """
    An instance of one keyframe's label image.

    :param instance: its number in the image
    :param kind: its class; 0 where unknown
    :param object: that it is of, from 1 on; 0 where ambiguous
    :param iou: intersection over union with the object before; 0 where it begins one
    :param covers: objects that lie within it, rising
    """

    instance: int
    kind: int
    object: int
    iou: float = 0.0
    covers: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Associated:
    """
    A keyframe whose instances have been associated.

    :param labels: its label image
    """

    labels: Labels
    segments: tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class Votes:
    """
    What other views say of the points of one keyframe's instances.

    :param instances: (S,) numbers, rising
    :param kinds: (S,) their classes; -1 where no class has a majority
    :param segment: (n,) index of each point's instance
    :param objects: (O,) rising
    :param votes: (n, O) views that see the point as part of the object
    :param views: (n, O) views that have the object, and see the point as part of anything
    """

    instances: Integers
    kinds: Integers
    segment: Integers
    objects: Integers
    votes: NDArray[np.int16]
    views: NDArray[np.int16]


class ObjectAssociation:
    """
    Owns the objects of a map.

    Objects keep their numbers as the map grows; those without keyframes are forgotten, and their
    numbers are not given again.
    """

    def __init__(self) -> None:
        self._views: dict[int, Associated] = {}
        self._next = 1
        #: Of objects that have one
        self._numbers: dict[int, int] = {}
        self._next_number = 1
        self._objects = Objects()

    def update(self, views: Mapping[int, LabelledView]) -> Objects:
        """
        Associate the instances of new keyframes.

        :param views: the label images of the map's keyframes, by keyframe; those of others are
            forgotten
        """
        kept = {i: known for i, known in self._views.items()
                if i in views and known.labels is views[i].labels}
        new = [i for i in sorted(views) if i not in kept and _has_points(views[i])]
        if not new and len(kept) == len(self._views):
            return self._objects
        self._views = kept
        for i in new:
            self._views[i] = self._associated(views[i], views)
            self._merge()
        self._number()
        return self._objects

    def _associated(self, view: LabelledView, views: Mapping[int, LabelledView]) -> Associated:
        before = near(view.keyframe, {i: views[i] for i in self._views})
        votes = collected(view, [(v, self._views[v.keyframe.id].segments) for v in before])
        kinds = {s.object: s.kind for v in before for s in self._views[v.keyframe.id].segments}
        segments = matched(votes, kinds)
        begun = [s for s in segments if s.object < 0]
        begins = {s.instance: self._next + k for k, s in enumerate(begun)}
        self._next += len(begun)
        return Associated(view.labels, tuple(
            replace(s, object=begins.get(s.instance, s.object)) for s in segments))

    def _merge(self) -> None:
        while found := merging(known.segments for known in self._views.values()):
            into, merged = found
            self._views = {i: replace(known, segments=_renamed(known.segments, merged, into))
                           for i, known in self._views.items()}
            numbers = [self._numbers.pop(o) for o in found if o in self._numbers]
            if numbers:
                self._numbers[into] = min(numbers)

    def _number(self) -> None:
        """Give numbers to objects that enough views have."""
        seen: dict[int, float] = {}
        for s in chain.from_iterable(known.segments for known in self._views.values()):
            if s.object:
                seen[s.object] = seen.get(s.object, 0.0) + s.iou
        self._numbers = {o: n for o, n in self._numbers.items() if o in seen}
        for o in sorted(seen):
            if o not in self._numbers and seen[o] >= CONFIRMED and self._next_number <= MOST:
                self._numbers[o] = self._next_number
                self._next_number += 1
        classes = np.zeros(self._next_number, np.uint8)
        tables = {}
        for i, known in self._views.items():
            instances = known.labels.instances
            assert instances is not None
            table = np.zeros(int(instances.max(initial=0)) + 1, np.uint16)
            for s in known.segments:
                if s.object in self._numbers:
                    table[s.instance] = self._numbers[s.object]
                    classes[table[s.instance]] = s.kind
            old = self._objects.numbers.get(i)
            # The same array where nothing has changed: votes are not counted again
            tables[i] = old if old is not None and np.array_equal(old, table) else table
        self._objects = Objects(tables, classes)


def collected(view: LabelledView, before: Sequence[tuple[LabelledView, Sequence[Segment]]]
              ) -> Votes:
    """
    Collect what views say of the points of another one's instances.

    :param view: with an instance image
    :param before: views whose instances have been associated, and those
    """
    keyframe, labels = view.keyframe, view.labels
    assert labels.instances is not None
    rows, columns = np.nonzero(_thinned(reliable_pixels(keyframe) & (labels.instances > 0)))
    instances, segment, counts = np.unique(
        labels.instances[rows, columns].astype(np.int64), return_inverse=True, return_counts=True)
    large = counts >= MIN_POINTS
    keep = large[segment]
    rows, columns = rows[keep], columns[keep]
    segment = (np.cumsum(large) - 1)[segment[keep]]
    instances = instances[large]
    points = keyframe.pointmap()[rows, columns]
    T = keyframe.T_map_cam.astype(np.float32)
    looks = [_look(points @ T[:3, :3].T + T[:3, 3], other, segments)
             for other, segments in before if other.labels.instances is not None]
    objects = _candidates(looks)
    votes, sight = np.zeros((2, len(rows), len(objects) + 1), np.int16)
    for look in looks:
        # A view sees each point once: no index is repeated
        votes[look.points, _columns(objects, look.objects)] += 1
        sight[np.ix_(look.known, np.unique(_columns(objects, look.has)))] += 1
    return Votes(instances, _kinds(labels.classes[rows, columns], segment, len(instances)),
                 segment, objects, votes[:, 1:], sight[:, 1:])


@dataclass(frozen=True, eq=False)
class _Look:
    """
    What one view says of points.

    :param points: (n,) those that it sees
    :param objects: (n,) theirs; 0 where it has none
    :param known: (m,) points that are part of anything: also what has a class but no instance
    :param has: its objects, and 0
    """

    points: Integers
    objects: Integers
    known: Integers
    has: Integers


def _look(points: NDArray[np.float32], view: LabelledView, segments: Sequence[Segment]) -> _Look:
    """
    Have a view say what it sees of points.

    :param points: (N, 3) in the map frame
    """
    labels = view.labels
    assert labels.instances is not None
    objects = np.zeros(int(labels.instances.max(initial=0)) + 1, np.int64)
    for s in segments:
        objects[s.instance] = s.object
    seen = visible(points, view)
    said = labels.instances[seen.rows, seen.columns]
    known = (said > 0) | (labels.classes[seen.rows, seen.columns] > 0)
    return _Look(seen.points, objects[said], seen.points[known], np.unique(np.append(objects, 0)))


def _candidates(looks: Sequence[_Look]) -> Integers:
    """Return the objects (O,), rising, that views see in enough points, or the largest."""
    objects, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *(
        look.objects for look in looks)]), return_counts=True)
    enough = np.flatnonzero((objects > 0) & (counts >= MIN_POINTS))
    most = enough[np.argsort(-counts[enough], kind='stable')[:CANDIDATES]]
    return objects[np.sort(most)]


def _columns(objects: Integers, of: Integers) -> Integers:
    """Return the place (n,) of objects among the candidates, from 1 on; 0 where they are none."""
    if not len(objects):
        return np.zeros(len(of), np.int64)
    place = np.minimum(np.searchsorted(objects, of), len(objects) - 1)
    return np.where(objects[place] == of, place + 1, 0)


def matched(votes: Votes, kinds: Mapping[int, int]) -> list[Segment]:
    """
    Match the instances of one keyframe with objects.

    :param votes: on their points
    :param kinds: classes of the objects
    :return: all instances; their object is 0 where it is ambiguous, and negative where it is new
    """
    count, objects = len(votes.instances), votes.objects
    extent = votes.votes > MIN_SHARE * votes.views
    shared = _per_segment(extent, votes.segment, count)
    union = _per_segment(votes.views > 0, votes.segment, count) + shared.sum(axis=0) - shared
    alike = votes.kinds[:, None] == np.array([kinds[o] for o in objects.tolist()], np.int64)
    alike &= shared >= MIN_POINTS
    iou = np.where(alike, shared / np.maximum(union, 1), 0.0)
    covered = alike & (shared >= COVERED * shared.sum(axis=0))
    ranked = np.sort(np.pad(iou, ((0, 0), (2, 0))), axis=1)
    ambiguous = (votes.kinds < 0) | (
        (ranked[:, -1] >= MIN_IOU) & (ranked[:, -2] > AMBIGUOUS * ranked[:, -1]))
    iou[ambiguous] = 0
    iou[iou < MIN_IOU] = 0
    from scipy.optimize import linear_sum_assignment  # when there are instances
    found, fit = np.where(ambiguous, 0, -1), np.zeros(count)
    for s, o in zip(*linear_sum_assignment(iou, maximize=True)):
        if iou[s, o] > 0:
            found[s], fit[s] = objects[o], iou[s, o]
    return [Segment(instance, max(kind, 0), o, fits, tuple(objects[covered[s]].tolist()))
            for s, (instance, kind, o, fits) in enumerate(zip(
                votes.instances.tolist(), votes.kinds.tolist(), found.tolist(), fit.tolist()))]


def merging(views: Iterable[Sequence[Segment]]) -> tuple[int, int] | None:
    """
    Find two objects that are one: the older, and the other; None where there are none.

    :param views: the instances of each keyframe
    """
    listed = list(views)
    together = Counter(pair for segments in listed for pair in {
        p for s in segments for p in combinations(s.covers, 2)})
    for pair in sorted(p for p, n in together.items() if n >= MERGING_VIEWS):
        apart = sum(set(pair) <= {s.object for s in segments} for segments in listed)
        if together[pair] >= MERGING_RATIO * apart:
            return pair
    return None


def _renamed(segments: Sequence[Segment], old: int, new: int) -> tuple[Segment, ...]:
    """Replace an object, and assign what was ambiguous on account of it."""
    out = []
    for s in segments:
        covers = tuple(sorted({new if o == old else o for o in s.covers}))
        out.append(replace(s, object=new if s.object == old else s.object, covers=covers))
    for k, s in enumerate(out):
        if s.object == 0 and s.covers == (new,) and all(o.object != new for o in out):
            out[k] = replace(s, object=new)
    return tuple(out)


def _has_points(view: LabelledView) -> bool:
    return view.labels.instances is not None and bool((view.keyframe.inverse_depth > 0).any())


def _thinned(use: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Leave out rows and columns, so that about `MAX_POINTS` remain at most."""
    step = int(np.ceil(np.sqrt(use.sum() / MAX_POINTS)))
    if step <= 1:
        return use
    grid = np.zeros_like(use)
    grid[::step, ::step] = True
    return use & grid


def _kinds(classes: NDArray[np.uint8], segment: Integers, count: int) -> Integers:
    """Return the class (S,) that most points of each instance have; -1 without a majority."""
    table = np.bincount(256 * segment + classes, minlength=256 * count).reshape(count, 256)
    clear = table.max(axis=1, initial=0) > MIN_SHARE * table.sum(axis=1)
    return np.where(clear, table.argmax(axis=1), -1)


def _per_segment(which: NDArray[np.bool_], segment: Integers, count: int) -> Integers:
    """Count (S, O) which points (n, O) are of each instance."""
    order = np.argsort(segment, kind='stable')
    ends = np.cumsum(np.bincount(segment, minlength=count))
    sums: NDArray[np.int32] = np.concatenate([np.zeros((1, which.shape[1]), np.int32),
                           np.cumsum(which[order], axis=0, dtype=np.int32)])
    return np.diff(sums[np.concatenate([[0], ends])], axis=0).astype(np.int64)
