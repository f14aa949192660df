# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""cameras.txt of a COLMAP model. COLMAP has the centre of the first pixel at 0.5, not at 0."""

from __future__ import annotations

import re

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import by_names, Calibration, Format
from recon3r_ros.io.calibrations.document import Document, integer, number

PIXEL_CENTRE = 0.5
#: Parameters of each model that can be used; f is both focal lengths
_PARAMETERS = {
    'SIMPLE_PINHOLE': 'f cx cy',
    'PINHOLE': 'fx fy cx cy',
    'SIMPLE_RADIAL': 'f cx cy k1',
    'RADIAL': 'f cx cy k1 k2',
    'OPENCV': 'fx fy cx cy k1 k2 p1 p2',
    'FULL_OPENCV': 'fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6',
    'SIMPLE_RADIAL_FISHEYE': 'f cx cy k1',
    'RADIAL_FISHEYE': 'f cx cy k1 k2',
    'OPENCV_FISHEYE': 'fx fy cx cy k1 k2 k3 k4',
}


def is_fisheye(model: str) -> bool:
    """Whether a model of COLMAP is Kannala and Brandt's."""
    return model.endswith('_FISHEYE')


def check_model(model: str) -> None:
    """
    Check that a model of COLMAP can be represented.

    :raises InputError: where it cannot
    """
    if model not in _PARAMETERS:
        raise InputError(f'camera model {model} cannot be used, only {", ".join(_PARAMETERS)}')


def _read(document: Document) -> Calibration | None:
    lines = [line.split() for line in document.lines]
    if not lines or any(len(line) < 5 or not re.fullmatch(r'\d+', line[0])
                        or not re.fullmatch(r'[A-Z][A-Z_]+', line[1]) for line in lines):
        return None
    found = {line[0]: _camera(line) for line in lines}
    first, calibration = next(iter(found.items()))
    for name, other in found.items():
        if other != calibration:
            raise InputError(
                f'cameras {first} and {name} differ (focal lengths {calibration.fx:.6g} and '
                f'{other.fx:.6g}, sizes {calibration.size} and {other.size}): keep the line of '
                'the one that took the images')
    return calibration


def _camera(line: list[str]) -> Calibration:
    where = f'camera {line[0]}'
    model, given = line[1], line[4:]
    check_model(model)
    names = _PARAMETERS[model].split()
    if len(given) != len(names):
        raise InputError(f'{where}: got {len(given)} parameters, {model} has {len(names)}: '
                         + ', '.join(names))
    texts = {f'{where}: {name}': text for name, text in zip(names, given)}
    values = {name: number(texts, f'{where}: {name}') for name in names}
    if 'f' in values:
        values |= dict.fromkeys(('fx', 'fy'), values['f'])
    size = {f'{where}: width': line[2], f'{where}: height': line[3]}
    width, height = (integer(size, key) for key in size)
    return by_names(values, is_fisheye(model), (width, height), PIXEL_CENTRE)


COLMAP = Format('COLMAP cameras.txt', _read)
