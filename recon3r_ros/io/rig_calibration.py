# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Calibration of all cameras of a rig: rig.json, a camchain of Kalibr, or a folder of EuRoC.

rig.json holds for each camera, by name, its intrinsics as in camera.json; and for all but the
first T_FIRST_NAME, the pose (4x4, metres) of camera NAME in the first one's. EuRoC has a folder
for each camera with sensor.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations import Calibration, read_calibration
from recon3r_ros.io.calibrations.camera_json import CAMERA_JSON
from recon3r_ros.io.calibrations.document import Document, parse
from recon3r_ros.io.calibrations.extrinsics import chained_extrinsics, common_extrinsics, rigid

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RigCamera:
    """
    A camera of a rig.

    :param calibration: its intrinsics
    :param T_rig_cam: (4, 4) its pose in a frame that all cameras have in common, metres
    :param topic: of its images, where the file states it, or ''
    """

    name: str
    calibration: Calibration
    T_rig_cam: Array
    topic: str = ''


def read_rig_calibration(path: str | Path) -> list[RigCamera]:
    """
    Read the cameras of a rig, two or more.

    :param path: rig.json, a camchain, or EuRoC's mav0/ or the folder with it
    :raises InputError: where it is none of them, or something is missing, which is named
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f'{path}: no such file or folder')
    if path.is_dir():
        return _euroc(path)
    values = parse(path).mapping
    second = values.get('cam1')
    of_kalibr = isinstance(second, Mapping) and 'T_cn_cnm1' in second
    cameras = list(_camchain(path, values) if of_kalibr else _rig_json(path, values))
    if len(cameras) < 2:
        raise InputError(f'{path}: holds {len(cameras)} camera(s), expected the rig of several: '
                         'rig.json with the cameras by name and T_FIRST_NAME, or a camchain of '
                         'Kalibr with T_cn_cnm1')
    return cameras


def _rig_json(path: Path, values: Mapping[str, object]) -> Iterator[RigCamera]:
    names = [name for name, value in values.items() if isinstance(value, Mapping)]
    for name in names:
        key = f'T_{names[0]}_{name}'
        if name != names[0] and key not in values:
            raise InputError(f'{path}: {key} is missing, the pose (4x4, metres) of camera {name} '
                             f'in that of {names[0]}')
        own = values[name]
        assert isinstance(own, Mapping)
        try:
            found = CAMERA_JSON.read(Document((), own))
        except InputError as error:
            raise InputError(f'{path}: {name}: {error}') from None
        if found is None:
            raise InputError(f'{path}: {name}: expected width, height, fx, fy, cx and cy')
        yield RigCamera(name, found, np.eye(4) if name == names[0]
                        else rigid(values[key], f'{path}: {key}'))


def _camchain(path: Path, values: Mapping[str, object]) -> Iterator[RigCamera]:
    for number, T in chained_extrinsics(values, str(path)).items():
        name = f'cam{number}'
        own = values[name]
        assert isinstance(own, Mapping)
        yield RigCamera(name, read_calibration(path, number), T, str(own.get('rostopic') or ''))


def _euroc(folder: Path) -> list[RigCamera]:
    outer = folder / 'mav0' if (folder / 'mav0').is_dir() else folder
    files = sorted(outer.glob('cam*/sensor.yaml'))
    T_body_cam = common_extrinsics(files, [0] * len(files))
    if len(T_body_cam) < 2:
        raise InputError(f'{folder}: no rig: expected cam0/, cam1/ and so on, each with '
                         'sensor.yaml that has T_BS')
    return [RigCamera(files[i].parent.name, read_calibration(files[i]), T)
            for i, T in T_body_cam.items()]
