# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Boxes of the dynamic objects in an image; loads no compiled code."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Box:
    """
    An object's box in an image, in pixels: it covers columns left to left + width - 1.

    :param id: of the object
    :param score: share of the box that is masked
    """

    id: int
    left: int
    top: int
    width: int
    height: int
    score: float


def boxes(mask: NDArray[np.bool_], ids: NDArray[np.int32]) -> list[Box]:
    """
    Find the boxes of the objects that a mask shows, by their ids.

    :param mask: (H, W) dynamic objects
    :param ids: (H, W) object of each pixel, 0 for none; a pixel of the mask without one belongs
        to the nearest object
    """
    found = []
    shown = np.where(mask, nearest(ids), 0)
    for n in np.unique(shown[shown > 0]).tolist():
        left, top, width, height = cv2.boundingRect((shown == n).astype(np.uint8))
        part = mask[top:top + height, left:left + width]
        found.append(Box(n, left, top, width, height, float(part.mean())))
    return found


def nearest(labels: Labels) -> Labels:
    """Give each cell (rows, columns) the label of the nearest one that has any: not 0."""
    some = labels > 0
    if not some.any():
        return labels
    _, index = cv2.distanceTransformWithLabels(
        (~some).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    of_index = np.zeros(int(index.max()) + 1, np.int32)
    of_index[index[some]] = labels[some]
    return np.asarray(of_index[index])
