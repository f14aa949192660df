# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a system has requested and not yet taken over."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.steps import KeyframeRequest, Placed
from recon3r_ros.slam.types import Keyframe, Map, TrackedFrame


@dataclass(frozen=True, eq=False)
class Ordered:
    """
    A pending keyframe.

    :param frontend: that requested it
    :param request: of the keyframe
    :param made: its id, None where it is rejected, and the map
    """

    frontend: CameraFrontend
    request: KeyframeRequest
    made: Future[tuple[int | None, Map]]


@dataclass(frozen=True, eq=False)
class Begun:
    """
    A first pair whose pending frames have poses, but no dynamic masks yet.

    :param frontend: that requested it
    :param request: of its second keyframe
    :param made: id of its second keyframe
    :param placed: the pending frames
    :param posed: the same, as recorded in the trajectory
    """

    frontend: CameraFrontend
    request: KeyframeRequest
    made: int
    placed: list[Placed]
    posed: tuple[TrackedFrame, ...]

    def from_second(self) -> list[Placed]:
        """Return the second keyframe's frame and those after it."""
        second = self.request.frame.index
        return [p for p in self.placed if p.frame.index >= second]

    def of_keyframes(self, masked: list[Placed], first: Keyframe
                     ) -> dict[int, NDArray[np.bool_]]:
        """
        Dynamic masks of the pair, where there are dynamic objects, by keyframe.

        :param masked: frames with their masks
        :param first: keyframe of the pair
        """
        ids = {first.index: first.id, self.request.frame.index: self.made}
        return {ids[p.frame.index]: p.mask for p in masked
                if p.frame.index in ids and p.mask is not None and p.mask.any()}
