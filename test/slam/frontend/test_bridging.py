# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Corners to track: those of squares that are drawn at known pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.slam.frontend.bridging import CORNERS, corners, DISTANCE

HEIGHT, WIDTH = 240, 320
#: Top left pixels of the squares, and their side
PLACES, SIDE = [(40, 50), (40, 200), (140, 60), (150, 230)], 24
NONE = np.zeros((0, 2), np.float32)
STILL = np.zeros((HEIGHT, WIDTH), bool)


def squares() -> NDArray[np.uint8]:
    """Draw white squares on grey."""
    image = np.full((HEIGHT, WIDTH), 60, np.uint8)
    for row, column in PLACES:
        image[row:row + SIDE, column:column + SIDE] = 220
    return image


def true_corners() -> NDArray[np.float64]:
    """Pixels (N, 2) of the squares' corners."""
    return np.array([[column + x, row + y] for row, column in PLACES
                     for x in (-0.5, SIDE - 0.5) for y in (-0.5, SIDE - 0.5)])


def noise(seed: int = 0) -> NDArray[np.uint8]:
    """Draw an image with corners everywhere."""
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)


def distances(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """Distances (N, M) between pixels (N, 2) and (M, 2)."""
    return np.linalg.norm(a[:, None].astype(float) - b[None], axis=2)


def test_the_corners_of_squares_are_found() -> None:
    found = corners(squares(), STILL, NONE)
    assert found.shape == (16, 2) and found.dtype == np.float32
    apart = distances(true_corners(), found)
    assert (apart.min(axis=1) < 1.5).all() and (apart.min(axis=0) < 1.5).all()


def test_a_blank_image_has_none() -> None:
    assert corners(np.full((HEIGHT, WIDTH), 77, np.uint8), STILL, NONE).shape == (0, 2)


@pytest.mark.parametrize('size', [(HEIGHT, WIDTH), (HEIGHT // 4, WIDTH // 4),
                                  (2 * HEIGHT, 2 * WIDTH)])
def test_dynamic_objects_have_none(size: tuple[int, int]) -> None:
    """The mask, which may be of another size, covers the right half."""
    moving = np.zeros(size, bool)
    moving[:, size[1] // 2:] = True
    found = corners(squares(), moving, NONE)
    assert len(found) == 8 and (found[:, 0] < WIDTH / 2).all()


def test_where_everything_moves_there_are_none() -> None:
    assert corners(squares(), ~STILL, NONE).shape == (0, 2)


def test_points_are_not_taken_twice() -> None:
    """Three corners of one square are tracked already, a bit beside."""
    taken = (true_corners()[:3] + 0.4).astype(np.float32)
    found = corners(squares(), STILL, taken)
    assert len(found) == 13
    assert (distances(found, taken) > DISTANCE - 1).all()


def test_points_keep_their_distance() -> None:
    """From each other, and from those that are taken; there are no more than are missing."""
    taken = np.random.default_rng(1).uniform(0, [WIDTH, HEIGHT], (60, 2)).astype(np.float32)
    found = corners(noise(), STILL, taken)
    assert 50 < len(found) <= CORNERS - 60
    apart = distances(found, found) + 1e3 * np.eye(len(found))
    assert apart.min() >= DISTANCE
    assert distances(found, taken).min() > DISTANCE - 1


@pytest.mark.parametrize('count', [CORNERS - 3, CORNERS - 1, CORNERS, CORNERS + 10])
def test_no_more_than_are_missing(count: int) -> None:
    """All that are taken are at one pixel, so that there is room for more."""
    taken = np.full((count, 2), 5.0, np.float32)
    assert len(corners(noise(), STILL, taken)) == max(CORNERS - count, 0)


def test_points_beyond_the_image_take_no_room() -> None:
    """They have been tracked out of it."""
    taken = np.array([[-500, -500], [WIDTH + 400, 20]], np.float32)
    assert len(corners(squares(), STILL, taken)) == 16


def test_what_is_given_is_not_changed() -> None:
    image, moving, taken = squares(), STILL.copy(), true_corners().astype(np.float32)
    corners(image, moving, taken)
    assert np.array_equal(image, squares()) and not moving.any()
    assert np.array_equal(taken, true_corners().astype(np.float32))
