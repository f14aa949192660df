# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a view to what a network was trained on: resize, then crop; the intrinsics follow."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.types import View
import torch
from torch import Tensor

#: Networks of this image size take squares, others any aspect with this longer side
SQUARE = 224


def prepare(view: View, image_size: int, patch: int) -> View:
    """
    Resize a view's longer side, or for 224 its shorter one, and crop its middle.

    :param image_size: of the network, pixels
    :param patch: sides of the result are multiples of it
    :return: the view on the network's grid, in colour
    """
    camera = view.camera
    side = min if image_size == SQUARE else max
    factor = image_size / side(camera.width, camera.height)
    camera = camera.resized(max(round(camera.width * factor), patch),
                            max(round(camera.height * factor), patch))
    image = view.image if view.image.ndim == 3 else cv2.cvtColor(
        view.image, cv2.COLOR_GRAY2RGB)
    if (camera.width, camera.height) != (view.camera.width, view.camera.height):
        image = cv2.resize(image, (camera.width, camera.height),
                           interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return _cropped(image, camera, view.calibrated, *(
        image_size if image_size == SQUARE else size // patch * patch
        for size in (camera.width, camera.height)))


def _cropped(image: NDArray[np.uint8], camera: Camera, calibrated: bool, width: int, height: int
             ) -> View:
    x, y = (camera.width - width) // 2, (camera.height - height) // 2
    return View(np.ascontiguousarray(image[y:y + height, x:x + width]),
                camera.cropped(x, y, width, height), calibrated)


def to_tensor(images: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """
    Images of one size as a batch.

    :param images: (H, W, 3) RGB
    :return: (B, 3, H, W) float32 in [-1, 1]
    """
    batch = torch.from_numpy(np.stack(images))
    if device.type == 'cuda':
        # From pinned memory the copy does not wait for what the device computes
        batch = batch.pin_memory().to(device, non_blocking=True)
    # (B, H, W, 3) -> (B, 3, H, W): memory stays as it is, which is the order convolutions like
    return batch.permute(0, 3, 1, 2).float().div(127.5).sub(1)
