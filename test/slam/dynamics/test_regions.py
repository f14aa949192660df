# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Regions of masks that are drawn by hand."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.slam.dynamics.regions import labelled, large_regions

Mask = NDArray[np.bool_]


def drawn(*rows: str) -> Mask:
    """Draw a mask: # is part of it."""
    return np.array([[c == '#' for c in row] for row in rows])


MASK = drawn('##........',
             '##.....###',
             '..#....###',
             '.......###',
             '..........')
LARGE = drawn('..........',
              '.......###',
              '.......###',
              '.......###',
              '..........')


@pytest.mark.parametrize('pixels, expected', [(0, MASK), (5, MASK), (6, LARGE), (9, LARGE),
                                              (10, np.zeros_like(MASK))])
def test_regions_of_enough_pixels_are_kept(pixels: int, expected: Mask) -> None:
    """Five pixels, of which one touches the others at a corner, and nine."""
    found = large_regions(MASK, (pixels - 0.5) / MASK.size)
    assert found.dtype == bool and np.array_equal(found, expected)


def test_exactly_the_share_is_enough() -> None:
    assert np.array_equal(large_regions(MASK, 9 / MASK.size), LARGE)


def test_the_share_is_of_all_pixels_and_not_of_the_mask() -> None:
    nine_of_900 = np.zeros((30, 30), bool)
    nine_of_900[3:6, 3:6] = True
    assert np.array_equal(large_regions(nine_of_900, 0.009), nine_of_900)
    assert not large_regions(nine_of_900, 0.011).any()


def test_regions_without_a_seed_are_dropped() -> None:
    seeds = np.zeros_like(MASK)
    seeds[2, 8] = True
    assert np.array_equal(large_regions(MASK, 0, seeds), LARGE)
    seeds[2, 2] = True
    assert np.array_equal(large_regions(MASK, 0, seeds), MASK)


def test_a_seed_does_not_make_a_small_region_large() -> None:
    assert np.array_equal(large_regions(MASK, 6 / MASK.size, MASK), LARGE)


@pytest.mark.parametrize('seeds', [np.zeros_like(MASK), ~MASK])
def test_seeds_elsewhere_keep_nothing(seeds: Mask) -> None:
    """Not the surroundings either, which such seeds are part of."""
    assert not large_regions(MASK, 0, seeds).any()


@pytest.mark.parametrize('share', [0.0, 0.5, 1.0])
def test_nothing_and_everything(share: float) -> None:
    nothing = np.zeros((4, 6), bool)
    assert not large_regions(nothing, share).any()
    assert large_regions(~nothing, share).all()
    assert large_regions(~nothing, share, ~nothing).all()


@pytest.mark.parametrize('dtype', [np.uint8, np.int32])
def test_masks_of_numbers(dtype: type) -> None:
    assert np.array_equal(large_regions(MASK.astype(dtype), 6 / MASK.size), LARGE)


def test_the_given_mask_is_not_changed() -> None:
    mask = MASK.copy()
    large_regions(mask, 1.0)
    assert np.array_equal(mask, MASK)


@pytest.mark.parametrize('share', [0.1, 0.4, 0.6, 0.9])
def test_labels_are_connected_components(share: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random(rng.integers(1, 40, 2)) < share
        labels = labelled(mask)
        count, expected = cv2.connectedComponents(mask.astype(np.uint8))
        assert np.array_equal(labels > 0, mask)
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
        assert pairs.shape[1] == count - mask.all(), 'one label a component'
        first = [np.flatnonzero(labels.ravel() == n)[0] for n in range(1, labels.max() + 1)]
        assert first == sorted(first)
