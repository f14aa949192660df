# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras from the fields of a sensor_msgs/CameraInfo, decoded by any library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
import logging
from typing import Protocol

import numpy as np
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.calibration_checks import impossible, middle_offset
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.lenses import lens

logger = logging.getLogger(__name__)

#: Offset of the principal point from the middle, in image sizes, beyond which K may be of another
#: resolution than the message; relative difference of both coordinates that tells this
_OFF_CENTRE = 0.15
_SAME = 0.1


class RegionOfInterest(Protocol):
    """Region of the sensor that was read out, unbinned pixels; height or width 0 means all."""

    x_offset: int
    y_offset: int
    height: int
    width: int


class CameraInfo(Protocol):
    """The fields of a sensor_msgs/CameraInfo that define the projection."""

    height: int
    width: int
    distortion_model: str
    d: Sequence[float]
    k: Sequence[float]
    p: Sequence[float]
    binning_x: int
    binning_y: int
    roi: RegionOfInterest


def camera_from_info(
    info: CameraInfo, rectified: bool = False, warn: Callable[[str], None] = logger.warning
) -> Camera | None:
    """
    Return the camera of the images that come with a CameraInfo.

    :param info: the message
    :param rectified: whether the images are rectified (topics image_rect*), so that their
        projection is P, not K and D
    :param warn: called with what is odd about the message
    :returns: None where intrinsics are unknown, after a warning: K (or P) is zero, not finite, of
        another resolution, or nonsense
    :raises InputError: for a distortion model that cannot be used
    """
    name, values = ('P', list(info.p)) if rectified else ('K', list(info.k))
    fx, fy, cx, cy = (
        float(values[i]) for i in ((0, 5, 2, 6) if rectified else (0, 4, 2, 5))
    )
    numbers = {name: values, 'D': [] if rectified else [float(value) for value in info.d]}
    reason = ''
    if not np.isfinite([x for given in numbers.values() for x in given]).all():
        reason = f'{" or ".join(numbers)} holds numbers that are not finite'
    elif fx == 0.0 or fy == 0.0:
        reason = f'{name} is zero, the camera is uncalibrated'
    elif not info.width or not info.height:
        reason = f'its images have {info.width}x{info.height} pixels'
    elif fx < 0.0 or fy < 0.0:
        reason = f'{name} has focal lengths of {fx:.6g} and {fy:.6g} pixels'
    else:
        model, distortion = ('plumb_bob', ()) if rectified else _lens(info, numbers['D'])
        camera = Camera(
            int(info.width), int(info.height), fx, fy, cx, cy, distortion, model
        )
        # The message calibrates the full sensor; 0 and 1 both mean no binning.
        binning = max(1, int(info.binning_x)), max(1, int(info.binning_y))
        if binning != (1, 1):
            camera = _full_sensor(camera, binning, warn)
        reason = impossible(camera) or _of_another_resolution(camera)
    if reason:
        warn(f'{reason}: intrinsics unknown; give a camera file')
        return None
    roi = info.roi
    if roi.width and roi.height:
        camera = camera.cropped(
            int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)
        )
    if binning != (1, 1):
        camera = camera.resized(camera.width // binning[0], camera.height // binning[1])
    return camera


def _full_sensor(
    stated: Camera, binning: tuple[int, int], warn: Callable[[str], None]
) -> Camera:
    """
    Return the camera of the full sensor, where a driver may have scaled K or the size by itself.

    :param stated: camera with size and K of the message, of the full sensor by the definition
    :param binning: pixels of the sensor in one of the image, horizontally and vertically
    """
    width, height = stated.width, stated.height
    small = max(1, width // binning[0]), max(1, height // binning[1])
    others = {
        f'K is of the binned image of {small[0]}x{small[1]} pixels': replace(
            stated, width=small[0], height=small[1]
        ).resized(width, height),
        f'{width}x{height} pixels are those of the binned image': replace(
            stated, width=width * binning[0], height=height * binning[1]
        ),
    }
    meaning, camera = min(others.items(), key=lambda item: _off(item[1]))
    if _off(stated) <= _OFF_CENTRE or _off(camera) > _off(stated) / 2:
        return stated
    warn(
        f'with binning {binning[0]}x{binning[1]} the principal point ({stated.cx:.1f}, '
        f'{stated.cy:.1f}) would be far from the middle of {width}x{height} pixels: taken as if '
        f'{meaning}'
    )
    return camera


def _of_another_resolution(camera: Camera) -> str:
    """Say whether both coordinates of the principal point are off as in an image of other size."""
    x, y = (0.5 + offset for offset in middle_offset(camera))
    if min(abs(x - 0.5), abs(y - 0.5)) <= _OFF_CENTRE or abs(x - y) > _SAME * max(x, y, _SAME):
        return ''
    return (
        f'the principal point ({camera.cx:.1f}, {camera.cy:.1f}) is far from the middle of '
        f'{camera.width}x{camera.height} pixels, as in an image {2 * x:.2g} times as large'
    )


def _off(camera: Camera) -> float:
    return max(abs(offset) for offset in middle_offset(camera))


def _lens(info: CameraInfo, coefficients: list[float]) -> tuple[str, tuple[float, ...]]:
    """Return the model and its coefficients."""
    try:
        return lens(info.distortion_model, coefficients)
    except InputError as error:
        raise InputError(f'{error}; give a camera file, or run uncalibrated') from error
