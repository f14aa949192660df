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

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Width of the images that are compared, and size of a block, pixels: as coarse as poses are exact
WIDTH, BLOCK = 160, 8
#: Blur of the images, pixels
_BLUR = 1.0
#: Share of a block's pixels that must have depth and be seen, and standard deviation of grey
#: values that makes it textured
COVERED, TEXTURE = 0.6, 3.0
#: Correlation of a block that looks alike
ALIKE = 0.8
#: Textured blocks below which two images are not compared, and below which they are few
MIN_BLOCKS, FEW_BLOCKS = 8, 20
#: Share of the textured blocks that must look alike. Of 1200 pairs of unrelated scenes none had
#: more than 0.12; neighbours have 0.96 in the median, right poses of the widest baselines 0.16
MIN_ALIKE = 0.13
#: The same of few blocks, among which unrelated scenes had up to 0.25
FEW_ALIKE = 0.35


@dataclass(frozen=True)
class Likeness:
    """
    How much an image looks as a keyframe predicts it.

    :param share: of the textured blocks that look alike
    :param needed: share that verifies the pose
    """

    share: float
    needed: float

    @property
    def verified(self) -> bool:
        """Whether the pose is verified."""
        return self.share >= self.needed


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
    correlations = _correlations(
        _gray(known, size), there, seen & (inverse_depth > 0) & (dynamic == 0))
    if len(correlations) < MIN_BLOCKS:
        return None
    return Likeness(float((correlations > ALIKE).mean()),
                    MIN_ALIKE if len(correlations) >= FEW_BLOCKS else FEW_ALIKE)


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
    small = cv2.resize(keyframe.gray, size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), _BLUR).astype(np.float32)


def _correlations(here: Map, there: Map, used: Mask) -> Map:
    """Correlations (N,) of an image's textured blocks with those of another."""
    a, b, use = (_blocks(x) for x in (here, there, used.astype(np.float32)))
    count = use.sum(1)
    covered = count >= COVERED * BLOCK ** 2
    a, b, use, count = a[covered], b[covered], use[covered], count[covered]
    a, b = ((x - ((x * use).sum(1) / count)[:, None]) * use for x in (a, b))
    spread_a, spread_b = (np.sqrt((x * x).sum(1) / count) for x in (a, b))
    textured = spread_a > TEXTURE
    product = (a * b).sum(1)[textured]
    return np.asarray(product / (count * spread_a * np.maximum(spread_b, 1))[textured])


def _blocks(image: Map) -> Map:
    """Cut an image (h, w) into blocks (N, BLOCK ** 2); what is left at its end is dropped."""
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    whole = image[:rows * BLOCK, :columns * BLOCK]
    return whole.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK ** 2)
