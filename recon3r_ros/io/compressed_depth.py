# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Depth images of messages: raw, or as compressed_depth_image_transport of ROS writes them.

A message of that transport begins with a header of 12 bytes, an integer and two numbers A and B of
four bytes each. A PNG of 16 bits follows, or an image compressed by RVL (Wilson, 'Fast Lossless
Depth Image Compression', ISS 2017), which begins with its width and height. Samples of 16UC1 are
millimetres; those of 32FC1 are inverse depths, so that the depth is A / (sample - B) metres.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.decode import decode_image
from recon3r_ros.io.encodings import Buffer, image_to_array

Floats = NDArray[np.float32]

_HEADER = 12
_PNG_START = b'\x89PNG\r\n\x1a\n'
#: Encodings of raw depth, and the metres of their samples
_UNITS = {'32FC1': 1.0, '16UC1': 1e-3, 'mono16': 1e-3}
#: Pixels of an image at most: a header of noise must not allocate gigabytes
_MOST_PIXELS = 1 << 26


def depth_of_message(message: Any) -> Floats:
    """
    Depth (H, W) in metres of an Image or CompressedImage, NaN where there is none (REP-118).

    :raises InputError: for another encoding, or data that cannot be decoded
    """
    if hasattr(message, 'format'):
        return decode_compressed_depth(message.data, message.format)
    if message.encoding not in _UNITS:
        raise InputError(f'depth in encoding {message.encoding!r}: expected 32FC1 or 16UC1')
    samples = image_to_array(message.height, message.width, message.encoding, message.step,
                             bool(message.is_bigendian), message.data)
    return _in_metres(samples, _UNITS[message.encoding])


def decode_compressed_depth(data: Buffer, image_format: str) -> Floats:
    """
    Depth (H, W) in metres of a message of compressed_depth_image_transport, NaN where unknown.

    :param data: header, and PNG or RVL
    :param image_format: the message's `format`, such as '16UC1; compressedDepth png'
    :raises InputError: the error does not name the message
    """
    encoding, _, coder = (part.strip() for part in image_format.partition(';'))
    if not coder.startswith('compressedDepth') or encoding not in _UNITS:
        raise InputError(f'format {image_format!r} is no compressed depth: expected 16UC1 or '
                         "32FC1, and 'compressedDepth' behind a semicolon; subscribe to the topic "
                         'of depth that ends in /compressedDepth')
    coded = bytes(data)
    if len(coded) <= _HEADER:
        raise InputError(f'compressed depth has {len(coded)} bytes, expected a header of '
                         f'{_HEADER} and an image')
    body = coded[_HEADER:]
    rvl = coder.removeprefix('compressedDepth').strip() == 'rvl'
    samples = _rvl(body) if rvl else _png(body)
    if encoding != '32FC1':
        return _in_metres(samples, _UNITS[encoding])
    a, b = np.frombuffer(coded, '<f4', 2, 4).tolist()
    if not (np.isfinite([a, b]).all() and a > 0):
        raise InputError(f'compressed depth has the parameters {a} and {b} of quantisation: '
                         'expected finite numbers, the first above 0')
    with np.errstate(divide='ignore'):
        depth = np.float32(a) / (samples.astype(np.float32) - np.float32(b))
    depth[samples == 0] = np.nan
    return _in_metres(depth, 1.0)


def _in_metres(samples: NDArray[Any], unit: float) -> Floats:
    depth = samples.astype(np.float32) * np.float32(unit)
    depth[~(depth > 0) | np.isinf(depth)] = np.nan
    return depth


def _png(body: bytes) -> NDArray[np.uint16]:
    if not body.startswith(_PNG_START):
        raise InputError('compressed depth holds no PNG behind its header')
    try:
        image = decode_image(body)
    except InputError as error:
        raise InputError(f'compressed depth: the PNG {error}') from error
    if image.dtype != np.uint16 or image.ndim != 2:
        raise InputError(f'compressed depth: the PNG has {image.dtype} samples in '
                         f'{image.ndim - 1} axes of colour: expected grey values of 16 bits')
    return image.astype(np.uint16, copy=False)


def _rvl(body: bytes) -> NDArray[np.uint16]:
    if len(body) < 8:
        raise InputError('compressed depth: RVL without width and height')
    width, height = (int(n) for n in np.frombuffer(body, '<i4', 2))
    if width <= 0 or height <= 0 or width * height > _MOST_PIXELS:
        raise InputError(f'compressed depth: RVL of {width}x{height} pixels')
    from recon3r_ros.io.compiled_rvl import unpacked  # few need it, and Numba
    words = np.frombuffer(body, '<u4', (len(body) - 8) // 4, 8).astype(np.uint32)
    samples = np.zeros(width * height, np.uint16)
    if not unpacked(words, samples):
        raise InputError('compressed depth: RVL data is damaged or truncated')
    return samples.reshape(height, width)
