# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Identities of people over time and cameras, by their places in space.

Detections of an image are assigned to the people known so far by the Hungarian method on the
distance between where a person should be by now and where the box is. Cameras with one map share
the identities: they see the same person at the same place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.people_boxes import PersonBox

Array = NDArray[np.float64]

#: A person who was not seen for longer gets a new identity
OCCLUSION_S = 3.0
#: Greatest distance from the expected place, in heights of the person, and how it grows in a
#: second without a detection: 0.7 m a second for somebody of 1.75 m. Heights, as the unit of
#: length may be unknown.
GATE, GATE_RATE = 0.5, 0.4
#: And how many standard deviations of the place on top
DEVIATIONS = 1.0
#: A velocity is an average over this time, and lasts as long without a detection
MEMORY_S = 0.5
#: Images of one instant, of several cameras, tell no velocity
MIN_STEP_S = 0.01
#: Cost of an assignment that is none
_FORBIDDEN = 1e6


@dataclass(frozen=True, eq=False)
class TrackedPerson:
    """
    A person who is seen in an image.

    :param id: from 1 on, the same as long as the person is followed
    :param box: in the map
    :param velocity: (3,) of the box's centre in the map, a second; 0 until it is known
    """

    id: int
    box: PersonBox
    velocity: Array


@dataclass(frozen=True, eq=False)
class _Track:
    """
    A person known so far.

    :param stamp_ns: of the last detection
    :param height: the greatest that was seen: legs are often hidden
    """

    person: TrackedPerson
    stamp_ns: int
    height: float

    def expected(self, seconds: float) -> Array:
        """Place (3,) by now; nobody keeps up a velocity for long."""
        return self.person.box.centre + self.person.velocity * (
            MEMORY_S * (1 - np.exp(-seconds / MEMORY_S)))

    def cost(self, box: PersonBox, seconds: float) -> float:
        """Distance of a box from the expected place over the greatest allowed one."""
        off = box.centre - self.expected(seconds)
        height = max(self.height, float(box.size[2]))
        sigma = max(np.sqrt(np.trace(b.covariance)) for b in (box, self.person.box))
        gate = (GATE + GATE_RATE * seconds) * height + DEVIATIONS * float(sigma)
        # Across, as hidden legs move the centre up
        return float(np.hypot(off[0], off[1]) / gate) if abs(off[2]) < height else _FORBIDDEN


class PeopleTracks:
    """Follows people; owner of their identities. One thread calls it."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 1
        self._newest_ns = 0

    def update(self, boxes: Sequence[PersonBox], stamp_ns: int) -> list[TrackedPerson]:
        """
        Give the people of an image their identities.

        :param boxes: of an image whose people were looked for, in the map
        :param stamp_ns: of the image; time that goes back by more than an occlusion forgets all
        :return: the people of the image, in the order of `boxes`
        """
        if self._newest_ns - stamp_ns > OCCLUSION_S * 1e9:
            self._tracks, self._newest_ns = [], stamp_ns
        self._newest_ns = max(self._newest_ns, stamp_ns)
        self._tracks = [t for t in self._tracks
                        if self._newest_ns - t.stamp_ns <= OCCLUSION_S * 1e9]
        known = dict(self._assigned(boxes, stamp_ns))
        found = []
        for n, box in enumerate(boxes):
            if n in known:
                track = _continued(self._tracks[known[n]], box, stamp_ns)
                self._tracks[known[n]] = track
            else:
                track = _Track(TrackedPerson(self._next, box, np.zeros(3)), stamp_ns,
                               float(box.size[2]))
                self._tracks.append(track)
                self._next += 1
            found.append(track.person)
        return found

    def _assigned(self, boxes: Sequence[PersonBox], stamp_ns: int) -> list[tuple[int, int]]:
        """Pairs of a box and a track that are one person."""
        if not boxes or not self._tracks:
            return []
        # Not before there are people: it takes time to load
        from scipy.optimize import linear_sum_assignment
        costs = np.array([[track.cost(box, abs(stamp_ns - track.stamp_ns) * 1e-9)
                           for track in self._tracks] for box in boxes])
        costs[costs > 1] = _FORBIDDEN
        rows, columns = linear_sum_assignment(costs)
        return [(n, m) for n, m in zip(rows.tolist(), columns.tolist()) if costs[n, m] <= 1]


def _continued(track: _Track, box: PersonBox, stamp_ns: int) -> _Track:
    """Return a track with one more detection."""
    passed, before = (stamp_ns - track.stamp_ns) * 1e-9, track.person
    velocity = before.velocity
    if passed > MIN_STEP_S:
        gain = passed / (passed + MEMORY_S)
        velocity = (1 - gain) * velocity + gain * (box.centre - before.box.centre) / passed
    return _Track(replace(before, box=box, velocity=velocity), max(stamp_ns, track.stamp_ns),
                  max(track.height, float(box.size[2])))
