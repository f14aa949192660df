# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Thumbnails of images, whose textured blocks are searched in each other.

The search is normalised cross-correlation: neither brightness nor moderate motion matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]

#: Rows and columns of blocks in a thumbnail, size of a block, and how far it is searched on each
#: side: a sixth of the image's width. Thumbnail pixels
ROWS, COLUMNS, BLOCK, REACH = 4, 5, 12, 10
#: Standard deviation of a block's grey values below which it has no texture
TEXTURE = 3.0


@dataclass(frozen=True)
class Match:
    """
    A block of one thumbnail where it fits another best.

    :param correlation: normalised, in [-1, 1]
    :param before: mean grey value there
    :param now: mean grey value of the block
    """

    correlation: float
    before: float
    now: float


def thumbnail(gray: Gray) -> Gray:
    """Reduce an image (H, W) to blocks of pixels."""
    # By a whole number first, which is four times as fast
    height, width = gray.shape
    factor = max(1, min(width // (2 * COLUMNS * BLOCK), height // (2 * ROWS * BLOCK)))
    if factor > 1:
        rows, columns = height // factor, width // factor
        gray = cv2.resize(gray[:rows * factor, :columns * factor], (columns, rows),
                          interpolation=cv2.INTER_AREA)
    return cv2.resize(gray, (COLUMNS * BLOCK, ROWS * BLOCK), interpolation=cv2.INTER_AREA)


def textured(view: Gray) -> NDArray[np.bool_]:
    """Tell which blocks (ROWS, COLUMNS) of a thumbnail have texture."""
    return np.asarray(view.reshape(ROWS, BLOCK, COLUMNS, BLOCK).std(axis=(1, 3)) > TEXTURE)


def matches(then: Gray, now: Gray) -> Iterator[Match]:
    """Search each textured block of a thumbnail in an earlier one, every third block first."""
    places = (BLOCK * np.argwhere(textured(now))).tolist()
    for y, x in (place for n in range(3) for place in places[n::3]):
        top, left = max(0, y - REACH), max(0, x - REACH)
        around = then[top:y + BLOCK + REACH, left:x + BLOCK + REACH]
        block = now[y:y + BLOCK, x:x + BLOCK]
        _, correlation, _, (u, v) = cv2.minMaxLoc(
            cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED))
        yield Match(correlation, float(around[v:v + BLOCK, u:u + BLOCK].mean()),
                    float(block.mean()))
