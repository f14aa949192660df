# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The calibration of a depth camera beside a colour camera, and depth in the latter's view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations import Calibration, read_calibration
from recon3r_ros.io.calibrations.document import numbers, parse

if TYPE_CHECKING:
    from recon3r_ros.geometry.depth_registration import DepthRegistration

_POSE = 'T_color_depth'


@dataclass(frozen=True, eq=False)
class DepthCamera:
    """
    A depth camera.

    :param calibration: of the depth images
    :param T_colour_depth: (4, 4) its pose in the colour camera's frame, metres
    """

    calibration: Calibration
    T_colour_depth: NDArray[np.float64]

    @classmethod
    def read(cls, path: str | Path) -> DepthCamera:
        """
        Read a calibration with `T_color_depth`, the 16 numbers of a matrix, row by row.

        :raises InputError: naming the file, where it cannot be read or lacks something
        """
        values = parse(Path(path)).mapping
        if _POSE not in values:
            raise InputError(f'{path}: {_POSE} is missing: add the pose of the depth camera in '
                             'the colour camera, a matrix of 4x4 numbers, metres; for depth that '
                             'is registered to the images leave the file out')
        found = numbers(values[_POSE], f'{path}: {_POSE}')
        if len(found) != 16:
            raise InputError(f'{path}: {_POSE} has {len(found)} numbers, expected 4x4')
        return cls(read_calibration(path), np.array(found).reshape(4, 4))

    def registration(self, shape: tuple[int, ...], colour: Camera | None) -> DepthRegistration:
        """
        Make what warps depth images into the images' view.

        :param shape: (height, width) of the depth images
        :param colour: camera of the images
        :raises InputError: where that is unknown, or the depth camera is of another size
        """
        from recon3r_ros.geometry.depth_registration import DepthRegistration
        source = self.calibration.source
        if colour is None:
            raise InputError(f'{source}: depth of a camera of its own needs the intrinsics of the '
                             'images: give them with --camera')
        size = (shape[1], shape[0])
        own = self.calibration.camera(size)
        camera = own.scaled_to(*size)
        if camera is None:
            raise InputError(f'{source} is for depth images of {own.width}x{own.height} pixels, '
                             f'these have {size[0]}x{size[1]}')
        try:
            return DepthRegistration(camera, colour, self.T_colour_depth)
        except InputError as error:
            raise InputError(f'{source}: {error}') from error
