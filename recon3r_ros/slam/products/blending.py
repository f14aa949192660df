# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What an image loses when its pixels are drawn as Gaussians, and how it is given back beforehand.

Opaque disks that overlap are blended from front to back: what is nearer covers part of what is
farther, so that a surface that is not parallel to the image appears shifted by up to half a pixel,
and blurred. Both are linear in the colours, and follow from the order of depths alone.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Variance that renderers add to a projected Gaussian, pixels^2 (see `nets.gaussian_raster`)
BLUR = 0.3
_AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def sharpened(image: NDArray[np.uint8], depth: NDArray[np.float32],
              opacities: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """
    Add what an image loses when its pixels are drawn as disks.

    One step of the iteration of Van Cittert ('Zum Einfluss der Spaltbreite auf die
    Intensitaetsverteilung in Spektrallinien II', 1931).

    :param image: (H, W, 3)
    :param depth: (H, W) along the optical axis
    :param opacities: (H, W) of the disks; 0 where none is drawn, and the pixel stays as it is
    :param width: standard deviation of a disk, pixels
    :returns: (H, W, 3), 0 to 255
    """
    colors = image.astype(np.float32)
    drawn = _drawn(colors, depth, opacities, width ** 2 + BLUR)
    return np.where(opacities[..., None] > 0, np.clip(2 * colors - drawn, 0, 255), colors)


def _drawn(colors: NDArray[np.float32], depth: NDArray[np.float32],
           opacities: NDArray[np.float32], variance: float) -> NDArray[np.float32]:
    """Blend the disk of each pixel with those of its eight neighbours."""
    height, width = depth.shape

    def neighbours(values: NDArray[np.float32]) -> NDArray[np.float32]:
        padded = cv2.copyMakeBorder(values, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        return np.stack([padded[1 + r:1 + r + height, 1 + c:1 + c + width] for r, c in _AROUND])

    reach = np.array([np.exp(-(r * r + c * c) / (2 * variance)) for r, c in _AROUND], np.float32)
    alphas = reach[:, None, None] * neighbours(opacities)
    order = np.argsort(neighbours(depth), axis=0, kind='stable')
    sorted_alphas = np.take_along_axis(alphas, order, axis=0)
    left = np.cumprod(1 - sorted_alphas, axis=0)
    left[1:], left[0] = left[:-1].copy(), 1
    weights = np.empty_like(alphas)
    np.put_along_axis(weights, order, sorted_alphas * left, axis=0)
    total = np.maximum(weights.sum(0), 1e-6)
    around = neighbours(colors)  # (9, H, W, 3)
    return np.asarray((weights[..., None] * around).sum(0) / total[..., None], np.float32)
