# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r eval`: the numbers of an evaluation as a table and as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
import json
from pathlib import Path
from typing import TYPE_CHECKING

from recon3r_ros.cli.arguments import finite, positive
from recon3r_ros.cli.console import output as console
from recon3r_ros.io.atomic import write_bytes
from rich.table import Table

if TYPE_CHECKING:
    from recon3r_ros.evaluation.results import Evaluation
    from recon3r_ros.evaluation.trajectory_errors import TrajectoryErrors

_Row = tuple[str, str, str]

_DESCRIPTION = """\
Compare the results of a run with ground truth.

GROUND_TRUTH is a file of poses, or a pack: a folder with groundtruth.txt, depth/NAME.png (16-bit
millimetres, 0 = none) or masks/NAME.png (255 = dynamic), any of these.

formats of poses, with white space or commas between the fields:
  TUM     stamp tx ty tz qx qy qz qw, in seconds, camera-to-world
  EuRoC   state_groundtruth_estimate0/data.csv: nanoseconds, position, quaternion qw qx qy qz.
          These are poses of the body. The arm from there to the camera (T_BS in sensor.yaml) is
          not taken into account: errors contain what of it an alignment cannot absorb
  KITTI   the 12 numbers of a matrix a line, without stamps: a line for each image, or for each
          number of an image's name, from 0

measures:
  ATE     distance between matched positions after alignment by a rigid motion (SE3) and by a
          similarity (Sim3, since a monocular map has no scale); in units of the ground truth, and
          in percent of its path length and of its extent, the diagonal of the bounding box of its
          positions, both where poses are matched
  RPE     error of the motion from one matched pose to the next, root mean square; degrees
  depth   AbsRel = mean |d - t| / t and the share with max(d/t, t/d) < 1.25, each keyframe scaled
          by the ratio of medians; over all pixels known in both, and over the half of them with
          the highest confidence; mean over keyframes
  masks   J = intersection over union, mean over frames; 1 where both are empty

A run with several maps that are not connected is evaluated as a whole by its largest map, and then
each map by itself: each is aligned to the truth on its own.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    parser.add_argument('output', metavar='OUT', help='folder of the results of a run')
    parser.add_argument('truth', metavar='GROUND_TRUTH', help='pack or file of poses')
    parser.add_argument('--max-diff', metavar='SECONDS', type=positive, default=0.01,
                        help='largest difference of the stamps of matched poses (default: 0.01)')
    parser.add_argument('--offset', metavar='SECONDS', type=finite, default=0.0,
                        help='added to the stamps of the ground truth (default: 0)')
    parser.add_argument('--json', metavar='FILE', help='write the numbers to this file')


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed
    :returns: the exit status
    """
    from recon3r_ros.evaluation.results import (  # needs an extra, unlike --help
        evaluate,
        map_folders,
    )
    evaluation = evaluate(arguments.output, arguments.truth, arguments.max_diff, arguments.offset)
    show(evaluation)
    maps = {}
    for folder in map_folders(Path(arguments.output)):
        own = evaluate(folder, arguments.truth, arguments.max_diff, arguments.offset)
        maps[folder.name] = replace(own, frames=evaluation.frames)
        console().rule(folder.name)
        show(maps[folder.name])
    if arguments.json is not None:
        write_json(Path(arguments.json), evaluation, maps)
    return 0


def write_json(path: Path, evaluation: Evaluation, maps: Mapping[str, Evaluation] = {}) -> None:
    """
    Write the numbers.

    :param path: file to write
    :param evaluation: the numbers
    :param maps: those of each map by itself, by the name of its folder, where there are several
    :raises OutputError: in one line that names the file
    """
    content = {**asdict(evaluation), 'tracked_share': evaluation.tracked_share,
               'maps': {name: asdict(own) for name, own in maps.items()}}
    write_bytes(path, f'{json.dumps(content, indent=1, allow_nan=False)}\n'.encode())


def show(evaluation: Evaluation) -> None:
    """
    Print a table.

    :param evaluation: the numbers
    """
    screen = console()
    table = Table('', *_headings(evaluation.trajectory), title='Frames and trajectory',
                  title_justify='left')
    for column in table.columns[1:]:
        column.justify = 'right'
    table.add_row('images with a pose', f'{evaluation.tracked} of {evaluation.frames} '
                  f'({100 * evaluation.tracked_share:.1f} %)', '')
    if evaluation.trajectory is not None:
        for row in _trajectory_rows(evaluation.trajectory):
            table.add_row(*row)
    screen.print(table)
    if evaluation.depth is not None:
        depth = evaluation.depth
        table = Table(f'mean of {depth.keyframes} keyframes', 'all known pixels',
                      'confident half', title='Depth', title_justify='left')
        for column in table.columns[1:]:
            column.justify = 'right'
        table.add_row('AbsRel', f'{depth.every.abs_rel:.4f}', f'{depth.confident.abs_rel:.4f}')
        table.add_row('delta < 1.25', f'{100 * depth.every.delta_125:.1f} %',
                      f'{100 * depth.confident.delta_125:.1f} %')
        table.add_row('pixels with depth', f'{100 * depth.known:.1f} %', '')
        screen.print(table)
    if evaluation.masks is not None:
        masks = evaluation.masks
        table = Table('', f'{masks.frames} frames', title='Dynamic masks', title_justify='left')
        table.columns[1].justify = 'right'
        table.add_row('pixels masked', f'{100 * masks.masked:.2f} %')
        if masks.jaccard is not None:
            table.add_row(f'J, mean of {masks.compared} frames', f'{masks.jaccard:.3f}')
        screen.print(table)


def _headings(errors: TrajectoryErrors | None) -> tuple[str, str]:
    if errors is None or errors.sim3 is None:
        return 'SE3', ''
    return 'SE3', f'Sim3, scale {errors.sim3.scale:.4g}'


def _trajectory_rows(errors: TrajectoryErrors) -> Iterator[_Row]:
    """Yield name and values under both alignments; lengths in units of the ground truth."""
    yield 'poses with ground truth', str(errors.matched), ''
    if errors.note:
        yield 'note', errors.note, ''
    yield 'path length', _number(errors.path_length), ''
    yield 'extent', _number(errors.extent), ''
    for label, name, unit in (
        ('ATE, root mean square', 'ate_rmse', ''),
        ('ATE, median', 'ate_median', ''),
        ('ATE, maximum', 'ate_max', ''),
        ('ATE of the path', 'ate_percent_of_path', ' %'),
        ('ATE of the extent', 'ate_percent_of_extent', ' %'),
        ('RPE, translation', 'rpe_translation_rmse', ''),
        ('RPE, rotation', 'rpe_rotation_rmse_deg', ' deg'),
    ):
        rigid, similar = (None if aligned is None else getattr(aligned, name)
                          for aligned in (errors.se3, errors.sim3))
        yield label, _number(rigid, unit), _number(similar, unit)


def _number(value: float | None, unit: str = '') -> str:
    return '-' if value is None else f'{value:.4g}{unit}'
