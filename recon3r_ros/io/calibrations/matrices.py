# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Formats with a matrix of intrinsics and a list of distortion coefficients, under various names.

These are YAML of ROS's camera_calibration and a printed CameraInfo, OpenCV's FileStorage, Open3D's
PinholeCameraIntrinsic (its matrix is column by column), and matrices that programs write as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any

import numpy as np
from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import Calibration, Format
from recon3r_ros.io.calibrations.document import Document, integer, numbers, size_of
from recon3r_ros.io.lenses import lens

# Keys without case and punctuation
_MATRIX = ('cameramatrix', 'k', 'intrinsicmatrix', 'intrinsicsmatrix', 'mtx', 'intrinsics',
           'intrinsic')
_DISTORTION = ('distortioncoefficients', 'distortioncoeffs', 'distcoeffs', 'distcoeff', 'dist',
               'd', 'distortion')
_MODEL = ('distortionmodel', 'model', 'cameramodel')
_SIZES = (('imagewidth', 'imageheight'), ('width', 'height'), ('w', 'h'))
_SIZE = ('resolution', 'imagesize', 'imageresolution', 'size')
_COLUMNS = {9: 3, 12: 4, 16: 4}
#: Skew, over the focal length, that moves no pixel of a usual image by more than a quarter
_MAX_SKEW = 5e-4


def _read(document: Document) -> Calibration | None:
    if isinstance(document.data, list):
        return _calibration({'k': document.data})
    return _calibration(document.mapping)


def _calibration(mapping: Mapping[str, Any]) -> Calibration | None:
    values = {re.sub(r'[^a-z0-9]', '', str(key).lower()): value for key, value in mapping.items()}
    key = next((name for name in _MATRIX if name in values), None)
    if key is None:
        return None
    if isinstance(values[key], Mapping) and 'data' not in values[key]:
        return _calibration(values[key])  # Open3D's PinholeCameraParameters
    fx, fy, cx, cy = pinhole(numbers(values[key], key), key)
    given = next((name for name in _DISTORTION if name in values), '')
    name = next((values[name] for name in _MODEL if isinstance(values.get(name), str)), '')
    if not name and values.get('fisheyemodel') in (1, '1', True):
        name = 'fisheye'
    model, distortion = lens(name, numbers(values.get(given), given))
    return Calibration(fx, fy, cx, cy, model, distortion, _size(values))


def _size(values: Mapping[str, Any]) -> tuple[int, int] | None:
    for width, height in _SIZES:
        if width in values or height in values:
            return size_of(values, width, height)
    for key in _SIZE:
        if key in values:
            pair = dict(enumerate(numbers(values[key], key)))
            if len(pair) != 2:
                raise InputError(f'{key}: got {values[key]!r}, expected width and height')
            named = {f'{key} width': pair[0], f'{key} height': pair[1]}
            return integer(named, f'{key} width'), integer(named, f'{key} height')
    return None


def pinhole(values: list[float], key: str) -> tuple[float, float, float, float]:
    """
    Return fx, fy, cx and cy of a matrix.

    :param values: 3x3, 3x4 or 4x4, row by row; 3x3 also column by column
    :param key: name of the matrix in an error
    :raises InputError: where this is no matrix of intrinsics without skew
    """
    if len(values) not in _COLUMNS:
        raise InputError(f'{key}: got {len(values)} numbers, expected a matrix of 3x3')
    K = np.reshape(values, (-1, _COLUMNS[len(values)]))[:3, :3]
    if K[2, 0] or K[2, 1]:
        K = K.T
    if not np.array_equal(K[2], (0, 0, 1)) or K[1, 0] or abs(K[0, 1]) > _MAX_SKEW * K[0, 0]:
        raise InputError(f'{key}: got {K.tolist()}, expected [[fx, 0, cx], [0, fy, cy], '
                         '[0, 0, 1]]')
    return float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2])


MATRICES = Format('ROS, OpenCV or Open3D file with a camera matrix', _read)
