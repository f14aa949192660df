# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dynamic masks propagated by optical flow, for frames without a detection."""

from __future__ import annotations

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

    def keep(self, gray: Gray, mask: Mask) -> None:
        """
        Keep a detected mask.

        :param gray: (H, W) tracking image of its frame
        :param mask: (h, w)
        """
        self._gray, self._mask, self._age = gray, mask, 0

    def propagated(self, gray: Gray, period: int) -> Mask | None:
        """
        Return the mask (h, w) of the next frame; None where it is to be detected.

        :param gray: (H, W) its tracking image
        :param period: frames from one detection to the next; 1 detects in every frame
        """
        self._age += 1
        return None if self._age >= period else self.moved(gray)

    def moved(self, gray: Gray) -> Mask | None:
        """Move the mask (h, w) to a frame's grey image (H, W); None where no mask is kept."""
        if self._mask is None or not self._mask.any():
            return self._mask
        assert self._gray is not None
        height, width = self._mask.shape
        now, then = (cv2.resize(g, (width, height), interpolation=cv2.INTER_AREA)
                     for g in (gray, self._gray))
        back = self._flow.calc(now, then, None)
        return np.asarray(cv2.remap(
            self._mask.astype(np.uint8), pixel_positions(height, width) + back, None,
            cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) > 0)
