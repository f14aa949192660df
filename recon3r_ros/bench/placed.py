# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Images that are placed with each kind of local features.

    python -m recon3r_ros.bench.placed VIDEO STILLS [STILLS ...]

prints a table for packs with true poses: every third of the stills in random order, as `recon3r
run` processes them, and images of the second half of the video in a map of the first half.
"""

from __future__ import annotations

from pathlib import Path
import sys
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.bench.features import NAMES
from recon3r_ros.bench.yardstick import machine
from recon3r_ros.cli.console import output as console
from recon3r_ros.cli.stills import ordered
from recon3r_ros.evaluation.trajectory_errors import aligning_similarity
from recon3r_ros.io.ground_truth import read_truth
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.io.markdown import table
from recon3r_ros.models.registry import FeatureChoice, make_predictor, Model
from recon3r_ros.slam.system import System

Array = NDArray[np.float64]

#: Of the stills each n-th is taken, beginning with each of the first n, in an order by this seed
STEP, SEED = 3, 0
#: Images of the second half that are looked for in the map, and images of each attempt
EACH, ATTEMPT = 15, 3
#: A position is wrong beyond this share of the extent of the true ones: those of the kitchen
#: contradict its images by some percent
WRONG = 0.15


def measure(video: Path, stills: list[Path]) -> str:
    """
    Compare the features on packs.

    :raises Recon3rError: where a pack cannot be read, or features are not installed
    """
    rows = [row for name in NAMES for row in (
        *(_stills(pack, name) for pack in stills), _second_half(video, name))]
    return table(('images', 'features', 'placed', 'wrongly', 'seconds'), sorted(rows))


def _stills(pack: Path, features: str) -> tuple[str, ...]:
    """Run parts of a pack of stills, in random order."""
    whole = open_image_folder(pack)
    truth = _truth(pack)
    names = {frame.name: n for n, frame in enumerate(whole)}
    rng, placed, wrong, begin, count = np.random.default_rng(SEED), 0, 0, perf_counter(), 0
    for first in range(STEP):
        part = rng.permutation(np.arange(len(names))[first::STEP]).tolist()
        count += len(part)
        system = _system(features)
        for frame in ordered(whole.rearranged(part)):
            system.add(frame)
        system.finish()
        found = {f.name: T for f, T in system.trajectory()}
        if len(found) > 1:
            errors = _errors(np.stack(list(found.values())),
                             truth[[names[name] for name in found]])
            wrong += int((errors > WRONG * _extent(truth)).sum())
        placed += len(found)
    return _row(f'{pack.name}, each {STEP}rd, shuffled', features, placed, count, wrong, begin)


def _second_half(pack: Path, features: str) -> tuple[str, ...]:
    """Look for images of the second half of a video in a map of the first one."""
    frames, truth = list(open_image_folder(pack)), _truth(pack)
    half = len(frames) // 2
    system = _system(features)
    for frame in frames[:half]:
        system.add(frame)
    system.finish()
    known = system.trajectory()
    S = aligning_similarity(np.stack([T for _, T in known]), truth[[f.index for f, _ in known]])
    saved = system.saved(None)
    placed, wrong, attempts, begin = 0, 0, range(half, len(frames) - ATTEMPT, EACH), perf_counter()
    for start in attempts:
        system = _system(features)
        system.restore(saved)
        found = [f for frame in frames[start:start + ATTEMPT] for f in system.add(frame).frames]
        if found:
            placed += 1
            position = S @ system.pose_of(found[-1])[:, 3]
            error = np.linalg.norm(position[:3] / position[3] - truth[found[-1].index][:3, 3])
            wrong += int(error > WRONG * _extent(truth))
    return _row(f'{pack.name}, second half in a map of the first', features, placed,
                len(attempts), wrong, begin)


def _system(features: str) -> System:
    return System(make_predictor(Model(options=FeatureChoice(features))))


def _truth(pack: Path) -> Array:
    return read_truth(pack / 'groundtruth.txt').T_world_cam


def _extent(truth: Array) -> float:
    return float(np.linalg.norm(np.ptp(truth[:, :3, 3], axis=0)))


def _errors(poses: Array, truth: Array) -> Array:
    """Distances (N,) of positions after alignment by a similarity."""
    aligned = aligning_similarity(poses, truth) @ poses
    return np.asarray(np.linalg.norm((aligned - truth)[:, :3, 3], axis=1))


def _row(case: str, features: str, placed: int, count: int, wrong: int, begin: float
         ) -> tuple[str, ...]:
    return case, features, f'{placed} of {count}', str(wrong), f'{perf_counter() - begin:.1f}'


if __name__ == '__main__':
    _line = machine()
    console().print(f'{measure(Path(sys.argv[1]), [Path(p) for p in sys.argv[2:]])}\n{_line}',
                    soft_wrap=True)
