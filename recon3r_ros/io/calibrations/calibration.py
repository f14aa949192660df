# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Intrinsics as a file states them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from recon3r_ros.errors import InputError
from recon3r_ros.geometry.calibration_checks import impossible
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations.document import Document
from recon3r_ros.io.lenses import lens

_POLYNOMIAL = ('k1', 'k2', 'p1', 'p2', 'k3', 'k4', 'k5', 'k6')
_FISHEYE = ('k1', 'k2', 'k3', 'k4')


@dataclass(frozen=True)
class Calibration:
    """
    Intrinsics, not all of which have the size of their images.

    :param fx: focal length in units of a pixel's width
    :param fy: focal length in units of a pixel's height
    :param cx: principal point, column; pixel centres at integers
    :param cy: principal point, row
    :param model: as in `Camera`
    :param distortion: as in `Camera`
    :param size: (width, height) of the images; None where it is not stated
    :param source: name of the file
    :param note: what was assumed, in a line for the user, or ''
    """

    fx: float
    fy: float
    cx: float
    cy: float
    model: str = 'plumb_bob'
    distortion: tuple[float, ...] = ()
    size: tuple[int, int] | None = None
    source: str = ''
    note: str = ''

    def camera(self, size: tuple[int, int] | None = None) -> Camera:
        """
        Return the camera of the images that were calibrated.

        :param size: (width, height) of the images, where the file does not state it
        :raises InputError: where intrinsics are not plausible, or the size is unknown
        """
        known = self.size or size
        if known is None:
            raise InputError(f"{self.source}: states no image size: add 'width' and 'height'")
        try:
            camera = Camera(*known, self.fx, self.fy, self.cx, self.cy, self.distortion,
                            self.model)
        except InputError as error:
            raise InputError(f'{self.source}: {error}') from error
        reason = impossible(camera)
        if reason:
            raise InputError(f'{self.source}: {reason}')
        return camera


@dataclass(frozen=True)
class Format:
    """
    One format of calibration files.

    :param name: for messages
    :param read: from a document to intrinsics; None where the document has another format
    """

    name: str
    read: Callable[[Document], Calibration | None]


def by_names(values: Mapping[str, float], fisheye: bool, size: tuple[int, int] | None,
             pixel_centre: float = 0.0) -> Calibration:
    """
    Build intrinsics from named parameters.

    :param values: fx fy cx cy, and k1 k2 p1 p2 k3 k4 k5 k6, or k1 k2 k3 k4 of a fisheye, where
        they are not zero
    :param fisheye: whether the lens is Kannala and Brandt's
    :param size: (width, height) of the images, where known
    :param pixel_centre: coordinate that the format gives to the centre of the first pixel
    """
    coefficients = [values.get(name, 0.0) for name in (_FISHEYE if fisheye else _POLYNOMIAL)]
    model, distortion = lens('fisheye' if fisheye else '', coefficients)
    return Calibration(values['fx'], values['fy'], values['cx'] - pixel_centre,
                       values['cy'] - pixel_centre, model, distortion, size)
