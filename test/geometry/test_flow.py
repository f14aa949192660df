# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Optical flow against images whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import flow
from recon3r_ros.models.keypoints import detect_keypoints
from simulated import render, still_scene

HEIGHT, WIDTH = 240, 320


@pytest.fixture(scope='module')
def image() -> flow.Pyramid:
    """Return a simulated image."""
    frame = render(still_scene(3, 100, 'orbit', 2 * WIDTH, 2 * HEIGHT), 0)
    return pyramid(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY))


def pyramid(fine: NDArray[np.uint8]) -> flow.Pyramid:
    """Halve an image."""
    return flow.Pyramid(fine, cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))


def moved(image: flow.Pyramid, A_b_a: NDArray[np.float64]
          ) -> tuple[flow.Pyramid, NDArray[np.float32]]:
    """Move an image by an affine map (2, 3) of coarse pixels; also return the flow to it."""
    # Pixel p of the coarse image is 2 p + 0.5 of the fine one
    shift = 2 * A_b_a[:, 2] + 0.5 - A_b_a[:, :2] @ [0.5, 0.5]
    fine = cv2.warpAffine(image.fine, np.column_stack([A_b_a[:, :2], shift]),
                          (2 * WIDTH, 2 * HEIGHT), flags=cv2.INTER_CUBIC,
                          borderMode=cv2.BORDER_REFLECT)
    positions = flow.pixel_positions(HEIGHT, WIDTH)
    return pyramid(fine), (positions @ A_b_a[:, :2].T + A_b_a[:, 2] - positions).astype(np.float32)


def corners(image: flow.Pyramid) -> NDArray[np.float32]:
    """Keypoints, coarse pixels."""
    return detect_keypoints(image.fine, WIDTH, HEIGHT).astype(np.float32)


def affine(degrees: float, zoom: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """Turn and zoom about the image's centre, then shift."""
    A = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), degrees, zoom)
    A[:, 2] += shift
    return A


INNER = np.s_[40:-40, 40:-40]


def test_pixel_positions() -> None:
    positions = flow.pixel_positions(3, 5)
    assert positions.shape == (3, 5, 2) and positions.dtype == np.float32
    assert positions[2, 4].tolist() == [4, 2]


def test_sample_is_bilinear_and_zero_outside() -> None:
    field = flow.pixel_positions(6, 8)
    pixels = np.array([[[2.25, 3.5], [7.0, 5.0], [-3.0, 2.0]]], np.float32)
    assert np.allclose(flow.sample(field, pixels), [[[2.25, 3.5], [7, 5], [0, 0]]], atol=0.02)
    assert flow.lookup(field, np.zeros((0, 2), np.float32)).shape == (0, 2)


@pytest.mark.parametrize('A', [affine(0, 1, (5.3, -3.6)), affine(2, 1.03, (2, 1))])
def test_flow_finds_a_small_motion(image: flow.Pyramid, A: NDArray[np.float64]) -> None:
    other, true = moved(image, A)
    keypoints = corners(image)
    found = flow.compute_flow(image, other, keypoints)
    assert found.dense.shape == (HEIGHT, WIDTH, 2) and found.dense.dtype == np.float32
    error = np.linalg.norm(found.dense - true, axis=2)[INNER]
    assert np.median(error) < 0.3
    at_keypoints = np.linalg.norm(
        found.targets - keypoints - flow.lookup(true, keypoints), axis=1)[found.sharp]
    assert found.sharp.mean() > 0.8
    assert np.median(at_keypoints) < 0.1


def test_a_seed_extends_flow_to_a_large_motion(image: flow.Pyramid) -> None:
    A = affine(60, 1.3, (15, -10))
    other, true = moved(image, A)
    rng = np.random.default_rng(2)
    seed = true + cv2.resize(rng.normal(0, 1, (6, 8, 2)), (WIDTH, HEIGHT)).astype(np.float32)
    keypoints = corners(image)
    found = flow.compute_flow(image, other, keypoints, seed)
    target = flow.pixel_positions(HEIGHT, WIDTH) + true
    inside = np.all((target > 25) & (target < [WIDTH - 26, HEIGHT - 26]), axis=2)
    inside[:25], inside[-25:], inside[:, :25], inside[:, -25:] = False, False, False, False
    error = np.linalg.norm(found.dense - true, axis=2)
    assert np.median(error[inside]) < 0.3
    u, v = keypoints.astype(int).T
    good = found.sharp & inside[v, u]
    at_keypoints = np.linalg.norm(found.targets - keypoints - true[v, u], axis=1)[good]
    assert good.sum() > 50
    assert np.median(at_keypoints) < 0.15


def test_no_keypoints(image: flow.Pyramid) -> None:
    found = flow.compute_flow(image, image, np.zeros((0, 2), np.float32))
    assert found.targets.shape == (0, 2) and found.sharp.shape == (0,)
    assert np.abs(found.dense).max() < 0.01


def test_seed_flow_is_exact_for_affine_motion() -> None:
    A = affine(10, 0.9, (8, 3))
    rng = np.random.default_rng(5)
    pixels = rng.uniform([0, 0], [WIDTH - 1, HEIGHT - 1], (300, 2)).astype(np.float32)
    corners = np.float32([[0, 0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]])
    pixels = np.vstack([pixels, 1.1 * corners - 15])
    seed = flow.seed_flow(pixels, (pixels @ A[:, :2].T + A[:, 2]).astype(np.float32),
                          HEIGHT, WIDTH)
    positions = flow.pixel_positions(HEIGHT, WIDTH)
    assert seed.shape == (HEIGHT, WIDTH, 2) and seed.dtype == np.float32
    assert np.abs(seed - (positions @ A[:, :2].T + A[:, 2] - positions)).max() < 0.05


def test_seed_flow_beyond_the_matches_is_that_of_the_nearest() -> None:
    pixels = np.float32([[100, 100], [140, 100], [100, 140], [140, 140]])
    seed = flow.seed_flow(pixels, pixels + np.float32([7, -2]), HEIGHT, WIDTH)
    assert np.allclose(seed, [7, -2], atol=1e-3)
