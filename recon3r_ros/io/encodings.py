# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Conversion of pixels from the encodings of cameras and files to the arrays of the pipeline.

NumPy and OpenCV only: the ROS node uses these functions on live messages.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from fractions import Fraction
from typing import Union

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError

Buffer = Union[bytes, bytearray, memoryview, 'array[int]', NDArray[np.uint8]]
Pixels = Union[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32]]


@dataclass(frozen=True)
class _Layout:
    """
    Pixel layout of an encoding.

    :param channels: samples per pixel
    :param sample: type of a sample, without the byte order
    :param to_rgb: OpenCV conversion code, or None where no conversion is needed
    :param multiple: width and height must be multiples of (columns, rows)
    """

    channels: int
    sample: str = 'u1'
    to_rgb: int | None = None
    multiple: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class _Planes:
    """
    Layout of an encoding with a plane of luma, then one of chroma, in alternation.

    :param chroma: bytes of the second plane per pixel
    :param multiple: width and height must be multiples of (columns, rows)
    """

    chroma: Fraction
    multiple: tuple[int, int]


_UYVY = _Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY, multiple=(2, 1))
_YUYV = _Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2, multiple=(2, 1))
#: ROS names a Bayer pattern by its first two rows, and so do OpenCV's long aliases
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
# 'yuv422' is ROS's old name for UYVY. cv_bridge names an array without an encoding by its type:
# its colours are then in OpenCV's order. Two channels (8UC2) say nothing of what they are.
_LAYOUTS = {
    'mono8': _Layout(1),
    '8UC1': _Layout(1),
    'mono16': _Layout(1, 'u2'),
    '16UC1': _Layout(1, 'u2'),
    '32FC1': _Layout(1, 'f4'),
    'rgb8': _Layout(3),
    'bgr8': _Layout(3, to_rgb=cv2.COLOR_BGR2RGB),
    '8UC3': _Layout(3, to_rgb=cv2.COLOR_BGR2RGB),
    'rgba8': _Layout(4, to_rgb=cv2.COLOR_RGBA2RGB),
    'bgra8': _Layout(4, to_rgb=cv2.COLOR_BGRA2RGB),
    '8UC4': _Layout(4, to_rgb=cv2.COLOR_BGRA2RGB),
    'rgb16': _Layout(3, 'u2'),
    'bgr16': _Layout(3, 'u2', cv2.COLOR_BGR2RGB),
    '16UC3': _Layout(3, 'u2', cv2.COLOR_BGR2RGB),
    'rgba16': _Layout(4, 'u2', cv2.COLOR_RGBA2RGB),
    'bgra16': _Layout(4, 'u2', cv2.COLOR_BGRA2RGB),
    '16UC4': _Layout(4, 'u2', cv2.COLOR_BGRA2RGB),
    'yuv422': _UYVY,
    'uyvy': _UYVY,
    'yuv422_yuy2': _YUYV,
    'yuyv': _YUYV,
    **{f'bayer_{name}8': _Layout(1, 'u1', code, (2, 2)) for name, code in _BAYER.items()},
    **{f'bayer_{name}16': _Layout(1, 'u2', code, (2, 2)) for name, code in _BAYER.items()},
}
_PLANES = {
    'nv12': _Planes(Fraction(1, 2), (2, 2)),
    'nv21': _Planes(Fraction(1, 2), (2, 2)),
    'nv16': _Planes(Fraction(1), (2, 1)),
    'nv61': _Planes(Fraction(1), (2, 1)),
    'nv24': _Planes(Fraction(2), (1, 1)),
    'nv42': _Planes(Fraction(2), (1, 1)),
}
#: Of these, red comes before blue in the plane of chroma
_V_FIRST = ('nv21', 'nv61', 'nv42')

ENCODINGS = (*_LAYOUTS, *_PLANES)

#: R, G, B of Y, U, V and 1 in BT.601, video range, as OpenCV's conversions of packed YUV have it
_RGB_OF_YUV = np.array([[1.164383, 0.0, 1.596027],
                        [1.164383, -0.391762, -0.812968],
                        [1.164383, 2.017232, 0.0]])
_RGB_OF_YUV = np.column_stack([_RGB_OF_YUV, _RGB_OF_YUV @ (-16.0, -128.0, -128.0)])


