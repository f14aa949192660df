# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""camera.json, as packs have it: fields of `Camera`."""

from __future__ import annotations

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import Calibration, Format
from recon3r_ros.io.calibrations.document import Document, number, numbers, size_of
from recon3r_ros.io.lenses import lens

_KEYS = ('width', 'height', 'fx', 'fy', 'cx', 'cy')


def _read(document: Document) -> Calibration | None:
    values = document.mapping
    if not any(key in values for key in _KEYS):
        return None
    size = size_of(values, 'width', 'height')
    fx, fy, cx, cy = (number(values, key) for key in _KEYS[2:])
    name = values.get('model') or ''
    if not isinstance(name, str):
        raise InputError(f'model: got {name!r}, expected a name')
    model, distortion = lens(name, numbers(values.get('distortion'), 'distortion'))
    return Calibration(fx, fy, cx, cy, model, distortion, size)


CAMERA_JSON = Format('camera.json with width, height, fx, fy, cx and cy', _read)
