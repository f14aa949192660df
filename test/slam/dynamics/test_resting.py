# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Objects at rest and uncovered background: a block that slides over a background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.resting import Resting, UNCOVERED_S

ROWS, COLUMNS, SIDE, RATE = 30, 90, 10, 30.0
REST_S = 0.5
Mask = NDArray[np.bool_]


def block(column: int) -> Mask:
    """Cells of the block."""
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[10:10 + SIDE, max(column, 0):max(column + SIDE, 0)] = True
    return mask


def before(mask: Mask, step: int) -> NDArray[np.float32]:
    """Where the cells were in the previous frame: the block came from the left."""
    x, y = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    return np.stack([x - step * mask, y]).astype(np.float32)


def slide(resting: Resting, columns: list[int], begin: float = 0.0) -> float:
    """Show the block at these columns, frame by frame, moving; return the last frame's time."""
    for n, column in enumerate(columns):
        mask = block(column)
        step = column - columns[n - 1] if n else 0
        resting.update(mask, before(mask, step), begin + n / RATE)
    return begin + (len(columns) - 1) / RATE


def stand(resting: Resting, frames: int, begin: float) -> list[Mask]:
    """Show frames in which nothing moves; what is unsettled in each."""
    nothing, found = np.zeros((ROWS, COLUMNS), bool), []
    for n in range(1, frames + 1):
        resting.update(nothing, before(nothing, 0), begin + n / RATE)
        found.append(resting.unsettled(begin + n / RATE))
    return found


def test_what_a_moving_thing_uncovers_was_always_there() -> None:
    resting = Resting((ROWS, COLUMNS), REST_S)
    last = slide(resting, list(range(5, 45)))
    assert np.array_equal(resting.unsettled(last), block(44))


def test_what_comes_to_rest_waits() -> None:
    resting = Resting((ROWS, COLUMNS), REST_S)
    last = slide(resting, list(range(5, 45)))
    found = stand(resting, 20, last)
    for n, mask in enumerate(found, 1):
        waits = n / RATE < REST_S - 1e-6
        assert (mask[block(44)] == waits).all()
        trail = block(44 - int(UNCOVERED_S * RATE) - 2) & ~block(44)
        assert not mask[trail & ~block(44 - int(UNCOVERED_S * RATE))].any()
    assert found[0].any() and not found[-1].any()


def test_one_rests_while_another_goes_on() -> None:
    resting = Resting((ROWS, COLUMNS), REST_S)
    x, y = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    for n in range(40):
        upper = np.zeros((ROWS, COLUMNS), bool)
        upper[2:8, 2 * n:2 * n + 8] = True
        lower = np.zeros((ROWS, COLUMNS), bool)
        column = min(n, 32)
        lower[15:25, column:column + SIDE] = True
        moving = upper | (lower & (n <= 32))
        resting.update(moving, np.stack([x - 2 * upper - (lower & (n <= 32)), y]).astype(
            np.float32), n / RATE)
    found = resting.unsettled(39 / RATE)
    assert found[lower].all(), 'the lower one has stood for a fifth of a second'
    assert np.array_equal(found[:10], upper[:10]), 'the upper one leaves nothing behind'


def test_a_flicker_of_the_mask_is_no_rest_for_good() -> None:
    resting = Resting((ROWS, COLUMNS), REST_S)
    last = slide(resting, list(range(5, 35)))
    stand(resting, 2, last)
    last = slide(resting, list(range(35, 65)), last + 3 / RATE)
    assert np.array_equal(resting.unsettled(last), block(64))
