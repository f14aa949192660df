# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether two images of one view look alike, block by block.

By normalised cross-correlation, so that exposure does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Width of the images that are compared, and size of a block, pixels: as coarse as poses are exact
WIDTH, BLOCK = 160, 8
#: Blur of the images, pixels
_BLUR = 1.0
#: Share of a block's pixels that must have depth and be seen, and standard deviation of grey
#: values that makes it textured
COVERED, TEXTURE = 0.6, 3.0
#: Correlation of a block that looks alike
ALIKE = 0.8
#: Textured blocks below which two images are not compared, and below which they are few
MIN_BLOCKS, FEW_BLOCKS = 8, 20
#: Share of the textured blocks that must look alike. Of 1200 pairs of unrelated scenes none had
#: more than 0.12; neighbours have 0.96 in the median, right poses of the widest baselines 0.16
MIN_ALIKE = 0.13
#: The same of few blocks, among which unrelated scenes had up to 0.25
FEW_ALIKE = 0.35


@dataclass(frozen=True)
class Likeness:
    """
    How much an image looks as it was predicted.

    :param share: of the textured blocks that look alike
    :param needed: share that verifies the prediction
    """

    share: float
    needed: float

    @property
    def verified(self) -> bool:
        """Whether the prediction is verified."""
        return self.share >= self.needed


def compared(here: Map, there: Map, used: Mask) -> Likeness | None:
    """
    Compare an image with another that was moved into its view.

    :param here: (h, w) grey values, see `small_gray`
    :param there: (h, w)
    :param used: (h, w) pixels that both show
    :return: None where too few blocks can be compared
    """
    correlations = _correlations(here, there, used)
    if len(correlations) < MIN_BLOCKS:
        return None
    return Likeness(float((correlations > ALIKE).mean()),
                    MIN_ALIKE if len(correlations) >= FEW_BLOCKS else FEW_ALIKE)


def small_gray(gray: NDArray[np.uint8], size: tuple[int, int]) -> Map:
    """
    Reduce an image for `compared`.

    :param gray: (H, W)
    :param size: columns, `WIDTH` or about, and rows
    """
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), _BLUR).astype(np.float32)


def _correlations(here: Map, there: Map, used: Mask) -> Map:
    """Correlations (N,) of an image's textured blocks with those of another."""
    a, b, use = (_blocks(x) for x in (here, there, used.astype(np.float32)))
    count = use.sum(1)
    covered = count >= COVERED * BLOCK ** 2
    a, b, use, count = a[covered], b[covered], use[covered], count[covered]
    a, b = ((x - ((x * use).sum(1) / count)[:, None]) * use for x in (a, b))
    spread_a, spread_b = (np.sqrt((x * x).sum(1) / count) for x in (a, b))
    textured = spread_a > TEXTURE
    product = (a * b).sum(1)[textured]
    return np.asarray(product / (count * spread_a * np.maximum(spread_b, 1))[textured])


def _blocks(image: Map) -> Map:
    """Cut an image (h, w) into blocks (N, BLOCK ** 2); what is left at its end is dropped."""
    rows, columns = image.shape[0] // BLOCK, image.shape[1] // BLOCK
    whole = image[:rows * BLOCK, :columns * BLOCK]
    return whole.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK ** 2)
