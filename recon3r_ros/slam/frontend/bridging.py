# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Corners to track in a temporary reference."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Corners that are tracked, their least distance (pixels), and quality relative to the best
CORNERS, DISTANCE, QUALITY = 240, 14.0, 0.01


def corners(gray: NDArray[np.uint8], moving: NDArray[np.bool_], taken: NDArray[np.float32]
            ) -> NDArray[np.float32]:
    """
    Find corners to track (Shi and Tomasi, CVPR 1994) in the static scene.

    :param gray: (H, W) image
    :param moving: dynamic mask of any size
    :param taken: (K, 2) pixels of points that are tracked already
    :return: (N, 2) pixels, as many as are missing
    """
    free = cv2.resize((~moving).astype(np.uint8), (gray.shape[1], gray.shape[0]),
                      interpolation=cv2.INTER_NEAREST)
    for u, v in np.rint(taken).astype(int).tolist():
        cv2.circle(free, (u, v), int(DISTANCE), 0, cv2.FILLED)
    missing = CORNERS - len(taken)
    found = None if missing <= 0 else cv2.goodFeaturesToTrack(
        gray, missing, QUALITY, DISTANCE, mask=free)
    if found is None:
        return np.zeros((0, 2), np.float32)
    return np.asarray(found, np.float32).reshape(-1, 2)
