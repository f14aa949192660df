# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One cloud from all keyframes: confident points without free-space violations, in voxels.

Points stay anchored to their keyframe until they are fused, so they follow corrected poses. A
point is rejected where another keyframe measures a clearly larger depth in the same direction: the
free-space violations of Merrell et al. ('Real-Time Visibility-Based Fusion of Depth Maps', ICCV
2007). They are floaters of wrong depth, and trails of dynamic objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.slam.types import Keyframe, PointCloud
from recon3r_ros.slam.types import Map as KeyframeMap

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Inverse variance of the relative depth that a point needs: a relative error of a fifth
MIN_CONFIDENCE = 25.0
#: A pixel lies on a depth edge where a neighbour's depth differs by more than this share: a
#: surface as steep as 85 degrees changes by 5 % per pixel at a focal length of 220 pixels
MAX_JUMP = 0.05
#: Points of one keyframe at most; of more, every second, third ... row and column is taken: at
#: 320x240 pixels a quarter, as far apart as the default voxels' edges
MAX_POINTS = 40_000
#: Keyframes that a point is compared with: the nearest with a similar viewing direction
WITNESSES = 6
#: Cosine between the viewing directions of keyframes that may overlap
MIN_COSINE = 0.3
#: Standard deviations, and least relative depth, beyond which a witness violates a point, and
#: within which it confirms it
CLEARLY, MIN_GAP = 3.0, 0.05
#: Points of a higher confidence stay where more witnesses confirm than violate them
SURE = 400.0
#: Default voxel edge of a live cloud, share of the first keyframe's median depth
VOXEL = 0.01
#: Default voxels across the map's robust extent
RESOLUTION = 300
#: Share of points at each end of each axis that are excluded from the extent
TAILS = 0.02


def fuse(keyframes: Iterable[Keyframe], voxel_size: float | None = None) -> PointCloud:
    """
    Merge the keyframes' points into one cloud in the map frame.

    :param voxel_size: edge of the voxels that points are averaged in, map units; None takes
        1 / 300 of the map's robust extent
    :return: averaged positions, colours and confidences; empty without confident points
    :raises Recon3rError: where a voxel size is not positive
    """
    if voxel_size is not None and not voxel_size > 0:
        raise Recon3rError(f'voxel size: got {voxel_size}, expected a length above 0')
    frames = list(keyframes)
    reliable = [reliable_pixels(k) for k in frames]

    def share(i: int) -> PointCloud:
        own = _gather(frames[i], reliable[i])
        if len(own.points) == 0:
            return own
        world = se3.transform(frames[i].T_map_cam, own.points).astype(np.float32)
        witnesses = [(frames[j], reliable[j]) for j in witnesses_of(i, frames)]
        keep = stands(world, own.confidences, witnesses)
        return PointCloud(world[keep], own.colors[keep], own.confidences[keep])

    gathered = side_by_side(share, range(len(frames)))
    if not any(len(g.points) for g in gathered):
        return PointCloud.empty()
    points = np.concatenate([g.points for g in gathered])
    size = _default_voxel(points) if voxel_size is None else voxel_size
    return _average(points, np.concatenate([g.colors for g in gathered]),
                    np.concatenate([g.confidences for g in gathered]), size)


def keyframe_cloud(keyframe: Keyframe) -> PointCloud:
    """Confident static points of one keyframe, in its camera frame."""
    return _gather(keyframe, reliable_pixels(keyframe))


