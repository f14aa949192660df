# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Objects over time: coloured blocks that slide over a grey background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.boxes import nearest
from recon3r_ros.slam.dynamics.colours import Colours
from recon3r_ros.slam.dynamics.objects import BRIEFER_S, Objects, UNCOVERED_S

ROWS, COLUMNS, SIDE, RATE = 30, 90, 10, 30.0
REST_S = 0.5
RED, BLUE = (200, 30, 30), (30, 30, 200)
Mask = NDArray[np.bool_]
NOTHING = np.zeros((ROWS, COLUMNS), bool)


def block(column: int, row: int = 10) -> Mask:
    """Cells of a block."""
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[row:row + SIDE, max(column, 0):max(column + SIDE, 0)] = True
    return mask


class Show:
    """Shows frames to `Objects`."""

    def __init__(self, rest_s: float = REST_S) -> None:
        self.objects = Objects((ROWS, COLUMNS), rest_s)
        self.frame = 0

    def add(self, *blocks: tuple[Mask, int, tuple[int, int, int]], paused: Mask = NOTHING,
            beside: Mask = NOTHING) -> Mask:
        """
        Show blocks that moved by so many columns; return the cells that are held.

        :param beside: cells that are masked with them without evidence of their own
        """
        x, y = np.meshgrid(np.arange(COLUMNS, dtype=np.float32), np.arange(ROWS, dtype=np.float32))
        image = np.full((ROWS, COLUMNS, 3), 128, np.uint8)
        moving = NOTHING.copy()
        for mask, step, colour in blocks:
            x = x - np.float32(step) * mask
            image[mask] = colour
            moving |= mask
        held = self.objects.follow(np.stack([x, y]), self.frame / RATE)
        self.objects.update((moving | beside) & ~paused, paused, moving, Colours.of(image))
        self.frame += 1
        return held

    def slide(self, columns: range) -> None:
        """Show a red block at these columns, moving."""
        for n, column in enumerate(columns):
            self.add((block(column), columns.step if n else 0, RED))

    def ids(self, mask: Mask) -> set[int]:
        """Ids of a mask's cells."""
        return set(np.unique(self.objects.labels[mask]).tolist())


def test_what_is_masked_beside_a_moving_object_is_not_held() -> None:
    show = Show()
    show.slide(range(5, 30))
    background = block(5)
    show.add((block(30), 1, RED), beside=background)
    held = show.add((block(31), 1, RED))
    assert held[block(31)].mean() > 0.8
    assert not held[background].any()


def test_what_an_object_uncovers_is_static() -> None:
    show = Show()
    show.slide(range(5, 45))
    assert np.array_equal(show.objects.unsettled(), block(44))


def test_an_object_that_stops_does_not_enter_the_map_before_the_rest_delay() -> None:
    show = Show()
    show.slide(range(5, 45))
    for n in range(1, 20):
        show.add()
        found = show.objects.unsettled()
        assert (found[block(44)] == (n / RATE < REST_S - 1e-6)).all()
        trail = block(44 - int(UNCOVERED_S * RATE) - 2) & ~block(44)
        assert not found[trail & ~block(44 - int(UNCOVERED_S * RATE))].any()
    assert not found.any()


def test_one_rests_while_another_goes_on() -> None:
    show = Show()
    for n in range(40):
        upper, lower = block(2 * n, 0), block(min(n, 32), 15)
        show.add((upper, 2, BLUE), *[(lower, 1, RED)] * (n <= 32))
    found = show.objects.unsettled()
    assert found[lower].all(), 'the lower one has stood for a fifth of a second'
    assert np.array_equal(found[:10], upper[:10]), 'the upper one leaves nothing behind'


def test_a_flicker_of_the_mask_is_no_rest_for_good() -> None:
    show = Show()
    show.slide(range(5, 35))
    show.add()
    show.add()
    show.slide(range(35, 65))
    assert np.array_equal(show.objects.unsettled(), block(64))


def test_a_paused_object_is_held_for_not_quite_as_long_as_it_moved() -> None:
    show = Show(rest_s=2.0)
    show.slide(range(5, 35))
    moved_s = 29 / RATE
    for n in range(1, 31):
        held = show.add(paused=block(34) if n / RATE < moved_s - BRIEFER_S else NOTHING)
        assert held[block(34)].all() == (n / RATE < moved_s - BRIEFER_S - 1e-6)
    show = Show(rest_s=2.0)
    show.slide(range(5, 15))
    assert not show.add().any(), 'an object of a third of a second is not held'


def test_the_id_stays_through_motion_pause_and_motion() -> None:
    show = Show(rest_s=2.0)
    show.slide(range(5, 50))
    first = show.ids(block(49))
    assert len(first) == 1 and 0 not in first
    for _ in range(5):
        show.add(paused=block(49))
        assert show.ids(block(49)) == first
    show.add((block(50), 1, RED))
    assert show.ids(block(50)) == first


def test_an_object_is_found_again_after_an_occlusion() -> None:
    show = Show(rest_s=0.2)
    show.slide(range(0, 30))
    first = show.ids(block(29))
    for _ in range(20):
        show.add()
    show.add((block(45), 1, RED))
    assert show.ids(block(45)) == first


def test_another_object_is_not_taken_for_one_that_is_gone() -> None:
    for colour, size in ((BLUE, SIDE), (RED, 2)):
        show = Show(rest_s=0.2)
        show.slide(range(0, 30))
        first = show.ids(block(29))
        for _ in range(20):
            show.add()
        mask = block(45) & (np.arange(COLUMNS) < 45 + size)
        show.add((mask, 1, colour))
        assert not show.ids(mask) & first


def test_an_object_far_away_is_another_one() -> None:
    show = Show(rest_s=0.2)
    show.slide(range(0, 10))
    for _ in range(6):
        show.add()
    show.add((block(70), 1, RED))
    assert show.ids(block(70)) == {2}


def test_objects_that_touch_keep_their_ids() -> None:
    show = Show()
    for n in range(40):
        show.add((block(min(n, 30)), 1, RED), (block(80 - n), -1, BLUE))
    for n in range(40, 51):
        show.add((block(30), 0, RED), (block(80 - n), -1, BLUE))
    left, right = show.ids(block(30) & (np.arange(COLUMNS) < 35)), show.ids(block(36) & (
        np.arange(COLUMNS) > 41))
    assert len(left) == len(right) == 1 and left != right


def test_parts_become_one_object() -> None:
    show = Show()
    parts = np.arange(COLUMNS) % 6 < 3
    for n in range(5):
        show.add((block(10 + n) & np.roll(parts, n), 1, RED))
    show.add((block(15), 1, RED))
    assert len(show.ids(block(15))) == 1


def test_ids_are_not_used_again_after_a_reset() -> None:
    show = Show()
    show.slide(range(5, 15))
    show.objects.reset()
    assert not show.objects.labels.any()
    show.add((block(20), 0, RED))
    assert show.ids(block(20)) == {2}


def test_labels_are_extended_to_the_nearest() -> None:
    labels = np.zeros((4, 6), np.int32)
    assert np.array_equal(nearest(labels), labels)
    labels[1, 0], labels[2, 5] = 3, 7
    assert np.array_equal(nearest(labels)[1], [3, 3, 3, 7, 7, 7])
