# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Optical flow between views of a textured plane."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from recon3r_ros.slam.dynamics.inverse_search import flow, PATCH, pyramid

HEIGHT, WIDTH, MARGIN = 80, 106, 12


def texture(rng, height=HEIGHT, width=WIDTH):
    """Give an image with details of several sizes."""
    noise = rng.normal(0, 1, (height, width))
    return np.clip(128 + 50 * sum(cv2.GaussianBlur(noise, (0, 0), s) * s for s in (1.2, 3, 6)),
                   0, 255).astype(np.uint8)


def errors(b, M):
    """Lengths of the flow's errors where image a is image b, seen through an affine map."""
    a = cv2.warpAffine(b, M, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                       borderMode=cv2.BORDER_REFLECT)
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    expected = np.stack([M[k, 0] * x + M[k, 1] * y + M[k, 2] - p for k, p in enumerate((x, y))])
    found = flow(pyramid(a), pyramid(b))
    seen = ((x + expected[0] > MARGIN) & (x + expected[0] < WIDTH - MARGIN)
            & (y + expected[1] > MARGIN) & (y + expected[1] < HEIGHT - MARGIN))
    seen[:MARGIN], seen[-MARGIN:], seen[:, :MARGIN], seen[:, -MARGIN:] = [False] * 4
    assert found.shape == (2, HEIGHT, WIDTH) and found.dtype == np.float32
    return np.hypot(*(found - expected))[seen]


@pytest.mark.parametrize('u, v', [(0.0, 0.0), (0.4, -0.7), (3.3, 2.6), (-14.0, 9.5)])
def test_shifts(u, v):
    found = errors(texture(np.random.default_rng(0)), np.array([[1.0, 0, u], [0, 1, v]]))
    assert np.median(found) < 0.05 and np.percentile(found, 95) < 0.3


@pytest.mark.parametrize('angle, zoom', [(4.0, 1.0), (0.0, 1.06), (-3.0, 0.95)])
def test_rotation_and_zoom(angle, zoom):
    M = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), angle, zoom)
    found = errors(texture(np.random.default_rng(1)), M)
    assert np.median(found) < 0.15 and np.percentile(found, 95) < 0.6


def test_light_that_changes_is_no_motion():
    image = texture(np.random.default_rng(2)) // 2
    found = flow(pyramid(image), pyramid(image + np.uint8(60)))
    assert np.abs(found).max() < 0.05


def test_a_square_moves_before_its_background():
    rng = np.random.default_rng(3)
    a, square = texture(rng), texture(rng, 30, 30)
    b = a.copy()
    a[20:50, 30:60], b[23:53, 35:65] = square, square
    found = flow(pyramid(a), pyramid(b))
    inner, outer = np.s_[:, 24:46, 34:56], np.s_[:, 60:, :]
    assert np.median(np.abs(found[inner] - np.array([5, 3])[:, None, None])) < 0.1
    assert np.median(np.abs(found[outer])) < 0.1


@pytest.mark.parametrize('shape', [(PATCH, PATCH), (8, 8), (9, 31), (64, 11)])
def test_images_of_any_size(shape):
    image = texture(np.random.default_rng(4), *shape)
    found = flow(pyramid(image), pyramid(image))
    assert found.shape == (2, *shape) and np.abs(found).max() < 0.05


def test_without_texture_flow_is_finite():
    blank = np.full((HEIGHT, WIDTH), 90, np.uint8)
    assert not flow(pyramid(blank), pyramid(blank)).any()
    noise = np.random.default_rng(5).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    assert np.isfinite(flow(pyramid(noise), pyramid(blank))).all()
