# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People are kept out, whether a detector sees them in each image or not."""

from __future__ import annotations

import cv2
import numpy as np
from recon3r_ros.slam.people import HOLD_S, PeopleMasks
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame

HEIGHT, WIDTH, FPS = 120, 160, 10.0


def world(shift: int = 0) -> np.ndarray:
    """Make an image of texture, which moves to the right."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH + 40), np.uint8), (0, 0), 2)
    return np.ascontiguousarray(cv2.equalizeHist(texture)[:, 40 - shift:40 - shift + WIDTH])


def person(left: int, value: int = 1) -> np.ndarray:
    """Instances of one person."""
    out = np.zeros((HEIGHT, WIDTH), np.uint16)
    out[40:100, left:left + 20] = value
    return out


def frame(index: int, people: People | None, shift: int = 0, mask=None) -> Frame:
    """Make a frame."""
    return Frame(world(shift), round(index / FPS * 1e9), f'{index}', index, people=people,
                 mask=mask)


def test_people_join_the_given_mask():
    given = np.zeros((HEIGHT, WIDTH), bool)
    given[:10] = True
    mask = PeopleMasks().masked(frame(0, People(person(50)), mask=given)).mask
    assert mask[:10].all() and mask[40:100, 48:72].all()
    assert mask.sum() < 10 * WIDTH + 66 * 26


def test_a_missed_person_moves_with_the_image_and_is_forgotten_after_a_while():
    masks = PeopleMasks()
    masks.masked(frame(0, People(person(50))))
    nobody = People(np.zeros((HEIGHT, WIDTH), np.uint16))
    for index, people in ((1, None), (2, nobody), (3, None)):
        mask = masks.masked(frame(index, people, shift=4 * index)).mask
        truth = person(50 + 4 * index) > 0
        assert (mask & truth).sum() > 0.9 * truth.sum()
        assert mask.sum() < 1.6 * truth.sum()
    after = round(HOLD_S * FPS) + 1
    for index in (4, 5, after):
        last = masks.masked(frame(index, None, shift=12))
    assert last.mask is None


def test_all_of_the_image_is_not_believed():
    masks = PeopleMasks()
    everywhere = People(np.ones((HEIGHT, WIDTH), np.uint16))
    found = masks.masked(frame(0, everywhere))
    assert not found.mask.any() and found.people is None
    assert (masks.counts.disbelieved, masks.counts.people) == (1, 0)


def test_an_unsure_person_is_none():
    masks = PeopleMasks()
    both = person(20) + person(100, 2)
    mask = masks.masked(frame(0, People(both, {1: 0.9, 2: 0.2}))).mask
    assert mask[:, :60].any() and not mask[:, 80:].any()
    assert masks.counts.people == 1


def test_time_that_goes_back_forgets():
    masks = PeopleMasks()
    masks.masked(frame(9, People(person(50))))
    assert masks.masked(frame(0, None)).mask is None


def test_people_who_were_found_late_are_moved_to_the_newest_image():
    masks = PeopleMasks()
    for index in range(3):
        assert masks.masked(frame(index, None, shift=4 * index)).mask is None
    masks.masked(frame(1, People(person(54)), shift=4))
    mask = masks.masked(frame(3, None, shift=12)).mask
    truth = person(62) > 0
    assert (mask & truth).sum() > 0.9 * truth.sum()
    assert mask.sum() < 1.6 * truth.sum()
    # Too late: it is not known where they are by now
    masks.masked(frame(1, People(person(54)), shift=4))
    assert masks.masked(frame(2 + round(HOLD_S * FPS), None, shift=12)).mask is None
