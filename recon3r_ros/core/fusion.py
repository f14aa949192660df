# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One cloud from all keyframes: sure points only, seen through by nobody, averaged in voxels.

Points stay anchored to their keyframe until they are fused, so a corrected pose moves them. A
point that another keyframe looks through, because it measures something clearly farther away in
the same direction, cannot be there: the free-space violations of Merrell et al. ('Real-Time
Visibility-Based Fusion of Depth Maps', ICCV 2007). They are floaters of wrong depth, and trails of
what moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.core.types import Keyframe, PointCloud
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3

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
#: Keyframes that a point is held against: the nearest in space that look the same way
WITNESSES = 6
#: Cosine between the viewing directions of keyframes that may see the same things
MIN_COSINE = 0.3
#: Standard deviations, and relative depth at least, by which a witness must look through a point,
#: and within which it confirms the point
CLEARLY, MIN_GAP = 3.0, 0.05
#: Points surer than this stay though one witness looks through them, if another confirms them
SURE = 400.0
#: Default voxels across the map's robust extent
RESOLUTION = 300
#: Share of points at each end of each axis that do not count for the extent
TAILS = 0.02


@dataclass(frozen=True, eq=False)
class _Points:
    """The points of one keyframe: in its camera frame, with rays' pixels and confidences."""

    points: Map  # (N, 3)
    colors: NDArray[np.uint8]  # (N, 3)
    confidences: Map  # (N,)


@dataclass(frozen=True, eq=False)
class _Contribution:
    """What a keyframe adds to the cloud, in its camera frame, and the depth that it is made of."""

    inverse_depth: Map
    reliable: Mask
    points: _Points


class Fusion:
    """Merges keyframes again and again; what has been said of a keyframe's depth is kept."""

    def __init__(self) -> None:
        self._known: dict[int, _Contribution] = {}

    def merge(self, keyframes: Iterable[Keyframe], voxel_size: float | None = None) -> PointCloud:
        """
        Merge the keyframes' points into one cloud in the map frame.

        :param voxel_size: edge of the voxels that points are averaged in, map units; None takes
            1 / 300 of the map's robust extent
        :return: averaged positions, colours and confidences; empty where nothing is sure
        :raises Recon3rError: where a voxel size is not positive, or Open3D cannot be loaded
        """
        if voxel_size is not None and not voxel_size > 0:
            raise Recon3rError(f'voxel size: got {voxel_size}, expected a length above 0')
        frames = list(keyframes)
        old = {k.id: self._known[k.id] for k in frames if k.id in self._known
               and self._known[k.id].inverse_depth is k.inverse_depth}
        reliable = [old[k.id].reliable if k.id in old else _reliable(k) for k in frames]
        for i, keyframe in enumerate(frames):
            if keyframe.id not in old:
                old[keyframe.id] = self._contribution(i, frames, reliable)
        self._known = old
        points = np.concatenate([np.zeros((0, 3), np.float32)] + [
            se3.transform(k.T_map_cam, old[k.id].points.points).astype(np.float32)
            for k in frames])
        if len(points) == 0:
            return _nothing()
        size = _default_voxel(points) if voxel_size is None else voxel_size
        return _average(points, np.concatenate([old[k.id].points.colors for k in frames]),
                        np.concatenate([old[k.id].points.confidences for k in frames]), size)

    @staticmethod
    def _contribution(i: int, frames: list[Keyframe], reliable: list[Mask]) -> _Contribution:
        keyframe = frames[i]
        own = _gather(keyframe, reliable[i])
        if len(own.points):
            world = se3.transform(keyframe.T_map_cam, own.points).astype(np.float32)
            witnesses = [(frames[j], reliable[j]) for j in _witnesses(i, frames)]
            keep = _stands(world, own.confidences, witnesses)
            own = _Points(own.points[keep], own.colors[keep], own.confidences[keep])
        return _Contribution(keyframe.inverse_depth, reliable[i], own)


def fuse(keyframes: Iterable[Keyframe], voxel_size: float | None = None) -> PointCloud:
    """Merge keyframes once, with all that is known now: see `Fusion.merge`."""
    return Fusion().merge(keyframes, voxel_size)


def keyframe_cloud(keyframe: Keyframe) -> PointCloud:
    """Sure and static points of one keyframe, in its camera frame."""
    points = _gather(keyframe, _reliable(keyframe))
    return PointCloud(points.points, points.colors, points.confidences)


def _nothing() -> PointCloud:
    return PointCloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8),
                      np.zeros(0, np.float32))


