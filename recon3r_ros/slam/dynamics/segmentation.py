# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Segmentation of dynamic objects: GrabCut on what is in doubt around a mask's outline."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry.averaging import resized
from recon3r_ros.slam.dynamics import compiled_grabcut, graph_cut

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Width of the image in which the outline is refined
WIDTH = 320
#: Distance from the outline beyond which pixels are definite, and extent of the surroundings that
#: give the background's colours: shares of the image's width
DOUBT, SURROUNDINGS = 0.05, 0.1
#: Colours are ambiguous where the mask would lose more than this share: it is kept as it is
MAX_LOSS = 0.5
#: Pixels that colours are learned from, at most, on either side
SAMPLES = 4000
#: Masks of fewer pixels, at that width, are not refined
MIN_PIXELS = 20


def segmented(image: Image, mask: Mask) -> Mask:
    """
    Segment a mask by its colours: GrabCut (Rother et al., SIGGRAPH 2004), with one iteration.

    :param image: (H, W, 3) RGB or (H, W) grey
    :param mask: of any size
    :return: (H, W)
    """
    height, width = image.shape[:2]
    size = (max(1, round(height * WIDTH / width)), WIDTH)
    given = resized(mask.astype(np.uint8) * np.uint8(255), *size) >= 128
    out = _segmented(image, given) if given.sum() >= MIN_PIXELS else given
    full = cv2.resize(out.astype(np.uint8) * np.uint8(255), (width, height),
                      interpolation=cv2.INTER_LINEAR)
    return full >= 128


def _segmented(image: Image, given: Mask) -> Mask:
    """Segment a mask (h, w) of an image of any size."""
    radius, surroundings = round(DOUBT * WIDTH), round(SURROUNDINGS * WIDTH)
    # Pixels farther away add other colours, and run time
    x, y, w, h = cv2.boundingRect(given.astype(np.uint8))
    margin = radius + surroundings
    part = np.s_[max(y - margin, 0):y + h + margin, max(x - margin, 0):x + w + margin]
    mask = given[part].astype(np.uint8)
    if mask.all():  # nothing around it
        return given
    colours = resized(image, given.shape[0], given.shape[1], part)
    if colours.ndim == 2:
        colours = cv2.cvtColor(colours, cv2.COLOR_GRAY2RGB)
    inside, outside = (cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_5)
                       for side in (mask, 1 - mask))
    trimap = np.where((inside <= radius) & (outside <= radius), compiled_grabcut.DOUBT,
                      mask).astype(np.uint8)
    out = np.zeros_like(given)
    out[part] = _cut(colours, mask > 0, trimap)
    lost = int((given & ~out).sum())
    return given if lost > MAX_LOSS * given.sum() else out


def _cut(image: Image, mask: Mask, trimap: Image) -> Mask:
    """Assign the pixels (h, w) in doubt by the colours of the mask and of what is around it."""
    foreground, background = (_model(image[side]) for side in (mask, ~mask))
    height, width = mask.shape
    capacity = np.zeros(((height + 2) * (width + 2), 4), np.int32)
    terminal, tree = np.zeros(len(capacity), np.int32), np.empty(len(capacity), np.int8)
    beta = 0.5 / max(compiled_grabcut.contrast(image), 1e-9)
    compiled_grabcut.build(image, trimap, foreground, background, beta, capacity, terminal)
    graph_cut.cut(capacity, terminal, width + 2, tree)
    sides = tree.reshape(height + 2, width + 2)[1:-1, 1:-1]
    return np.where(trimap == compiled_grabcut.DOUBT, sides == 1,
                    trimap == compiled_grabcut.FOREGROUND)


def _model(colours: Image) -> NDArray[np.float32]:
    """Learn colours (N, 3)."""
    some = dense(colours[::-(-len(colours) // SAMPLES)])
    model = np.empty((compiled_grabcut.COMPONENTS, 10), np.float32)
    compiled_grabcut.learn(some, np.empty(len(some), np.int8), model)
    return model
