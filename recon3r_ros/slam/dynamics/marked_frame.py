# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A frame of which more will be known some frames later: where its cells are by then.

Steps from frame to frame are kept, and composed only when something is looked up: that costs
nothing for a keyframe of which nothing comes back.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics import evidence

Map = NDArray[np.float32]

#: Frames for which one is followed: errors of flow add up
MAX_STEPS = 60
#: Position of what was not in view: cells beyond any image
OUT_OF_VIEW = -1e4


class MarkedFrame:
    """
    Follows the cells of one frame to those after it.

    :param index: of the frame
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self._steps: list[Map] = []

    def follow(self, before: Map) -> bool:
        """
        Go on to the next frame.

        :param before: (2, rows, columns) where its previous frame saw its cells, in cells
        :return: whether the marked frame is still recent
        """
        self._steps.append(before)
        return len(self._steps) <= MAX_STEPS

    def in_newest(self, field: Map) -> Map:
        """
        Bring a field of the marked frame to the newest one.

        :param field: (rows, columns) of the marked frame's cells
        :return: (rows, columns) of the newest one's cells; 0 where the marked one did not see them
        """
        if not self._steps:
            return field
        places = self._steps[-1]
        for step in self._steps[-2::-1]:
            places = np.stack([_looked_up(of, places, OUT_OF_VIEW) for of in step])
        return _looked_up(field, places, 0.0)


def _looked_up(field: Map, places: Map, outside: float) -> Map:
    """
    Interpolate a field (rows, columns).

    :param places: (2, rows, columns) column and row of its cells
    :param outside: value around the field
    """
    out = np.empty(field.shape, np.float32)
    evidence.interpolate(
        cv2.copyMakeBorder(field, *evidence.BORDER, cv2.BORDER_CONSTANT, value=outside),
        places, out)
    return out
