# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects over time: their identity, and what is left of one that pauses.

An object keeps its id as long as its cells are found where flow leads to. One that was hidden, for
example behind a post, is found again by its colours, its size and its place; where these leave a
doubt it gets a new id.

An object that pauses and background that it uncovered are both static where something was dynamic
a moment ago. As long as the object continues to move elsewhere, it has not paused here. Where it
does not, its cells are held: for not quite as long as it was seen moving, which must be believed
the longer, and no longer than the rest delay.
Colours decide which of the held cells show the object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.boxes import nearest
from recon3r_ros.slam.dynamics.colours import Colours
from recon3r_ros.slam.dynamics.regions import labelled

Map = NDArray[np.float32]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

#: An object moves while it has this share of its largest recent area
GOES_ON = 0.5
#: What a moving object uncovered this many seconds ago is background: masks lag behind
UNCOVERED_S = 0.3
#: Share of a region that must belong to a known object for the two to be the same
SAME = 0.1
#: Seconds for which an object must have moved to be kept apart from another that it touches:
#: younger ones are parts of it
ESTABLISHED_S = 1.0
#: An object is held for this many seconds less than it was seen moving: a flicker is not held
BRIEFER_S = 0.5
#: Seconds for which an object that is not seen is remembered
REMEMBERED_S = 5.0
#: To be found again: Bhattacharyya coefficient of the colours, ratio of the areas, and distance,
#: as a share of the image's width in each second that it was not seen, beside its own size
ALIKE, LARGER, REACH = 0.8, 3.0, 0.3
#: Share of an object's colours that a frame replaces
NEW_COLOURS = 0.1


@dataclass(eq=False)
class _Object:
    """
    A dynamic object.

    :param colours: its histogram
    :param centre: (2,) column and row in the newest frame
    :param seen_s: when it was seen last
    :param moved_for_s: for how long it was seen moving, in all
    :param areas: times and moving cells, not longer ago than the rest delay
    """

    colours: Map
    centre: Array
    seen_s: float
    area: int
    moved_for_s: float = 0.0
    areas: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def goes_on(self) -> bool:
        """Whether it continues to move somewhere."""
        return bool(self.areas) and self.areas[-1][1] >= GOES_ON * max(a for _, a in self.areas)


