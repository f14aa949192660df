# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Classes and objects of the map's points, by votes of the label images that see them.

A label image errs where it looks at a surface from afar or at a grazing angle, and from some
viewpoints systematically. A point takes the class with the greatest weight over all views in which
it is visible, as in SemanticFusion (McCormac et al., ICRA 2017), with weights in place of a
network's probabilities, which not every source has. So do objects, whose instances in the images
`object_association` has associated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.slam.products.cloud import LiveCloud
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Keyframe, Map, PointCloud

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

#: A point is visible where the view's depth agrees within this many standard deviations, and at
#: least, and at most, this share of it
DEVIATIONS, MIN_GAP, MAX_GAP = 3.0, 0.02, 0.08
#: Cosine of the angle between ray and normal below which a view's weight decreases no further
MIN_COSINE = 0.1
#: Share of the weights that the class of a point needs
MIN_SHARE = 0.5
#: Views that vote in a growing map: the nearest that look in a similar direction
NEAREST, MIN_SAME_DIRECTION = 16, 0.0
#: Cubes along a cloud's extent: about each, only views that may see something of it are asked
CUBES = 16
#: Points of which votes are counted at once, and their counters at most
CHUNK, COUNTERS = 100_000, 20_000_000


@dataclass(frozen=True, eq=False)
class LabelledView:
    """
    A keyframe and its label image.

    :param labels: on the keyframe's grid
    """

    keyframe: Keyframe
    labels: Labels

    @cached_property
    def cosines(self) -> Floats:
        """Cosines (H, W) between the rays of the keyframe and the normals of its surface."""
        return _cosines(self.keyframe)


@dataclass(frozen=True, eq=False)
class Objects:
    """
    The objects of a map.

    :param numbers: by keyframe, (n,) uint16: the object of each number in its instance image; 0
        where unknown
    :param classes: (N,) uint8 of the objects, by their numbers; [0] is 0
    """

    numbers: Mapping[int, NDArray[np.uint16]] = field(default_factory=dict)
    classes: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(1, np.uint8))

    def at(self, view: LabelledView, rows: NDArray[np.int64], columns: NDArray[np.int64]
           ) -> NDArray[np.uint16]:
        """Objects (n,) at pixels of a view; 0 where unknown."""
        numbers = self.numbers.get(view.keyframe.id)
        if numbers is None or view.labels.instances is None:
            return np.zeros(len(rows), np.uint16)
        return numbers[view.labels.instances[rows, columns]]


#: Where no source has instances
NO_OBJECTS = Objects()


@dataclass(frozen=True, eq=False)
class Observation:
    """
    Which of some points one view sees.

    :param points: (n,) indices of those that are visible
    :param rows: (n,) of their pixels
    :param columns: (n,) of their pixels
    :param weights: (n,) > 0
    """

    points: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weights: Floats


def visible(points: Floats, view: LabelledView) -> Observation:
    """
    Find which points a view sees, and what its word counts.

    The weight is the cosine of the viewing angle over the depth: what points are depends on ratios
    of weights alone, so that the unit of length is arbitrary.

    :param points: (N, 3) in the map frame
    """
    keyframe = view.keyframe
    T = se3.inverse(keyframe.T_map_cam).astype(np.float32)
    own = points @ T[:3, :3].T + T[:3, 3]
    camera, z = keyframe.camera, own[:, 2]
    ahead = np.flatnonzero(z > 1e-6)
    u, v = np.rint(pinhole.project(own[ahead], camera)).T
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    seen, columns, rows = ahead[inside], u[inside].astype(np.int64), v[inside].astype(np.int64)
    inverse_depth, certainty = keyframe.inverse_depth[rows, columns], keyframe.confidence[
        rows, columns]
    with np.errstate(divide='ignore'):
        gap = np.clip(DEVIATIONS / np.sqrt(certainty), MIN_GAP, MAX_GAP)
    keep = ((inverse_depth > 0) & (certainty > 0) & ~keyframe.mask[rows, columns]
            & (np.abs(z[seen] * inverse_depth - 1) < gap))
    seen, rows, columns = seen[keep], rows[keep], columns[keep]
    return Observation(seen, rows, columns, view.cosines[rows, columns] / z[seen])


def observation(points: Floats, view: LabelledView) -> Observation:
    """
    Find which points a view sees and has labels of; its confidence is part of the weight.

    :param points: (N, 3) in the map frame
    """
    seen, labels = visible(points, view), view.labels
    weights, classes = seen.weights, labels.classes[seen.rows, seen.columns]
    if labels.confidence is not None:
        weights = weights * labels.confidence[seen.rows, seen.columns]
    known = classes > 0
    if labels.instances is not None:
        known |= labels.instances[seen.rows, seen.columns] > 0
    keep = known & (weights > 0)
    return Observation(seen.points[keep], seen.rows[keep], seen.columns[keep], weights[keep])


