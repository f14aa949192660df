# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How many frames later a requested keyframe is taken over, where that must not depend on time."""

from __future__ import annotations

from recon3r_ros.slam.frontend.steps import Purpose

#: Frames at most from the request of a keyframe to its use
MAX_LAG = 10


class KeyframeLag:
    """
    Counts frames instead of time: results depend neither on the machine's speed nor on its load.

    A keyframe is taken over after two thirds as many frames as lay between the last two requests:
    its own successor, due about as much later, can still be tracked against it, and tracking
    seldom waits. Without a map, or without a pose, nothing can be tracked meanwhile: such a
    keyframe is waited for.
    """

    def __init__(self) -> None:
        self._frames = 0
        self._lag = 0

    def count_frame(self) -> None:
        """Count a frame of any camera."""
        self._frames += 1

    def request(self, purpose: Purpose) -> None:
        """Begin to count the frames since a request."""
        tracked = purpose in (Purpose.MAPPING, Purpose.CARRIED)
        self._lag = min(2 * self._frames // 3, MAX_LAG) if tracked else 0
        self._frames = 0

    @property
    def is_over(self) -> bool:
        """Whether the requested keyframe is to be taken over now."""
        return self._frames >= self._lag
