# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Images of one instant from the cameras of a rig, by their stamps.

Waiting is bounded. An image goes on without a partner that cannot come any more (its camera has
sent a newer one), that is not due (its camera is slower), that has stayed away several times, or
that is late. A constant difference of stamps is measured and named; it is corrected only by the
offset that the user gives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

T = TypeVar('T')

#: Greatest distance of stamps in a bundle, and how much newer an image may be, by stamp or by
#: arrival, before an incomplete bundle is released
TOLERANCE_NS, PATIENCE_NS = 5_000_000, 60_000_000
#: Bundles in a row without a camera after which it is not waited for, until it sends again
ABSENT_AFTER = 3
#: Images of a camera that offset and period are measured on, and least number for that
HISTORY, LEAST = 40, 10
#: A difference of stamps with a smaller median deviation is constant
CONSTANT_NS = 1_500_000
#: Stamps of cameras with one trigger agree to this; then they are believed, whatever the arrivals
TRIGGERED_NS = 1_000_000
#: A camera's stamps that go back by more have jumped: a recording is played again
JUMP_NS = 1_000_000_000


@dataclass(frozen=True, eq=False)
class Bundle(Generic[T]):
    """
    What the cameras of a rig saw at one instant.

    :param stamp_ns: of its first image, as stamped, without a given offset
    :param items: by camera; not all need be there
    """

    stamp_ns: int
    items: Mapping[str, T]


@dataclass(frozen=True)
class Offset:
    """
    Difference of the stamps of two cameras that does not change.

    :param nearest_ns: stamp of the other camera minus the nearest one of the first, the median
    :param together_ns: the same of images that arrive together; None where arrivals do not tell
    """

    nearest_ns: int
    together_ns: int | None = None

    @property
    def contradictory(self) -> bool:
        """Whether images with near stamps arrive apart: they may be neighbouring instants."""
        return (self.together_ns is not None and abs(self.nearest_ns) > TRIGGERED_NS
                and abs(self.together_ns - self.nearest_ns) > CONSTANT_NS)

    @property
    def ns(self) -> int:
        """What the stamps are off by, most likely."""
        if self.contradictory and self.together_ns is not None:
            return self.together_ns
        return self.nearest_ns


@dataclass(frozen=True)
class BundleCounts:
    """
    Counts of a rig so far.

    :param complete: bundles with an image of every camera
    :param without: bundles that a camera is missing in
    :param offsets: of each camera but the first, where constant
    """

    complete: int
    without: Mapping[str, int]
    offsets: Mapping[str, Offset]


@dataclass(eq=False)
class _Open(Generic[T]):
    """A bundle that waits: stamps are corrected ones."""

    stamp_ns: int
    original_ns: int
    arrival_ns: int
    items: dict[str, T] = field(default_factory=dict)


@dataclass(eq=False)
class _Seen:
    """The last images of a camera: corrected stamps and arrivals."""

    stamps_ns: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY))
    arrivals_ns: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY))
    missing: int = 0

    @property
    def period_ns(self) -> float | None:
        """Median time between images; None where too few came."""
        if len(self.stamps_ns) < LEAST:
            return None
        stamps = sorted(self.stamps_ns)
        return median(b - a for a, b in zip(stamps, stamps[1:]))


