# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether two runs of a sequence gave the same results, to the bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from recon3r_ros.io.trajectory import read_tum

SAME = 'identical'
#: Files of the map, beside the depths
_MAPS = ('map.ply', 'map.npz')


@dataclass(frozen=True)
class Sameness:
    """
    Comparison of two runs: `SAME`, or how they differ.

    :param trajectory: of trajectory.txt
    :param masks: of masks/
    :param map: of map.ply, map.npz and depth/
    """

    trajectory: str
    masks: str
    map: str

    @property
    def complete(self) -> bool:
        """Whether everything is identical."""
        return (self.trajectory, self.masks, self.map) == (SAME, SAME, SAME)


def compare(first: Path, second: Path) -> Sameness:
    """
    Compare the results of two runs.

    :param first: folder of `recon3r run`
    :param second: another one
    """
    masks = _differing(first / 'masks', second / 'masks')
    depths = _differing(first / 'depth', second / 'depth')
    of_map = [name for name in _MAPS if _content(first / name) != _content(second / name)]
    if depths:
        error = max(_largest_error(first / 'depth' / n, second / 'depth' / n) for n in depths)
        of_map.append(f'{len(depths)} depth maps, by up to {error:.1g} of the value')
    return Sameness(_trajectories(first / 'trajectory.txt', second / 'trajectory.txt'),
                    f'{len(masks)} differ' if masks else SAME,
                    f'differ: {", ".join(of_map)}' if of_map else SAME)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _trajectories(first: Path, second: Path) -> str:
    if _content(first) == _content(second):
        return SAME
    if not (first.is_file() and second.is_file()):
        return 'only one has it'
    (stamps, poses), (other_stamps, other_poses) = read_tum(first), read_tum(second)
    _, own, other = np.intersect1d(stamps, other_stamps, return_indices=True)
    distances = np.linalg.norm(poses[own, :3, 3] - other_poses[other, :3, 3], axis=1)
    alone = len(stamps) + len(other_stamps) - 2 * len(own)
    return (f'up to {distances.max(initial=0):.2g} map units apart'
            + (f', {alone} poses in one only' if alone else ''))


def _differing(first: Path, second: Path) -> list[str]:
    """List the files of two folders that are not the same in both."""
    names = {path.name for folder in (first, second) for path in folder.glob('*')}
    return sorted(n for n in names if _content(first / n) != _content(second / n))


def _largest_error(first: Path, second: Path) -> float:
    """Largest relative difference of depth and confidence; infinite where only one has a value."""
    if not (first.is_file() and second.is_file()):
        return np.inf
    largest = 0.0
    with np.load(first) as own, np.load(second) as other:
        for name in ('depth', 'confidence'):
            a, b = own[name], other[name]
            if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
                return np.inf
            known = ~np.isnan(a)
            error = np.abs(a[known] / b[known] - 1)
            largest = max(largest, float(error.max(initial=0)))
    return largest
