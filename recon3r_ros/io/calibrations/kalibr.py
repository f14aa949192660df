# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camchains of Kalibr, and sensor.yaml of EuRoC, which has the same fields of one camera."""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import Calibration, Format
from recon3r_ros.io.calibrations.document import Document, integer, numbers
from recon3r_ros.io.lenses import lens


def _read(document: Document) -> Calibration | None:
    values = document.mapping
    if _is_camera(values):
        return _camera(values)
    names = [str(name) for name, value in values.items()
             if re.fullmatch(r'cam\d+', str(name)) and _is_camera(value)]
    if not names:
        return None
    # A file with one camera is of the wanted one
    taken = sorted(names, key=lambda name: int(name[3:]))[min(document.number, len(names) - 1)]
    note = '' if len(names) == 1 or document.number else (
        f'takes {taken} of {", ".join(names)}: for another camera, give a file with it alone')
    return _camera(values[taken], f'{taken}: ', note)


def _is_camera(value: Any) -> bool:
    return isinstance(value, Mapping) and 'intrinsics' in value and 'camera_model' in value


def _camera(values: Mapping[str, Any], where: str = '', note: str = '') -> Calibration:
    model = str(values['camera_model'])
    if model != 'pinhole':
        raise InputError(
            f'{where}camera_model {model!r} cannot be used, only pinhole: calibrate as '
            'pinhole-radtan, or pinhole-equi for a wide lens')
    intrinsics = numbers(values['intrinsics'], f'{where}intrinsics')
    if len(intrinsics) != 4:
        raise InputError(f'{where}intrinsics: got {len(intrinsics)} numbers, expected fu, fv, cu '
                         'and cv')
    given = next((key for key in ('distortion_coeffs', 'distortion_coefficients')
                  if key in values), 'distortion_coeffs')
    lens_model, distortion = lens(str(values.get('distortion_model') or ''),
                                  numbers(values.get(given), f'{where}{given}'))
    pair = numbers(values.get('resolution'), f'{where}resolution')
    if len(pair) not in (0, 2):
        raise InputError(f'{where}resolution: got {pair}, expected width and height')
    named = dict(zip((f'{where}width', f'{where}height'), pair))
    size = (integer(named, f'{where}width'), integer(named, f'{where}height')) if pair else None
    fx, fy, cx, cy = intrinsics
    return Calibration(fx, fy, cx, cy, lens_model, distortion, size, note=note)


KALIBR = Format('Kalibr camchain or EuRoC sensor YAML', _read)
