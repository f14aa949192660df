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
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.evidence import SCORE_LIMIT
from recon3r_ros.slam.dynamics.motion import MotionDetector
from recon3r_ros.slam.types import Frame, Keyframe, Map, TrackedFrame

Array = NDArray[np.float64]
Scores = NDArray[np.float32]
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
class _Evidence:
    """
    A detector's evidence after a frame.

    :param score: accumulated, of cells
    :param votes: of this frame alone
    """

    score: Scores
    votes: Scores


def smooth(frames: Iterable[PlacedFrame], forward: MotionDetector,
           backward: Callable[[], MotionDetector]) -> Iterator[tuple[int, Mask | None]]:
    """
    Detect dynamic objects in the frames of one camera, in order.

    :param frames: all of them
    :param forward: detector that processes the frames in order, up to the newest one
    :param backward: makes a new detector
    :return: index and mask of each, in the detector's pixels; None without a pose
    """
    waiting: list[PlacedFrame] = []
    before: list[_Evidence] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == BLOCK + AHEAD:
            yield from _settled(waiting, before, BLOCK, forward, backward())
            waiting, before = waiting[BLOCK:], before[BLOCK:]
    yield from _settled(waiting, before, len(waiting), forward, backward())


def _settled(waiting: list[PlacedFrame], before: list[_Evidence], count: int,
             forward: MotionDetector, backward: MotionDetector
             ) -> Iterator[tuple[int, Mask | None]]:
    """
    Masks of the first `count` frames, from evidence before and after them.

    :param before: forward evidence of the first frames; that of the others is appended
    """
    new, after = side_by_side(
        _detected, (forward, backward), (waiting[len(before):], waiting[::-1]))
    before += new
    for frame, a, b in zip(waiting[:count], before, after[::-1]):
        # The frame's own evidence is in both, and is counted once
        both = np.clip(a.score + b.score - b.votes, -SCORE_LIMIT, SCORE_LIMIT)
        yield frame.index, None if frame.reference is None else backward.segment(both)


def _detected(detector: MotionDetector, frames: list[PlacedFrame]) -> list[_Evidence]:
    """Process frames in their order."""
    found = []
    for frame in frames:
        if frame.reference is None:
            detector.reset()
        else:
            detector.detect(frame.gray, frame.T_reference_cam, frame.reference, frame.stamp_ns)
        found.append(_Evidence(detector.score, detector.votes))
    return found


def smoothed(frames: Iterable[Frame], tracking_image: Callable[[Frame], NDArray[np.uint8]],
             camera: Camera, known: Map, trajectory: Iterable[tuple[TrackedFrame, Array]]
             ) -> dict[int, Mask]:
    """
    Detect dynamic objects in the frames of one camera again, by their final poses.

    :param frames: all of them, in order
    :param tracking_image: of a frame, (H, W) uint8
    :param camera: pinhole camera of the tracking images
    :param trajectory: frames with their poses T_map_cam (4, 4)
    :return: masks by the frames' index, in the detector's pixels; without those that have no pose
    """
    placed = {f.index: (known.present(f.keyframe), T) for f, T in trajectory}

    def again() -> Iterator[PlacedFrame]:
        for frame in frames:
            reference, T_map_cam = placed.get(frame.index, (None, np.eye(4)))
            T = np.eye(4) if reference is None else se3.normalized(
                se3.inverse(reference.T_map_cam) @ T_map_cam)
            yield PlacedFrame(frame.index, tracking_image(frame), reference, T, frame.stamp_ns)

    masks = smooth(again(), MotionDetector(camera), lambda: MotionDetector(camera))
    return {index: mask for index, mask in masks if mask is not None}