class LiveCloud:
    """
    The cloud of a growing map: a `Product` whose run time depends on new keyframes only.

    A point is added unless a nearby keyframe has one in the same voxel already, or violates it.
    `fuse` compares and averages all points, but processes the whole map every time.

    :param voxel_size: edge of the voxels, map units; None takes 1 % of the first keyframe's median
        depth
    """

    def __init__(self, voxel_size: float | None = None) -> None:
        self._voxel_size = voxel_size
        self._shares: dict[int, _Share] = {}

    def update(self, known: KeyframeMap) -> PointCloud:
        """
        Bring the cloud up to date.

        :return: points in the map frame
        """
        frames = list(known.keyframes.values()) if known.started else []
        if self._voxel_size is None and frames:
            self._voxel_size = VOXEL * frames[0].median_depth()
        self._shares = {k.id: self._shares[k.id] for k in frames if k.id in self._shares}
        for i, keyframe in enumerate(frames):
            old, scale = self._shares.get(keyframe.id), known.scale_of(keyframe.id)
            if old is not None and old.scale != scale:
                # A loop closure has changed its scale
                cloud = old.cloud
                points = cloud.points * np.float32(scale / old.scale)
                self._shares[keyframe.id] = replace(
                    old, source=keyframe, scale=scale,
                    cloud=PointCloud(points, cloud.colors, cloud.confidences))
            elif old is None or old.source.inverse_depth is not keyframe.inverse_depth:
                self._shares[keyframe.id] = self._share(i, frames, scale)
        clouds = [self._shares[k.id].cloud for k in frames]
        nothing = PointCloud.empty()
        return PointCloud(
            np.concatenate([nothing.points] + [
                _moved(k.T_map_cam, c.points) for k, c in zip(frames, clouds)]),
            np.concatenate([nothing.colors] + [c.colors for c in clouds]),
            np.concatenate([nothing.confidences] + [c.confidences for c in clouds]))

    def shares(self, known: KeyframeMap) -> list[tuple[Keyframe, PointCloud]]:
        """Return what each keyframe had in the last update's cloud, in its camera frame."""
        return [(k, self._shares[k.id].cloud) for k in known.keyframes.values()
                if k.id in self._shares]

    def _share(self, i: int, frames: list[Keyframe], scale: float) -> _Share:
        keyframe = frames[i]
        own = keyframe_cloud(keyframe)
        world = _moved(keyframe.T_map_cam, own.points)
        near = [frames[j] for j in witnesses_of(i, frames)]
        keep = stands(world, own.confidences, [(k, reliable_pixels(k)) for k in near])
        assert self._voxel_size is not None
        voxels = _voxels(world, self._voxel_size)
        keep &= _first_of_each(voxels)
        for neighbour in near:
            if neighbour.id in self._shares and neighbour.id != keyframe.id:
                keep &= ~np.isin(voxels, self._shares[neighbour.id].voxels)
        return _Share(keyframe, scale, PointCloud(
            own.points[keep], own.colors[keep], own.confidences[keep]), voxels[keep])


@dataclass(frozen=True, eq=False)
class _Share:
    """
    The points of a keyframe in a live cloud.

    :param source: the keyframe as it was then, at this `scale`
    :param cloud: in its camera frame
    :param voxels: (N,) that the points were in
    """

    source: Keyframe
    scale: float
    cloud: PointCloud
    voxels: NDArray[np.int64]


def _moved(T: Array, points: Map) -> Map:
    R, t = T[:3, :3].astype(np.float32), T[:3, 3].astype(np.float32)
    moved: Map = points @ R.T + t
    return moved


def _voxels(points: Map, size: float) -> NDArray[np.int64]:
    """Return the number (N,) of the voxel that each point is in: 21 bits for each axis."""
    x, y, z = (np.floor(points / np.float32(size)).astype(np.int64) & 0x1fffff).T
    return x << 42 | y << 21 | z


def _first_of_each(values: NDArray[np.int64]) -> Mask:
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def reliable_pixels(keyframe: Keyframe) -> Mask:
    """Pixels (H, W) that are static, with a confident depth, and not on a depth edge."""
    known = (keyframe.inverse_depth > 0) & np.isfinite(keyframe.inverse_depth)
    use = known & (keyframe.confidence > MIN_CONFIDENCE) & ~keyframe.mask
    kernel = np.ones((3, 3), np.uint8)
    # A neighbour without depth is ignored
    nearest = cv2.dilate(np.where(known, keyframe.inverse_depth, 0).astype(np.float32), kernel)
    farthest = cv2.erode(np.where(known, keyframe.inverse_depth, 1e9).astype(np.float32), kernel)
    return use & (nearest < (1 + MAX_JUMP) ** 2 * farthest)


