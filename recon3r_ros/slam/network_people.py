# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
People whom the model's network finds, in the process that has loaded it.

The mapper owns the network: it is loaded once, and everybody else asks the mapper. In each
keyframe whose people nobody has looked for, it finds them itself before it uses any depth, so that
the map is without people however slow the network is. Other images are searched beside that.
`recon3r run` waits for each. Live cameras do not wait: one image is searched at a time while
no keyframe is under way, and for a share of the time that leaves room for mapping and tracking;
what is found comes late, and optical flow brings it to the newest image (`PeopleMasks`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
import logging
import math
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.backend.executor import Executor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame, Map

_log = logging.getLogger(__name__)
_Found = tuple[NDArray[np.uint16], dict[int, float]] | None

#: Share of the time in which images are searched between keyframes, at most
SHARE = 0.25
#: Seconds until the network is asked again after it could not search, for lack of memory
RETRY_S = 60.0


class NetworkPeople:
    """
    A source of people that waits for the mapper.

    :param executor: of a mapper whose predictor finds people
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def people(self, frame: Frame) -> People | None:
        """
        Find the people in a frame.

        :raises Recon3rError: where the mapping process fails
        """
        found, _ = self._executor.call(Mapper.find_people, frame.image).result()
        return None if found is None else People(*found)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A frame that is being searched, since when, and what comes of it."""

    frame: Frame
    begin: float
    found: Future[tuple[_Found, Map]]


class LatePeople:
    """
    Finds people in as many images of live cameras as there is time for. One thread calls it.

    One image is searched at a time, those of several cameras in turn.

    :param executor: of a mapper whose predictor finds people
    :param clock: seconds
    """

    def __init__(self, executor: Executor, clock: Callable[[], float] = monotonic) -> None:
        self._executor = executor
        self._clock = clock
        self._asked: _Asked | None = None
        #: When the next image may be searched, whose camera's turn it is not, and who waits
        self._due = -math.inf
        self._last = ''
        self._waiting: set[str] = set()

    def ask(self, frame: Frame) -> None:
        """Have a frame searched, if there is time, and it is its camera's turn."""
        now, name = self._clock(), frame.camera_name
        if self._asked is not None or now < self._due:
            self._waiting.add(name)
        elif name == self._last and self._waiting - {name}:
            self._waiting.clear()  # one that has no more images is not waited for twice
        else:
            self._waiting.clear()
            self._last = name
            self._asked = _Asked(
                frame, now, self._executor.call(Mapper.find_people, frame.image))

    def found(self) -> Frame | None:
        """Return the frame that has been searched since the last call, with its people."""
        asked = self._asked
        if asked is None or not asked.found.done():
            return None
        now, self._asked = self._clock(), None
        self._due = asked.begin + (now - asked.begin) / SHARE
        error = asked.found.exception()
        if error is not None:
            _log.warning('people were not looked for in image %s: %s', asked.frame.name, error)
            return None
        people, _ = asked.found.result()
        if people is None:
            self._due = now + RETRY_S
            return None
        return replace(asked.frame, people=People(*people))

    def forget(self) -> None:
        """Drop what is being searched: time or the map has begun anew."""
        self._asked, self._due = None, -math.inf
        self._waiting.clear()
