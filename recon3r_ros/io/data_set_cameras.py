# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras from the calibration files of data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations import Calibration, read_calibration
from recon3r_ros.io.listing import read_lines

#: From the size of the images, (width, height), to their intrinsics; None for images without
CameraOfSize = Callable[[int, int], Camera | Calibration | None]

# A principal point is inside this part of the image, else the intrinsics are for another size
_CENTRAL = (0.25, 0.75)


def kitti_camera(path: Path, number: int) -> CameraOfSize:
    """
    Return the reader of a calib.txt of KITTI odometry, whose images are rectified.

    :param path: the file, with a line `P0: ` and 12 numbers for each camera
    :param number: of the camera
    """
    def camera(width: int, height: int) -> Camera:
        P = _row(path, f'P{number}', 12)
        return _pinhole(path, width, height, P[0], P[5], P[2], P[6])
    return camera


def kitti_raw_camera(path: Path, number: int) -> CameraOfSize:
    """
    Return the reader of a calib_cam_to_cam.txt of KITTI raw data.

    :param path: the file, with lines `S_rect_00: `, `P_rect_00: `, `S_00: `, `K_00: ` and `D_00: `
    :param number: of the camera
    """
    def camera(width: int, height: int) -> Camera:
        size = (float(width), float(height))
        if _row(path, f'S_rect_{number:02d}', 2) == size:
            P = _row(path, f'P_rect_{number:02d}', 12)
            return _pinhole(path, width, height, P[0], P[5], P[2], P[6])
        unrectified = _row(path, f'S_{number:02d}', 2)
        if unrectified != size:
            raise InputError(f'{path}: is for images of {unrectified[0]:.0f}x{unrectified[1]:.0f} '
                             f'pixels, not of {width}x{height}: give a camera file made for this '
                             'size, or run uncalibrated')
        K = _row(path, f'K_{number:02d}', 9)
        return Camera(width, height, K[0], K[4], K[2], K[5], _row(path, f'D_{number:02d}', 5))
    return camera


def kitti_rectified_camera(path: Path, number: int) -> CameraOfSize:
    """
    Return the reader of a calib_cam_to_cam.txt of KITTI raw data; None for unrectified images.

    :param path: the file, as in `kitti_raw_camera`
    :param number: of the camera
    """
    def camera(width: int, height: int) -> Camera | Calibration | None:
        rectified = _row(path, f'S_rect_{number:02d}', 2) == (float(width), float(height))
        return kitti_raw_camera(path, number)(width, height) if rectified else None
    return camera


def kitti_projection(path: Path, key: str) -> NDArray[np.float64]:
    """
    Return a projection matrix (3, 4) of KITTI's rectified cameras; its origin is camera 0.

    :param path: calib.txt or calib_cam_to_cam.txt
    :param key: of its line
    """
    return np.array(_row(path, key, 12)).reshape(3, 4)


def scannet_camera(path: Path) -> CameraOfSize:
    """
    Return the reader of an intrinsic_color.txt of ScanNet.

    :param path: the file, with a matrix of 4x4 or 3x3
    """
    def camera(width: int, height: int) -> Camera:
        found = read_calibration(path)
        return _pinhole(path, width, height, found.fx, found.fy, found.cx, found.cy)
    return camera


def _pinhole(path: Path, width: int, height: int, fx: float, fy: float, cx: float, cy: float
             ) -> Camera:
    """Return the camera of a file that does not name a size, if it can be for images of this."""
    low, high = _CENTRAL
    if not (low * width < cx < high * width and low * height < cy < high * height):
        raise InputError(f'{path}: principal point {cx:.1f}, {cy:.1f} is not in the middle of '
                         f'images of {width}x{height} pixels: give a camera file made for this '
                         'size, or run uncalibrated')
    try:
        return Camera(width, height, fx, fy, cx, cy)
    except InputError as error:
        raise InputError(f'{path}: {error}') from None


def _row(path: Path, key: str, count: int) -> tuple[float, ...]:
    """Return the numbers of the line `key: ...`."""
    for line in read_lines(path):
        name, _, text = line.partition(':')
        if name.strip() == key:
            values = _numbers(path, text)
            if len(values) == count:
                return values
            raise InputError(f'{path}: {key}: got {len(values)} numbers, expected {count}')
    raise InputError(f'{path}: no line {key}; give a camera file, or run uncalibrated')


def _numbers(path: Path, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(field) for field in text.split())
    except ValueError as error:
        raise InputError(f'{path}: {error}') from None
