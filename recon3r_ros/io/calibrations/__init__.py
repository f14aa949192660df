# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Calibrations of a camera as tools write them; the format is recognised by the content.

A format is a module with a `Format`, and a place in `FORMATS`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import Calibration
from recon3r_ros.io.calibrations.camera_json import CAMERA_JSON
from recon3r_ros.io.calibrations.colmap import COLMAP
from recon3r_ros.io.calibrations.document import parse
from recon3r_ros.io.calibrations.kalibr import KALIBR
from recon3r_ros.io.calibrations.kitti import KITTI
from recon3r_ros.io.calibrations.matrices import MATRICES
from recon3r_ros.io.calibrations.nerfstudio import NERFSTUDIO
from recon3r_ros.io.calibrations.plain_numbers import PLAIN_NUMBERS
from recon3r_ros.io.calibrations.slam_settings import SLAM_SETTINGS

__all__ = ['Calibration', 'FORMATS', 'read_calibration']

#: The first that recognises a file reads it
FORMATS = (COLMAP, KALIBR, SLAM_SETTINGS, NERFSTUDIO, KITTI, MATRICES, CAMERA_JSON,
           PLAIN_NUMBERS)


def read_calibration(path: str | Path, number: int = 0) -> Calibration:
    """
    Read the intrinsics of a camera.

    :param path: file of any format in `FORMATS`
    :param number: which camera, from 0, of a file that has several
    :raises InputError: naming the file, where it has none of them, or is not plausible
    """
    document = replace(parse(Path(path)), number=number)
    for known in FORMATS:
        try:
            found = known.read(document)
        except InputError as error:
            raise InputError(f'{path}: {error} (read as {known.name})') from error
        if found is not None:
            calibration = replace(found, source=str(path))
            if calibration.size is not None:
                calibration.camera()
            return calibration
    raise InputError(f'{path}: has no known format of a calibration: expected '
                     + '; '.join(known.name for known in FORMATS))
