# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Conversion of pixels from the encodings of cameras and files to the arrays of the pipeline.

NumPy and OpenCV only: the ROS node uses these functions on live messages.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Union

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError

Buffer = Union[bytes, bytearray, memoryview, 'array[int]', NDArray[np.uint8]]


@dataclass(frozen=True)
class _Layout:
    """
    Pixel layout of an encoding.

    :param channels: samples per pixel
    :param sample_bytes: 1 or 2
    :param to_rgb: OpenCV conversion code, or None where no conversion is needed
    :param multiple: width and height must be multiples of (columns, rows)
    """

    channels: int
    sample_bytes: int = 1
    to_rgb: int | None = None
    multiple: tuple[int, int] = (1, 1)


# ROS names a Bayer pattern by its first two rows, and so do OpenCV's long aliases.
# 'yuv422' is ROS's old name for UYVY.
_LAYOUTS = {
    'mono8': _Layout(1),
    '8UC1': _Layout(1),
    'mono16': _Layout(1, sample_bytes=2),
    '16UC1': _Layout(1, sample_bytes=2),
    'rgb8': _Layout(3),
    'bgr8': _Layout(3, to_rgb=cv2.COLOR_BGR2RGB),
    'rgba8': _Layout(4, to_rgb=cv2.COLOR_RGBA2RGB),
    'bgra8': _Layout(4, to_rgb=cv2.COLOR_BGRA2RGB),
    'yuv422': _Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY, multiple=(2, 1)),
    'uyvy': _Layout(2, to_rgb=cv2.COLOR_YUV2RGB_UYVY, multiple=(2, 1)),
    'yuv422_yuy2': _Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2, multiple=(2, 1)),
    'yuyv': _Layout(2, to_rgb=cv2.COLOR_YUV2RGB_YUY2, multiple=(2, 1)),
    'bayer_rggb8': _Layout(1, to_rgb=cv2.COLOR_BayerBG2RGB, multiple=(2, 2)),
    'bayer_bggr8': _Layout(1, to_rgb=cv2.COLOR_BayerRG2RGB, multiple=(2, 2)),
    'bayer_gbrg8': _Layout(1, to_rgb=cv2.COLOR_BayerGR2RGB, multiple=(2, 2)),
    'bayer_grbg8': _Layout(1, to_rgb=cv2.COLOR_BayerGB2RGB, multiple=(2, 2)),
}

ENCODINGS = tuple(_LAYOUTS)


def image_to_array(
    height: int, width: int, encoding: str, step: int, is_bigendian: bool, data: Buffer
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """
    Return the pixels of a sensor_msgs/Image as RGB (H, W, 3) or grey (H, W).

    Copies at most once: rgb8 and mono images without row padding are read-only views of `data`
    where `data` is read-only. Only mono16 gives uint16; `ToneMap` converts it to 8 bits.

    :param height: rows
    :param width: columns
    :param encoding: one of `ENCODINGS`
    :param step: bytes from one row to the next
    :param is_bigendian: byte order of 16-bit samples
    :param data: at least (height - 1) * step bytes and one row
    :raises InputError: for an unknown encoding, an impossible size or too few bytes
    """
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise InputError(f'encoding {encoding!r} is not one of {", ".join(ENCODINGS)}')
    row_bytes = width * layout.channels * layout.sample_bytes
    if height <= 0 or width <= 0:
        raise InputError(f'image of {width}x{height} pixels has no pixels')
    if width % layout.multiple[0] or height % layout.multiple[1]:
        raise InputError(f'{encoding} image of {width}x{height} pixels has an odd side')
    if step < row_bytes:
        raise InputError(f'step is {step}, but a row of {width} {encoding} pixels is {row_bytes}')
    samples = np.frombuffer(data, np.uint8)
    needed = (height - 1) * step + row_bytes
    if samples.size < needed:
        raise InputError(f'image data has {samples.size} bytes, expected at least {needed}')
    if layout.sample_bytes == 2:
        return _wide_samples(samples, (height, width), step, is_bigendian)
    grid = np.ndarray(
        (height, width, layout.channels), np.uint8, samples, strides=(step, layout.channels, 1)
    )
    if layout.channels == 1:
        grid = grid[:, :, 0]  # (H, W, 1) -> (H, W)
    if layout.to_rgb is None:
        return np.ascontiguousarray(grid)
    return cv2.cvtColor(grid, layout.to_rgb).astype(np.uint8, copy=False)


def _wide_samples(
    samples: NDArray[np.uint8], shape: tuple[int, int], step: int, is_bigendian: bool
) -> NDArray[np.uint16]:
    """Return 16-bit samples (H, W) in the machine's byte order."""
    order = np.dtype('>u2' if is_bigendian else '<u2')
    grid: NDArray[np.uint16] = np.ndarray(shape, order, samples, strides=(step, 2))
    return np.ascontiguousarray(grid, dtype=np.uint16)


class ToneMap:
    """
    Converts images to 8 bits by a linear map that the first 16-bit image determines.

    A 16-bit image may use any part of the range: cameras use the lowest 10, 12 or 14 bits, and a
    thermal camera a narrow band anywhere. A shift by eight bits would leave most of them nearly
    black. Stretching every image by its own range would make brightness flicker, which breaks the
    brightness constancy of feature tracking and photometric terms. So the range of the first image
    (0.1 to 99.9 percentile, without hot pixels), widened by half its width on either side for
    scenes that brighten or darken later, is mapped linearly to 0..255 for the whole sequence.
    Colour channels share one map, which keeps hues.
    """

    def __init__(self) -> None:
        """Start without a map."""
        self._table: NDArray[np.uint8] | None = None

    def __call__(self, image: NDArray[np.generic]) -> NDArray[np.uint8]:
        """
        Return the image with 8 bits per sample; an 8-bit image is returned unchanged.

        :param image: (H, W) or (H, W, 3), uint8 or uint16
        """
        if image.dtype == np.uint8:
            return image.astype(np.uint8, copy=False)
        if image.dtype != np.uint16:
            raise InputError(f'image has {image.dtype} samples, expected 8 or 16 bit integers')
        if self._table is None:
            self._table = _tone_table(image)
        return self._table[image]


def _tone_table(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return the 8-bit value of every 16-bit value, (65536,)."""
    low, high = np.percentile(image.astype(np.float64), (0.1, 99.9)).tolist()
    # Slope of at most one: a uniform first image must not amplify noise.
    margin = max((high - low) / 2, (255.0 - (high - low)) / 2)
    low, high = max(0.0, low - margin), min(65535.0, high + margin)
    values = np.arange(65536, dtype=np.float64)
    return np.clip((values - low) * 255.0 / max(high - low, 255.0) + 0.5, 0, 255).astype(np.uint8)
