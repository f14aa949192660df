# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic masks offline: evidence from before and after each frame.

A detector accumulates evidence over some frames, and lags behind. In both directions of time, the
beginning of a motion is detected as well as its end. A recording is processed in blocks, so that
memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.evidence import SCORE_LIMIT
from recon3r_ros.slam.dynamics.motion import MotionDetector
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Frames of a block, and frames after it that are processed first: evidence decays within a second
#: or two
BLOCK, AHEAD = 120, 45


@dataclass(frozen=True, eq=False)
class PlacedFrame:
    """
    A frame with its pose.

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
    Detect dynamic objects in the frames of one camera, in order.

    :param frames: all of them
    :param forward: detector that processes the frames in order, up to the newest one
    :param backward: makes a new detector
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
    """Masks of the first `count` frames, from evidence before and after them."""
    masks: dict[int, Mask | None] = {}
    for n in range(len(waiting) - 1, -1, -1):
        seen = waiting[n]
        _detect(backward, seen.frame)
        if n < count:
            # The frame's own evidence is in both, and is counted once
            both = np.clip(seen.score + backward.score - backward.votes, -SCORE_LIMIT, SCORE_LIMIT)
            masks[n] = None if seen.frame.reference is None else backward.segment(both)
    return [(waiting[n].frame.index, masks[n]) for n in range(count)]
