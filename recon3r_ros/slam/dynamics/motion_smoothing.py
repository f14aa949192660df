# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic objects, once it is known what comes next: evidence from before and from after.

A detector needs some frames to be sure, and lags behind what it follows. Looked at in both
directions of time, the beginning of a movement is as well known as its end. Works through a
recording in blocks, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.motion import MotionDetector, SCORE_LIMIT
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Frames that are settled together, and frames after them that are looked at first: evidence is
#: forgotten within a second or two
BLOCK, AHEAD = 120, 45


@dataclass(frozen=True, eq=False)
class PlacedFrame:
    """
    A frame whose place is known.

    :param index: of the frame
    :param gray: (H, W) uint8 tracking image
    :param reference: a keyframe near it; None for a frame without a pose
    :param T_reference_cam: (4, 4)
    :param stamp_ns: of the frame
    """

    index: int
    gray: NDArray[np.uint8]
    reference: Keyframe | None
    T_reference_cam: Array
    stamp_ns: int = 0


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame with the evidence of those before it."""

    frame: PlacedFrame
    score: Map


def smooth(frames: Iterable[PlacedFrame], forward: MotionDetector,
           backward: Callable[[], MotionDetector]) -> Iterator[tuple[int, Mask | None]]:
    """
    Find dynamic objects in the frames of one camera, in order.

    :param frames: all of them
    :param forward: sees the frames in order, and knows the newest one afterwards
    :param backward: makes a detector that has seen nothing
    :return: index and mask of each, in the detector's pixels; None without a pose
    """
    waiting: list[_Seen] = []
    for frame in frames:
        _detect(forward, frame)
        waiting.append(_Seen(frame, forward.score))
        if len(waiting) == BLOCK + AHEAD:
            yield from _settled(waiting, BLOCK, backward())
            waiting = waiting[BLOCK:]
    yield from _settled(waiting, len(waiting), backward())


def _detect(detector: MotionDetector, frame: PlacedFrame) -> None:
    if frame.reference is None:
        detector.reset()
    else:
        detector.detect(frame.gray, frame.T_reference_cam, frame.reference, frame.stamp_ns)


def _settled(waiting: list[_Seen], count: int, backward: MotionDetector
             ) -> list[tuple[int, Mask | None]]:
    """Masks of the first `count` frames, from what is known before and after them."""
    masks: dict[int, Mask | None] = {}
    for n in range(len(waiting) - 1, -1, -1):
        seen = waiting[n]
        _detect(backward, seen.frame)
        if n < count:
            # What the frame itself says is in both, and counts once
            both = np.clip(seen.score + backward.score - backward.votes, -SCORE_LIMIT, SCORE_LIMIT)
            masks[n] = None if seen.frame.reference is None else backward.segment(both)
    return [(waiting[n].frame.index, masks[n]) for n in range(count)]
