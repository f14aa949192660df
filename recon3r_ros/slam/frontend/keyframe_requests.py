# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframe requests of one camera, and the views of its frames that the back end gets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.types import View
from recon3r_ros.slam.frontend.frame_masks import FrameMasks
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.steps import KeyframeRequest, Purpose
from recon3r_ros.slam.types import Frame

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class KeyframeRequests:
    """
    Makes views and requests of one camera's frames.

    :param rectifier: of the camera
    :param masks: dynamic masks of its frames
    """

    rectifier: Rectifier
    masks: FrameMasks

    def view(self, frame: Frame, moving: Mask | None) -> View:
        """
        Make the view of a frame for the back end.

        :param moving: (h, w) its dynamic mask, in mask pixels; None where nothing is known
        """
        given = self.rectifier.given_mask(frame)
        excluded = self.masks.fixed if given is None else self.masks.fixed | given
        if excluded.any():
            moving = excluded if moving is None else moving | excluded
        return replace(self.rectifier.view(frame), moving=moving,
                       excluded=excluded if excluded.any() else None,
                       depth=self.rectifier.depth(frame), searched=frame.people is not None,
                       # Matching takes longer than tracking may: the back end does it
                       stereo=self.rectifier.stereo_pair(frame))

    def of(self, purpose: Purpose, frame: Frame, gray: NDArray[np.uint8],
           moving: Mask | None = None) -> KeyframeRequest:
        """
        Request that a frame becomes a keyframe.

        :param gray: (H, W) tracking image of it
        :param moving: (h, w) its dynamic mask, in mask pixels; None where nothing is known
        """
        self.masks.mark()
        return KeyframeRequest(purpose, frame, self.view(frame, moving), gray, perf_counter())
