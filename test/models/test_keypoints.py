# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Positions of keypoints."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.models.keypoints import detect_keypoints, MAX_KEYPOINTS
from simulated import render, still_scene


@pytest.fixture
def gray() -> NDArray[np.uint8]:
    """Return a simulated image."""
    frame = render(still_scene(3, trajectory='orbit'), 0)
    return cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize('grid', [(320, 240), (160, 120), (64, 48), (512, 384)])
def test_inside_the_grid_and_no_two_alike(gray: NDArray[np.uint8], grid: tuple[int, int]) -> None:
    pixels = detect_keypoints(gray, *grid)
    assert pixels.dtype == np.int32 and pixels.shape[1:] == (2,)
    assert 50 < len(pixels) <= MAX_KEYPOINTS
    assert (pixels >= 0).all() and (pixels < grid).all()
    assert len(np.unique(pixels, axis=0)) == len(pixels)


def test_spread_over_the_image_although_one_corner_has_the_best_texture() -> None:
    rng = np.random.default_rng(3)
    weak = cv2.GaussianBlur(rng.uniform(0, 255, (480, 640)), (0, 0), 2.0)
    gray = np.clip(128 + 2.0 * (weak - weak.mean()), 0, 255)
    gray[:160, :200] = rng.integers(0, 2, (40, 50)).repeat(4, 0).repeat(4, 1) * 255
    pixels = detect_keypoints(gray.astype(np.uint8), 640, 480)
    cells, _, _ = np.histogram2d(pixels[:, 0], pixels[:, 1], bins=(4, 3),
                                 range=((0, 640), (0, 480)))
    assert cells.min() > 0.3 * cells.mean()


def test_on_the_corners_of_a_board() -> None:
    """Keypoints lie on the image's corners, without an offset."""
    gray = (np.indices((240, 320)) // 20).sum(0) % 2 * 200 + 20
    pixels = detect_keypoints(gray.astype(np.uint8), 160, 120)
    # Corners lie between pixels 19 and 20, that is at 19.5, 9.5 on the grid of half the size
    off = (pixels - 9.5 + 5) % 10 - 5
    assert len(pixels) >= 100
    assert np.abs(off).max() <= 1.5
    assert np.abs(off.mean(0)).max() <= 0.6


@pytest.mark.parametrize('level', [0, 128, 255])
def test_none_on_a_blank_image(level: int) -> None:
    assert detect_keypoints(np.full((48, 64), level, np.uint8), 32, 24).shape == (0, 2)


def test_deterministic(gray: NDArray[np.uint8]) -> None:
    assert np.array_equal(detect_keypoints(gray, 160, 120), detect_keypoints(gray, 160, 120))
