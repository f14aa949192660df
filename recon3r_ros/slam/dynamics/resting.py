# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Tells dynamic objects that came to rest from background that they uncovered.

Both are static where something was dynamic a moment ago. An object that came to rest is excluded
from the map until it has rested for a while; uncovered background was always static. As long as
the object continues to move elsewhere, it has not come to rest here.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.regions import labelled

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: An object moves while it has this share of its largest recent area
GOES_ON = 0.5
#: What a moving object uncovered this many seconds ago is background: masks lag behind
UNCOVERED_S = 0.3
#: Share of a dynamic region that must belong to a known object for the two to be the same
SAME = 0.1


class Resting:
    """
    Follows dynamic objects, frame by frame.

    :param shape: rows and columns of the frames' cells
    :param rest_s: seconds for which a dynamic object must stand still
    """

    def __init__(self, shape: tuple[int, int], rest_s: float) -> None:
        self._rest_s = rest_s
        self._moving = np.zeros(shape, bool)
        self._moved_s = np.full(shape, -np.inf)
        # Last object in each cell, 0 for none; recent areas of each
        self._thing = np.zeros(shape, np.int32)
        self._areas: dict[int, deque[tuple[float, int]]] = {}
        self._next = 1

    def update(self, moving: Mask, before: Map, stamp_s: float) -> None:
        """
        Add a frame.

        :param moving: (h, w) dynamic objects in it
        :param before: (2, h, w) column and row of each cell in the previous frame
        :param stamp_s: its time
        """
        self._moving = moving
        if self._rest_s <= 0 or not (moving.any() or self._thing.any()):
            return  # nothing has to rest
        moved_s, thing = (cv2.remap(x, before[0], before[1], cv2.INTER_NEAREST,
                                    borderMode=cv2.BORDER_REPLICATE)
                          for x in (self._moved_s, self._thing.astype(np.float32)))
        self._thing = thing.astype(np.int32)
        self._moved_s = np.where(moving, stamp_s, moved_s)
        regions = labelled(moving)
        count = int(regions.max()) + 1
        now: dict[int, int] = {}
        for region in range(1, count):
            cells = regions == region
            which = self._same(cells)
            self._thing[cells] = which
            now[which] = now.get(which, 0) + int(cells.sum())
        for which in {*now, *self._areas}:
            self._areas.setdefault(which, deque()).append((stamp_s, now.get(which, 0)))
        for which, areas in list(self._areas.items()):
            while areas and areas[0][0] < stamp_s - self._rest_s:
                areas.popleft()
            if not any(area for _, area in areas):
                del self._areas[which]
        uncovered = ~moving & self._goes_on() & (self._moved_s < stamp_s - UNCOVERED_S)
        self._moved_s[uncovered], self._thing[uncovered] = -np.inf, 0

    def unsettled(self, stamp_s: float) -> Mask:
        """Mask (h, w) of dynamic objects, and of those that stopped recently."""
        recent = self._moved_s > stamp_s - self._rest_s
        return self._moving | (recent & ~self._goes_on())

    def _goes_on(self) -> Mask:
        """Mask (h, w) of objects that continue to move somewhere."""
        moves = np.zeros(self._next, bool)
        for which, areas in self._areas.items():
            moves[which] = areas[-1][1] >= GOES_ON * max(area for _, area in areas)
        return np.asarray(moves[self._thing])

    def _same(self, cells: Mask) -> int:
        """Find the object that a dynamic region (h, w) belongs to, or begin a new one."""
        known = np.bincount(self._thing[cells])
        known[:1] = 0
        if known.max(initial=0) >= SAME * cells.sum():
            return int(known.argmax())
        self._next += 1
        return self._next - 1
