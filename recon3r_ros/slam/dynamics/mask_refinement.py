# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Refinement of masks to the edges of the image.

Evidence of motion is as coarse as optical flow or tokens are; the image locates outlines better.
Another refiner, such as SAM 2, may replace the one here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import Recon3rError

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
#: From an image (H, W, 3) RGB or (H, W) grey and a mask of any size to a mask (H, W)
MaskRefiner = Callable[[Image, Mask], Mask]


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
    Segment a mask by its colours, see `segmentation.segmented`.

    :param image: (H, W, 3) RGB or (H, W) grey
    :param mask: of any size
    :return: (H, W)
    """
    # Compiled code, which the node does not wait for when it starts
    from recon3r_ros.slam.dynamics.segmentation import segmented
    return segmented(image, mask)
