# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pinhole projection in the precision of what is given, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.geometry import pinhole
from recon3r_ros.geometry.camera import Camera, pixel_grid

CAMERA = Camera(64, 48, 100.0, 50.0, 30.0, 20.0)


@pytest.mark.parametrize('kind', [np.float32, np.float64])
def test_projection_by_hand(kind):
    points = np.array([[[0, 0, 1], [1, 2, 4]], [[-0.3, 0.4, 0.5], [3, 3, -1]]], kind)
    pixels = pinhole.project(points, CAMERA)
    assert pixels.dtype == kind and pixels.shape == (2, 2, 2)
    assert np.allclose(pixels[0], [[30, 20], [55, 45]])
    assert np.allclose(pixels[1, 0], [-30, 60])
    assert np.isnan(pixels[1, 1]).all(), 'behind the camera'


@pytest.mark.parametrize('kind', [np.float32, np.float64])
def test_rays_are_those_of_the_pixels(kind):
    grid = pixel_grid(48, 64).astype(kind)
    rays = pinhole.rays(grid, CAMERA)
    assert rays.dtype == kind and (rays[..., 2] == 1).all()
    assert np.allclose(rays[45, 55], [0.25, 0.5, 1])
    assert np.allclose(rays, CAMERA.unproject(grid), atol=1e-6)
    depth = np.linspace(0.5, 9, 48 * 64).reshape(48, 64, 1).astype(kind)
    assert np.allclose(pinhole.project(rays * depth, CAMERA), grid, atol=1e-4)


def test_what_lies_in_the_camera_has_no_pixel():
    assert np.isnan(pinhole.project(np.array([[1.0, 1.0, 0.0]]), CAMERA)).all()
    assert pinhole.project(np.zeros((0, 3), np.float32), CAMERA).shape == (0, 2)