def image_to_array(
    height: int, width: int, encoding: str, step: int, is_bigendian: bool, data: Buffer
) -> Pixels:
    """
    Return the pixels of a sensor_msgs/Image as RGB (H, W, 3) or grey (H, W).

    Copies at most once: rgb8 and mono images without row padding are read-only views of `data`
    where `data` is read-only. `ToneMap` converts 16 bits and float32 to 8 bits.

    :param height: rows
    :param width: columns
    :param encoding: one of `ENCODINGS`
    :param step: bytes from one row to the next
    :param is_bigendian: byte order of wider samples
    :param data: at least (height - 1) * step bytes and one row
    :returns: uint8; uint16 of samples of two bytes; float32 of 32FC1
    :raises InputError: for an unknown encoding, an impossible size or too few bytes
    """
    samples = np.frombuffer(data, np.uint8)
    if encoding in _PLANES:
        return _from_planes(height, width, encoding, step, samples)
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise InputError(f'encoding {encoding!r} is not one of {", ".join(ENCODINGS)}')
    kind = np.dtype(('>' if is_bigendian else '<') + layout.sample)
    pixel_bytes = layout.channels * kind.itemsize
    _check_size(height, width, encoding, layout.multiple)
    _check_bytes(height, width * pixel_bytes, step, samples.size, f'{width} {encoding} pixels')
    grid = np.ndarray((height, width, layout.channels), kind, samples,
                      strides=(step, pixel_bytes, kind.itemsize))
    if layout.channels == 1:
        grid = grid[:, :, 0]  # (H, W, 1) -> (H, W)
    if layout.to_rgb is None or kind.itemsize > 1:
        grid = np.ascontiguousarray(grid, kind.newbyteorder('='))
    return grid if layout.to_rgb is None else cv2.cvtColor(grid, layout.to_rgb)


def _from_planes(
    height: int, width: int, encoding: str, step: int, samples: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return RGB (H, W, 3) of luma and chroma in planes; `step` is that of the luma."""
    layout = _PLANES[encoding]
    share = 1 + layout.chroma
    if samples.size == height * step:
        # Some drivers count the bytes of a row, or the rows, of both planes together
        if step >= width * share:
            step = int(step / share)
        else:
            height = int(height / share)
    _check_size(height, width, encoding, layout.multiple)
    rows = int(height * share)
    _check_bytes(rows, width, step, samples.size, f'{width} {encoding} pixels')
    luma = np.ndarray((height, width), np.uint8, samples, strides=(step, 1))
    if layout.chroma < 1:
        chroma = np.ndarray((height // 2, width // 2, 2), np.uint8, samples, height * step,
                            (step, 2, 1))
        code = cv2.COLOR_YUV2RGB_NV21 if encoding in _V_FIRST else cv2.COLOR_YUV2RGB_NV12
        return cv2.cvtColorTwoPlane(luma, chroma, code).astype(np.uint8, copy=False)
    if layout.chroma == 1:
        chroma = np.ndarray((height, width), np.uint8, samples, height * step, (step, 1))
        code = cv2.COLOR_YUV2RGB_YVYU if encoding in _V_FIRST else cv2.COLOR_YUV2RGB_YUY2
        return cv2.cvtColor(np.dstack([luma, chroma]), code).astype(np.uint8, copy=False)
    chroma = np.ndarray((height, width, 2), np.uint8, samples, height * step, (2 * step, 2, 1))
    if encoding in _V_FIRST:
        chroma = chroma[:, :, ::-1]
    return cv2.transform(np.dstack([luma, chroma]), _RGB_OF_YUV).astype(np.uint8, copy=False)


def _check_size(height: int, width: int, encoding: str, multiple: tuple[int, int]) -> None:
    """Raise InputError for an image without pixels, or with half a pair of them."""
    if height <= 0 or width <= 0:
        raise InputError(f'image of {width}x{height} pixels has no pixels')
    if width % multiple[0] or height % multiple[1]:
        raise InputError(f'{encoding} image of {width}x{height} pixels has an odd side')


def _check_bytes(rows: int, row_bytes: int, step: int, size: int, row: str) -> None:
    """Raise InputError where the rows overlap, or some are missing; the last needs no padding."""
    if step < row_bytes:
        raise InputError(f'step is {step}, but a row of {row} is {row_bytes}')
    needed = (rows - 1) * step + row_bytes
    if size < needed:
        raise InputError(f'image data has {size} bytes, expected at least {needed}')
