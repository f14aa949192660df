# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Connected regions of masks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


def large_regions(mask: NDArray[np.integer] | Mask, share: float, seeds: Mask | None = None
                  ) -> Mask:
    """
    Keep the large regions of a mask.

    :param mask: (H, W)
    :param share: of all pixels that a region must have
    :param seeds: (H, W) of which a region must contain some; None for no condition
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    keep = stats[:, cv2.CC_STAT_AREA] >= share * labels.size
    if seeds is not None:
        keep &= np.bincount(labels[seeds], minlength=count) > 0
    keep[0] = False
    return np.asarray(keep[labels])