def _reliable(keyframe: Keyframe) -> Mask:
    """Pixels (H, W) with a sure depth, that do not move and do not lie on a depth edge."""
    known = (keyframe.inverse_depth > 0) & np.isfinite(keyframe.inverse_depth)
    use = known & (keyframe.confidence > MIN_CONFIDENCE) & ~keyframe.mask
    kernel = np.ones((3, 3), np.uint8)
    # A neighbour without depth says nothing
    nearest = cv2.dilate(np.where(known, keyframe.inverse_depth, 0).astype(np.float32), kernel)
    farthest = cv2.erode(np.where(known, keyframe.inverse_depth, 1e9).astype(np.float32), kernel)
    return use & (nearest < (1 + MAX_JUMP) ** 2 * farthest)


def _gather(keyframe: Keyframe, reliable: Mask) -> _Points:
    count = int(reliable.sum())
    if count > MAX_POINTS:
        step = int(np.ceil(np.sqrt(count / MAX_POINTS)))
        thin = np.zeros_like(reliable)
        thin[::step, ::step] = True
        reliable = reliable & thin
    rows, cols = np.nonzero(reliable)
    camera = keyframe.camera
    depth = 1 / keyframe.inverse_depth[rows, cols]
    points = np.stack([(cols - camera.cx) / camera.fx * depth,
                       (rows - camera.cy) / camera.fy * depth, depth], axis=1)
    return _Points(points.astype(np.float32), keyframe.image[rows, cols],
                   keyframe.confidence[rows, cols])


def _witnesses(i: int, frames: list[Keyframe]) -> list[int]:
    """Nearest keyframes that look the same way."""
    poses = np.stack([k.T_map_cam for k in frames])
    distance = np.linalg.norm(poses[:, :3, 3] - poses[i, :3, 3], axis=1)
    alike = poses[:, :3, 2] @ poses[i, :3, 2] > MIN_COSINE
    alike[i] = False
    order = np.argsort(np.where(alike, distance, np.inf))[:min(WITNESSES, int(alike.sum()))]
    return [int(j) for j in order]


def _stands(world: Map, confidences: Map, witnesses: list[tuple[Keyframe, Mask]]) -> Mask:
    """Which points (N, 3), in the map frame, no other keyframe looks through."""
    confirmed, violated = np.zeros(len(world), np.int8), np.zeros(len(world), np.int8)
    for witness, reliable in witnesses:
        T = se3.inverse(witness.T_map_cam).astype(np.float32)
        x, y, z = (world @ T[:3, :3].T + T[:3, 3]).T
        camera = witness.camera
        z_safe = np.where(z > 1e-6, z, 1)
        u = np.rint(x / z_safe * np.float32(camera.fx) + np.float32(camera.cx))
        v = np.rint(y / z_safe * np.float32(camera.fy) + np.float32(camera.cy))
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
    try:
        import open3d as o3d
    except (ImportError, OSError) as error:
        raise Recon3rError(
            f"Open3D cannot be loaded ({error}): install libusb-1.0-0, or Open3D by 'pip install "
            "open3d'") from error
    tensor = o3d.core.Tensor.from_numpy
    cloud = o3d.t.geometry.PointCloud(tensor(points))
    cloud.point['colors'] = tensor(colors.astype(np.float32))
    cloud.point['confidences'] = tensor(np.ascontiguousarray(confidences[:, None]))
    cloud = cloud.voxel_down_sample(size)
    return PointCloud(
        cloud.point['positions'].numpy(),
        np.clip(np.rint(cloud.point['colors'].numpy()), 0, 255).astype(np.uint8),
        cloud.point['confidences'].numpy()[:, 0])
