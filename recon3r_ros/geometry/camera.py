# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Cameras: projection, its inverse, resizing, cropping and rectification.

Camera frame: optical, x right, y down, z forward. Pixel (u, v) = (column, row), pixel centres at
integers, so an image covers [-0.5, width - 0.5] x [-0.5, height - 0.5].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import math
import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from recon3r_ros.errors import GeometryError, InputError
from recon3r_ros.geometry import distortion as lens
from recon3r_ros.geometry.se3 import as_array

Array = NDArray[np.float64]
Map = NDArray[np.float32]

# model name, as in ROS CameraInfo -> how many distortion coefficients it may have
_MODELS = {'plumb_bob': (0, 4, 5), 'rational_polynomial': (8, 12, 14), 'equidistant': (4,)}
_WIDEST_HALF_ANGLE = math.radians(60.0)  # of a rectified equidistant camera
_LARGEST_ZOOM = 16.0
_OUTSIDE = -16.0  # map entry that lies outside every image, for cv2.remap
_ROUNDING = 1.0  # pixels that a resized image's width or height may be off, by rounding


def pixel_grid(height: int, width: int) -> Array:
    """
    Coordinates of every pixel of an image.

    :param height: rows
    :param width: columns
    :returns: (height, width, 2), entry [v, u] is (u, v)
    """
    v, u = np.mgrid[:height, :width].astype(np.float64)
    return np.stack([u, v], axis=-1)


