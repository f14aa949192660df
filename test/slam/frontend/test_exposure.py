# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Brightness is steadied where it changes fast, and left alone where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.slam.frontend import exposure
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.types import Frame
from simulated import render, still_scene

Image = NDArray[np.uint8]

FRAMES = 24


def video() -> list[Image]:
    """Render grey images (120, 160) of a moving camera."""
    scene = still_scene(2, FRAMES, 'handheld', 160, 120)
    return [render(scene, n).image[..., 1].copy() for n in range(FRAMES)]


def steadied(images: Sequence[Image]) -> list[Image]:
    """Steady the brightness of images, in order."""
    return [gray for _, gray in frames_steadied(images)]


def frames_steadied(images: Sequence[Image]) -> list[tuple[Frame, Image]]:
    """Steady the brightness of images, in order: frames, and tracking images."""
    frames = [Frame(image, n, f'{n}', n) for n, image in enumerate(images)]
    return list(exposure.steadied(frames, Rectifier.of(frames[0])))


def times(images: Sequence[Image], factors: Sequence[float]) -> list[Image]:
    """Multiply grey values, which saturate."""
    return [np.clip(i * f + 0.5, 0, 255).astype(np.uint8) for i, f in zip(images, factors)]


def off(images: Sequence[Image], others: Sequence[Image]) -> NDArray[np.float64]:
    """Relative difference of brightness of each image, where it is neither dark nor saturated."""
    out = []
    for image, other in zip(images, others):
        use = (image > 30) & (image < 200) & (other < 250)
        out.append(np.median(image[use] / np.maximum(other[use], 1.0)) - 1)
    return np.array(out)


@pytest.mark.parametrize('factors', [
    [1.0] * FRAMES, np.linspace(1, 1.06, FRAMES), [1 + 0.02 * (n % 2) for n in range(FRAMES)]])
def test_slow_or_small_changes_are_left_alone(factors: Sequence[float]) -> None:
    images = times(video(), factors)
    for image, out in zip(images, steadied(images)):
        assert out is image


@pytest.mark.parametrize('factors', [
    [1.1 if n % 2 else 0.9 for n in range(FRAMES)],
    [1 + 0.15 * np.sin(2.1 * n) for n in range(FRAMES)],
    [0.6 if n >= 10 else 1.0 for n in range(FRAMES)],
    [1.2 if 6 <= n < 15 else 0.6 for n in range(FRAMES)],
    list(np.geomspace(1, 0.5, FRAMES))])
def test_a_gain_is_taken_back(factors: Sequence[float]) -> None:
    """What is left from one image to the next is small, however large the gain is."""
    images = video()
    changed = times(images, factors)
    before, after = off(changed, images), off(steadied(changed), images)
    assert np.abs(np.diff(before)).max() > 0.025
    assert np.abs(np.diff(after)).max() < 0.1
    assert np.ptp(after) < max(0.5 * np.ptp(before), 0.1)


def test_colours_get_the_same_factor() -> None:
    images = times(video(), [0.6 if k >= 4 else 1.0 for k in range(FRAMES)])
    out = frames_steadied([np.repeat(image[..., None], 3, -1) for image in images])
    assert not np.array_equal(out[5][1], images[5])
    for frame, gray in out:
        assert np.abs(frame.image[..., 0].astype(int) - gray).max() <= 1


def test_another_scene_has_no_gain() -> None:
    """Where nothing is found again, its brightness is its own."""
    first = video()
    scene = still_scene(3, FRAMES, 'handheld', 160, 120)
    second = [(render(scene, n).image[..., 1] * 0.5).astype(np.uint8) for n in range(FRAMES)]
    out = steadied([*first, *second])
    assert np.abs(off(out[FRAMES + 1:], second[1:])).max() < 0.05


@pytest.mark.parametrize('level', [0, 128, 255])
def test_images_without_texture(level: int) -> None:
    image = np.full((120, 160), level, np.uint8)
    assert all(out is image for out in steadied([image] * 5))
