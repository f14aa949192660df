# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Ground truth of poses, as data sets write it.

TUM       stamp tx ty tz qx qy qz qw, seconds
EuRoC     stamp tx ty tz qw qx qy qz and more columns, nanoseconds, separated by commas
KITTI     12 or 16 numbers, the rows of the matrix, without a stamp

Fields are separated by white space, commas or semicolons; lines before the first number, and those
that start with #, are headers. A header that names the columns decides on their order and unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import re

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.se3 import from_rt, matrix_from_quat_xyzw, normalized
from recon3r_ros.io.listing import parse_nanoseconds, read_lines
from recon3r_ros.io.stamps import parse_seconds

Array = NDArray[np.float64]

_SHORTEST_QUATERNION = 1e-6
_ROTATION_TOLERANCE = 0.01
# Stamps in seconds have fewer digits, those of a clock in nanoseconds have 19
_NANOSECOND_DIGITS = 14
_TUM, _EUROC = 8, 17
_KITTI = (12, 16)
_XYZW, _WXYZ = (4, 5, 6, 7), (5, 6, 7, 4)
_EXPECTED = ('expected 8 numbers, stamp tx ty tz qx qy qz qw (TUM), 12 of a matrix (KITTI), or a '
             'csv file of EuRoC')


@dataclass(frozen=True, eq=False)
class TruePoses:
    """
    Poses of a file.

    :param stamps_ns: (N,) integer nanoseconds; None where pose i is that of image i
    :param T_world_cam: (N, 4, 4)
    :param of_body: whether they are, in fact, those of the body that carries the camera
    """

    stamps_ns: NDArray[np.int64] | None
    T_world_cam: Array
    of_body: bool = False


@dataclass(frozen=True)
class _Table:
    """
    A file as text.

    :param header: names of the columns of the last header, in small letters
    :param numbers: lines of the file, from 1
    :param rows: fields of each line
    :param commas: whether they are separated by commas
    """

    header: list[str]
    numbers: list[int]
    rows: list[list[str]]
    commas: bool


@dataclass(frozen=True)
class _Columns:
    """
    How to read a line.

    :param nanoseconds: unit of the stamps, else seconds
    :param quaternion: columns of x y z w
    :param of_body: as in `TruePoses`
    """

    nanoseconds: bool
    quaternion: tuple[int, ...]
    of_body: bool


def read_truth(path: str | Path) -> TruePoses:
    """
    Read true poses in one of the formats above.

    :param path: the file
    :raises InputError: naming file and line
    """
    table = _table(Path(path))
    if not table.rows:
        raise InputError(f'{path}: holds no pose; {_EXPECTED}')
    columns: _Columns | None = None
    count = len(table.rows[0])
    poses, stamps = [], []
    if count not in _KITTI or _quaternion(table.header):
        columns = _columns(path, table)
    for number, fields in zip(table.numbers, table.rows):
        try:
            if len(fields) != count:
                raise ValueError(f'got {len(fields)} numbers, but {count} in line '
                                 f'{table.numbers[0]}')
            if columns is None:
                poses.append(_matrix(fields))
            else:
                stamps.append(
                    (parse_nanoseconds if columns.nanoseconds else parse_seconds)(fields[0]))
                poses.append(_pose(fields, columns.quaternion))
        except ValueError as error:
            raise InputError(f'{path} line {number}: {error}') from None
    return TruePoses(None if columns is None else np.array(stamps, np.int64), np.array(poses),
                     columns is not None and columns.of_body)


def _table(path: Path) -> _Table:
    header: list[str] = []
    numbers: list[int] = []
    rows: list[list[str]] = []
    commas = False
    for number, line in enumerate(read_lines(path), start=1):
        text = line.strip().rstrip(',;')
        if not text:
            continue
        if text.startswith('#') or not (rows or _is_number(re.split(r'[,;\s]', text)[0])):
            names = re.split(r'[,;]' if re.search('[,;]', text) else r'\s+', text)
            header = [name.strip('# ').lower() for name in names if name.strip('# ')]
        else:
            commas |= ',' in text or ';' in text
            numbers.append(number)
            rows.append(re.split(r'\s*[,;]\s*|\s+', text))
    return _Table(header, numbers, rows, commas)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _quaternion(header: list[str]) -> tuple[int, ...]:
    """Return the columns of x y z w that a header names such as qx or q_RS_x [], if all four."""
    found = {match[1]: i for i, name in enumerate(header)
             if (match := re.match(r'q(?:_\w+)?_?([xyzw])\b', name))}
    return tuple(found[axis] for axis in 'xyzw') if set(found.values()) == set(_XYZW) else ()


def _columns(path: str | Path, table: _Table) -> _Columns:
    """Tell TUM from EuRoC, by the header, or by many columns or long integers with commas."""
    first = table.rows[0]
    named = _quaternion(table.header)
    euroc = any('_rs_' in name for name in table.header) or (
        not named and table.commas and len(first) >= _TUM
        and all(row[0].isdecimal() for row in table.rows)
        and (len(first) == _EUROC or len(first[0]) >= _NANOSECOND_DIGITS))
    if len(first) < _TUM or (len(first) > _TUM and not (named or euroc)):
        raise InputError(f'{path} line {table.numbers[0]}: got {len(first)} numbers; {_EXPECTED}')
    nanoseconds = euroc or bool(table.header and re.search(r'\bns\b|_ns\b', table.header[0]))
    return _Columns(nanoseconds, named or (_WXYZ if euroc else _XYZW), euroc)


def _pose(fields: list[str], quaternion: tuple[int, ...]) -> Array:
    """Return the transform (4, 4) of a line with a translation in columns 1 to 3."""
    row = np.array([float(fields[i]) for i in (1, 2, 3, *quaternion)])
    if not np.isfinite(row).all():
        raise ValueError('a number is not finite')
    if np.linalg.norm(row[3:]) < _SHORTEST_QUATERNION:
        raise ValueError('the quaternion is zero')
    return from_rt(matrix_from_quat_xyzw(row[3:]), row[:3])


def _matrix(fields: list[str]) -> Array:
    """Return the transform (4, 4) of a line of KITTI."""
    rows = np.array([float(field) for field in fields]).reshape(-1, 4)[:3]
    R = rows[:, :3]
    if not (np.isfinite(rows).all() and np.linalg.det(R) > 0
            and np.allclose(R @ R.T, np.eye(3), atol=_ROTATION_TOLERANCE)):
        raise ValueError('the first three of every four numbers are no rotation')
    return normalized(np.vstack([rows, [0.0, 0.0, 0.0, 1.0]]))
