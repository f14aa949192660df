# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Data of directed pairs of keyframes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

T = TypeVar('T')


class PairTable(dict[tuple[int, int], T]):
    """Values by directed pair of keyframe ids (own, partner), in the order they came in."""

    def copy(self) -> PairTable[T]:
        """Return an independent table of the same values."""
        return PairTable(self)

    def of(self, own: int) -> Iterator[tuple[int, T]]:
        """Iterate over partners and values of the pairs whose first keyframe this is."""
        return ((partner, value) for (i, partner), value in self.items() if i == own)

    def forget(self, i: int) -> None:
        """Drop the pairs that a keyframe is in."""
        self._drop(lambda own, partner: i in (own, partner))

    def keep_own(self, window: Collection[int]) -> None:
        """Keep the pairs whose first keyframe is in the window."""
        self._drop(lambda own, partner: own not in window)

    def keep_any(self, window: Collection[int]) -> None:
        """Keep the pairs that have a keyframe in the window."""
        self._drop(lambda own, partner: own not in window and partner not in window)

    def keep_both(self, window: Collection[int]) -> None:
        """Keep the pairs both keyframes of which are in the window."""
        self._drop(lambda own, partner: own not in window or partner not in window)

    def _drop(self, unwanted: Callable[[int, int], bool]) -> None:
        for pair in [p for p in self if unwanted(*p)]:
            del self[pair]
