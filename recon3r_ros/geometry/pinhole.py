# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pinhole projection of whole grids, in the precision of what is given."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera

F = TypeVar('F', bound=np.floating)


def parameters(camera: Camera, kind: type[F]) -> NDArray[F]:
    """Return (fx, fy, cx, cy) for compiled loops, in their precision."""
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], kind)


def project(points: NDArray[F], camera: Camera) -> NDArray[F]:
    """
    Project points.

    :param points: (..., 3) in the camera frame
    :param camera: without distortion
    :return: (..., 2) pixels; NaN for points that are not before the camera
    """
    kind = points.dtype.type
    z = np.where(points[..., 2] > 0, points[..., 2], kind(np.nan))
    return np.stack([points[..., 0] / z * kind(camera.fx) + kind(camera.cx),
                     points[..., 1] / z * kind(camera.fy) + kind(camera.cy)], axis=-1)


def rays(pixels: NDArray[F], camera: Camera) -> NDArray[F]:
    """
    Return the viewing rays of pixels.

    :param pixels: (..., 2)
    :param camera: without distortion
    :return: (..., 3), z = 1
    """
    kind = pixels.dtype.type
    out = np.ones((*pixels.shape[:-1], 3), pixels.dtype)
    out[..., 0] = (pixels[..., 0] - kind(camera.cx)) / kind(camera.fx)
    out[..., 1] = (pixels[..., 1] - kind(camera.cy)) / kind(camera.fy)
    return out
