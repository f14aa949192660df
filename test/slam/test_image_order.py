# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images without order are told from those with one, and get an order in which all overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.slam.image_order import descriptor, has_order, in_good_order
from simulated import render, still_scene

Image = NDArray[np.uint8]

COUNT = 12


def rendered(seed: int, fps: float) -> list[Image]:
    """Render the images of a camera on its way around a room."""
    scene = still_scene(seed, COUNT, 'orbit', fps=fps)
    return [render(scene, n).image for n in range(COUNT)]


@pytest.fixture(scope='module')
def path() -> list[Image]:
    """Stills, wide steps apart."""
    return rendered(1, fps=1.0)


def shuffled(count: int, seed: int) -> list[int]:
    """Positions in random order."""
    return [int(n) for n in np.random.default_rng(seed).permutation(count)]


def test_an_order_is_one_in_both_directions(path: list[Image]) -> None:
    assert has_order(path) and has_order(path[::-1])


@pytest.mark.parametrize('seed', range(4))
def test_without_order_each_image_comes_after_one_beside_it(path: list[Image], seed: int
                                                            ) -> None:
    mixed = shuffled(len(path), seed)
    images = [path[n] for n in mixed]
    assert not has_order(images)
    order = [mixed[n] for n in in_good_order([*map(descriptor, images)])]
    assert sorted(order) == list(range(len(path)))
    for count, n in enumerate(order[1:], start=1):
        assert min(abs(n - earlier) for earlier in order[:count]) == 1


def test_images_of_two_places_come_one_place_after_the_other(path: list[Image]) -> None:
    images = [*path, *rendered(2, fps=1.0)]
    mixed = shuffled(len(images), 0)
    places = [mixed[n] < len(path) for n in in_good_order(
        [descriptor(images[n]) for n in mixed])]
    assert np.count_nonzero(np.diff(places)) == 1


def test_images_that_all_overlap_need_no_order() -> None:
    video = rendered(1, fps=30.0)
    assert has_order(video) and has_order([video[n] for n in shuffled(COUNT, 0)])


def test_few_images(path: list[Image]) -> None:
    images = [path[0], path[-1]]
    assert has_order([]) and has_order(images[:1]) and has_order(images)
    assert in_good_order([]) == [] and in_good_order([descriptor(images[0])]) == [0]
    assert sorted(in_good_order([*map(descriptor, images)])) == [0, 1]
    grey = np.zeros((120, 160), np.uint8)
    assert has_order([grey] * 5), 'of images without texture nothing is known'
