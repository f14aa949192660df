# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects in a window of views, by tracks that no motion of the camera explains.

For each view, the other views' poses and the depths of its keypoints are estimated from its tracks
alone, in turn and robustly (resection and intersection: Hartley and Zisserman, 2004, section
18.3), from the network's depths, which are too inexact to be compared with tracks. A keypoint is
dynamic where no depth fits its track: with three views and more, motion along an epipolar line
shows, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import solve_pnp
from recon3r_ros.models.types import Prediction, SURE_TRACK, Tracks

#: Residual of a dynamic keypoint, share of the image's width: tracks were trained to be confident
#: where they err less than 3 of 518 pixels
MOVED = 3 / 518
#: Residual of a static one: what is between the two is unknown
STATIC = MOVED / 2
#: Share of the views in which a dynamic keypoint is seen that do not fit: less is an error of
#: tracking, or of one view's pose
MISFITS = 1 / 3
#: Least dynamic keypoints among the nearest ones of a dynamic one: objects have several
SUPPORT, NEIGHBOURS = 1, 4
#: Estimations of poses and depths in turn, and of the depths with the poses
ROUNDS, DEPTH_ROUNDS = 3, 5
#: Radius around a keypoint for which it speaks, share of the image's width
RADIUS = 0.02

Array = NDArray[np.float64]


def moving_points(keypoints: Sequence[NDArray[np.int32]], prediction: Prediction
                  ) -> NDArray[np.int8]:
    """
    Tell what is dynamic around the keypoints of a group.

    :param keypoints: (K, 2) of each view
    :param prediction: with `tracks`, `T_first_view` and `cameras`
    :return: (V, H, W), see `Prediction.moving`
    """
    assert prediction.tracks and prediction.T_first_view and prediction.cameras
    out = np.zeros((len(keypoints), *prediction.confidences[0].shape), np.int8)
    for k, (pixels, tracks) in enumerate(zip(keypoints, prediction.tracks)):
        T_own_first = se3.inverse(prediction.T_first_view[k])
        points = prediction.pointmaps[k][pixels[:, 1], pixels[:, 0]].astype(float)
        depths = se3.transform(T_own_first, points)[:, 2]
        found = judged(pixels, tracks, depths, k, prediction.cameras,
                       [se3.inverse(T) @ prediction.T_first_view[k]
                        for T in prediction.T_first_view])
        out[k] = _painted(pixels, _supported(pixels, found), out.shape[1:])
    return out


def judged(pixels: NDArray[np.int32], tracks: Tracks, depths: Array, own: int,
           cameras: Sequence[Camera], T_view_own: Sequence[Array]) -> NDArray[np.int8]:
    """
    Judge the keypoints of a view by their tracks.

    :param pixels: (K, 2) keypoints
    :param tracks: of the keypoints in all views
    :param depths: (K,) predicted, not positive where unknown
    :param own: index of the view
    :param cameras: of all views
    :param T_view_own: (4, 4) each, predicted
    :return: (K,) 1 dynamic, -1 static, 0 unknown
    """
    camera = cameras[own]
    rays = camera.unproject(pixels.astype(float))  # (K, 3), z = 1
    moved = MOVED * camera.width
    poses = {j: T for j, T in enumerate(T_view_own) if j != own}
    seen = {j: (tracks.probability[j] >= SURE_TRACK)
            & np.isfinite(tracks.positions[j]).all(1) for j in poses}
    inverse = np.where(depths > 0, 1 / np.where(depths > 0, depths, 1), np.nan)
    for _ in range(ROUNDS):
        points = rays / np.where(inverse > 0, inverse, np.nan)[:, None]
        for j in list(poses):
            use = seen[j] & np.isfinite(points).all(1)
            fit = solve_pnp(points[use], tracks.positions[j][use], cameras[j], poses[j],
                            moved) if use.sum() else None
            if fit is None:
                del poses[j]
            else:
                poses[j] = fit.T_cam_world
        if not poses:
            return np.zeros(len(pixels), np.int8)
        inverse = _inverse_depths(rays, tracks, cameras, poses, seen, inverse)
    views, misfits = np.zeros((2, len(pixels)))
    worst = np.zeros(len(pixels))
    for j, T in poses.items():
        there = _moved(rays, inverse, T)
        with np.errstate(all='ignore'):  # behind the camera, or unknown
            apart = np.linalg.norm(cameras[j].project(there) - tracks.positions[j], axis=1)
        apart = np.where((there[:, 2] > 0) & np.isfinite(apart), apart, np.inf)
        views += seen[j]
        misfits += seen[j] & (apart > moved)
        worst = np.maximum(worst, np.where(seen[j], apart, 0))
    known = (views > 0) & np.isfinite(inverse)
    dynamic = known & (misfits >= MISFITS * views) & (misfits > 0)
    static = known & (worst < STATIC * camera.width)
    return dynamic.astype(np.int8) - static.astype(np.int8)


