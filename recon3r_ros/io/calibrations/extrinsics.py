# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Extrinsics of cameras in calibration files: Kalibr's T_cn_cnm1, EuRoC's T_BS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.calibrations.document import numbers, parse

Array = NDArray[np.float64]

#: Rounding that a printed rotation may have
_ROUNDING = 1e-3


def pair_extrinsics(first: str | Path | None, other: str | Path | None) -> Array | None:
    """
    Return the pose (4, 4) of a second camera in the frame of the first, metres.

    :param first: calibration file of the first camera, or None
    :param other: that of the second; the same one where it is of both
    :return: None where the files do not have it: of Kalibr, the second one has T_cn_cnm1; of
        EuRoC, both have T_BS, poses in a common body
    :raises InputError: where a file cannot be read, or has no rigid motion there
    """
    if other is None:
        return None
    values = _mapping(other)
    chained = values.get('cam1', values)
    if isinstance(chained, Mapping) and 'T_cn_cnm1' in chained:
        # It maps points of the camera before to this one
        return se3.inverse(rigid(chained['T_cn_cnm1'], f'{other}: T_cn_cnm1'))
    known = {} if first is None else _mapping(first)
    if 'T_BS' not in known or 'T_BS' not in values:
        return None
    return se3.inverse(rigid(known['T_BS'], f'{first}: T_BS')) @ rigid(
        values['T_BS'], f'{other}: T_BS')


def common_extrinsics(files: Sequence[str | Path | None], numbers_in_file: Sequence[int]
                      ) -> dict[int, Array]:
    """
    Return the poses (4, 4) of several cameras in a common frame, metres, by their positions.

    :param files: a calibration file for each camera, or None
    :param numbers_in_file: which camera of the file it is
    :return: of EuRoC, those with T_BS; of Kalibr, those in the file of several cameras that names
        most of them; none where the files do not have them
    :raises InputError: where a file cannot be read, or has no rigid motion where one is expected
    """
    values = [{} if file is None else _mapping(file) for file in files]
    in_body = {i: rigid(v['T_BS'], f'{files[i]}: T_BS') for i, v in enumerate(values)
               if 'T_BS' in v}
    if in_body:
        return in_body
    found: dict[int, Array] = {}
    for file in dict.fromkeys(f for f in files if f is not None):
        own = [i for i, other in enumerate(files) if other == file]
        chain = chained_extrinsics(values[own[0]], str(file))
        poses = {i: chain[numbers_in_file[i]] for i in own if numbers_in_file[i] in chain}
        if len(poses) > len(found):
            found = poses
    return found


def chained_extrinsics(values: Mapping[str, Any], where: str) -> dict[int, Array]:
    """
    Return the poses (4, 4) of the cameras of a Kalibr camchain in the frame of cam0, metres.

    :param values: of the file
    :param where: its name, for errors
    :return: by number; none where it holds fewer than two cameras, or no T_cn_cnm1
    :raises InputError: where T_cn_cnm1 is no rigid motion
    """
    poses = {0: np.eye(4)}
    number = 1
    while isinstance(values.get(f'cam{number}'), Mapping):
        own = values[f'cam{number}']
        if 'T_cn_cnm1' not in own:
            break
        # It maps points of the camera before to this one
        T_own_before = rigid(own['T_cn_cnm1'], f'{where}: cam{number}: T_cn_cnm1')
        poses[number] = poses[number - 1] @ se3.inverse(T_own_before)
        number += 1
    return poses if number > 1 else {}


def rigid(value: Any, where: str) -> Array:
    """
    Return a rigid motion (4, 4) of the numbers of a file.

    :param value: a list, rows, or a matrix with `data`
    :param where: name of the value, for errors
    :raises InputError: where it is none
    """
    values = numbers(value, where)
    T = np.reshape(values, (4, 4)) if len(values) == 16 else np.zeros((4, 4))
    R = T[:3, :3]
    if (not np.array_equal(T[3], (0, 0, 0, 1)) or np.linalg.det(R) < 0
            or np.abs(R @ R.T - np.eye(3)).max() > _ROUNDING):
        raise InputError(f'{where}: got {values}, expected the 16 numbers of a rigid motion')
    return se3.normalized(T)


def _mapping(path: str | Path) -> Mapping[str, Any]:
    return parse(Path(path)).mapping
