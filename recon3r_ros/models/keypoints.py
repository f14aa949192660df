# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keypoints, at which tracking and alignment sample an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_KEYPOINTS = 320
#: Smallest distance between two keypoints, as a fraction of the image's diagonal
SPACING = 0.013
#: Keypoints are spread over this many cells, so that one strong texture does not attract them all
CELLS = (8, 6)
#: Corners weaker than this fraction of the strongest are noise
QUALITY = 1e-4
#: Harris and Stephens' constant: a larger one rejects more of the corners that resemble edges or
#: stripes, along which matches slide
HARRIS = 0.08
_CANDIDATES = 4


def detect_keypoints(gray: NDArray[np.uint8], grid_width: int, grid_height: int,
                     excluded: NDArray[np.bool_] | None = None) -> NDArray[np.int32]:
    """
    Corners of an image (Harris and Stephens, 1988), as pixels of a coarser grid.

    :param gray: (H, W) uint8
    :param grid_width: columns of the pointmap grid that covers the same image
    :param grid_height: its rows
    :param excluded: (h, w) of any size: where there are none
    :return: (K, 2) distinct grid pixels (u, v)
    """
    height, width = gray.shape
    static = None
    if excluded is not None:
        static = cv2.resize(
            (~excluded).astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    corners = cv2.goodFeaturesToTrack(
        gray, _CANDIDATES * MAX_KEYPOINTS, QUALITY, SPACING * float(np.hypot(width, height)),
        mask=static, blockSize=5, useHarrisDetector=True, k=HARRIS)
    if corners is None:
        return np.empty((0, 2), np.int32)
    corners = corners[_spread(corners[:, 0], width, height)]
    scale = np.array([grid_width / width, grid_height / height])
    pixels = np.floor((corners[:, 0] + 0.5) * scale).astype(np.int32)
    pixels = np.clip(pixels, 0, [grid_width - 1, grid_height - 1])
    _, first = np.unique(pixels[:, 1] * grid_width + pixels[:, 0], return_index=True)
    return pixels[np.sort(first)].astype(np.int32)


def _spread(corners: NDArray[np.float32], width: int, height: int) -> NDArray[np.int64]:
    """
    Choose corners evenly over the cells, strongest first.

    :param corners: (N, 2)
    :return: indices of at most `MAX_KEYPOINTS` corners
    """
    cells = np.floor(corners / [width, height] * CELLS).astype(int)
    cell = cells[:, 1] * CELLS[0] + cells[:, 0]
    order = np.argsort(cell, kind='stable')
    starts = np.searchsorted(cell[order], cell[order])
    rank = np.empty(len(corners), int)
    rank[order] = np.arange(len(corners)) - starts
    return np.sort(np.argsort(rank, kind='stable')[:MAX_KEYPOINTS])
