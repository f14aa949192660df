# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which earlier maps are kept, by tracking and mapping alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from keyframes_by_hand import keyframe
import pytest
from recon3r_ros.slam.atlas import Atlas
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.scale import ScaleSources
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Map


def atlas(sizes: Sequence[int]) -> Atlas:
    """Make maps with so many keyframes, numbered in this order; the last one is present."""
    out, first = Atlas(ScaleSources()), 0
    for number, size in enumerate(sizes):
        if number:
            out.set_aside()
        out.take(Map({i: keyframe(i) for i in range(first, first + size)}, number=number))
        first += size
    return out


@pytest.mark.parametrize('sizes, most, forgotten', [
    ([3, 2, 4, 9], 9, []),
    ([3, 2, 4, 9], 8, [1]),
    ([3, 2, 4, 9], 7, [1]),
    ([3, 2, 4, 9], 6, [1, 0]),
    ([2, 3, 2, 2, 9], 8, [0]),  # of equal ones the oldest
    ([2, 3, 2, 2, 9], 4, [0, 2, 3]),
    ([3, 4, 2], 1, [0]),  # one that is larger alone stays
    ([5], 1, []),
])
def test_the_smallest_are_forgotten(sizes: list[int], most: int, forgotten: list[int]) -> None:
    known = atlas(sizes)
    before = {m.number: m for m in known.maps}
    gone = known.forget_smallest(most)
    assert gone == [before[number] for number in forgotten]
    assert [m.number for m in known.maps] == [n for n in range(len(sizes)) if n not in forgotten]
    assert known.forget_smallest(most) == []
    assert set(known.earlier_metrics('auto')) == set(range(len(sizes) - 1)) - set(forgotten)


class Calls:
    """An executor that takes note of what it is to run, and runs nothing."""

    in_step = True

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def call(self, method: Callable[..., Any], *args: Any) -> Future[Any]:
        """Take note of a method."""
        self.calls.append((method, *args))
        return Future()

    def close(self) -> None:
        """Do nothing."""


def test_the_mapper_forgets_the_same_maps_without_being_waited_for() -> None:
    executor = Calls()
    system = System(executor=executor)
    system._atlas = atlas([3, 2, 4, 9])
    assert [known.number for known in system.forget_earlier(6)] == [1, 0]
    assert executor.calls == [(Mapper.forget_map, 1), (Mapper.forget_map, 0)]
    assert [known.number for known in system.maps] == [2, 3]
