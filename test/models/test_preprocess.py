# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A view's mask, depth and pose are carried over to the network's grid."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.preprocess import prepare
from recon3r_ros.models.types import PosePrior, View

#: A plane, 1 / depth linear in the pixels of this camera
CAMERA = Camera(640, 400, 500.0, 500.0, 300.0, 190.0)
NORMAL = np.array([0.2, -0.3, 1.0])


def plane(camera: Camera) -> np.ndarray:
    """Depth (H, W) of the plane NORMAL . x = 2."""
    return 2.0 / (camera.unproject(pixel_grid(camera.height, camera.width)) @ NORMAL)


def test_measured_depth_stays_with_its_pixels():
    depth = plane(CAMERA).astype(np.float32)
    view = View(np.zeros((400, 640), np.uint8), CAMERA, depth=depth)
    for size in (512, 224, 1024):
        got = prepare(view, size, 16)
        assert got.depth.shape == got.image.shape[:2] == (got.camera.height, got.camera.width)
        # From the nearest pixel: at most half a pixel of the larger image off
        assert np.abs(got.depth / plane(got.camera) - 1).max() < 2e-3


@pytest.mark.parametrize('shape', [(400, 640), (100, 160), (800, 1280)])
def test_a_dynamic_mask_of_any_size_stays_with_its_pixels(shape):
    moving = np.zeros(shape, bool)
    moving[:, :shape[1] // 2] = True
    got = prepare(View(np.zeros((400, 640, 3), np.uint8), CAMERA, moving=moving), 224, 16)
    width = got.camera.width
    # The centre of the view stays its centre
    assert got.moving[:, :width // 2 - 1].all() and not got.moving[:, width // 2 + 1:].any()


def test_a_pose_is_the_same_on_every_grid():
    pose = PosePrior(np.diag([1.0, -1, -1, 1]), np.eye(6))
    assert prepare(View(np.zeros((400, 640), np.uint8), CAMERA, pose=pose), 512, 16).pose is pose
