# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points of dynamic objects, and of the static scene around them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.regions import labelled
from recon3r_ros.slam.types import PointCloud
from recon3r_ros.slam.visibility import Surface

#: Points of all dynamic objects at most, and of the static scene
MAX_POINTS, MAX_STATIC_POINTS = 20_000, 5_000
#: Height of the strip below a dynamic region that shows what it stands on, share of the image's
STRIP = 0.04
#: Share of that strip that must have depth
MIN_KNOWN = 0.2
#: Inverse variance of the relative depth of an object as thick as a person, at some metres
STANDING_CONFIDENCE = 25.0
#: And of measured depth
MEASURED_CONFIDENCE = 2500.0


def moving_points(mask: NDArray[np.bool_], image: NDArray[np.uint8], camera: Camera,
                  depth: NDArray[np.float32] | Surface) -> PointCloud:
    """
    Points of dynamic objects in a frame, in its camera's frame.

    Parallax does not give the depth of dynamic objects. Theirs is the measured one where there is
    any, else that of the surface right below them: one depth for each region.

    :param mask: (H, W) dynamic objects
    :param image: (H, W) or (H, W, 3)
    :param camera: pinhole camera of both
    :param depth: (H, W) measured depth, NaN where unknown; or where there is none, a
        keyframe's static surface
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    part = np.s_[top:top + height, left:left + width]
    if isinstance(depth, Surface):
        confidence, labels = STANDING_CONFIDENCE, labelled(mask[part])
        depths = np.array([np.nan, *(standing_depth(labels == n, top, left, mask, depth)
                                    for n in range(1, labels.max(initial=0) + 1))], np.float32)
        known = depths[labels]
    else:
        confidence = MEASURED_CONFIDENCE
        known = np.where(mask[part], depth[part], np.float32(np.nan))
    rows, cols = np.nonzero(np.isfinite(known) & (known > 0))
    step = 1 + len(rows) // MAX_POINTS
    rows, cols = rows[::step], cols[::step]
    return _cloud(top + rows, left + cols, known[rows, cols], image, camera, confidence)


def static_points(mask: NDArray[np.bool_], image: NDArray[np.uint8], camera: Camera,
                  depth: NDArray[np.float32] | Surface) -> PointCloud:
    """
    Points of the static scene in a frame, in its camera's frame.

    Their depth is the measured one where there is any, else the keyframe's, on a coarse grid. A
    camera at rest adds no keyframes, but costmaps need the free space where dynamic objects were.

    :param mask: (H, W) dynamic objects, which are excluded
    :param image: (H, W) or (H, W, 3)
    :param camera: pinhole camera of both
    :param depth: (H, W) measured depth, NaN where unknown; or where there is none, a
        keyframe's static surface
    """
    step = max(1, round(np.sqrt(mask.size / MAX_STATIC_POINTS)))
    rows, cols = (a.ravel() for a in np.mgrid[
        step // 2:mask.shape[0]:step, step // 2:mask.shape[1]:step])
    static = ~mask[rows, cols]
    rows, cols = rows[static], cols[static]
    if isinstance(depth, Surface):
        pixels = np.stack([cols, rows], axis=1).astype(np.float32)
        depths, confidence = depth.depth(pixels).astype(np.float32), STANDING_CONFIDENCE
    else:
        depths, confidence = depth[rows, cols], MEASURED_CONFIDENCE
    known = np.isfinite(depths) & (depths > 0)
    return _cloud(rows[known], cols[known], depths[known], image, camera, confidence)


def _cloud(rows: NDArray[np.int64], cols: NDArray[np.int64], depth: NDArray[np.float32],
           image: NDArray[np.uint8], camera: Camera, confidence: float) -> PointCloud:
    """Points of pixels (N,) whose depths (N,) are known, of one confidence."""
    pixels = np.stack([cols, rows], axis=1).astype(np.float32)
    points = pinhole.rays(pixels, camera) * depth[:, None].astype(np.float32)
    colors = image[rows, cols]
    if colors.ndim == 1:
        colors = np.repeat(colors[:, None], 3, axis=1)
    return PointCloud(points, colors, np.full(len(points), confidence, np.float32))


def standing_depth(region: NDArray[np.bool_], top: int, left: int, mask: NDArray[np.bool_],
                   surface: Surface) -> float:
    """
    Depth of the static surface right below a region; NaN where it is not known.

    :param region: of a part of the image
    :param top: of the part
    :param left: of the part
    :param mask: (H, W) all dynamic objects
    """
    bottom = int(np.flatnonzero(region.any(axis=1))[-1])
    strip = max(2, round(STRIP * len(mask)))
    cols = left + np.flatnonzero(region[max(0, bottom - strip):bottom + 1].any(axis=0))
    bottom += top
    rows = np.arange(bottom + 1, min(bottom + 1 + strip, len(mask)))
    v, u = (a.ravel() for a in np.meshgrid(rows, cols, indexing='ij'))
    static = ~mask[v, u]
    pixels = np.stack([u[static], v[static]], axis=1).astype(np.float32)
    if len(pixels) == 0:
        return float('nan')
    depth = surface.depth(pixels)
    known = np.isfinite(depth)
    return float(np.median(depth[known])) if known.mean() > MIN_KNOWN else float('nan')
