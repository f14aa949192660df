# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Interlaced video: frames whose even and odd rows were recorded at different times."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Columns between those that are compared
_STEP = 8
# Least difference that motion makes, as a share of that within a frame, and in grey levels
_MOTION = 0.15
_LEAST_MOTION = 0.5
# Share of the larger difference below which the smaller one is that of neighbouring fields
_NEXT_FIELD = 0.5
# Pairs of frames with motion that decide
_DECIDING = 10


class FieldOrder:
    """
    Tells from the motion between frames whether their two fields are of different times.

    Of two frames, even rows of one are put between odd rows of the other. In a progressive video
    the two ways to do so are equally far apart in time, one frame, and both differ more than the
    rows within a frame. In an interlaced one they are one and three fields apart, and the first
    differs no more than the rows within a frame, which are one field apart. Rows that differ
    because of fine texture do so everywhere, whatever the motion.
    """

    def __init__(self) -> None:
        """Begin without any frame."""
        self._previous: Array | None = None
        self._shares: list[float] = []

    @property
    def is_decided(self) -> bool:
        """Whether enough motion has been seen."""
        return len(self._shares) >= _DECIDING

    @property
    def is_interlaced(self) -> bool:
        """Whether enough motion has been seen, in most of which fields are of different times."""
        return self.is_decided and float(np.median(self._shares)) < _NEXT_FIELD

    def add(self, image: NDArray[np.uint8]) -> None:
        """
        Compare the next frame with the one before.

        :param image: (H, W, 3) or (H, W)
        """
        part = np.ascontiguousarray(image[: len(image) // 2 * 2, ::_STEP])
        if part.ndim == 3:  # two rows share their colour in most videos, but not their luminance
            part = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
        rows = part.astype(np.float32)
        before, self._previous = self._previous, rows
        if before is None or before.shape != rows.shape or len(rows) < 4:
            return
        within = (_difference(before, before) + _difference(rows, rows)) / 2
        across = sorted((_difference(rows, before) - within, _difference(before, rows) - within))
        if across[1] > max(_MOTION * within, _LEAST_MOTION):
            self._shares.append(across[0] / across[1])


def _difference(even: Array, odd: Array) -> float:
    """Mean difference of the even rows of one frame from the odd rows of another around them."""
    inner, outer = even[2::2], odd[1::2]
    return float(np.abs(inner - (outer[:-1] + outer[1:]) / 2).mean())
