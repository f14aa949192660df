# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Votes of pairs on dynamic objects."""

from __future__ import annotations

import numpy as np
from recon3r_ros.slam.dynamics.edge_votes import EdgeVotes

SHAPE = (96, 128)
CAR = np.s_[40:70, 30:80]


def votes(car: int, rest: int = -1, seed: int = 0, wrong: float = 0.02) -> np.ndarray:
    """Say one thing of the car and one of the rest, with some errors; a third is unknown."""
    rng = np.random.default_rng(seed)
    out = np.full(SHAPE, rest, np.int8)
    out[CAR] = car
    out[rng.random(SHAPE) < wrong] *= -1
    out[rng.random(SHAPE) < 1 / 3] = 0
    return out


def test_one_pair_is_enough_where_it_is_alone() -> None:
    known = EdgeVotes()
    assert known.mask(0) is None
    known.add(0, 1, votes(1))
    mask = known.mask(0)
    assert mask is not None and mask[CAR].mean() > 0.9
    mask[38:72, 28:82] = False
    assert not mask.any()


def test_pairs_along_whose_lines_it_moved_are_outvoted() -> None:
    known = EdgeVotes()
    for n in range(4):
        known.add(0, n + 1, votes(1 if n < 2 else -1, seed=n))
    mask = known.mask(0)
    assert mask is not None and mask[CAR].mean() > 0.9
    for n in range(4, 8):
        known.add(0, n + 1, votes(-1, seed=n))
    mask = known.mask(0)
    assert mask is not None and not mask.any(), 'two of eight are not'


def test_a_pair_that_sees_nearly_everything_move_does_not_vote() -> None:
    known = EdgeVotes()
    known.add(0, 1, votes(1, rest=1))
    assert known.mask(0) is None


def test_votes_leave_with_the_window() -> None:
    known = EdgeVotes()
    known.add(0, 1, votes(1))
    known.add(1, 0, votes(-1))
    before = known.copy()
    known.keep([1])
    assert known.mask(0) is None and known.mask(1) is not None
    assert before.mask(0) is not None