def _moved(rays: Array, inverse: Array, T: Array) -> Array:
    """Points (K, 3) of rays and inverse depths, up to scale: also infinitely far ones."""
    return np.asarray(rays @ T[:3, :3].T + inverse[:, None] * T[:3, 3])


def _inverse_depths(rays: Array, tracks: Tracks, cameras: Sequence[Camera],
                    poses: dict[int, Array], seen: dict[int, NDArray[np.bool_]], start: Array
                    ) -> Array:
    """
    Intersect rays with what the views see of them: linear in the inverse depth, reweighted.

    :param start: (K,) inverse depths, NaN where unknown
    :return: (K,) not negative; NaN where no view sees a point, or none tells its depth
    """
    inverse = np.nan_to_num(start, nan=0.0)
    for _ in range(DEPTH_ROUNDS):
        top, bottom = np.zeros((2, len(rays)))
        for j, T in poses.items():
            target = cameras[j].unproject(np.nan_to_num(tracks.positions[j].astype(float)))
            turned, t = rays @ T[:3, :3].T, T[:3, 3]
            # target x (turned + inverse t) = 0, its first two components
            a = t[:2] - target[:, :2] * t[2]
            b = target[:, :2] * turned[:, 2:] - turned[:, :2]
            z = np.maximum(turned[:, 2] + inverse * t[2], 1e-3)
            error = cameras[j].fx * np.linalg.norm(a * inverse[:, None] - b, axis=1) / z
            # Huber's kernel, one pixel wide
            weight = seen[j] / z ** 2 / np.maximum(error, 1)
            top += weight * (a * b).sum(1)
            bottom += weight * (a ** 2).sum(1)
        inverse = np.where(bottom > 0, top / np.maximum(bottom, 1e-12), inverse).clip(min=0)
    return np.where(np.logical_or.reduce([seen[j] for j in poses]), inverse, np.nan)


def _supported(pixels: NDArray[np.int32], found: NDArray[np.int8]) -> NDArray[np.int8]:
    """Drop dynamic keypoints (K,) without dynamic ones among their nearest: single tracks err."""
    if len(pixels) <= NEIGHBOURS:
        return np.minimum(found, 0)
    apart = np.linalg.norm((pixels[:, None] - pixels).astype(np.float32), axis=-1)
    np.fill_diagonal(apart, np.inf)
    near = np.argpartition(apart, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    alone = (found[near] > 0).sum(1) < SUPPORT
    return np.where((found > 0) & alone, 0, found).astype(np.int8)


def _painted(pixels: NDArray[np.int32], found: NDArray[np.int8], shape: tuple[int, ...]
             ) -> NDArray[np.int8]:
    """Spread what keypoints (K,) say to the pixels (H, W) around that are nearest to each."""
    seeds = np.ones(shape, np.uint8)
    columns, rows = pixels.T
    seeds[rows, columns] = 0
    distance, label = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros(int(label.max()) + 1, np.int8)
    of_label[label[rows, columns]] = found
    return np.where(distance <= RADIUS * shape[1], of_label[label], 0).astype(np.int8)
