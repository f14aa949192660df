# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Text files of nothing but numbers: a matrix of intrinsics, or fx fy cx cy and a distortion."""

from __future__ import annotations

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import Calibration, Format
from recon3r_ros.io.calibrations.document import Document, numbers
from recon3r_ros.io.calibrations.matrices import pinhole
from recon3r_ros.io.lenses import lens

_MATRICES = (9, 16)


def _read(document: Document) -> Calibration | None:
    if document.data is not None:
        return None
    try:
        values = numbers(' '.join(document.lines), 'numbers')
    except InputError:
        return None
    if len(values) < 4:
        return None
    if len(values) in _MATRICES and values[4 if len(values) == 9 else 5] and not values[1]:
        return Calibration(*pinhole(values, 'matrix'))
    model, distortion = lens('', values[4:])
    fx, fy, cx, cy = values[:4]
    return Calibration(fx, fy, cx, cy, model, distortion)


PLAIN_NUMBERS = Format('text with a camera matrix, or with fx fy cx cy and a distortion', _read)
