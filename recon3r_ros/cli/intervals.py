# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images in a row without a pose, and why they have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

#: Intervals that are named one by one
NAMED = 5
#: Causes: of an image that had a pose and has none any more, and where none was measured
DROPPED = 'its pose disagreed with the other images in the end'
UNKNOWN = 'unknown cause'


@dataclass(frozen=True)
class Interval:
    """
    Images in a row without a pose.

    :param first: file name of the first one
    :param last: of the last one
    :param images: how many
    :param cause: the most frequent one
    """

    first: str
    last: str
    images: int
    cause: str

    @property
    def text(self) -> str:
        """One line for the user."""
        names = self.first if self.images == 1 else (
            f'{self.first} to {self.last} ({self.images} images)')
        return f'{names}: {self.cause}'


def intervals(names: Mapping[int, str], posed: Collection[int], causes: Mapping[int, str]
              ) -> list[Interval]:
    """
    Find the images without a pose.

    :param names: of all images, by their index, in order
    :param posed: indices of those with a pose
    :param causes: why the others had none when they were processed; '' where that is unknown
    """
    found = []
    run: list[int] = []

    def close() -> None:
        if run:
            cause, _ = Counter(causes.get(i) or UNKNOWN for i in run).most_common(1)[0]
            found.append(Interval(names[run[0]], names[run[-1]], len(run), cause))
            run.clear()

    for i in names:
        if i in posed:
            close()
        else:
            run.append(i)
    close()
    return found


def lines(found: list[Interval]) -> Iterator[str]:
    """Yield warnings: the longest intervals, and how many others there are."""
    longest = sorted(found, key=lambda x: -x.images)
    for interval in longest[:NAMED]:
        yield f'no pose: {interval.text}'
    others = longest[NAMED:]
    if others:
        yield (f'no pose: {sum(x.images for x in others)} more images in {len(others)} intervals, '
               'which report.json lists')
