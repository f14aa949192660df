# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Classes of the map's points, by votes of the label images of the keyframes that see them.

A label image errs where it looks at a surface from afar or at a grazing angle, and from some
viewpoints systematically. A point takes the class with the greatest weight over all views in which
it is visible, as in SemanticFusion (McCormac et al., ICRA 2017), with weights in place of a
network's probabilities, which not every source has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

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
#: Points of which votes are counted at once
CHUNK = 100_000


@dataclass(frozen=True, eq=False)
class LabelledView:
    """
    A keyframe and its label image.

    :param labels: on the keyframe's grid
    """

    keyframe: Keyframe
    labels: Labels


@dataclass(frozen=True, eq=False)
class Observation:
    """
    What one view says of points.

    :param points: (n,) indices of those that are visible and labelled
    :param rows: (n,) of their pixels
    :param columns: (n,) of their pixels
    :param weights: (n,) > 0
    """

    points: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weights: Floats


def observation(points: Floats, view: LabelledView) -> Observation:
    """
    Find which points a view sees, and what its word counts.

    The weight is confidence times the cosine of the viewing angle over the depth: a point's class
    depends on ratios of weights alone, so that the unit of length is arbitrary.

    :param points: (N, 3) in the map frame
    """
    keyframe, labels = view.keyframe, view.labels
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
            & (labels.classes[rows, columns] > 0)
            & (np.abs(z[seen] * inverse_depth - 1) < gap))
    seen, rows, columns = seen[keep], rows[keep], columns[keep]
    weights = _cosines(keyframe)[rows, columns] / z[seen]
    if labels.confidence is not None:
        weights = weights * labels.confidence[rows, columns]
    sure = weights > 0
    return Observation(seen[sure], rows[sure], columns[sure], weights[sure])


def voted_classes(points: Floats, views: Sequence[LabelledView]) -> NDArray[np.uint8]:
    """
    Classes of points by the votes of views.

    :param points: (N, 3) in the map frame
    :return: (N,) uint8; 0 where no view sees the point, or they disagree
    """
    out = np.zeros(len(points), np.uint8)
    kinds = np.unique(np.concatenate([np.zeros(1, np.uint8), *(
        np.unique(view.labels.classes) for view in views)]))
    number = np.zeros(256, np.int64)
    number[kinds] = np.arange(len(kinds))
    for start in range(0, len(points), CHUNK):
        part = points[start:start + CHUNK]
        votes = np.zeros((len(part), len(kinds)), np.float32)
        for view in views:
            found = observation(part, view)
            # A view sees each point once: no index is repeated
            votes[found.points, number[view.labels.classes[found.rows, found.columns]]] += (
                found.weights)
        best = votes.argmax(axis=1)
        most = votes[np.arange(len(part)), best]
        clear = (most > 0) & (most >= MIN_SHARE * votes.sum(axis=1))
        out[start:start + CHUNK] = np.where(clear, kinds[best], np.uint8(0))
    return out


def labelled(cloud: PointCloud, views: Sequence[LabelledView]) -> PointCloud:
    """
    Give the points of a cloud in the map frame their classes.

    :param views: that vote; without any the cloud is returned as it is
    """
    if not views:
        return cloud
    return replace(cloud, labels=voted_classes(cloud.points, views))


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
    The cloud of a growing map with classes: a `Product`.

    Votes on a keyframe's points are counted again where its points, or the views that see them,
    have changed.

    :param cloud: of the map
    :param views: gives the label images of a map's keyframes, by keyframe
    """

    def __init__(self, cloud: LiveCloud, views: Callable[[Map], Mapping[int, LabelledView]]
                 ) -> None:
        self._cloud = cloud
        self._views = views
        self._counted: dict[int, _Counted] = {}

    def update(self, known: Map) -> PointCloud:
        """
        Bring the cloud up to date.

        :return: points in the map frame
        """
        cloud, views = self._cloud.update(known), self._views(known)
        if not views:
            return cloud
        counted = {}
        for keyframe, own in self._cloud.shares(known):
            voters = near(keyframe, views)
            key = (own, *(view.labels for view in voters))
            old = self._counted.get(keyframe.id)
            if old is None or len(old.of) != len(key) or any(
                    a is not b for a, b in zip(old.of, key)):
                T = keyframe.T_map_cam.astype(np.float32)
                old = _Counted(key, voted_classes(own.points @ T[:3, :3].T + T[:3, 3], voters))
            counted[keyframe.id] = old
        self._counted = counted
        return replace(cloud, labels=np.concatenate(
            [np.zeros(0, np.uint8), *(c.classes for c in counted.values())]))


@dataclass(frozen=True, eq=False)
class _Counted:
    """
    Votes on a keyframe's points.

    :param of: the points, and the label images, that were counted
    """

    of: tuple[object, ...]
    classes: NDArray[np.uint8]


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
