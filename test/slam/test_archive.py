# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images of keyframes that left the window, and maps saved without a mapper."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.types import View
from recon3r_ros.slam.archive import ArchivedView

WIDE = Camera(160, 120, 150.0, 140.0, 81.0, 58.0)


def smooth(channels: int) -> NDArray[np.uint8]:
    """Draw an image whose colours change slowly, each in its own direction."""
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    image = np.dstack([x, 255 - 2 * y, 100 + x // 2 - y // 2]).astype(np.uint8)
    return image if channels == 3 else np.ascontiguousarray(image[..., 0])


@pytest.mark.parametrize('channels', [1, 3])
def test_an_archived_view_is_nearly_the_same(channels: int) -> None:
    """Its colours in their order, and its size; it takes a fraction of the memory."""
    image = smooth(channels)
    archived = ArchivedView.of(View(image, WIDE), 1.0)
    assert archived.jpeg.nbytes < image.nbytes / 4
    weights = [0.114, 0.587, 0.299] if channels == 3 else [1.0]
    gray = image.reshape(120, 160, channels) @ np.array(weights)
    assert np.abs(archived.gray() - gray).mean() < 2
    back = archived.view(1.0)
    assert back.image.shape == image.shape and back.image.dtype == np.uint8
    assert np.abs(back.image.astype(int) - image).mean() < 2
    assert back.camera == WIDE


@pytest.mark.parametrize('calibrated', [True, False])
def test_whether_the_focal_length_is_known_is_kept(calibrated: bool) -> None:
    assert ArchivedView.of(View(smooth(3), WIDE, calibrated), 1.0).view(
        1.0).calibrated == calibrated


def test_the_focal_length_is_the_one_that_is_known_now() -> None:
    """When it was archived it was estimated at 1.2 times the initial one, now at 1.5 times."""
    camera = ArchivedView.of(View(smooth(1), WIDE, False), 1.2).view(1.5).camera
    assert (camera.fx, camera.fy) == pytest.approx((150 * 1.25, 140 * 1.25))
    assert (camera.cx, camera.cy, camera.width, camera.height) == (81.0, 58.0, 160, 120)
