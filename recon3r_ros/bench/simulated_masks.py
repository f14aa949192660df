# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dynamic masks of simulated scenes: accuracy, steadiness, and false ones where nothing moves.

Masks are those that `recon3r run` writes: refined to the edges of the image online, and computed
again from all frames offline. A frame of which nothing is known has an empty mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.cli.console import progress_bar
from recon3r_ros.evaluation.image_errors import jaccard
from recon3r_ros.io.markdown import table
from recon3r_ros.models.registry import make_predictor, Model
from recon3r_ros.sim import SceneConfig, SimulatedFrame, SimulatedSequence
from recon3r_ros.sim.flow import true_flow, TrueFlow
from recon3r_ros.slam.dynamics.mask_refinement import refined
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, Update

Mask = NDArray[np.bool_]

SEEDS = range(5)
#: Objects that cover a quarter of the image and more
LARGE_OBJECTS = tuple(
    SceneConfig(frames=120, width=480, height=360, trajectory=trajectory, moving_objects=count,
                moving_size=size)
    for trajectory, count, size in (('handheld', 1, 0.25), ('orbit', 3, 0.12)))
#: Least share of the image that dynamic objects cover in a frame whose mask is compared
MIN_COVERED = 0.005

_PLAIN = SceneConfig(frames=90, width=480, height=360, moving_objects=2)
_MOVING = (
    *LARGE_OBJECTS,
    _PLAIN,
    replace(_PLAIN, trajectory='rest'),
    replace(_PLAIN, trajectory='turn'))
_STATIC = (
    (replace(_PLAIN, trajectory='rest', moving_objects=0), '0.5, 2'),
    (replace(_PLAIN, trajectory='turn', moving_objects=0), '0.5, 2'),
    (replace(_PLAIN, trajectory='sweep', moving_objects=0, post=True), '1, 1'))
_MODES = ('online', 'offline')


@dataclass(frozen=True)
class MaskScore:
    """
    Masks of a sequence against the true ones; shares are in [0, 1].

    :param jaccard: mean Jaccard index over the frames in which dynamic objects cover at least
        `MIN_COVERED` of the image; NaN where there are none
    :param steadiness: mean over all pairs of consecutive frames of that kind, see `steadiness`;
        NaN where neither of any pair has a mask
    :param unknown: share of the frames of which nothing is known
    :param masked: mean share of the image that is masked
    :param most: largest share of an image that is masked
    """

    jaccard: float
    steadiness: float
    unknown: float
    masked: float
    most: float


def section() -> str:
    """Measure all scenes and write the section of the page."""
    moving: list[tuple[str | None, ...]] = []
    static: list[tuple[str | None, ...]] = []
    with progress_bar() as bar:
        bar.stage('masks', len(SEEDS) * (len(_MOVING) + len(_STATIC)))

        def scores(kind: SceneConfig) -> Iterator[tuple[MaskScore, MaskScore]]:
            for seed in SEEDS:
                yield _measured(SimulatedSequence(replace(kind, seed=seed)))
                bar.advance()

        for kind in _MOVING:
            modes = zip(*scores(kind))
            moving.append((_name(kind), *(cell for mode in modes for cell in (
                _least([s.jaccard for s in mode]), _least([s.steadiness for s in mode]),
                _most([s.unknown for s in mode])))))
        for kind, target in _STATIC:
            modes = zip(*scores(kind))
            static.append((_name(kind), target, *(cell for mode in modes for cell in (
                _most([s.masked for s in mode]), _most([s.most for s in mode])))))
    return (
        '## Masks\n\n'
        f'{len(SEEDS)} scenes of each kind: median, and the worst in brackets. J: Jaccard index '
        'of the mask. Steadiness: intersection over union of a mask with that of the frame '
        'before, moved by the true optical flow, where a surface is visible in both. Both are '
        f'means over the frames in which moving objects cover at least {MIN_COVERED:.1%} of the '
        'image. Unknown: frames of which nothing is known; they count as empty masks.\n\n'
        + table(('camera, moving objects and their size', *(
            f'{mode}: {what}' for mode in _MODES for what in (
                'J (target >= 0.7)', 'steadiness (target >= 0.9)', 'unknown, %'))), moving)
        + '\nThe share of the image that is masked where nothing moves, in percent, mean over a '
        'sequence and most of a frame. *sweep with a post*: the camera moves sideways past a '
        'static post less than a metre away, before a room that is metres away.\n\n'
        + table(('camera', 'target: mean, most', *(
            f'{mode}: {what}' for mode in _MODES for what in ('mean', 'most'))), static))


