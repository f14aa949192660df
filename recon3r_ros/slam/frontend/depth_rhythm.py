# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Keyframes of a camera whose depth is measured less often than it takes images.

A keyframe with measured depth gives the map its scale and its depth; one without has only what is
triangulated. An image with depth becomes a keyframe sooner, one without only where the next image
with depth may be too late.
"""

from __future__ import annotations

from recon3r_ros.slam.types import Frame

#: Factor of the distance between keyframes for images without depth; its inverse for those with it
SPACING = 1.5


class DepthRhythm:
    """Knows whether the next images of one camera will have measured depth."""

    def __init__(self) -> None:
        #: Images since the newest one with depth, and between that and the one before; None
        #: before there were any
        self._since: int | None = None
        self._period: int | None = None

    def spacing(self, frame: Frame) -> float:
        """
        Factor by which keyframes should be further apart than usual, at a frame.

        :param frame: each of the camera's, once, in order
        """
        if frame.depth is None and frame.stereo is None:
            if self._since is None:
                return 1.0
            self._since += 1
            if self._period is None or self._since > self._period:
                return 1.0  # not measured any more, or not yet known how often
            return SPACING
        if self._since is not None:
            self._period = self._since + 1
        self._since = 0
        return 1 / SPACING if self._period is not None and self._period > 1 else 1.0
