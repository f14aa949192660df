# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Refinement of masks to the edges of the image.

Evidence of motion is as coarse as optical flow or tokens are; the image locates outlines better.
Another refiner, such as SAM 2, may replace the one here.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import Recon3rError

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
#: From an image (H, W, 3) RGB or (H, W) grey and a mask of any size to a mask (H, W)
MaskRefiner = Callable[[Image, Mask], Mask]

#: Width of the image in which the outline is refined
WIDTH = 320
#: Distance from the outline beyond which pixels are definite, and extent of the surroundings that
#: give the background's colours: shares of the image's width
DOUBT, SURROUNDINGS = 0.05, 0.1
#: Colours are ambiguous where the mask would lose more than this share: it is kept as it is
MAX_LOSS = 0.5
#: Masks of fewer pixels, at that width, are not refined
MIN_PIXELS = 20


def refined(refiner: MaskRefiner | None, image: Image, mask: Mask) -> Mask:
    """
    Refine a mask, unless it is empty.

    :param image: (H, W, 3) RGB or (H, W) grey
    :param mask: of any size
    :return: a mask of any size; the given one where the refiner is None or the mask is empty
    :raises Recon3rError: where an external refiner fails or returns something else than a mask
    """
    if refiner is None or not mask.any():
        return mask
    try:
        out = np.asarray(refiner(image, mask))
    except Exception as error:  # the user's function may raise anything
        raise Recon3rError(f'the mask refiner failed: {type(error).__name__}: {error}') from error
    if out.ndim != 2 or out.size == 0:
        raise Recon3rError(f'the mask refiner returned an array of shape {out.shape}; expected '
                           '(H, W)')
    return out.astype(bool)


def grabcut(image: Image, mask: Mask) -> Mask:
    """
    Segment a mask by its colours: GrabCut (Rother et al., SIGGRAPH 2004).

    :param image: (H, W, 3) RGB or (H, W) grey
    :param mask: of any size
    :return: (H, W)
    """
    height, width = image.shape[:2]
    size = (WIDTH, max(1, round(height * WIDTH / width)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if small.ndim == 2:
        small = cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)
    given = (cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
             >= 128).astype(np.uint8)
    out = given if given.sum() < MIN_PIXELS else _cut(small, given)
    full = cv2.resize(out * np.uint8(255), (width, height), interpolation=cv2.INTER_LINEAR)
    return full >= 128


def _cut(image: Image, given: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Segment a mask (h, w) of 0 and 1."""
    radius = round(DOUBT * WIDTH)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    around = cv2.dilate(given, kernel)
    labels = np.where(given > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[cv2.erode(given, kernel, borderValue=1) > 0] = cv2.GC_FGD
    labels[around == 0] = cv2.GC_BGD
    # Pixels farther away add other colours, and run time
    x, y, w, h = cv2.boundingRect(around)
    margin = round(SURROUNDINGS * WIDTH)
    part = np.s_[max(y - margin, 0):y + h + margin, max(x - margin, 0):x + w + margin]
    own = np.ascontiguousarray(labels[part])
    if (own & 1).all():  # nothing around it
        return given
    cv2.grabCut(np.ascontiguousarray(image[part]), own, None, np.zeros((1, 65)),
                np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
    out = np.zeros_like(given)
    out[part] = own & 1  # definite and probable foreground
    lost = int((given & ~out & 1).sum())
    return given if lost > MAX_LOSS * given.sum() else out
