# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of SLAM systems with named parameters: of ORB-SLAM, and of VINS, by camodocal."""

from __future__ import annotations

from collections.abc import Mapping
import re
from typing import Any

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import by_names, Calibration, Format
from recon3r_ros.io.calibrations.document import Document, number, size_of

_ORB_MODELS = {'pinhole': False, 'rectified': False, 'kannalabrandt8': True}
#: camodocal's names of Kannala and Brandt's parameters, and ours
_CAMODOCAL_FISHEYE = {'mu': 'fx', 'mv': 'fy', 'u0': 'cx', 'v0': 'cy', 'k2': 'k1', 'k3': 'k2',
                      'k4': 'k3', 'k5': 'k4'}
_LENS = ('k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6')


def _read(document: Document) -> Calibration | None:
    values = document.mapping
    if isinstance(values.get('projection_parameters'), Mapping):
        return _camodocal(values)
    # ORB-SLAM3 numbers them; what concerns both cameras has no number
    prefix = next((p for p in ('Camera1.', 'Camera.')
                   if any(str(key) == f'{p}fx' for key in values)), '')
    if not prefix and not any(re.match(r'Camera1?\.f[xy]|Camera\.type', str(k)) for k in values):
        return None
    return _orb_slam(values, prefix or 'Camera.')


def _orb_slam(values: Mapping[str, Any], prefix: str) -> Calibration:
    kind = str(values.get('Camera.type') or 'PinHole')
    if kind.lower() not in _ORB_MODELS:
        raise InputError(f'Camera.type: got {kind!r}, expected PinHole, Rectified or '
                         'KannalaBrandt8')
    found = {name: number(values, prefix + name) for name in ('fx', 'fy', 'cx', 'cy')}
    found |= {name: number(values, prefix + name) for name in _LENS if prefix + name in values}
    return by_names(found, _ORB_MODELS[kind.lower()],
                    size_of(values, 'Camera.width', 'Camera.height'))


def _camodocal(values: Mapping[str, Any]) -> Calibration:
    kind = str(values.get('model_type') or 'PINHOLE').upper()
    given = dict(values['projection_parameters'])
    if kind == 'KANNALA_BRANDT':
        found = {ours: number(given, name) for name, ours in _CAMODOCAL_FISHEYE.items()}
    elif kind == 'PINHOLE':
        bent = values.get('distortion_parameters') or {}
        if not isinstance(bent, Mapping):
            raise InputError(f'distortion_parameters: got {bent!r}, expected k1, k2, p1 and p2')
        found = {name: number(given, name) for name in ('fx', 'fy', 'cx', 'cy')}
        found |= {name: number(bent, name) for name in _LENS if name in bent}
    else:
        raise InputError(f'model_type: got {kind}, expected PINHOLE or KANNALA_BRANDT')
    return by_names(found, kind == 'KANNALA_BRANDT',
                    size_of(values, 'image_width', 'image_height'))


SLAM_SETTINGS = Format('ORB-SLAM or VINS YAML', _read)
