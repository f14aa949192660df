# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Trajectories: camera-to-world poses in the formats of TUM, KITTI and EuRoC.

TUM       stamp tx ty tz qx qy qz qw, the stamp in seconds
KITTI     the first three rows of the matrix, without a stamp
EuRoC     stamp,tx,ty,tz,qw,qx,qy,qz, the stamp in nanoseconds
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.geometry.se3 import from_rt, matrix_from_quat_xyzw, quat_xyzw_from_matrix
from recon3r_ros.io.atomic import write_bytes
from recon3r_ros.io.stamps import format_seconds, parse_seconds

_FIELDS = 8
_SHORTEST_QUATERNION = 1e-6


def write_tum(
    path: str | Path,
    stamps_ns: Sequence[int] | NDArray[np.int64],
    poses_T_world_cam: NDArray[np.float64] | Iterable[NDArray[np.float64]],
) -> None:
    """
    Write a trajectory.

    :param path: file to write
    :param stamps_ns: (N,) integer nanoseconds
    :param poses_T_world_cam: (N, 4, 4), camera to world
    :raises OutputError: where the file cannot be written or a pose is not finite
    """
    poses = np.asarray(list(poses_T_world_cam), dtype=np.float64).reshape(-1, 4, 4)
    if len(poses) != len(stamps_ns):
        raise OutputError(f'{path}: got {len(stamps_ns)} stamps for {len(poses)} poses')
    if not np.isfinite(poses).all():
        raise OutputError(f'{path}: a pose is not finite')
    quats_xyzw = quat_xyzw_from_matrix(poses[:, :3, :3])
    lines = ['# stamp tx ty tz qx qy qz qw (camera-to-world)\n']
    for stamp_ns, pose, quat_xyzw in zip(stamps_ns, poses, quats_xyzw, strict=True):
        numbers = ' '.join(f'{value:.9f}' for value in (*pose[:3, 3], *quat_xyzw))
        lines.append(f'{format_seconds(int(stamp_ns))} {numbers}\n')
    write_bytes(Path(path), ''.join(lines).encode())


def write_kitti(path: str | Path, poses_T_world_cam: NDArray[np.float64]) -> None:
    """
    Write a trajectory without stamps, as KITTI does.

    :param path: file to write
    :param poses_T_world_cam: (N, 4, 4), camera to world
    :raises OutputError: where the file cannot be written
    """
    rows = poses_T_world_cam[:, :3].reshape(-1, 12).tolist()
    lines = [' '.join(f'{value:.9e}' for value in row) + '\n' for row in rows]
    write_bytes(Path(path), ''.join(lines).encode())


def write_euroc(path: str | Path, stamps_ns: Sequence[int],
                poses_T_world_cam: NDArray[np.float64], metric: bool) -> None:
    """
    Write a trajectory as a csv file of EuRoC; the poses are those of the camera.

    :param path: file to write
    :param stamps_ns: (N,) integer nanoseconds
    :param poses_T_world_cam: (N, 4, 4), camera to world
    :param metric: whether positions are in metres, which the header says
    :raises OutputError: where the file cannot be written
    """
    unit = 'm' if metric else 'map units'
    positions = ','.join(f'p_{axis} [{unit}]' for axis in 'xyz')
    lines = [f'#timestamp [ns],{positions},q_w [],q_x [],q_y [],q_z []\n']
    quats_xyzw = quat_xyzw_from_matrix(poses_T_world_cam[:, :3, :3])
    for stamp_ns, pose, (x, y, z, w) in zip(stamps_ns, poses_T_world_cam, quats_xyzw, strict=True):
        numbers = ','.join(f'{value:.9f}' for value in (*pose[:3, 3], w, x, y, z))
        lines.append(f'{int(stamp_ns)},{numbers}\n')
    write_bytes(Path(path), ''.join(lines).encode())


def read_tum(path: str | Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """
    Read a trajectory.

    :param path: file; empty lines and those that start with # are ignored
    :returns: stamps (N,) integer nanoseconds and T_world_cam (N, 4, 4), in the order of the file
    :raises InputError: naming file and line
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: cannot be read: {error}') from None
    stamps: list[int] = []
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith('#'):
            continue
        try:
            stamp_ns, row = _parse(fields)
        except ValueError as error:
            raise InputError(f'{path} line {number}: {error}') from None
        stamps.append(stamp_ns)
        rows.append(row)
    values = np.array(rows, dtype=np.float64).reshape(-1, _FIELDS - 1)
    rotations = matrix_from_quat_xyzw(values[:, 3:])
    return np.array(stamps, dtype=np.int64), from_rt(rotations, values[:, :3])


def _parse(fields: list[str]) -> tuple[int, list[float]]:
    """Return the stamp in nanoseconds and translation with quaternion (7,)."""
    if len(fields) != _FIELDS:
        raise ValueError(
            f'expected {_FIELDS} numbers, stamp tx ty tz qx qy qz qw, got {len(fields)}'
        )
    row = [float(field) for field in fields[1:]]
    if not np.isfinite(row).all():
        raise ValueError('a number is not finite')
    if np.linalg.norm(row[3:]) < _SHORTEST_QUATERNION:
        raise ValueError('the quaternion is zero')
    return parse_seconds(fields[0]), row
