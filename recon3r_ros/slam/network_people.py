# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
People whom the model's network finds, in the process that has loaded it.

The mapper owns the network: it is loaded once, and everybody else asks the mapper. In each
keyframe whose people nobody has looked for, it finds them itself before it uses any depth, so that
the map is without people however slow the network is. Other images are searched beside that.
`recon3r run` waits for each. A camera does not wait: its images are searched one at a time while
no keyframe is under way, and for a share of the time that leaves room for mapping and tracking;
what is found comes late, and optical flow brings it to the newest image (`PeopleMasks`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
import logging
from time import monotonic

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.backend.executor import Executor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame, Map

_log = logging.getLogger(__name__)
_Found = tuple[NDArray[np.uint16], dict[int, float]] | None

#: Share of the time in which a camera's images are searched between keyframes, at most
SHARE = 0.25


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
    Finds people in as many images of a live camera as there is time for. One thread calls it.

    :param executor: of a mapper whose predictor finds people
    :param clock: seconds
    """

    def __init__(self, executor: Executor, clock: Callable[[], float] = monotonic) -> None:
        self._executor = executor
        self._clock = clock
        #: By camera: what is being searched, and when the next image may be
        self._asked: dict[str, _Asked] = {}
        self._due: dict[str, float] = {}

    def ask(self, frame: Frame) -> None:
        """Have a frame searched, unless one of its camera is being searched, or was just now."""
        now, name = self._clock(), frame.camera_name
        if name in self._asked or now < self._due.get(name, now):
            return
        self._asked[name] = _Asked(
            frame, now, self._executor.call(Mapper.find_people, frame.image))

    def found(self) -> list[Frame]:
        """Return the frames that have been searched since the last call, with their people."""
        frames = []
        for name, asked in list(self._asked.items()):
            if not asked.found.done():
                continue
            del self._asked[name]
            self._due[name] = asked.begin + (self._clock() - asked.begin) / SHARE
            error = asked.found.exception()
            if error is not None:
                _log.warning('people were not looked for in image %s: %s', asked.frame.name, error)
                continue
            people, _ = asked.found.result()
            if people is not None:
                frames.append(replace(asked.frame, people=People(*people)))
        return frames

    def forget(self) -> None:
        """Drop what is being searched: time or the map has begun anew."""
        self._asked.clear()
        self._due.clear()