def _gather(keyframe: Keyframe, reliable: Mask) -> PointCloud:
    count = int(reliable.sum())
    if count > MAX_POINTS:
        step = int(np.ceil(np.sqrt(count / MAX_POINTS)))
        thin = np.zeros_like(reliable)
        thin[::step, ::step] = True
        reliable = reliable & thin
    rows, cols = np.nonzero(reliable)
    pixels = np.stack([cols, rows], axis=1).astype(np.float64)
    depth = 1 / keyframe.inverse_depth[rows, cols]
    points = pinhole.rays(pixels, keyframe.camera) * depth[:, None]
    return PointCloud(points.astype(np.float32), keyframe.image[rows, cols],
                   keyframe.confidence[rows, cols])


def witnesses_of(i: int, frames: Sequence[Keyframe], most: int = WITNESSES) -> list[int]:
    """Return the nearest keyframes with a similar viewing direction, at most so many."""
    poses = np.stack([k.T_map_cam for k in frames])
    distance = np.linalg.norm(poses[:, :3, 3] - poses[i, :3, 3], axis=1)
    alike = poses[:, :3, 2] @ poses[i, :3, 2] > MIN_COSINE
    alike[i] = False
    order = np.argsort(np.where(alike, distance, np.inf))[:min(most, int(alike.sum()))]
    return [int(j) for j in order]


def stands(world: Map, confidences: Map, witnesses: list[tuple[Keyframe, Mask]]) -> Mask:
    """Which points (N, 3), in the map frame, have no free-space violation."""
    confirmed, violated = np.zeros(len(world), np.int8), np.zeros(len(world), np.int8)
    for witness, reliable in witnesses:
        T = se3.inverse(witness.T_map_cam).astype(np.float32)
        points = world @ T[:3, :3].T + T[:3, 3]
        z, camera = points[:, 2], witness.camera
        u, v = np.rint(pinhole.project(points, camera)).T
        seen = np.flatnonzero((z > 1e-6) & (u >= 0) & (u < camera.width)
                              & (v >= 0) & (v < camera.height))
        cols, rows = u[seen].astype(np.int32), v[seen].astype(np.int32)
        measured = reliable[rows, cols]
        seen, rows, cols = seen[measured], rows[measured], cols[measured]
        # Above 1: the witness measures something behind the point
        ratio = 1 / (z[seen] * witness.inverse_depth[rows, cols])
        gap = np.maximum(MIN_GAP, CLEARLY * np.sqrt(
            1 / witness.confidence[rows, cols] + 1 / confidences[seen]))
        violated[seen[ratio > 1 + gap]] += 1
        confirmed[seen[np.abs(ratio - 1) < gap]] += 1
    return (violated == 0) | ((confirmed > violated) & (confidences > SURE))


def _default_voxel(points: Map) -> float:
    sample = points[::max(1, len(points) // 20_000)]
    low, high = np.quantile(sample, [TAILS, 1 - TAILS], axis=0)
    return max(float(np.max(high - low)) / RESOLUTION, 1e-6)


def _average(points: Map, colors: NDArray[np.uint8], confidences: Map, size: float) -> PointCloud:
    """Mean position, colour and confidence of the points in each voxel."""
    _, voxel, counts = np.unique(
        _voxels(points, size), return_inverse=True, return_counts=True)

    def mean(values: NDArray[Any]) -> NDArray[np.float64]:
        columns = values.reshape(len(values), -1).T
        return np.stack([np.bincount(voxel, column) for column in columns],
                        axis=1) / counts[:, None]

    return PointCloud(mean(points).astype(np.float32), np.rint(mean(colors)).astype(np.uint8),
                      mean(confidences)[:, 0].astype(np.float32))
