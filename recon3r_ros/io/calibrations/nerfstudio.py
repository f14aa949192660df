# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""transforms.json of Nerfstudio and instant-ngp, with COLMAP's models and pixel centres."""

from __future__ import annotations

from collections.abc import Mapping
import math
from typing import Any

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import by_names, Calibration, Format
from recon3r_ros.io.calibrations.colmap import check_model, is_fisheye, PIXEL_CENTRE
from recon3r_ros.io.calibrations.document import Document, number, size_of

_KEYS = ('camera_model', 'is_fisheye', 'camera_angle_x', 'fl_x', 'fl_y', 'cx', 'cy', 'w', 'h',
         'k1', 'k2', 'k3', 'k4', 'p1', 'p2')
_LENS = ('k1', 'k2', 'k3', 'k4', 'p1', 'p2')


def _read(document: Document) -> Calibration | None:
    values = document.mapping
    frames = values.get('frames')
    if not isinstance(frames, list):
        frames = []
        if 'fl_x' not in values and 'camera_angle_x' not in values:
            return None
    shared = {key: values[key] for key in _KEYS if key in values}
    found = [{**shared, **{key: frame[key] for key in _KEYS if key in frame}}
             for frame in frames if isinstance(frame, Mapping)]
    for other in found:
        if other != found[0]:
            raise InputError(
                f'its frames have different intrinsics (fl_x {found[0].get("fl_x")} and '
                f'{other.get("fl_x")}): images of one camera are needed')
    return _camera(found[0] if found else shared)


def _camera(values: Mapping[str, Any]) -> Calibration:
    model = str(values.get('camera_model') or 'OPENCV')
    check_model(model)
    fisheye = is_fisheye(model) or values.get('is_fisheye') is True
    size = size_of(values, 'w', 'h')
    if 'fl_x' not in values and 'camera_angle_x' in values:
        angle = number(values, 'camera_angle_x')
        if not 0 < angle < math.pi:
            raise InputError(f'camera_angle_x: got {angle}, expected radians below pi')
        fx = number(values, 'w') / 2 / math.tan(angle / 2)
        found = {'fx': fx, 'fy': fx, 'cx': number(values, 'w') / 2, 'cy': number(values, 'h') / 2}
    else:
        fx = number(values, 'fl_x')
        found = {'fx': fx, 'fy': number(values, 'fl_y') if 'fl_y' in values else fx,
                 'cx': number(values, 'cx'), 'cy': number(values, 'cy')}
    found |= {name: number(values, name) for name in _LENS if name in values}
    if not fisheye and found.get('k4'):
        # Elsewhere the fourth radial coefficient, in OpenCV's order one of a denominator
        raise InputError(f'k4: got {found["k4"]}, expected 0 for {model}')
    return by_names(found, fisheye, size, PIXEL_CENTRE)


NERFSTUDIO = Format('Nerfstudio transforms.json', _read)