@dataclass(frozen=True)
class Camera:
    """
    Intrinsics of one camera, valid for images of exactly this size.

    :param width: columns, pixels
    :param height: rows, pixels
    :param fx: focal length in units of a pixel's width
    :param fy: focal length in units of a pixel's height
    :param cx: principal point, column
    :param cy: principal point, row
    :param distortion: coefficients in OpenCV's order: plumb_bob none, 4 or 5,
        rational_polynomial 8, 12 (thin prism) or 14 (tilted sensor), equidistant 4
    :param model: 'plumb_bob', 'rational_polynomial' or 'equidistant', as in ROS CameraInfo
    :raises InputError: if a value is not finite, not positive where it must be, or of the wrong
        number or name
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    model: str = 'plumb_bob'

    def __post_init__(self) -> None:
        for name in ('width', 'height'):
            object.__setattr__(self, name, _positive_int(name, getattr(self, name)))
        for name in ('fx', 'fy', 'cx', 'cy'):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
            if name in ('fx', 'fy') and getattr(self, name) <= 0:
                raise InputError(f'{name}: got {getattr(self, name)}, expected > 0')
        values = tuple(_finite('distortion', value) for value in self.distortion)
        object.__setattr__(self, 'distortion', values)
        if not isinstance(self.model, str) or self.model not in _MODELS:
            raise InputError(f'model: got {self.model!r}, expected one of {sorted(_MODELS)}')
        if len(values) not in _MODELS[self.model]:
            raise InputError(f'distortion: got {len(values)} coefficients, {self.model} expects '
                             + ' or '.join(map(str, _MODELS[self.model])))

    @classmethod
    def guess(cls, width: int, height: int, focal_factor: float = 1.2) -> Camera:
        """
        Pinhole camera with a default focal length, for images without calibration.

        :param width: columns, pixels
        :param height: rows, pixels
        :param focal_factor: focal length over the longer side; 1.2 gives 45 degrees of view
        :returns: a pinhole with its principal point at the image's centre
        """
        focal = focal_factor * max(width, height)
        return cls(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    @property
    def K(self) -> Array:
        """Pinhole matrix (3, 3), pixels; the distortion is not part of it."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    @property
    def is_pinhole(self) -> bool:
        """Whether projection is K alone; never so for an equidistant camera."""
        return self.model != 'equidistant' and not any(self.distortion)

    def project(self, points: ArrayLike) -> Array:
        """
        Project camera-frame points to pixels.

        :param points: points (..., 3), metres
        :returns: distorted pixels (..., 2), not clipped to the image; NaN for points that are not
            in front of the camera (equidistant: only for the camera's centre)
        """
        points = as_array(points, (3,), 'points')
        with np.errstate(all='ignore'):
            if self.model == 'equidistant':
                plane = lens.equidistant_distort(points, self.distortion)
            else:
                plane = points[..., :2] / np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
                if not self.is_pinhole:
                    plane, _ = lens.polynomial_distort(plane, self.distortion)
        return plane * (self.fx, self.fy) + (self.cx, self.cy)

    def unproject(self, pixels: ArrayLike) -> Array:
        """
        Unproject pixels to rays; the inverse of `project`.

        :param pixels: distorted pixels (..., 2)
        :returns: rays (..., 3) with z = 1; NaN where the distortion has no inverse or, for an
            equidistant camera, more than 90 degrees off the optical axis
        """
        pixels = as_array(pixels, (2,), 'pixels')
        plane = (pixels - (self.cx, self.cy)) / (self.fx, self.fy)
        if self.model == 'equidistant':
            plane = lens.equidistant_undistort(plane, self.distortion)
        elif not self.is_pinhole:
            plane = lens.polynomial_undistort(plane, self.distortion)
        return np.concatenate([plane, np.ones_like(plane[..., :1])], axis=-1)

    def resized(self, width: int, height: int) -> Camera:
        """
        Camera of this one's image resampled to another size: u' = (u + 0.5) * sx - 0.5.

        :param width: new columns
        :param height: new rows
        :returns: the camera; the distortion coefficients, which are unit-free, stay
        """
        sx = _positive_int('width', width) / self.width
        sy = _positive_int('height', height) / self.height
        return replace(self, width=width, height=height, fx=self.fx * sx, fy=self.fy * sy,
                       cx=(self.cx + 0.5) * sx - 0.5, cy=(self.cy + 0.5) * sy - 0.5)

    def scaled_to(self, width: int, height: int) -> Camera | None:
        """
        Camera of this one's image at another resolution.

        :param width: columns of that image
        :param height: its rows
        :returns: the camera, or None where the aspect is another, so that it is not the same image
        """
        if (width, height) == (self.width, self.height):
            return self
        off = min(abs(self.height * width / self.width - height),
                  abs(self.width * height / self.height - width))
        return self.resized(width, height) if off < _ROUNDING else None

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """
        Camera of a crop of this one's image; a crop beyond the border pads the image.

        :param x: column that becomes column 0
        :param y: row that becomes row 0
        :param width: columns kept
        :param height: rows kept
        :returns: the camera
        """
        return replace(self, width=width, height=height, cx=self.cx - x, cy=self.cy - y)

    def rectified(self) -> Camera:
        """
        Pinhole of the same size, centred on the same axis, whose image has no empty pixel.

        Keeps the focal lengths where that leaves no border, else lengthens both by the smallest
        factor that removes it. An equidistant camera gets the shortest focal lengths that leave no
        border and see at most 60 degrees to each side.

        :returns: the camera; itself if it is a pinhole already
        :raises GeometryError: if no focal length up to the largest zoom removes the border
        """
        if self.is_pinhole:
            return self
        low = 1.0
        if self.model == 'equidistant':
            reach = max(max(self.cx, self.width - 1 - self.cx) / self.fx,
                        max(self.cy, self.height - 1 - self.cy) / self.fy)
            low = (reach + 0.5 / min(self.fx, self.fy)) / math.tan(_WIDEST_HALF_ANGLE)
        high = max(low, 1.0) * _LARGEST_ZOOM
        if not self._fills(self._zoomed(high)):
            raise GeometryError(f'no rectified view of {self} without a border: check its '
                                'distortion coefficients')
        if self._fills(self._zoomed(low)):
            return self._zoomed(low)
        for _ in range(20):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self._fills(self._zoomed(middle)) else (middle, high)
        return self._zoomed(high)

    def _zoomed(self, factor: float) -> Camera:
        return replace(self, fx=self.fx * factor, fy=self.fy * factor, distortion=(),
                       model='plumb_bob')

    def _fills(self, view: Camera) -> bool:
        """Whether a pinhole view's border projects into this camera's image, without a fold."""
        grid = pixel_grid(view.height, view.width)
        border = np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]])
        rays = view.unproject(border)
        pixels = self.project(rays)
        inside = (pixels >= 0) & (pixels <= (self.width - 1, self.height - 1))
        # a fold maps two rays to one pixel, of which unproject returns the inner one
        return bool(inside.all() and np.allclose(self.unproject(pixels), rays, atol=1e-6))

    def rectification_maps(self) -> tuple[Map, Map]:
        """
        Make maps for `cv2.remap` from an image of this camera to one of `rectified()`.

        :returns: map_x and map_y, float32 (height, width)
        """
        grid = pixel_grid(self.height, self.width)
        return _remap_maps(self.project(self.rectified().unproject(grid)))

    def distortion_maps(self) -> tuple[Map, Map]:
        """
        Make maps for `cv2.remap` from an image of `rectified()` to one of this camera.

        :returns: map_x and map_y, float32 (height, width); outside every image
            where the ray lies outside the rectified camera's view
        """
        grid = pixel_grid(self.height, self.width)
        return _remap_maps(self.rectified().project(self.unproject(grid)))


def _remap_maps(pixels: Array) -> tuple[Map, Map]:
    pixels = np.where(np.isfinite(pixels), np.clip(pixels, _OUTSIDE, 1e5), _OUTSIDE)
    return pixels[..., 0].astype(np.float32), pixels[..., 1].astype(np.float32)


def _positive_int(name: str, value: Any) -> int:
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number <= 0:
        raise InputError(f'{name}: got {value!r}, expected a positive integer')
    return number


def _finite(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f'{name}: got {value!r}, expected a finite number')
    return number
