# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects in the keyframes of the window, from all sources of evidence.

The detector and the user give a mask when a keyframe is added; pairs vote on it, and attention
contributes, as long as the keyframe is in the window.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
import copy
from dataclasses import replace
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.errors import Recon3rError
from recon3r_ros.slam.dynamics import segmentation  # noqa: F401  loads before a keyframe needs it
from recon3r_ros.slam.dynamics.attention_motion import AttentionMotion
from recon3r_ros.slam.dynamics.detector import keyframe_mask
from recon3r_ros.slam.dynamics.edge_votes import EdgeVotes
from recon3r_ros.slam.dynamics.mask_refinement import refined
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.types import Keyframe, Pair

_log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]

#: Share of a keyframe that must become dynamic, or static, for its mask to change
MIN_CHANGE = 0.005


class KeyframeMotion:
    """
    Masks of keyframes and the evidence for them.

    :param config: how dynamic objects are handled
    """

    def __init__(self, config: MotionConfig) -> None:
        self._config = config
        self._votes = EdgeVotes()
        self._attention = AttentionMotion(config.offline)
        self._given: dict[int, Mask] = {}
        self._found: dict[int, Mask] = {}
        #: Dynamic objects (H, W) by attention in the newest keyframe; None without a network's
        self.attended: Mask | None = None

    def copy(self) -> KeyframeMotion:
        """Return an independent copy."""
        out = copy.copy(self)
        out._votes, out._attention = self._votes.copy(), self._attention.copy()
        out._given, out._found = dict(self._given), dict(self._found)
        return out

    def keep(self, window: Collection[int]) -> None:
        """Drop all keyframes but these."""
        self._votes.keep(window)
        self._attention.keep(window)
        self._given = {i: m for i, m in self._given.items() if i in window}
        self._found = {i: m for i, m in self._found.items() if i in window}

    def forget(self, i: int) -> None:
        """Drop a keyframe."""
        self._votes.forget(i)
        self._attention.forget(i)
        self._given.pop(i, None)
        self._found.pop(i, None)

    def give(self, keyframe: Keyframe, features: NDArray[np.float32] | None) -> None:
        """Add a keyframe with its mask, and the features of its patches."""
        self._given[keyframe.id] = keyframe.mask
        if features is not None:
            self._attention.see(keyframe.id, features)

    def given(self, i: int) -> Mask:
        """Return the mask (H, W) that a keyframe of the window has without its pairs."""
        return self._given[i]

    def masked(self, keyframe: Keyframe, moving: Mask) -> Mask:
        """
        Add dynamic objects to a keyframe's mask: as detected, and refined to image edges.

        :param moving: of any size
        :return: (H, W) on the grid
        """
        mask = keyframe.mask | keyframe_mask(moving, keyframe)
        try:
            mask |= keyframe_mask(refined(self._config.refiner, keyframe.image, moving), keyframe)
        except Recon3rError as error:  # a coarse mask is better than no keyframe
            _log.warning('keyframe %s: %s', keyframe.name, error)
        return mask

    def leave_out(self, keyframe: Keyframe, moving: Mask) -> Mask:
        """Add dynamic objects to a keyframe; return its new mask."""
        self._given[keyframe.id] = self.masked(keyframe, moving)
        return self._given[keyframe.id]

    def update(self, pairs: Sequence[Pair], new: Keyframe, keyframes: dict[int, Keyframe]
               ) -> dict[int, Mask]:
        """
        Add the votes of a new keyframe's pairs.

        :param keyframes: all of the map
        :return: new masks of those whose masks changed
        """
        self.attended = None
        if not self._config.detect:
            return {}
        for pair in pairs:
            for i, partner, prediction in ((pair.partner, new.id, pair.forward),
                                           (new.id, pair.partner, pair.backward)):
                if prediction.moving is not None:
                    self._votes.add(i, partner, prediction.moving)
                if prediction.attention is not None:
                    self._attention.add(i, partner, prediction.attention)
        found = {i: self._votes.mask(i) for i in (new.id, *(p.partner for p in pairs))}
        size = (new.camera.width, new.camera.height)
        by_attention = {i: mask.pixels(*size)
                        for i, mask in self._attention.masks(new.id, size).items()}
        self.attended = by_attention.get(new.id)
        found |= by_attention
        news = {i: moving for i, moving in found.items()
                if moving is not None and self._is_news(i, moving)}
        self._found |= news
        given = [replace(keyframes[i], mask=self._given.get(i, keyframes[i].mask)) for i in news]
        return dict(zip(news, side_by_side(self.masked, given, news.values())))

    def of_all(self, newest: Keyframe) -> dict[int, Mask]:
        """Masks (H, W) by attention statistics of all keyframes jointly, by keyframe id."""
        if not (self._config.detect and self._config.offline):
            return {}
        size = (newest.camera.width, newest.camera.height)
        return {i: mask.pixels(*size)
                for i, mask in self._attention.all_masks(newest.id, size).items()}

    def _is_news(self, i: int, moving: Mask) -> bool:
        before = self._found.get(i)
        if before is None:
            return bool(moving.any())
        return float((moving ^ before).mean()) > MIN_CHANGE
