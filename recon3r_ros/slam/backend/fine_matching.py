# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Precise observations of landmarks, by patches of the full images.

The patch around a landmark's pixel is warped to how the observer sees it, by depth and slope of
the surface there, and aligned with the observer's image. The pixel is the landmark by definition:
errors of depth and slope make a patch less alike, but do not shift it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend import compiled_patches
from recon3r_ros.slam.types import at, Keyframe
from recon3r_ros.slam.visibility import visible

Array = NDArray[np.float64]
#: An image in several sizes, each half the one before
Levels = tuple[NDArray[np.uint8], ...]

#: Pixels of the finest image at most
PIXELS = 1536 * 1024
LEVELS = 3
#: Removes the frequencies that bilinear look-up would alias, pixels
_BLUR = 0.8
#: A patch can be recognised from this angle apart, and this ratio of distances
MAX_ANGLE = np.deg2rad(60.0)
MAX_ZOOM = 2.0
#: Share of its depth by which a landmark may lie behind the observer's surface
_MAX_BEHIND = 0.15
#: Range of a patch's area in the observer over that in the anchor
_MIN_AREA, _MAX_AREA = 0.2, 5.0
#: Least correlation of a patch with what was found: on a coarse level, and in the end
_MIN_COARSE_LIKENESS, _MIN_LIKENESS = 0.5, 0.75
#: Greatest distance from the projection, pixels of the grid
_MAX_SURPRISE = 4.0


def finest_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the finest level of an image."""
    factor = min(1.0, (PIXELS / (width * height)) ** 0.5)
    return round(width * factor), round(height * factor)


def levels_of(gray: NDArray[np.uint8]) -> Levels:
    """Scale an image (H, W) down."""
    size = finest_size(gray.shape[1], gray.shape[0])
    images = [gray if size == gray.shape[::-1] else _resized(gray, *size)]
    while len(images) < LEVELS:
        height, width = images[-1].shape
        images.append(_resized(images[-1], max(width // 2, 1), max(height // 2, 1)))
    return tuple(np.asarray(cv2.GaussianBlur(i, (0, 0), _BLUR), np.uint8) for i in images)


def _resized(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def overlap(anchor: Keyframe, observer: Keyframe) -> tuple[NDArray[np.int64], Array]:
    """
    Landmarks of one keyframe that may be recognised in another.

    :return: (n,) indices of landmarks, and (n, 2) their projections, pixels of the observer's grid
    """
    return visible(anchor, observer, MAX_ANGLE, MAX_ZOOM)


def match(anchor: Keyframe, observer: Keyframe, sources: Levels, images: Levels, slopes: Array,
          levels: Sequence[int]) -> tuple[NDArray[np.int64], Array]:
    """
    Find an anchor's landmarks in another keyframe.

    :param sources: the anchor's image
    :param images: the observer's image
    :param slopes: (K, 2) derivatives of the landmarks' inverse depths by the grid's pixel
    :param levels: to search on, coarsest first
    :return: (n,) indices of landmarks, and (n, 2) observations, pixels of the observer's grid
    """
    indices, expected = overlap(anchor, observer)
    T = se3.inverse(observer.T_map_cam) @ anchor.T_map_cam
    nearest = np.rint(expected).astype(np.int32)
    hidden = at(observer.inverse_depth, nearest) * _depths(anchor, indices, T) > 1 + _MAX_BEHIND
    warps = _warps(anchor, observer, indices, slopes, T)
    area = np.abs(np.linalg.det(warps))
    keep = (~hidden & ~at(observer.mask, nearest) & ~at(anchor.mask, anchor.keypoints[indices])
            & (area > _MIN_AREA) & (area < _MAX_AREA))
    indices, expected, warps = indices[keep], expected[keep], warps[keep]
    found, likeness = expected.copy(), np.zeros(len(indices))
    for level in levels:
        source, image = _scale(anchor, sources[level]), _scale(observer, images[level])
        positions = (found + 0.5) * image - 0.5
        likeness = compiled_patches.align(
            sources[level], images[level], (anchor.keypoints[indices] + 0.5) * source - 0.5,
            np.linalg.inv(warps) * source[:, None] / image, positions)
        good = likeness > _MIN_COARSE_LIKENESS
        found[good] = (positions[good] + 0.5) / image - 0.5
    good = (likeness > _MIN_LIKENESS) & (
        np.linalg.norm(found - expected, axis=1) < _MAX_SURPRISE)
    return indices[good], found[good]


def _scale(keyframe: Keyframe, image: NDArray[np.uint8]) -> Array:
    """Pixels (2,) of an image of a keyframe per pixel of its grid."""
    return np.array([image.shape[1] / keyframe.camera.width,
                     image.shape[0] / keyframe.camera.height])


def _depths(anchor: Keyframe, indices: NDArray[np.int64], T: Array) -> Array:
    """Depths (n,) of landmarks in the observer: T (4, 4) is T_observer_anchor."""
    rays = anchor.camera.unproject(anchor.keypoints[indices])
    return np.asarray(rays @ T[2, :3] / anchor.landmarks[indices] + T[2, 3])


def _warps(anchor: Keyframe, observer: Keyframe, indices: NDArray[np.int64], slopes: Array,
           T: Array) -> Array:
    """
    Derive the observer's grid pixels by the anchor's, on planes: (n, 2, 2).

    The homogeneous image of a pixel is R r + q t: with its ray r, z = 1, and its inverse depth q,
    which is linear in the pixel.
    """
    rays = anchor.camera.unproject(anchor.keypoints[indices])
    homogeneous = rays @ T[:3, :3].T + anchor.landmarks[indices, None] * T[:3, 3]
    by_pixel = (T[:3, :2] / [anchor.camera.fx, anchor.camera.fy]
                + T[:3, 3, None] * slopes[indices, None, :])  # (n, 3, 2)
    depth = homogeneous[:, 2, None, None]
    by_pixel = by_pixel / depth
    plane = by_pixel[:, :2] - homogeneous[:, :2, None] / depth * by_pixel[:, 2:]
    return np.asarray(plane * np.array([[observer.camera.fx], [observer.camera.fy]]))
