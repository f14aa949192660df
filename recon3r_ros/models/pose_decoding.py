# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Input and output of MediaPipe's networks of people.

Anchors as in SSD (Liu et al., ECCV 2016); the circle about a body, and its place, as in BlazePose
(Bazarevsky et al., CVPR Workshop 2020). Pixel centres are at integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Array = NDArray[np.float64]

#: Side of the detector's input, pixels
DETECTOR = 224
#: Cells a side of the detector's grids, and anchors in each cell
GRIDS = ((28, 2), (14, 2), (7, 6))
#: Overlapping detections above this intersection over union are one
MAX_OVERLAP = 0.3
#: Side of the square about a body, in diameters of its circle
MARGIN = 1.25
#: Logits beyond are certain
_CERTAIN = 100.0


@dataclass(frozen=True, eq=False)
class Detection:
    """
    A body that the detector found, in pixels of the image.

    :param score: [0, 1]
    :param box: (4,) left, top, right, bottom, by which overlaps are suppressed
    :param hip: (2,) between the hips, the centre of the circle
    :param rim: (2,) a point on the circle about the whole body, above the head of somebody upright
    """

    score: float
    box: Array
    hip: Array
    rim: Array

    @property
    def radius(self) -> float:
        """Radius of the circle, pixels."""
        return float(np.linalg.norm(self.rim - self.hip))


def anchors() -> Array:
    """Return the centres (2254, 2) of all anchors, x and y as shares of the input's side."""
    found = []
    for cells, repeats in GRIDS:
        centres = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing='ij')
        found.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), repeats, axis=0))
    return np.concatenate(found)


def sigmoid(logits: NDArray[np.floating]) -> Array:
    """Probabilities of logits."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_CERTAIN, _CERTAIN).astype(np.float64))))


def letterboxed(image: NDArray[np.uint8]) -> tuple[Floats, Array]:
    """
    Fit an image into the detector's square, with black borders.

    :param image: (H, W, 3) RGB
    :return: (1, 224, 224, 3) in [-1, 1], and (2, 3) from its shares of the side to image pixels
    """
    height, width = image.shape[:2]
    side = max(height, width)
    inner = (max(1, round(width * DETECTOR / side)), max(1, round(height * DETECTOR / side)))
    left, top = (DETECTOR - inner[0]) // 2, (DETECTOR - inner[1]) // 2
    square = np.zeros((DETECTOR, DETECTOR, 3), np.uint8)
    square[top:top + inner[1], left:left + inner[0]] = cv2.resize(
        image, inner, interpolation=cv2.INTER_AREA if side > DETECTOR else cv2.INTER_LINEAR)
    sx, sy = width / inner[0], height / inner[1]
    to_image = np.array([[DETECTOR * sx, 0, -left * sx - 0.5],
                         [0, DETECTOR * sy, -top * sy - 0.5]])
    return square[None].astype(np.float32) / np.float32(127.5) - 1, to_image


def decoded(values: Floats, logits: Floats, to_image: Array, least: float,
            centres: Array | None = None) -> list[Detection]:
    """
    Decode the detector's output, and suppress overlaps.

    :param values: (N, 12): centre offset, size, and four points as offsets, in input pixels
    :param logits: (N,)
    :param to_image: (2, 3) from `letterboxed`
    :param least: score that a detection needs
    :param centres: (N, 2) of the anchors; None: `anchors`
    :return: the best first
    """
    scores = sigmoid(logits.ravel())
    chosen = np.flatnonzero(scores >= least)
    values = values.reshape(-1, 12)[chosen]
    origin = (anchors() if centres is None else centres)[chosen]
    middle, size = origin + values[:, :2] / DETECTOR, values[:, 2:4] / DETECTOR
    hip, rim = (origin + values[:, 4 + 2 * n:6 + 2 * n] / DETECTOR for n in range(2))
    low, high, hip, rim = (p @ to_image[:, :2].T + to_image[:, 2]
                           for p in (middle - size / 2, middle + size / 2, hip, rim))
    boxes = np.hstack([low, high])
    kept: list[int] = []
    for n in np.argsort(-scores[chosen], kind='stable').tolist():
        if all(_overlap(boxes[n], boxes[m]) < MAX_OVERLAP for m in kept):
            kept.append(n)
    return [Detection(float(scores[chosen][n]), boxes[n], hip[n], rim[n]) for n in kept]


def crop_to_image(detection: Detection, side: int) -> Array:
    """
    Return (2, 3) from pixels of the upright square about a body to pixels of the image.

    :param side: of the square in its own pixels
    """
    up = (detection.rim - detection.hip) / max(detection.radius, 1e-9)
    axes = np.array([[-up[1], -up[0]], [up[0], -up[1]]])  # columns: to the right, and down
    scale = 2 * MARGIN * detection.radius / side
    centre = np.full(2, (side - 1) / 2)
    return np.column_stack([scale * axes, detection.hip - scale * axes @ centre])


def cropped(image: NDArray[np.uint8], to_image: Array, side: int) -> Floats:
    """
    Cut out the square about a body, black beyond the image.

    :param image: (H, W, 3) RGB
    :param to_image: (2, 3) from `crop_to_image`
    :return: (1, side, side, 3) in [0, 1]
    """
    out = cv2.warpAffine(image, to_image, (side, side),
                         flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return out[None].astype(np.float32) / np.float32(255)


def mask_in_image(logits: Floats, to_image: Array, shape: tuple[int, int]) -> Floats:
    """
    Bring a body's mask to the image.

    :param logits: (side, side)
    :param to_image: (2, 3) from `crop_to_image`
    :param shape: (H, W)
    :return: (H, W) probability, 0 beyond the square
    """
    return np.asarray(cv2.warpAffine(
        sigmoid(logits).astype(np.float32), to_image, shape[::-1], flags=cv2.INTER_LINEAR))


def landmarks_in_image(values: Floats, to_image: Array, count: int) -> Floats:
    """
    Bring landmarks to the image.

    :param values: (5 N,) or more: x and y in pixels of the square, z, and logits of being visible
        and of being in the square
    :param count: of those that are asked for
    :return: (count, 3) column, row and probability of being visible
    """
    rows = values.reshape(-1, 5)[:count].astype(np.float64)
    places = (rows[:, :2] - 0.5) @ to_image[:, :2].T + to_image[:, 2]
    return np.column_stack([places, sigmoid(rows[:, 3])]).astype(np.float32)


def _overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    whole = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared
    return shared / whole if whole > 0 else 0.0