class Bundler(Generic[T]):
    """
    Groups the images of a rig; of each camera they come in the order of their stamps.

    :param cameras: names, the first one is what offsets refer to
    :param tolerance_ns: greatest distance of stamps in a bundle
    :param patience_ns: how much newer an image may be before an incomplete bundle is released
    :param corrections_ns: what is added to the stamps of a camera before they are compared
    """

    def __init__(self, cameras: tuple[str, ...], tolerance_ns: int = TOLERANCE_NS,
                 patience_ns: int = PATIENCE_NS,
                 corrections_ns: Mapping[str, int] | None = None) -> None:
        self._cameras = cameras
        self._tolerance_ns = tolerance_ns
        self._patience_ns = patience_ns
        self._corrections_ns = dict(corrections_ns or {})
        self._open: list[_Open[T]] = []
        self._seen = {name: _Seen() for name in cameras}
        self._offsets: dict[str, Offset] = {}
        self._measured: set[str] = set()
        self._count = 0
        self._complete = 0
        self._without = dict.fromkeys(cameras, 0)

    @property
    def counts(self) -> BundleCounts:
        """Counts so far."""
        return BundleCounts(self._complete, dict(self._without), dict(self._offsets))

    def is_absent(self, camera: str) -> bool:
        """Tell whether a camera has stayed away several times, and is not waited for."""
        return self._seen[camera].missing >= ABSENT_AFTER

    def add(self, camera: str, stamp_ns: int, item: T, arrival_ns: int) -> list[Bundle[T]]:
        """
        Add an image.

        :param stamp_ns: of its header
        :param arrival_ns: when it came, by a clock that never jumps
        :return: bundles that are released by it, in the order of their stamps
        """
        corrected_ns = stamp_ns + self._corrections_ns.get(camera, 0)
        released = self._note(camera, corrected_ns, arrival_ns)
        chosen = self._partner(camera, corrected_ns)
        if chosen is None:
            chosen = _Open(corrected_ns, stamp_ns, arrival_ns)
            self._open.append(chosen)
            self._open.sort(key=lambda waiting: waiting.stamp_ns)
        elif camera == self._cameras[0]:
            chosen.original_ns = stamp_ns
        chosen.items[camera] = item
        return released + self._release(arrival_ns)

    def poll(self, arrival_ns: int) -> list[Bundle[T]]:
        """
        Return the bundles that have waited for too long, though no image came.

        :param arrival_ns: the present time, by the clock of arrivals
        """
        return self._release(arrival_ns)

    def flush(self) -> list[Bundle[T]]:
        """Return what waits: no image will follow."""
        released = [self._closed(waiting) for waiting in self._open]
        self._open = []
        return released

    def _note(self, camera: str, stamp_ns: int, arrival_ns: int) -> list[Bundle[T]]:
        """Record stamp and arrival; after a jump back release what was before it."""
        seen = self._seen[camera]
        released = []
        if seen.stamps_ns and stamp_ns < seen.stamps_ns[-1] - JUMP_NS:
            # Others may have jumped already: what is in their new time stays
            later = [w for w in self._open if w.stamp_ns > stamp_ns + JUMP_NS]
            self._open = [w for w in self._open if w.stamp_ns <= stamp_ns + JUMP_NS]
            released = [self._closed(waiting) for waiting in later]
            self._seen[camera] = seen = _Seen()
            self._offsets.clear()
            self._measured.clear()
        seen.stamps_ns.append(stamp_ns)
        seen.arrivals_ns.append(arrival_ns)
        seen.missing = 0
        self._count += 1
        if self._count % LEAST == 0:
            self._measure()
        return released

    def _measure(self) -> None:
        first = self._seen[self._cameras[0]]
        found = {name: _offset(first, self._seen[name]) for name in self._cameras[1:]}
        self._offsets = {name: offset for name, offset in found.items() if offset is not None}
        self._measured = {name for name in self._cameras[1:]
                          if _enough(first, self._seen[name])}

    def _partner(self, camera: str, stamp_ns: int) -> _Open[T] | None:
        """Return the waiting bundle nearest in time that the camera is missing in."""
        near = [w for w in self._open if camera not in w.items
                and abs(w.stamp_ns - stamp_ns) <= self._tolerance(camera, w)]
        return min(near, key=lambda w: abs(w.stamp_ns - stamp_ns), default=None)

    def _tolerance(self, camera: str, waiting: _Open[T]) -> int:
        """
        Return how far stamps may be apart; -1 where they cannot be of one instant.

        Those that differ slightly could also be of neighbouring images, by an offset of nearly a
        period: arrivals have to tell first.
        """
        names = [n for n in (camera, *waiting.items) if n != self._cameras[0]]
        if any(self._unpairable(name) for name in names):
            return -1
        known = self._measured.issuperset(names)
        return self._tolerance_ns if known else min(TRIGGERED_NS, self._tolerance_ns)

    def _unpairable(self, other: str) -> bool:
        """Tell whether the offset of a camera forbids pairs with the first one."""
        offset = self._offsets.get(other)
        return offset is not None and (
            offset.contradictory or abs(offset.nearest_ns) > self._tolerance_ns)

    def _release(self, now_ns: int) -> list[Bundle[T]]:
        """Close what need not wait, and all that is older: bundles keep their order."""
        last = max((i for i, waiting in enumerate(self._open)
                    if not self._waits(waiting, now_ns)), default=-1)
        due, self._open = self._open[:last + 1], self._open[last + 1:]
        return [self._closed(waiting) for waiting in due]

    def _waits(self, waiting: _Open[T], now_ns: int) -> bool:
        newest_ns = max(s.stamps_ns[-1] for s in self._seen.values() if s.stamps_ns)
        if (0 < newest_ns - waiting.stamp_ns - self._patience_ns < JUMP_NS
                or now_ns - waiting.arrival_ns > self._patience_ns):
            return False
        return any(self._may_come(name, waiting.stamp_ns) for name in self._cameras
                   if name not in waiting.items and self._tolerance(name, waiting) >= 0)

    def _may_come(self, camera: str, stamp_ns: int) -> bool:
        """Tell whether an image of a camera for this stamp is to be expected."""
        seen = self._seen[camera]
        if self.is_absent(camera):
            return False
        if not seen.stamps_ns:
            return True
        last_ns, period_ns = seen.stamps_ns[-1], seen.period_ns
        if 0 <= last_ns - stamp_ns < JUMP_NS:
            return False
        # Its next image is due later: a slower camera
        return period_ns is None or last_ns + 0.75 * period_ns <= stamp_ns + self._tolerance_ns

    def _closed(self, waiting: _Open[T]) -> Bundle[T]:
        missing = [name for name in self._cameras if name not in waiting.items]
        self._complete += not missing
        for name in missing:
            self._without[name] += 1
            seen = self._seen[name]
            # An image that was not due is no sign that the camera is gone
            seen.missing += self._may_come(name, waiting.stamp_ns)
        return Bundle(waiting.original_ns, dict(waiting.items))


