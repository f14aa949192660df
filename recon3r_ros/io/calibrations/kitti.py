# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""calib.txt of KITTI odometry: projection matrices P0 to P3 of rectified cameras, 3x4 each."""

from __future__ import annotations

import re

from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations.calibration import Calibration, Format
from recon3r_ros.io.calibrations.document import Document, numbers
from recon3r_ros.io.calibrations.matrices import pinhole


def _read(document: Document) -> Calibration | None:
    cameras = {key: pinhole(numbers(value, key), key)
               for key, value in document.mapping.items() if re.fullmatch(r'P\d', str(key))}
    if not cameras:
        return None
    # The cameras of a rig are rectified to the same intrinsics: the file alone is enough then
    if len(set(cameras.values())) > 1:
        raise InputError(f'the cameras {", ".join(cameras)} differ: put the file beside the '
                         'folder image_0 or image_2 of the images, and leave --camera out')
    return Calibration(*next(iter(cameras.values())))


KITTI = Format('calib.txt of KITTI', _read)
