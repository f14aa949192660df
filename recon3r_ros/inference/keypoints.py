# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Salient pixels: where tracking and alignment sample an image."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_KEYPOINTS = 600
#: Corners weaker than this fraction of the strongest are still wanted: plain walls have only those
QUALITY = 0.003
#: Smallest distance between two keypoints, as a fraction of the image's diagonal
SPACING = 0.012


def detect_keypoints(gray: NDArray[np.uint8], grid_width: int, grid_height: int
                     ) -> NDArray[np.int32]:
    """
    Corners of an image (Shi and Tomasi, 1994), as pixels of a coarser grid.

    :param gray: (H, W) uint8
    :param grid_width: columns of the pointmap grid that covers the same image
    :param grid_height: its rows
    :return: (K, 2) grid pixels (u, v), no two alike, strongest first
    """
    height, width = gray.shape
    corners = cv2.goodFeaturesToTrack(
        gray, MAX_KEYPOINTS, QUALITY, SPACING * float(np.hypot(width, height)), blockSize=5)
    if corners is None:
        return np.empty((0, 2), np.int32)
    scale = np.array([grid_width / width, grid_height / height])
    cells = np.floor((corners[:, 0] + 0.5) * scale).astype(np.int32)
    cells = np.clip(cells, 0, [grid_width - 1, grid_height - 1])
    _, first = np.unique(cells[:, 1] * grid_width + cells[:, 0], return_index=True)
    return cells[np.sort(first)]
