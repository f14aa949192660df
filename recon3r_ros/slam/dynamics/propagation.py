# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dynamic masks propagated by optical flow, for frames without a detection."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.flow import pixel_positions

Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class MaskPropagation:
    """
    Keeps the newest detected mask of one camera.

    It is moved from the frame of its detection at once: in several steps its edges would wear off.
    """

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.reset()

    def reset(self) -> None:
        """Forget the mask: the next frame is not like the last one."""
        self._mask: Mask | None = None
        self._gray: Gray | None = None
        self._age = 0

    def mask(self, gray: Gray, period: int, detect: Callable[[], Mask]) -> Mask:
        """
        Return the mask of the next frame (h, w).

        :param gray: (H, W) its tracking image
        :param period: frames from one detection to the next; 1 detects in every frame
        :param detect: detects dynamic objects in this frame
        """
        self._age += 1
        if self._mask is None or self._age >= period:
            self._mask, self._gray, self._age = detect(), gray, 0
        elif self._mask.any():
            return self._moved(self._mask, gray)
        return self._mask

    def _moved(self, mask: Mask, gray: Gray) -> Mask:
        assert self._gray is not None
        height, width = mask.shape
        now, then = (cv2.resize(g, (width, height), interpolation=cv2.INTER_AREA)
                     for g in (gray, self._gray))
        back = self._flow.calc(now, then, None)
        return np.asarray(cv2.remap(
            mask.astype(np.uint8), pixel_positions(height, width) + back, None,
            cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) > 0)
