# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A sequence whose people are excluded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from recon3r_ros.io.base import Sequence
from recon3r_ros.io.masks import Wrapped
from recon3r_ros.slam.people import PeopleMasks, PeopleSource
from recon3r_ros.slam.types import Frame


class PeopleSequence(Wrapped):
    """
    A sequence with the people of a source, who are part of the frames' masks.

    :param sequence: the images
    :param source: of people
    """

    def __init__(self, sequence: Sequence, source: PeopleSource) -> None:
        super().__init__(sequence)
        self._source = source

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames; each time as if it were the first."""
        masks: defaultdict[str, PeopleMasks] = defaultdict(PeopleMasks)
        for frame in self._sequence:
            yield masks[frame.camera_name].masked(
                replace(frame, people=self._source.people(frame)))