class Objects:
    """
    Follows the dynamic objects of one camera, frame by frame.

    :param shape: rows and columns of the frames' cells
    :param rest_s: seconds for which an object must pause to become static
    """

    def __init__(self, shape: tuple[int, int], rest_s: float) -> None:
        self._shape = shape
        self._rest_s = rest_s
        self._next = 1
        self.reset()

    def reset(self) -> None:
        """Forget all objects: the next frame shows another scene. Ids are not used again."""
        self._stamp_s, self._step_s = np.nan, 0.0
        self._objects: dict[int, _Object] = {}
        #: Last object in each cell, 0 for none, and when it moved there last
        self._last = np.zeros(self._shape, np.int32)
        self._moved_s = np.full(self._shape, -np.inf)
        #: Object (rows, columns) that each cell shows in the newest frame, 0 for none
        self.labels = np.zeros(self._shape, np.int32)
        self._moving = np.zeros(self._shape, bool)

    def follow(self, before: Map, stamp_s: float) -> Mask:
        """
        Carry the objects to a new frame.

        :param before: (2, rows, columns) column and row of each cell in the previous frame
        :param stamp_s: the new frame's
        :return: (rows, columns) cells of objects that pause
        """
        step_s = stamp_s - self._stamp_s
        self._stamp_s, self._step_s = stamp_s, step_s if step_s > 0 else 0.0
        self._objects = {n: o for n, o in self._objects.items()
                         if stamp_s - o.seen_s <= max(REMEMBERED_S, self._rest_s)}
        if not self._objects:
            return np.zeros(self._shape, bool)
        moved_s, last = (
            cv2.remap(x, before[0], before[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
            for x in (self._moved_s, self._last.astype(np.float32)))
        self._moved_s, self._last = moved_s, last.astype(np.int32)
        for thing in self._objects.values():
            distance = (before[0] - thing.centre[0]) ** 2 + (before[1] - thing.centre[1]) ** 2
            thing.centre = np.array(np.unravel_index(distance.argmin(), self._shape)[::-1], float)
        return self._held(lambda thing: min(
            1.5 * self._step_s if thing.goes_on else self._rest_s,
            thing.moved_for_s - BRIEFER_S))

    def update(self, moving: Mask, paused: Mask, evident: Mask, colours: Colours) -> None:
        """
        Take note of what the new frame shows.

        :param moving: (rows, columns) objects that move
        :param paused: (rows, columns) of the cells that `follow` returned, those that show objects
        :param evident: (rows, columns) cells with evidence of motion of their own; background that
            an object uncovers has none, and would be held for ever beside one that moves
        """
        self._moving = moving
        self._moved_s[moving & evident] = self._stamp_s
        shown = moving | paused
        self.labels = np.zeros_like(self.labels)
        if not (self._objects or shown.any()):
            return
        regions = labelled(shown)
        for region in range(1, int(regions.max()) + 1):
            cells = regions == region
            self.labels[cells] = self._identified(cells, shown, colours)
        self._last[shown] = self.labels[shown]
        for n, thing in self._objects.items():
            self._note(n, thing, colours)
        uncovered = (~moving & (self._moved_s < self._stamp_s - UNCOVERED_S)
                     & self._held(lambda thing: np.inf if thing.goes_on else 0.0))
        self._moved_s[uncovered], self._last[uncovered] = -np.inf, 0

    def unsettled(self) -> Mask:
        """Mask (rows, columns) of dynamic objects, and of all cells where one paused recently."""
        return (self.labels > 0) | self._held(
            lambda thing: 0.0 if thing.goes_on else self._rest_s)

    def _held(self, seconds: Callable[[_Object], float]) -> Mask:
        """Cells (rows, columns) where an object moved less than so many seconds ago."""
        limits = np.zeros(self._next)
        for n, thing in self._objects.items():
            limits[n] = seconds(thing)
        return self._stamp_s - self._moved_s < limits[self._last]

    def _identified(self, cells: Mask, shown: Mask, colours: Colours) -> Labels | int:
        """
        Find the object that a region is, or begin a new one.

        :param cells: (rows, columns) of the region
        :param shown: of all regions
        :return: one for all its cells, or one for each
        """
        share = np.bincount(self._last[cells]) / cells.sum()
        known = [int(n) for n in np.flatnonzero(share >= SAME) if n in self._objects]
        if not known:
            return self._found_again(cells, shown, colours) or self._begun(cells, colours)
        oldest = max(known, key=lambda n: self._objects[n].moved_for_s)
        known = [n for n in known if n == oldest
                 or self._objects[n].moved_for_s >= ESTABLISHED_S]
        return oldest if len(known) == 1 else nearest(
            np.where(cells & np.isin(self._last, known), self._last, 0))[cells]

    def _found_again(self, cells: Mask, shown: Mask, colours: Colours) -> int:
        """Find the object, not seen for a while, that appears in a region; 0 where none does."""
        look, centre, area = colours.distribution(cells), _centre(cells), cells.sum()
        present = set(np.unique(self._last[shown]).tolist())
        alike = {}
        for n, thing in self._objects.items():
            gone_s = self._stamp_s - thing.seen_s
            reach = REACH * self._shape[1] * gone_s + np.sqrt(thing.area)
            if (n not in present and 1 / LARGER < area / thing.area < LARGER
                    and np.linalg.norm(centre - thing.centre) < reach):
                alike[n] = float(np.sqrt(look * thing.colours).sum())
        best = max(alike, key=lambda n: alike[n], default=0)
        return best if best and alike[best] > ALIKE else 0

    def _begun(self, cells: Mask, colours: Colours) -> int:
        """Begin an object."""
        self._objects[self._next] = _Object(
            colours.distribution(cells), _centre(cells), self._stamp_s, int(cells.sum()))
        self._next += 1
        return self._next - 1

    def _note(self, n: int, thing: _Object, colours: Colours) -> None:
        """Take note of an object's cells in the newest frame."""
        cells = self.labels == n
        moving = int((cells & self._moving).sum())
        thing.areas.append((self._stamp_s, moving))
        while thing.areas[0][0] < self._stamp_s - self._rest_s:
            thing.areas.popleft()
        if moving:
            thing.moved_for_s += self._step_s
        if cells.any():
            thing.seen_s, thing.area = self._stamp_s, int(cells.sum())
            thing.centre = _centre(cells)
            thing.colours += NEW_COLOURS * (colours.distribution(cells) - thing.colours)


def _centre(cells: Mask) -> Array:
    """Mean column and row of a mask's cells."""
    return np.argwhere(cells).mean(0)[::-1]
