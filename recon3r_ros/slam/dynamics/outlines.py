# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Masks of one camera's frames, refined to image edges, under load as well."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.cells import resized_mask
from recon3r_ros.slam.dynamics.mask_refinement import MaskRefiner, refined
from recon3r_ros.slam.dynamics.propagation import MaskPropagation

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Refined masks are propagated in images of this width, pixels, for at most so many nanoseconds
WIDTH, MAX_AGE_NS = 214, 500_000_000
#: Jaccard index of the propagated mask and the refined one, propagated, below which these are of
#: different detections: not all frames are published
SAME = 0.7


class Outlines:
    """
    Refines masks, and propagates refined ones.

    Under load only some frames have a detected mask. To refine the propagated ones would cost more
    than detection, and without it outlines would flicker: the refined mask is propagated instead,
    as long as it shows the same objects.
    """

    def __init__(self) -> None:
        self._propagation = MaskPropagation()
        self._stamp_ns = -MAX_AGE_NS

    def of(self, refiner: MaskRefiner | None, image: Image, mask: Mask, stamp_ns: int,
           propagated: bool) -> Mask:
        """
        Refine the mask of a frame.

        :param image: (H, W, 3) RGB or (H, W) grey
        :param mask: (H, W)
        :param propagated: whether it is that of an earlier frame, moved by optical flow
        :return: (H, W)
        :raises Recon3rError: where an external refiner fails or returns something else than a mask
        """
        if refiner is None or (
                propagated and not 0 <= stamp_ns - self._stamp_ns <= MAX_AGE_NS):
            return mask
        shape = image.shape[:2]
        size = WIDTH, max(1, round(image.shape[0] * WIDTH / image.shape[1]))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        gray = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        if propagated:
            moved = self._propagation.moved(gray)
            return mask if moved is None else _same(resized_mask(moved, shape), mask)
        out = refined(refiner, image, mask)
        self._stamp_ns = stamp_ns
        self._propagation.keep(gray, resized_mask(out, small.shape[:2]))
        return resized_mask(out, shape)


def _same(outline: Mask, mask: Mask) -> Mask:
    """Return an outline of a mask, or the mask itself, where they show different objects."""
    shared, all_ = np.count_nonzero(outline & mask), np.count_nonzero(outline | mask)
    return outline if shared >= SAME * all_ else mask
