# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic masks offline: evidence and colours from before and after each frame.

A detector accumulates evidence over some frames, and lags behind. In both directions of time, the
beginning of a motion is detected as well as its end. Cells are finer than online, and colours are
those of all frames around. A recording is processed in blocks, so that memory stays bounded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.concurrency import side_by_side
from recon3r_ros.geometry import se3
from recon3r_ros.slam.dynamics import labelling
from recon3r_ros.slam.dynamics.cells import resized_mask
from recon3r_ros.slam.dynamics.colours import Colours
from recon3r_ros.slam.dynamics.detector import with_given
from recon3r_ros.slam.dynamics.evidence import SCORE_LIMIT
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.seen_frame import Lens, SeenFrame
from recon3r_ros.slam.types import Frame, Map, TrackedFrame

Array = NDArray[np.float64]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Frames of a block, and frames after it that are processed first: evidence decays within a second
#: or two
BLOCK, AHEAD = 120, 45
#: Frames before and after one whose colours are shared, and every how many of them
AROUND, EVERY = 24, 3


@dataclass(frozen=True, eq=False)
class _Evidence:
    """
    Evidence after a frame.

    :param score: accumulated, of cells
    :param votes: of this frame alone
    :param known: whether there is any
    :param fixed: cells that are fixed to the camera
    """

    score: Scores
    votes: Scores
    known: bool
    fixed: Mask


@dataclass(frozen=True, eq=False)
class _Scored:
    """
    A frame with its evidence from before and after.

    :param index: of the frame
    :param colours: of its cells
    :param score: of its cells
    :param known: whether there is any evidence
    :param fixed: cells that are fixed to the camera, as is known before or after
    """

    index: int
    colours: Colours
    score: Scores
    known: bool
    fixed: Mask


def smooth(frames: Iterable[SeenFrame], forward: MotionEvidence,
           backward: Callable[[], MotionEvidence]) -> Iterator[tuple[int, Mask | None]]:
    """
    Detect dynamic objects in the frames of one camera, in order.

    :param frames: all of them
    :param forward: processes the frames in order, up to the newest one
    :param backward: makes another one
    :return: index and mask of each, in mask pixels; None where there is no evidence
    """
    context: list[_Scored] = []
    waiting: list[SeenFrame] = []
    before: list[_Evidence] = []
    shape = forward.cells.height, forward.cells.width
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == BLOCK + AHEAD:
            scored = context + _scored(waiting, before, forward, backward())
            yield from _labelled(scored, len(context), len(context) + BLOCK, shape)
            context = scored[:len(context) + BLOCK][-AROUND:]
            waiting, before = waiting[BLOCK:], before[BLOCK:]
    scored = context + _scored(waiting, before, forward, backward())
    yield from _labelled(scored, len(context), len(scored), shape)


def _scored(waiting: list[SeenFrame], before: list[_Evidence], forward: MotionEvidence,
            backward: MotionEvidence) -> list[_Scored]:
    """
    Collect evidence from before and after each frame.

    :param before: forward evidence of the first frames; that of the others is appended
    """
    new, after = side_by_side(
        _collected, (forward, backward), (waiting[len(before):], waiting[::-1]))
    before += new
    # A frame's own evidence is in both, and is counted once
    return [_Scored(frame.index, Colours.of(forward.cells.of_colours(frame.colours)),
                    with_given(np.clip(a.score + b.score - b.votes, -SCORE_LIMIT, SCORE_LIMIT),
                               frame.given),
                    a.known or b.known or frame.given is not None, a.fixed | b.fixed)
            for frame, a, b in zip(waiting, before, after[::-1])]


def _collected(evidence: MotionEvidence, frames: list[SeenFrame]) -> list[_Evidence]:
    """Process frames in their order."""
    found = []
    for frame in frames:
        evidence.add(frame)
        found.append(_Evidence(evidence.score, evidence.votes, evidence.known, evidence.fixed))
    return found


def _labelled(frames: list[_Scored], begin: int, end: int, shape: tuple[int, int]
              ) -> Iterator[tuple[int, Mask | None]]:
    """Label some of the frames, by the colours of those around each."""
    moves = [labelling.by_motion(frame.score, labelling.EVEN_OF_BOTH) for frame in frames]
    evidence = [labelling.without(frame.fixed, m) for frame, m in zip(frames, moves)]
    for _ in range(labelling.PASSES):
        histograms = [frame.colours.histograms(e) for frame, e in zip(frames, evidence)]
        evidence = [labelling.without(frame.fixed, labelling.by_colours(
                        m, frame.colours, _around(histograms, n)))
                    for n, (frame, m) in enumerate(zip(frames, moves))]
    for frame, e in zip(frames[begin:end], evidence[begin:end]):
        mask = labelling.objects(labelling.cut(frame.colours.image, e) & ~frame.fixed, frame.score)
        yield frame.index, resized_mask(mask, shape) if frame.known else None


def _around(histograms: list[Scores], n: int) -> Scores:
    """Average the histograms of the frames around one."""
    some = histograms[max(n % EVERY, n - AROUND):n + AROUND + 1:EVERY]
    out = np.zeros_like(histograms[n])
    for other in some:
        out += other
    return out / np.float32(len(some))


def smoothed(frames: Iterable[Frame], lens: Lens, known: Map,
             trajectory: Iterable[tuple[TrackedFrame, Array]], cut_at: Sequence[int] = ()
             ) -> dict[int, Mask]:
    """
    Detect dynamic objects in the frames of one camera again, by their final poses.

    :param frames: all of them, in order
    :param lens: of the camera
    :param trajectory: frames with their poses T_map_cam (4, 4)
    :param cut_at: indices of frames that begin a new scene, ascending
    :return: masks by the frames' index, in mask pixels; without those where there is no evidence
    """
    placed = {f.index: (known.present(f.keyframe), T) for f, T in trajectory}

    def again() -> Iterator[SeenFrame]:
        for frame in frames:
            reference, T_map_cam = placed.get(frame.index, (None, np.eye(4)))
            T = np.eye(4) if reference is None else se3.normalized(
                se3.inverse(reference.T_map_cam) @ T_map_cam)
            yield SeenFrame(frame.index, lens.tracking_image(frame), lens.colours(frame),
                            reference, T, frame.stamp_ns, lens.given_mask(frame),
                            lens.static_mask(frame))

    def collector() -> MotionEvidence:
        return MotionEvidence(lens.tracking_camera, True, lens.calibrated)

    return {index: mask
            for _, scene in groupby(again(), lambda seen: bisect_right(cut_at, seen.index))
            for index, mask in smooth(scene, collector(), collector) if mask is not None}
