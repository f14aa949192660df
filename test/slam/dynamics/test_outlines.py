# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Refined masks, of detected frames and of propagated ones."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.slam.dynamics.mask_refinement import grabcut
from recon3r_ros.slam.dynamics.outlines import MAX_AGE_NS, Outlines

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
PERIOD_NS = 33_000_000


def disc(n: int) -> tuple[Image, Mask]:
    """Make frame n of a red disc that slides over a grey wall, and its mask."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(80, 176, (240, 320, 3)).astype(np.uint8), (0, 0), 1.5)
    skin = cv2.GaussianBlur(rng.integers(0, 100, (240, 320, 3)).astype(np.uint8), (0, 0), 1.5)
    skin[..., 0] += 150
    mask = cv2.circle(np.zeros((240, 320), np.uint8), (100 + 4 * n, 120), 50, 1, -1) > 0
    wall[mask] = np.roll(skin, 4 * n, axis=1)[mask]
    return wall, mask


def coarse(mask: Mask) -> Mask:
    """Detect in cells of 20 pixels."""
    small = cv2.resize(mask.astype(np.uint8), (16, 12), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (320, 240), interpolation=cv2.INTER_NEAREST) > 0


def jaccard(a: Mask, b: Mask) -> float:
    """Compare two masks."""
    return float((a & b).sum() / (a | b).sum())


def test_propagated_masks_are_those_refined_last() -> None:
    outlines = Outlines()
    for n in range(4):
        image, true = disc(n)
        found = outlines.of(grabcut, image, coarse(true), n * PERIOD_NS, propagated=n > 0)
        assert found.shape == true.shape
        assert jaccard(coarse(true), true) < 0.85
        assert jaccard(found, true) > 0.92


@pytest.mark.parametrize('stamp_ns', [2 * MAX_AGE_NS, -PERIOD_NS])
def test_a_refined_mask_of_another_time_is_not_propagated(stamp_ns: int) -> None:
    outlines = Outlines()
    outlines.of(grabcut, *disc(0), stamp_ns=0, propagated=False)
    image, true = disc(1)
    np.testing.assert_array_equal(
        outlines.of(grabcut, image, coarse(true), stamp_ns, True), coarse(true))


def test_what_was_detected_since_is_not_lost() -> None:
    """The frame of the newest detection was not published."""
    outlines = Outlines()
    image, true = disc(0)
    outlines.of(grabcut, image, coarse(true), 0, propagated=False)
    two = coarse(true)
    two[20:120, 200:300] = True
    np.testing.assert_array_equal(outlines.of(grabcut, image, two, PERIOD_NS, True), two)


def test_without_a_refiner_masks_stay_as_they_are() -> None:
    outlines = Outlines()
    for n in range(2):
        image, true = disc(n)
        np.testing.assert_array_equal(
            outlines.of(None, image, coarse(true), n * PERIOD_NS, n > 0), coarse(true))


def test_without_a_refined_mask_the_propagated_one_stays() -> None:
    image, true = disc(0)
    np.testing.assert_array_equal(Outlines().of(grabcut, image, true, 0, True), true)


def test_a_refiner_may_return_any_size() -> None:
    image, true = disc(0)
    small = Outlines().of(lambda image, mask: mask[::4, ::4], image, true, 0, False)
    assert small.shape == true.shape and jaccard(small, true) > 0.9


@pytest.mark.parametrize('gray', [False, True])
def test_an_empty_mask_stays_empty(gray: bool) -> None:
    outlines, image = Outlines(), disc(0)[0]
    image = np.ascontiguousarray(image[..., 0]) if gray else image
    nothing = np.zeros((240, 320), bool)
    for n in range(2):
        assert not outlines.of(grabcut, image, nothing, n * PERIOD_NS, n > 0).any()
