# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Verification of a pose by appearance: whether an image looks as a keyframe's depth predicts it.

Relocalisation and loop closure find a pose by a few dozen correspondences of points, which a
repetitive or an unrelated scene can provide by chance: all that agree with the pose were selected
because they do. The image between them was not. Here a keyframe's pixels are projected by their
depth into the other image, and the two are compared block by block by normalised
cross-correlation, so that exposure does not matter.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.geometry.likeness import BLOCK, compared, Likeness, small_gray, WIDTH
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


def likeness(known: Keyframe, other: Keyframe, T_known_other: Array) -> Likeness | None:
    """
    Compare an image with what a keyframe predicts.

    :param known: with dense depth
    :param other: whose depth is not needed
    :param T_known_other: (4, 4) pose of the other camera in the known one's, in its units
    :return: None where too few blocks can be compared
    """
    height = max(BLOCK, round(known.camera.height * WIDTH / known.camera.width))
    size = WIDTH, height
    inverse_depth, dynamic, dynamic_there = (
        cv2.resize(x, size, interpolation=cv2.INTER_NEAREST) for x in (
            known.inverse_depth, known.mask.astype(np.uint8), other.mask.astype(np.uint8)))
    seen, targets = _projected(known, other, inverse_depth, T_known_other)
    there = cv2.remap(_gray(other, size), *targets, cv2.INTER_LINEAR)
    dynamic |= cv2.remap(dynamic_there, *targets, cv2.INTER_NEAREST)
    return compared(_gray(known, size), there, seen & (inverse_depth > 0) & (dynamic == 0))


def verified(known: Keyframe, other: Keyframe, T_known_other: Array) -> bool:
    """Whether an image looks as a keyframe predicts it; not where they cannot be compared."""
    found = likeness(known, other, T_known_other)
    return found is not None and found.verified


def _projected(known: Keyframe, other: Keyframe, inverse_depth: Map, T_known_other: Array
               ) -> tuple[Mask, Map]:
    """
    Project a keyframe's pixels into another image of `WIDTH`.

    :return: (h, w) which are seen there, and (2, h, w) columns and rows
    """
    height, width = inverse_depth.shape
    camera = known.camera.resized(width, height)
    rays = camera.unproject(pixel_grid(height, width).reshape(-1, 2))
    # Homogeneous, so that unknown depth is no division by zero
    T = se3.inverse(T_known_other)
    points = rays @ T[:3, :3].T + inverse_depth.reshape(-1, 1) * T[:3, 3]
    front = points[:, 2] > 1e-6
    points[~front] = 0, 0, 1
    seen_by = other.camera.resized(width, height)
    targets = seen_by.project(points).T.reshape(2, height, width).astype(np.float32)
    seen = front.reshape(height, width) & (targets >= 0).all(0) & (
        targets[0] <= width - 1) & (targets[1] <= height - 1)
    return seen, targets


def _gray(keyframe: Keyframe, size: tuple[int, int]) -> Map:
    return small_gray(keyframe.gray, size)