def voted(points: Floats, views: Sequence[LabelledView], objects: Objects = NO_OBJECTS
          ) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """
    Classes and objects of points by the votes of views.

    An object has one class: a point of another class is not of it.

    :param points: (N, 3) in the map frame
    :param objects: of the views' instances
    :return: (N,) uint8 and (N,) uint16; 0 where no view sees the point, or they disagree
    """
    classes, numbers = np.zeros(len(points), np.uint8), np.zeros(len(points), np.uint16)
    kinds = np.unique(np.concatenate([np.zeros(1, np.uint8), *(
        np.unique(view.labels.classes) for view in views)]))
    things = np.unique(np.concatenate([np.zeros(1, np.uint16), *(
        objects.numbers.get(view.keyframe.id, np.zeros(1, np.uint16)) for view in views)]))
    step = max(1, min(CHUNK, COUNTERS // (len(kinds) + len(things))))
    for part, seeing in _parts(points, views, step):
        of_classes = np.zeros((len(part), len(kinds)), np.float32)
        of_objects = np.zeros((len(part), len(things)), np.float32)
        for view in seeing:
            found = observation(points[part], view)
            # A view sees each point once: no index is repeated
            for votes, names, said in (
                    (of_classes, kinds, view.labels.classes[found.rows, found.columns]),
                    (of_objects, things, objects.at(view, found.rows, found.columns))):
                if len(names) > 1:
                    votes[found.points, np.searchsorted(names, said)] += found.weights
        classes[part] = _winners(of_classes, kinds)
        numbers[part] = _winners(of_objects, things)
    return classes, np.where(objects.classes[numbers] == classes, numbers, np.uint16(0))


def _parts(points: Floats, views: Sequence[LabelledView], most: int
           ) -> Iterator[tuple[NDArray[np.int64], list[LabelledView]]]:
    """
    Divide points into cubes, so that few views need to be asked about each.

    :param points: (N, 3) in the map frame
    :param most: points of a part at most
    :return: for each part the indices of its points, and the views that may see some of them
    """
    if len(points) <= most:  # a keyframe's: its views are near it already
        yield np.arange(len(points)), list(views)
        return
    low, extent = points.min(axis=0), float(np.ptp(points, axis=0).max())
    cubes = ((points - low) / max(extent / CUBES, 1e-9)).astype(np.int64).clip(0, CUBES - 1)
    cube = cubes @ np.array([CUBES * CUBES, CUBES, 1])
    order = np.argsort(cube, kind='stable')
    bounds = np.append(np.flatnonzero(np.diff(cube[order], prepend=-1)), len(points))
    parts = [order[begin:min(begin + most, end)] for start, end in zip(bounds, bounds[1:])
             for begin in range(start, end, most)]
    centres = np.stack([points[part].mean(axis=0) for part in parts]).astype(np.float64)
    radii = np.array([np.linalg.norm(points[part] - centre, axis=1).max()
                      for part, centre in zip(parts, centres)])
    seen = [_may_see(view, centres, radii) for view in views]
    for n, part in enumerate(parts):
        yield part, [view for view, which in zip(views, seen) if which[n]]


def _may_see(view: LabelledView, centres: Array, radii: Array) -> NDArray[np.bool_]:
    """Whether a view may see parts of spheres (n,): in its cone, no farther than its depth."""
    keyframe = view.keyframe
    depths = keyframe.inverse_depth[keyframe.inverse_depth > 0]
    if not len(depths):
        return np.zeros(len(radii), bool)
    rays = keyframe.rays()
    widest = float(np.arccos((rays[..., 2] / np.linalg.norm(rays, axis=-1)).min()))
    own = se3.transform(se3.inverse(keyframe.T_map_cam), centres)
    distance = np.linalg.norm(own, axis=1)
    inside = distance <= radii
    with np.errstate(divide='ignore', invalid='ignore'):
        angle = np.arccos(np.clip(own[:, 2] / distance, -1, 1))
        margin = np.arcsin(np.clip(radii / distance, 0, 1))
    far = (1 + MAX_GAP) / float(depths.min())
    # Half of a pixel beyond its centre is in the image, too
    pixel = 1 / min(keyframe.camera.fx, keyframe.camera.fy)
    return inside | ((angle - margin <= widest + pixel) & (own[:, 2] - radii <= 1.01 * far))


def voted_classes(points: Floats, views: Sequence[LabelledView]) -> NDArray[np.uint8]:
    """
    Classes of points by the votes of views.

    :param points: (N, 3) in the map frame
    :return: (N,) uint8; 0 where no view sees the point, or they disagree
    """
    return voted(points, views)[0]


def _winners(votes: Floats, names: NDArray[Any]) -> NDArray[Any]:
    """
    Return which name (n,) has most of the votes, 0 without a clear one.

    :param votes: (n, m) weights of the names; those of the first one, 0, do not count
    :param names: (m,), rising from 0
    """
    votes[:, 0] = 0
    best = votes.argmax(axis=1)
    most = votes[np.arange(len(votes)), best]
    clear = (most > 0) & (most >= MIN_SHARE * votes.sum(axis=1))
    return np.where(clear, names[best], names.dtype.type(0))


def with_instances(views: Iterable[LabelledView]) -> bool:
    """Whether any of the views has an instance image."""
    return any(view.labels.instances is not None for view in views)


def labelled(cloud: PointCloud, views: Sequence[LabelledView], objects: Objects = NO_OBJECTS
             ) -> PointCloud:
    """
    Give the points of a cloud in the map frame their classes, and objects.

    :param views: that vote; without any the cloud is returned as it is, without instance images
        it gets no objects
    :param objects: of the views' instances
    """
    if not views:
        return cloud
    classes, numbers = voted(cloud.points, views, objects)
    return replace(cloud, labels=classes, instances=numbers if with_instances(views) else None)


def near(keyframe: Keyframe, views: Mapping[int, LabelledView]) -> list[LabelledView]:
    """Return the views that vote on a keyframe's points in a growing map, its own first."""
    others = [view for view in views.values() if float(
        view.keyframe.T_map_cam[:3, 2] @ keyframe.T_map_cam[:3, 2]) > MIN_SAME_DIRECTION]
    others.sort(key=lambda view: float(np.linalg.norm(
        view.keyframe.T_map_cam[:3, 3] - keyframe.T_map_cam[:3, 3])))
    return others[:NEAREST]


def labelled_keyframe(cloud: PointCloud, keyframe: Keyframe, views: Mapping[int, LabelledView]
                      ) -> PointCloud:
    """
    Give the points of one keyframe their classes, and the instances of its own label image.

    :param cloud: in the keyframe's camera frame
    :param views: of the map, by keyframe; without any the cloud is returned as it is
    """
    if not views:
        return cloud
    T = keyframe.T_map_cam.astype(np.float32)
    in_map = replace(cloud, points=cloud.points @ T[:3, :3].T + T[:3, 3])
    own = views.get(keyframe.id)
    return replace(labelled(in_map, near(keyframe, views)), points=cloud.points,
                   instances=None if own is None else _instances(cloud.points, own))


def _instances(points: Floats, view: LabelledView) -> NDArray[np.uint16] | None:
    """Instances (N,) of a view's own points (N, 3), in its camera frame; None without any."""
    if view.labels.instances is None:
        return None
    height, width = view.labels.instances.shape
    u, v = np.rint(pinhole.project(points, view.keyframe.camera)).astype(np.int64).T
    return view.labels.instances[v.clip(0, height - 1), u.clip(0, width - 1)]


class LabelledCloud:
    """
    The cloud of a growing map with classes and objects: a `Product`.

    Votes on a keyframe's points are counted again where its points, or the views that see them,
    have changed, or the objects in those.

    :param cloud: of the map
    :param views: gives the label images of a map's keyframes, by keyframe
    :param objects: associates the instances of such images
    """

    def __init__(self, cloud: LiveCloud, views: Callable[[Map], Mapping[int, LabelledView]],
                 objects: Callable[[Mapping[int, LabelledView]], Objects]) -> None:
        self._cloud = cloud
        self._views = views
        self._objects = objects
        self._counted: dict[int, _Counted] = {}

    def update(self, known: Map) -> PointCloud:
        """
        Bring the cloud up to date.

        :return: points in the map frame
        """
        cloud, views = self._cloud.update(known), self._views(known)
        if not views:
            return cloud
        objects = self._objects(views)
        counted = {}
        for keyframe, own in self._cloud.shares(known):
            voters = near(keyframe, views)
            key = (own, *(view.labels for view in voters),
                   *(objects.numbers.get(view.keyframe.id) for view in voters))
            old = self._counted.get(keyframe.id)
            if old is None or len(old.of) != len(key) or any(
                    a is not b for a, b in zip(old.of, key)):
                T = keyframe.T_map_cam.astype(np.float32)
                old = _Counted(key, *voted(
                    own.points @ T[:3, :3].T + T[:3, 3], voters, objects))
            counted[keyframe.id] = old
        self._counted = counted
        return replace(
            cloud,
            labels=np.concatenate([np.zeros(0, np.uint8), *(c.classes for c in counted.values())]),
            instances=np.concatenate([np.zeros(0, np.uint16), *(
                c.numbers for c in counted.values())]) if with_instances(views.values()) else None)


@dataclass(frozen=True, eq=False)
class _Counted:
    """
    Votes on a keyframe's points.

    :param of: the points, and the label images and objects, that were counted
    :param classes: (n,)
    :param numbers: (n,) of the objects
    """

    of: tuple[object, ...]
    classes: NDArray[np.uint8]
    numbers: NDArray[np.uint16]


def _cosines(keyframe: Keyframe) -> Floats:
    """Cosines (H, W) between the rays of a keyframe and the normals of its surface."""
    rays = keyframe.rays()
    with np.errstate(divide='ignore', invalid='ignore'):
        points = rays / keyframe.inverse_depth[..., None]
        normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
        cosines = np.abs((normals * rays).sum(-1)) / (
            np.linalg.norm(normals, axis=-1) * np.linalg.norm(rays, axis=-1))
    # At the edge of what has depth there is no normal
    return np.clip(np.nan_to_num(cosines, nan=MIN_COSINE), MIN_COSINE, 1).astype(np.float32)
