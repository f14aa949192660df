# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a view to a network's input: resize, then crop, with the intrinsics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.types import View
import torch
from torch import Tensor

#: Networks of this image size take square images, others any aspect with this longer side
SQUARE = 224


def prepare(view: View, image_size: int, patch: int) -> View:
    """
    Resize a view's longer side, or for 224 its shorter one, and crop its centre.

    :param image_size: of the network, pixels
    :param patch: sides of the result are multiples of it
    :return: the view on the network's grid, in colour
    """
    camera = view.camera
    side = min if image_size == SQUARE else max
    factor = image_size / side(camera.width, camera.height)
    sides = [max(round(s * factor), patch) for s in (camera.width, camera.height)]
    width, height = (image_size if image_size == SQUARE else s // patch * patch for s in sides)
    return _middle(_resized(view, *sides), width, height)


def covering(view: View, width: int, height: int) -> View:
    """
    Resize a view until it covers a size, and crop its centre.

    :return: the view on the network's grid, in colour
    """
    camera = view.camera
    factor = max(width / camera.width, height / camera.height)
    return _middle(_resized(view, max(round(camera.width * factor), width),
                            max(round(camera.height * factor), height)), width, height)


def _middle(view: View, width: int, height: int) -> View:
    """Crop the centre of a view, in colour."""
    if view.image.ndim == 2:
        view = replace(view, image=cv2.cvtColor(view.image, cv2.COLOR_GRAY2RGB))
    return cropped(view, (view.camera.width - width) // 2, (view.camera.height - height) // 2,
                   width, height)


def cropped(view: View, x: int, y: int, width: int, height: int) -> View:
    """
    Crop a view, with its mask, depth and camera.

    :param x: first column
    :param y: first row
    """
    rows, columns = slice(y, y + height), slice(x, x + width)
    size = (view.camera.width, view.camera.height)
    moving, excluded = (
        None if mask is None else cv2.resize(
            mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)[rows, columns] > 0
        for mask in (view.moving, view.excluded))
    return replace(
        view, image=np.ascontiguousarray(view.image[rows, columns]),
        camera=view.camera.cropped(x, y, width, height), moving=moving,
        excluded=excluded,
        depth=None if view.depth is None else view.depth[rows, columns])


def _resized(view: View, width: int, height: int) -> View:
    camera = view.camera
    if (camera.width, camera.height) == (width, height):
        return view
    smaller = width < camera.width
    image = cv2.resize(view.image, (width, height),
                       interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    depth = None if view.depth is None else cv2.resize(
        view.depth, (width, height), interpolation=cv2.INTER_NEAREST)
    return replace(view, image=image, camera=camera.resized(width, height), depth=depth)


def to_tensor(images: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """
    Images of one size as a batch.

    :param images: (H, W, 3) RGB
    :return: (B, 3, H, W) float32 in [-1, 1]
    """
    shape = (len(images), *images[0].shape)
    # From pinned memory the copy to a GPU is asynchronous
    batch = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == 'cuda')
    np.stack(images, out=batch.numpy())
    batch = batch.to(device, non_blocking=True)
    # (B, H, W, 3) -> (B, 3, H, W): memory stays channels-last, which is fast for convolutions
    return batch.permute(0, 3, 1, 2).float().div(127.5).sub(1)
