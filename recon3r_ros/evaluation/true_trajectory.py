# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""True poses with the stamps of a run's images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.ground_truth import read_truth
from recon3r_ros.io.listing import read_lines
from recon3r_ros.io.stamps import NS_PER_S, parse_seconds

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrueTrajectory:
    """
    True poses.

    :param stamps_ns: (N,) integer nanoseconds
    :param T_world_cam: (N, 4, 4)
    :param notes: what should be known about them
    """

    stamps_ns: NDArray[np.int64]
    T_world_cam: Array
    notes: tuple[str, ...]


def true_trajectory(path: Path, output: Path, images: int, offset_s: float) -> TrueTrajectory:
    """
    Read true poses; those without stamps get the stamps of the images.

    :param path: their file
    :param output: folder of the results of a run
    :param images: number of images of the run, unusable ones included
    :param offset_s: seconds to add to the stamps of the file
    :raises InputError: naming a file that cannot be used
    """
    truth = read_truth(path)
    if truth.stamps_ns is not None:
        notes = ("the true poses are the body's, not the camera's",) if truth.of_body else ()
        return TrueTrajectory(truth.stamps_ns + round(offset_s * NS_PER_S), truth.T_world_cam,
                              notes)
    if offset_s:
        raise InputError(f'{path}: has no stamps, to which an offset could be added')
    poses = truth.T_world_cam
    if (output / 'frames.txt').is_file():
        return _of_images(path, poses, output / 'frames.txt', images)
    times = path.with_name('times.txt')
    if not times.is_file():
        raise InputError(f'{path}: has no stamps, and {output} no frames.txt, from which to take '
                         'those of the images: run again, or put a times.txt beside it')
    stamps = [_stamp(text, times, number)
              for number, text in enumerate(read_lines(times), start=1) if text.strip()]
    if len(stamps) != len(poses):
        raise InputError(f'{times}: has {len(stamps)} stamps for the {len(poses)} poses of {path}')
    return TrueTrajectory(np.array(stamps, np.int64), poses, ())


def _of_images(path: Path, poses: Array, frames: Path, images: int) -> TrueTrajectory:
    """Match poses to images: by position where there are as many, else by the images' numbers."""
    stamps, positions, names = [], [], []
    for number, line in enumerate(read_lines(frames), start=1):
        if line.startswith('#'):
            continue
        try:
            stamp, rest = line.split(maxsplit=1)
            name, position = rest.rsplit(maxsplit=1)
            positions.append(int(position))
        except ValueError:
            raise InputError(f'{frames} line {number}: expected stamp, image and index, got '
                             f'{line!r}') from None
        stamps.append(_stamp(stamp, frames, number))
        names.append(Path(name).stem)
    notes: tuple[str, ...] = ()
    if len(poses) != images:
        if not all(name.isdecimal() and int(name) < len(poses) for name in names):
            raise InputError(f'{path}: has {len(poses)} poses without stamps for the {images} '
                             'images of the run, which are not numbered below that: expected a '
                             'pose for each image')
        positions = [int(name) for name in names]
        notes = (f'{len(names)} of {len(poses)} true poses matched by the numbers of the images',)
    return TrueTrajectory(np.array(stamps, np.int64), poses[positions], notes)


def _stamp(text: str, path: Path, number: int) -> int:
    try:
        return parse_seconds(text.strip())
    except ValueError as error:
        raise InputError(f'{path} line {number}: {error}') from None
