# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Gaussians of the pixels of keyframes, in a room that is known in closed form."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import at_x, CAMERA, CONFIDENT, keyframe, room_depth, WALLS
import numpy as np
import pytest
from recon3r_ros.cli.refined_gaussians import as_tensors
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.nets.gaussian_raster import render
from recon3r_ros.slam.products import surfels
from recon3r_ros.slam.products.surfels import in_pixels_of, surfels_of
from recon3r_ros.slam.types import Gaussians, Keyframe
import torch

FINE = CAMERA.resized(192, 144)
LEFT, MIDDLE, RIGHT = (keyframe(i, at_x(0.15 * i), camera=FINE, textured=True) for i in range(3))
#: Pixels at the border that the other views do not see, or that have no neighbours
BORDER = 10


def decibels(made: Gaussians, view: Keyframe) -> float:
    """PSNR of Gaussians rendered to a view, but for its border."""
    with torch.no_grad():
        image = render(as_tensors(made), torch.tensor(se3.inverse(view.T_map_cam)).float(),
                       torch.tensor(view.camera.K).float(), view.camera.height,
                       view.camera.width).image.numpy()
    error = (image - view.image / 255)[BORDER:-BORDER, BORDER:-BORDER]
    return float(-10 * np.log10(np.mean(error ** 2)))


def test_patches_lie_on_the_walls_and_show_a_view_that_is_left_out():
    made = surfels_of([LEFT, RIGHT])
    away = np.abs(made.means @ WALLS[:, :3].T - WALLS[:, 3]) / np.linalg.norm(
        WALLS[:, :3], axis=1)
    wall = away.argmin(1)
    assert away.min(1).max() < 1e-3
    x, y, z, w = made.quaternions_wxyz[:, [1, 2, 3, 0]].T.astype(np.float64)
    across = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], 1)
    normals = WALLS[wall, :3] / np.linalg.norm(WALLS[wall, :3], axis=1)[:, None]
    assert np.median(np.abs((across * normals).sum(1))) > 0.999
    assert decibels(made, MIDDLE) > 28


def test_images_are_sharpened_by_what_blending_takes(monkeypatch):
    sharp = decibels(surfels_of([LEFT]), LEFT)
    monkeypatch.setattr(surfels, 'sharpened', lambda image, *_: image.astype(np.float32))
    assert sharp > decibels(surfels_of([LEFT]), LEFT) + 2


def test_a_surface_is_drawn_once_from_the_view_that_sees_it_finest():
    near = keyframe(1, at_x(0.0, z=1.0), camera=FINE, textured=True)
    alone, both = surfels_of([near]), surfels_of([LEFT, near])
    inverse = se3.inverse(near.T_map_cam)
    inside = both.means @ inverse[:3, :3].T + inverse[:3, 3]
    pixels = inside[:, :2] / inside[:, 2:] * (FINE.fx, FINE.fy) + (FINE.cx, FINE.cy)
    seen = ((pixels > 5) & (pixels < (FINE.width - 6, FINE.height - 6))).all(1) & (
        inside[:, 2] > 0)
    inner = (FINE.width - 11) * (FINE.height - 11)
    assert seen.sum() == pytest.approx(inner, rel=0.03)
    assert len(both) > len(alone)


def test_unknown_and_dynamic_pixels_have_none_and_doubtful_ones_are_transparent():
    mask, confidence = np.zeros((144, 192), bool), MIDDLE.confidence.copy()
    mask[:, :60], confidence[:, 120:] = True, 30
    made = surfels_of([replace(MIDDLE, mask=mask, confidence=confidence)])
    inverse = se3.inverse(MIDDLE.T_map_cam)
    inside = made.means @ inverse[:3, :3].T + inverse[:3, 3]
    columns = FINE.fx * inside[:, 0] / inside[:, 2] + FINE.cx
    assert columns.min() > 59
    doubtful = columns > 119.5
    assert made.opacities[doubtful].max() < 0.6 < 0.9 < made.opacities[~doubtful].min()
    none = replace(MIDDLE, confidence=np.zeros_like(MIDDLE.confidence))
    assert len(surfels_of([none])) == 0 == len(surfels_of([]))


def test_depth_is_interpolated_where_it_is_known_alone():
    coarse = keyframe(0, textured=True)
    confidence = np.full((48, 64), CONFIDENT, np.float32)
    confidence[:, 40:] = 0
    size = CAMERA.resized(128, 96)
    fine = in_pixels_of(replace(coarse, confidence=confidence),
                        np.full((96, 128), 7, np.uint8))
    assert fine.camera == size and fine.image.shape == (96, 128, 3)
    known = fine.inverse_depth > 0
    assert not known[:, 82:].any() and known[:, :78].mean() > 0.9  # not where walls are steep
    true = room_depth(np.eye(4), size.unproject(pixel_grid(96, 128)))
    assert np.median(np.abs(true * fine.inverse_depth - 1)[known]) < 2e-3
