# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Detections of people that are the same person."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.models.people_links import Detection, joined, Link, overlaps, persons


def labels(*columns: tuple[int, int]) -> np.ndarray:
    """People that fill columns [first, last) of 32 x 48 pixels."""
    out = np.zeros((32, 48), np.int16)
    for n, (first, last) in enumerate(columns, 1):
        out[:, first:last] = n
    return out


def test_detections_of_an_image_are_joined_by_their_overlap() -> None:
    found = overlaps(labels((0, 10), (20, 30)), labels((21, 31), (0, 8), (40, 44)))
    assert found == {(1, 2): pytest.approx(0.8), (2, 1): pytest.approx(9 / 11)}
    assert overlaps(labels((0, 10)), labels((6, 16))) == {}
    assert overlaps(labels(), labels((0, 5))) == {}


def test_matches_join_people_who_are_where_their_points_say() -> None:
    both = labels((0, 16), (16, 32)), labels((16, 32), (0, 16))
    v, u = (x.ravel() for x in np.mgrid[4:32:8, 4:48:8])
    pixels = np.stack([u, v], 1)
    other = np.where(u[:, None] < 16, pixels + [16, 0],
                     np.where(u[:, None] < 32, pixels - [16, 0], pixels))
    points = np.zeros((32, 48, 3), np.float32)
    points[..., 0] = np.arange(48) / 48
    points[..., 2] = 2
    moved = points.copy()
    moved[:, 16:32], moved[:, :16] = points[:, :16], points[:, 16:32]
    assert joined(both, (pixels, other), (points, moved), 8, True) == {(1, 1): 1.0, (2, 2): 1.0}
    # The same matches between points that are apart: of another person
    far = moved.copy()
    far[:, 16:32, 1] += 0.6
    assert joined(both, (pixels, other), (points, far), 8, True) == {(2, 2): 1.0}
    near = moved.copy()
    near[:, 16:32, 1] += 0.2
    assert len(joined(both, (pixels, other), (points, near), 8, True)) == 2
    assert joined(both, (pixels, other), (points, near), 8, False) == {(2, 2): 1.0}
    few = slice(0, 1)  # one of eight samples
    assert joined(both, (pixels[few], other[few]), (points, moved), 8, True) == {}


def test_persons_are_the_connected_detections() -> None:
    a, b, c, d = (Detection(view, pair, side, 1) for view, pair, side in (
        (0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)))
    numbers = persons([a, b, c, d], [Link(0.5, a, b), Link(0.9, b, c)])
    assert numbers[a] == numbers[b] == numbers[c] != numbers[d]
    assert set(numbers.values()) == {1, 2}


def test_two_people_of_a_view_stay_two() -> None:
    """Of links that would make them one, the weakest is dropped, in any order."""
    one, two = Detection(0, 0, 0, 1), Detection(0, 0, 0, 2)
    other = Detection(1, 0, 1, 1)
    again = Detection(1, 1, 0, 1)
    links = [Link(0.9, one, other), Link(0.8, other, again), Link(0.3, two, again)]
    for order in (links, links[::-1]):
        numbers = persons([one, two, other, again], order)
        assert numbers[one] == numbers[other] == numbers[again] != numbers[two]
    links[2] = Link(0.95, two, again)
    numbers = persons([one, two, other, again], links)
    assert numbers[two] == numbers[again] and numbers[one] == numbers[other] != numbers[two]
