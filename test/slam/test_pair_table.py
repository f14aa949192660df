# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which directed pairs stay and which go, by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest
from recon3r_ros.slam.pair_table import PairTable


def table() -> PairTable[str]:
    """Pairs of keyframes 0 to 4, some in both directions, in no order of ids."""
    pairs = [(1, 0), (0, 1), (2, 1), (0, 2), (3, 2), (2, 3), (4, 0), (2, 4)]
    return PairTable({(i, j): f'{i}-{j}' for i, j in pairs})


def test_what_a_keyframe_comes_first_in() -> None:
    assert list(table().of(2)) == [(1, '2-1'), (3, '2-3'), (4, '2-4')]
    assert list(table().of(1)) == [(0, '1-0')]
    assert list(table().of(9)) == [] == list(PairTable[str]().of(0))


def test_values_that_are_false_are_values() -> None:
    assert list(PairTable({(0, 1): 0, (0, 2): None}).of(0)) == [(1, 0), (2, None)]


def test_a_copy_is_changed_for_itself() -> None:
    one = PairTable({(0, 1): [1]})
    other = one.copy()
    assert isinstance(other, PairTable) and other == one and other[0, 1] is one[0, 1]
    other[5, 6] = [2]
    other.forget(0)
    assert one == {(0, 1): [1]} and other == {(5, 6): [2]}


def test_a_keyframe_is_forgotten_in_both_directions() -> None:
    known = table()
    known.forget(2)
    assert list(known) == [(1, 0), (0, 1), (4, 0)]
    known.forget(9)
    assert len(known) == 3


@pytest.mark.parametrize('keep, expected', [
    (PairTable.keep_own, [(2, 1), (3, 2), (2, 3), (2, 4)]),
    (PairTable.keep_any, [(2, 1), (0, 2), (3, 2), (2, 3), (2, 4)]),
    (PairTable.keep_both, [(3, 2), (2, 3)])])
def test_what_a_window_keeps(keep: Callable[[PairTable[str], Collection[int]], None],
                             expected: list[tuple[int, int]]) -> None:
    known = table()
    keep(known, {2, 3, 9})
    assert list(known) == expected and known[2, 3] == '2-3'
    keep(known, [])
    assert known == {}


def test_a_window_of_all_keeps_all() -> None:
    known = table()
    for keep in (known.keep_own, known.keep_any, known.keep_both):
        keep(range(5))
        assert known == table() and list(known) == list(table())
