# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Landmarks, or a cloud, as points with tracks, for sparse models of other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.slam.saved_map import SavedObservations
from recon3r_ros.slam.types import at, Keyframe, PointCloud

Array = NDArray[np.float64]
Ids = NDArray[np.int64]

#: Observations farther from the landmark's projection are wrong, grid pixels. A grid is about
#: half as fine as the image; bundle adjustment weighs them down, but keeps them
MAX_ERROR = 2.0
#: Relative difference of depth within which a keyframe shows a point of the cloud
SAME_DEPTH = 0.03
#: Observations that a point of a sparse model needs
MIN_VIEWS = 2


@dataclass(frozen=True, eq=False)
class Tracks:
    """
    Points with the keyframes that observe them.

    :param points: (N, 3) in the frame of the keyframes' poses
    :param colors: (N, 3) uint8 RGB
    :param track: (M,) the point of each observation, ascending
    :param keyframe: (M,) id of the keyframe that observes it
    :param pixels: (M, 2) where, pixels of the keyframe's grid
    :param errors: (M,) distance to the projection of the point, pixels of the grid
    """

    points: Array
    colors: NDArray[np.uint8]
    track: Ids
    keyframe: Ids
    pixels: Array
    errors: Array

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.points)


def tracks_of(keyframes: Mapping[int, Keyframe], observations: Sequence[SavedObservations]
              ) -> Tracks:
    """
    Collect landmarks that two keyframes or more observe, the one that owns them included.

    Landmarks on dynamic objects are left out, and observations with a reprojection error above
    MAX_ERROR.

    :param keyframes: by id, with poses and depths of one unit of length
    :param observations: of their landmarks; those of other keyframes are ignored
    """
    starts, points, colors, static = _landmarks(keyframes)
    tracks = [np.zeros(0, np.int64)]
    observers = [np.zeros(0, np.int64)]
    pixels = [np.zeros((0, 2))]
    for i, keyframe in keyframes.items():
        tracks.append(starts[i] + np.arange(len(keyframe.keypoints)))
        observers.append(np.full(len(keyframe.keypoints), i))
        pixels.append(keyframe.keypoints.astype(np.float64))
    for seen in observations:
        if seen.anchor in keyframes and seen.observer in keyframes:
            tracks.append(starts[seen.anchor] + seen.landmarks)
            observers.append(np.full(len(seen.landmarks), seen.observer))
            pixels.append(seen.targets)
    track, observer = np.concatenate(tracks), np.concatenate(observers)
    pixel = np.concatenate(pixels)
    errors = _errors(keyframes, points[track], observer, pixel)
    keep = np.flatnonzero(static[track] & (errors < MAX_ERROR))
    # One observation a keyframe: the most precise one
    keep = keep[np.lexsort((errors[keep], observer[keep], track[keep]))]
    first = np.ones(len(keep), bool)
    first[1:] = (np.diff(track[keep]) != 0) | (np.diff(observer[keep]) != 0)
    keep = keep[first]
    counts = np.bincount(track[keep], minlength=len(points))
    keep = keep[counts[track[keep]] >= MIN_VIEWS]
    used, renumbered = np.unique(track[keep], return_inverse=True)
    return Tracks(points[used], colors[used], renumbered.astype(np.int64), observer[keep],
                  pixel[keep], errors[keep])


def tracks_of_cloud(cloud: PointCloud, keyframes: Mapping[int, Keyframe], most: int) -> Tracks:
    """
    Tell which keyframes show the points of a cloud, by their depth.

    The pixels are projections, not measurements. Points that no keyframe shows are left out.

    :param cloud: in the frame of the keyframes' poses
    :param keyframes: by id
    :param most: points to return; of more, one of so many is taken
    """
    step = max(1, -(-len(cloud) // most))
    points = cloud.points[::step].astype(np.float64)
    tracks = [np.zeros(0, np.int64)]
    observers = [np.zeros(0, np.int64)]
    pixels = [np.zeros((0, 2))]
    for i, keyframe in keyframes.items():
        inside = se3.transform(se3.inverse(keyframe.T_map_cam), points)
        projected = pinhole.project(inside, keyframe.camera)
        nearest = np.rint(np.nan_to_num(projected, nan=-1.0))
        size = (keyframe.camera.width, keyframe.camera.height)
        seen = np.flatnonzero(((nearest >= 0) & (nearest < size)).all(1))
        grid = nearest[seen].astype(np.int32)
        ratio = inside[seen, 2] * at(keyframe.inverse_depth, grid)
        seen = seen[(np.abs(ratio - 1) < SAME_DEPTH) & ~at(keyframe.mask, grid)]
        tracks.append(seen)
        observers.append(np.full(len(seen), i))
        pixels.append(projected[seen])
    track = np.concatenate(tracks)
    order = np.argsort(track, kind='stable')
    used, renumbered = np.unique(track[order], return_inverse=True)
    return Tracks(points[used], cloud.colors[::step][used], renumbered.astype(np.int64),
                  np.concatenate(observers)[order], np.concatenate(pixels)[order],
                  np.zeros(len(order)))


def _landmarks(keyframes: Mapping[int, Keyframe]
               ) -> tuple[dict[int, int], Array, NDArray[np.uint8], NDArray[np.bool_]]:
    """Return where each keyframe's begin, all positions, colours, and which can be used."""
    starts: dict[int, int] = {}
    points, colors, static = [np.zeros((0, 3))], [np.zeros((0, 3), np.uint8)], [np.zeros(0, bool)]
    count = 0
    for i, keyframe in keyframes.items():
        starts[i] = count
        count += len(keyframe.keypoints)
        own = se3.transform(keyframe.T_map_cam, keyframe.landmark_points())
        points.append(own)
        colors.append(at(keyframe.image, keyframe.keypoints))
        static.append(np.isfinite(own).all(1) & ~at(keyframe.mask, keyframe.keypoints))
    return starts, np.concatenate(points), np.concatenate(colors), np.concatenate(static)


def _errors(keyframes: Mapping[int, Keyframe], points: Array, observer: Ids, pixels: Array
            ) -> Array:
    """Return reprojection errors (M,), infinite where a point is not before its observer."""
    errors = np.full(len(points), np.inf)
    for i, keyframe in keyframes.items():
        own = np.flatnonzero(observer == i)
        projected = pinhole.project(
            se3.transform(se3.inverse(keyframe.T_map_cam), points[own]), keyframe.camera)
        errors[own] = np.nan_to_num(
            np.linalg.norm(projected - pixels[own], axis=1), nan=np.inf)
    return errors
