# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Cuts: where a video goes on with another scene.

Two images are compared as thumbnails, in blocks: each textured block of one is searched in the
other around its place, by normalised cross-correlation, so that neither brightness nor moderate
motion matters. Their similarity is what the best 40 % of the blocks exceed: an object may cover
half of the image from one frame to the next.

A cut is a jump between two smooth passages. It takes all of these:

- the last frame before and each of the first two after are less similar than `UNRELATED`, as 19
  of 20 pairs of unrelated scenes are;
- no half of those two is found anywhere in the frame before, as after a jump that leaves some
  overlap;
- they differ `JUMP` times as much as any two consecutive frames of those around: the three steps
  before, and the one after. A camera whose images always differ, as stills or fast motion, thus
  never has a cut, and a single bad image is none, because it is not similar to the next one.

In recordings of one scene, with up to four of five frames dropped, no jump to so low a similarity
was larger than twice the steps around it; between videos that were joined, the median is six
times. A cut that is missed costs little, since tracking is lost by itself, but a false one costs a
camera that is tracked.

The second frame after a cut decides. The first is `Scene.UNCERTAIN`, and best left alone.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from itertools import islice, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.frontend.thumbnails import (
    COLUMNS,
    Match,
    matches,
    ROWS,
    textured,
    thumbnail,
)

Gray = NDArray[np.uint8]

#: Textured blocks below which an image is not compared
MIN_BLOCKS = 4
#: Quantile of the blocks' correlations that is the similarity of two images
QUANTILE = 0.6
#: Similarity that most unrelated scenes do not reach
UNRELATED = 0.67
#: Correlation of half of an image, anywhere in an earlier one, that unrelated scenes rarely reach
HALF = 0.7
#: How much more the frames at a cut differ than those before and after
JUMP = 2.5
#: Frames before a cut that are compared
BEFORE = 4
#: Blocks that decide on the similarity
ENOUGH = round((1 - QUANTILE) * ROWS * COLUMNS)


class Scene(Enum):
    """The scene of a frame, compared with the frame before."""

    SAME = 'same'
    UNCERTAIN = 'uncertain'
    NEW = 'new'


class CutDetector:
    """Finds cuts in the video of one camera."""

    def __init__(self) -> None:
        self._recent: deque[Gray] = deque(maxlen=BEFORE)
        self._uncertain: Gray | None = None
        #: Blocks of the newest frame that were found in the one before, as many as are needed
        self.found: list[Match] = []

    def add(self, gray: Gray) -> Scene:
        """
        Compare a frame with those before.

        :param gray: (H, W) image
        :return: UNCERTAIN for a frame that is either a single bad one or the first of a new
            scene; NEW for the one after it, where that was so
        """
        view = thumbnail(gray)
        self.found = []
        if textured(view).sum() < MIN_BLOCKS:
            return Scene.SAME
        if self._recent:
            good = (m for m in matches(self._recent[-1], view) if m.correlation >= UNRELATED)
            self.found = list(islice(good, ENOUGH))
        first, self._uncertain = self._uncertain, None
        if first is None:
            if self._jump(view) is None:
                self._recent.append(view)
                return Scene.SAME
            self._uncertain = view
            return Scene.UNCERTAIN
        jump = self._jump(view)
        if jump is not None and jump > JUMP * _difference(first, view):
            self._recent.clear()
            self._recent += [first, view]
            return Scene.NEW
        if jump is not None:
            self._recent.append(first)
        self._recent.append(view)
        return Scene.SAME

    def _jump(self, view: Gray) -> float | None:
        """Difference to the newest frame, where it is like that to another scene; else None."""
        # So many blocks correlate that the others need not be looked at
        if len(self._recent) < BEFORE or len(self.found) == ENOUGH:
            return None
        jump = _difference(self._recent[-1], view)
        smooth = 1 - jump < UNRELATED and all(
            jump > JUMP * _difference(*step) for step in pairwise(self._recent))
        return jump if smooth and not _overlap(self._recent[-1], view) else None


def similarity(then: Gray, now: Gray) -> float:
    """
    Similarity of two thumbnails: 1 for equal ones, 0 where nothing correlates.

    :param now: textured, or nothing of it can be found
    """
    return float(np.quantile([m.correlation for m in matches(then, now)] or [0.0], QUANTILE))


def _difference(then: Gray, now: Gray) -> float:
    return 1 - similarity(then, now)


def _overlap(then: Gray, now: Gray) -> bool:
    """Whether half of a thumbnail is found anywhere in an earlier one."""
    height, width = now.shape
    halves = (now[:, :width // 2], now[:, width // 2:], now[:height // 2], now[height // 2:])
    return any(cv2.matchTemplate(then, half, cv2.TM_CCOEFF_NORMED).max() > HALF
               for half in halves)
