# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras from the fields of a sensor_msgs/CameraInfo, decoded by any library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera

# Names in CameraInfo -> names of `Camera.model`. Drivers of ideal cameras leave the name empty.
_MODELS = {
    '': 'plumb_bob',
    'plumb_bob': 'plumb_bob',
    'rational_polynomial': 'rational_polynomial',
    'equidistant': 'equidistant',
    'fisheye': 'equidistant',
}
_COEFFICIENTS = {'plumb_bob': 5, 'rational_polynomial': 8, 'equidistant': 4}


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


def camera_from_info(info: CameraInfo, rectified: bool = False) -> Camera | None:
    """
    Return the camera of the images that come with a CameraInfo.

    :param info: the message
    :param rectified: whether the images are rectified (topics image_rect*), so that their
        projection is P, not K and D
    :returns: None where the message is that of an uncalibrated camera: K (or P) is zero
    :raises InputError: for a distortion model or a size that cannot be used
    """
    fx, fy, cx, cy = (
        (info.p[0], info.p[5], info.p[2], info.p[6])
        if rectified
        else (info.k[0], info.k[4], info.k[2], info.k[5])
    )
    if fx == 0.0 or fy == 0.0:
        return None
    model, distortion = ('plumb_bob', ()) if rectified else _lens(info)
    camera = Camera(
        width=int(info.width),
        height=int(info.height),
        fx=float(fx),
        fy=float(fy),
        cx=float(cx),
        cy=float(cy),
        distortion=distortion,
        model=model,
    )
    roi = info.roi
    if roi.width and roi.height:
        camera = camera.cropped(
            int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)
        )
    # The message calibrates the full sensor; 0 and 1 both mean no binning.
    bin_x, bin_y = max(1, int(info.binning_x)), max(1, int(info.binning_y))
    if (bin_x, bin_y) != (1, 1):
        camera = camera.resized(camera.width // bin_x, camera.height // bin_y)
    return camera


def _lens(info: CameraInfo) -> tuple[str, tuple[float, ...]]:
    """Return the model and its coefficients."""
    model = _MODELS.get(info.distortion_model)
    values = [float(value) for value in info.d]
    if model is None:
        raise InputError(
            f'distortion model {info.distortion_model!r} is not one of plumb_bob, '
            'rational_polynomial, equidistant; give a camera file, or run uncalibrated'
        )
    count = _COEFFICIENTS[model]
    if model == 'equidistant':
        values += [0.0] * (count - len(values))  # missing coefficients of a fisheye are zero
    elif not any(values):
        return 'plumb_bob', ()
    if any(values[count:]):
        raise InputError(
            f'{model} distortion with {len(values)} coefficients, expected at most {count}; give '
            'a camera file, or run uncalibrated'
        )
    if model != 'equidistant':
        values += [0.0] * (count - len(values))
    return model, tuple(values[:count])