def _offset(first: _Seen, other: _Seen) -> Offset | None:
    """Return the constant difference of stamps; None where there is none, or too few came."""
    if not _enough(first, other):
        return None
    nearest = _constant(_mutual(list(first.stamps_ns), list(other.stamps_ns)))
    if nearest is None:
        return None
    arrived = _pairs(list(first.arrivals_ns), list(other.arrivals_ns))
    together = _constant([other.stamps_ns[j] - first.stamps_ns[i] for i, j in arrived])
    return Offset(nearest, together)


def _enough(first: _Seen, other: _Seen) -> bool:
    """Whether an offset can be measured: the newest images may lack their partners yet."""
    return min(len(first.stamps_ns), len(other.stamps_ns)) >= LEAST + 3


def _pairs(first: list[int], other: list[int]) -> list[tuple[int, int]]:
    """Return indices of elements that are nearest to each other, but not the newest ones."""
    if not first or not other:
        return []
    of_first = [min(range(len(other)), key=lambda j: abs(other[j] - a)) for a in first]
    of_other = [min(range(len(first)), key=lambda i: abs(first[i] - b)) for b in other]
    end = min(first[-1], other[-1])
    return [(i, j) for i, j in enumerate(of_first)
            if of_other[j] == i and max(first[i], other[j]) <= end]


def _mutual(first: list[int], other: list[int]) -> list[int]:
    return [other[j] - first[i] for i, j in _pairs(first, other)]


def _constant(differences: list[int]) -> int | None:
    """Return the median of differences that hardly vary; None of others, or of too few."""
    if len(differences) < LEAST:
        return None
    middle = median(differences)
    spread = median(abs(d - middle) for d in differences)
    return round(middle) if spread <= CONSTANT_NS else None
