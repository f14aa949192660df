# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Averages over cells, against OpenCV's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry.averaging import Averaging, resized

SIZES = [((480, 640), (160, 213)), ((160, 213), (80, 106)), ((72, 96), (24, 32)),
         ((61, 50), (16, 49)), ((240, 426), (12, 20)), ((30, 40), (30, 40))]


@pytest.mark.parametrize('shape, cells', SIZES)
@pytest.mark.parametrize('channels', [(), (3,)])
def test_it_is_opencvs_average(shape, cells, channels, rng):
    image = rng.integers(0, 256, (*shape, *channels), np.uint8)
    expected = cv2.resize(image, cells[::-1], interpolation=cv2.INTER_AREA)
    found = Averaging.over(shape, *cells).of(image)
    assert found.shape == expected.shape and found.dtype == np.uint8
    # Halves are rounded up here and to even numbers there
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.005


def test_a_part_is_cut_from_the_whole(rng):
    image = rng.integers(0, 256, (120, 160, 3), np.uint8)
    part = np.s_[3:20, 7:40]
    whole = resized(image, 37, 51)
    np.testing.assert_array_equal(resized(image, 37, 51, part), whole[part])


def test_a_view_of_an_image_is_taken(rng):
    image = rng.integers(0, 256, (60, 80, 3), np.uint8)
    averaging = Averaging.over((60, 40), 20, 11)
    np.testing.assert_array_equal(averaging.of(image[:, ::2, 1]),
                                  averaging.of(image[:, ::2, 1].copy()))


def test_larger_images_are_interpolated(rng):
    image = rng.integers(0, 256, (20, 30), np.uint8)
    np.testing.assert_array_equal(
        resized(image, 40, 60), cv2.resize(image, (60, 40), interpolation=cv2.INTER_AREA))