def score(sequence: SimulatedSequence, frames: Sequence[SimulatedFrame],
          masks: Mapping[int, Mask]) -> MaskScore:
    """
    Compare the masks of a sequence with the true ones.

    :param sequence: the scene
    :param frames: all of its frames, in order
    :param masks: (H, W) by the frame's index, without those of which nothing is known
    """
    empty = np.zeros(frames[0].motion_mask.shape, bool)
    own = [masks.get(f.index, empty) for f in frames]
    compared = [f.motion_mask.mean() >= MIN_COVERED for f in frames]
    values = [jaccard(mask, f.motion_mask) for mask, f, use in zip(own, frames, compared) if use]
    steady = [steadiness(true_flow(sequence, frames[n], frames[n - 1]), own[n - 1], own[n])
              for n in range(1, len(frames)) if compared[n - 1] and compared[n]]
    shares = [float(mask.mean()) for mask in own]
    return MaskScore(_mean(values), _mean([s for s in steady if s is not None]),
                     1 - len(masks) / len(frames), float(np.mean(shares)), max(shares))


def steadiness(flow: TrueFlow, earlier: Mask, later: Mask) -> float | None:
    """
    Intersection over union of two masks in the later frame, where it sees what the earlier sees.

    :param flow: from the later frame to the earlier one
    :param earlier: (H, W) mask of the earlier frame
    :param later: (H, W) mask of the later frame
    :returns: None where both are empty
    """
    before, after = flow.warped(earlier), later & flow.visible
    return jaccard(before, after) if (before | after).any() else None


def detect(sequence: SimulatedSequence, frames: Sequence[SimulatedFrame]
           ) -> tuple[dict[int, Mask], dict[int, Mask]]:
    """
    Detect the dynamic objects of a sequence, online and offline.

    :param sequence: the scene
    :param frames: all of its frames, in order
    :returns: masks (H, W) by the frame's index, without those of which nothing is known
    """
    inputs = [Frame(f.image, f.stamp_ns, f'{f.index:06}', f.index, sequence.camera)
              for f in frames]
    motion = MotionConfig()
    system = System(make_predictor(Model()), motion=motion)
    online: dict[int, Mask] = {}

    def take(update: Update, frame: Frame | None) -> None:
        """Keep the masks of an update as they are written: later ones are not refined."""
        unposed = () if update.unposed is None else (update.unposed,)
        for tracked in (*unposed, *update.frames, *update.masked):
            if tracked.mask is not None:
                own = frame is not None and tracked.index == frame.index
                online[tracked.index] = refined(
                    motion.refiner if own else None, inputs[tracked.index].image, tracked.mask)

    for frame in inputs:
        take(system.add(frame), frame)
    take(system.finish(), None)
    lens = system.lens(inputs[0].camera_name)
    assert lens is not None
    offline = {index: lens.mask_to_source(mask)
               for index, mask in system.smooth_motion(inputs).items()}
    return online, offline


def _measured(sequence: SimulatedSequence) -> tuple[MaskScore, MaskScore]:
    """Score the masks of a scene, online and offline."""
    frames = list(sequence)
    online, offline = detect(sequence, frames)
    return score(sequence, frames, online), score(sequence, frames, offline)


def _name(kind: SceneConfig) -> str:
    if kind.post:
        return f'{kind.trajectory} with a post'
    if not kind.moving_objects:
        return kind.trajectory
    return f'{kind.trajectory}, {kind.moving_objects} of {kind.moving_size:.0%}'


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float('nan')


def _least(values: Sequence[float]) -> str:
    """Format the median and the least of some scores."""
    return f'{np.median(values):.2f} ({np.min(values):.2f})'


def _most(shares: Sequence[float]) -> str:
    """Format the median and the largest of some shares, in percent."""
    return f'{100 * np.median(shares):.1f} ({100 * np.max(shares):.1f})'
