# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects in keyframes, by votes of the pairs they were predicted in.

A pair votes for pixels whose matches no depth explains (MonST3R, section 3.3; Easi3R, equation
11). One pair may be wrong, and does not observe motion along its epipolar lines: all pairs of the
window vote.
"""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.regions import large_regions
from recon3r_ros.slam.pair_table import PairTable

Mask = NDArray[np.bool_]
Votes = NDArray[np.int8]

#: A pair with more than this share of its matches dynamic has a wrong relative pose
MAX_SHARE = 0.6
#: Share of the votes around a pixel that must be dynamic, and the extent of that neighbourhood,
#: share of the image's width
MAJORITY, AROUND = 0.3, 0.02
#: Share of the pixels of the neighbourhood that must have a vote
MIN_VOTES = 0.1
#: Regions of a smaller share of the image are errors of matching
MIN_REGION = 0.004


class EdgeVotes:
    """Votes of directed pairs on their first keyframe."""

    def __init__(self) -> None:
        self._known: PairTable[Votes] = PairTable()

    def copy(self) -> EdgeVotes:
        """Return an independent copy."""
        out = EdgeVotes()
        out._known = self._known.copy()
        return out

    def add(self, i: int, partner: int, votes: Votes) -> None:
        """Add the votes (H, W) on keyframe i by its pair with a partner: see `Prediction`."""
        matched = int((votes != 0).sum())
        if matched and int((votes > 0).sum()) < MAX_SHARE * matched:
            self._known[i, partner] = votes

    def forget(self, i: int) -> None:
        """Drop a keyframe."""
        self._known.forget(i)

    def keep(self, window: Collection[int]) -> None:
        """Drop all keyframes but these."""
        self._known.keep_own(window)

    def mask(self, i: int) -> Mask | None:
        """Return dynamic objects in a keyframe (H, W); None without votes."""
        votes = [v for _, v in self._known.of(i)]
        if not votes:
            return None
        moving, known = np.zeros((2, *votes[0].shape), np.uint16)
        for vote in votes:
            moving += vote > 0
            known += vote != 0
        radius = max(1, round(AROUND * known.shape[1]))
        size = (2 * radius + 1,) * 2
        for_it, all_votes = (cv2.boxFilter(v, cv2.CV_32F, size) for v in (moving, known))
        found = (for_it > MAJORITY * all_votes) & (all_votes > MIN_VOTES)
        return large_regions(found, MIN_REGION)
