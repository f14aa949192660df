# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of compressed images, with detection of truncated files."""

from __future__ import annotations

from pathlib import Path
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from recon3r_ros.errors import InputError
from recon3r_ros.io import heif
from recon3r_ros.io.encodings import Buffer

_JPEG_START = b'\xff\xd8\xff'
_JPEG_END = b'\xff\xd9'
_PNG_START = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'IEND\xaeB\x60\x82'
_JPEG_SCAN = 0xDA
_WIDTH, _HEIGHT, _ORIENTATION = 0x0100, 0x0101, 0x0112
# Orientations of EXIF that swap width and height
_TURNED = (5, 6, 7, 8)
# Names of video coders, which some drivers put into messages of images
_VIDEO = ('h264', 'h265', 'hevc', 'av1', 'vp8', 'vp9')

# Neither IMREAD_COLOR (8 bits) nor IMREAD_UNCHANGED (alpha, no EXIF): these two keep the channels
# and the bit depth, drop alpha, and apply the EXIF orientation.
_FLAGS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH


def decode_image(data: bytes, upright: bool = True) -> NDArray[np.generic]:
    """
    Return RGB (H, W, 3) or grey (H, W), uint8 or uint16, of an image file.

    :param data: the whole file: JPEG, PNG, TIFF, BMP, WebP, PNM, JPEG 2000 or HEIC
    :param upright: apply the EXIF orientation (TIFF: always applied; HEIC: by its boxes, always)
    :raises InputError: the error does not name the file
    """
    check_complete(data)
    if heif.is_heif(data):
        return heif.decode(data)
    flags = _FLAGS if upright else _FLAGS | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image: NDArray[np.generic] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f'cannot be decoded: {error.err}') from None
    if image is None:
        raise InputError('damaged, or not a JPEG, PNG, TIFF, BMP, WebP, PNM or JPEG 2000 image')
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f'has {image.dtype} samples, expected 8 or 16 bit integers')
    if image.ndim == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image


def size_in_header(path: Path) -> tuple[int, int] | None:
    """
    Return (width, height) that `decode_image` gives, without decoding.

    :param path: image file
    :returns: None where the header cannot be read
    """
    try:
        with path.open('rb') as file:
            if heif.is_heif(file.read(heif.START)):
                return heif.size(path)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # very large images
            with Image.open(path) as image:
                if image.format == 'PNG' and 'exif' not in image.info:
                    return image.size  # Pillow would decode it, to look for EXIF at its end
                exif = image.getexif()
                width, height = image.size
                if image.format == 'TIFF':  # whose size Pillow turns or not, by its version
                    width, height = exif[_WIDTH], exif[_HEIGHT]
                return (height, width) if exif.get(_ORIENTATION) in _TURNED else (width, height)
    except Exception:  # many kinds, for damaged files; decoding them says what is wrong
        return None


def check_complete(data: bytes) -> None:
    """
    Raise InputError where the file is truncated.

    OpenCV may decode the part that is there and fill the rest with grey, without an error
    (depending on its version and on how the file is read). So the end marker is searched for; this
    takes microseconds, where a second decoder would take as long as the first.
    """
    if not data:
        raise InputError('is an empty file')
    if data.startswith(_JPEG_START):
        # The marker also ends thumbnails in the header: only one after the first scan counts.
        if data.rfind(_JPEG_END, _first_scan(data)) < 0:
            raise InputError('is a truncated JPEG (no end-of-image marker)')
    elif data.startswith(_PNG_START) and data.rfind(_PNG_END) < 0:
        raise InputError('is a truncated PNG (no IEND chunk)')
    elif data[:4] == b'RIFF' and len(data) < 8 + int.from_bytes(data[4:8], 'little'):
        raise InputError('is a truncated WebP')


def _first_scan(data: bytes) -> int:
    """Return the offset of the first scan of a JPEG, or of the end where there is none."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == _JPEG_SCAN:
            return position
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], 'big')
    return len(data)


def decode_compressed(data: Buffer, image_format: str) -> NDArray[np.generic]:
    """
    Return RGB (H, W, 3) or grey (H, W), uint8 or uint16, of a sensor_msgs/CompressedImage.

    :param data: image file, mostly JPEG or PNG
    :param image_format: the message's `format`, such as 'jpeg' or 'bgr8; jpeg compressed bgr8'
    :raises InputError: the error does not name the message
    """
    if 'compressedDepth' in image_format:
        raise InputError(f'format {image_format!r} is a depth image, expected a JPEG or PNG')
    if any(coder in image_format.lower().replace('.', '') for coder in _VIDEO):
        raise InputError(f'format {image_format!r} is compressed video, which is not decoded '
                         'here: republish it as images, or give it as a file with --video')
    # Without the EXIF orientation: camera_info describes the sensor as it is mounted.
    image = decode_image(bytes(data), upright=False)
    # image_transport states the channel order given to the encoder; only 'bgr' gives a file with
    # correct colours.
    stored = image_format.partition('compressed')[2].strip()
    if image.ndim == 3 and stored.startswith('rgb'):
        return np.ascontiguousarray(image[:, :, ::-1])
    return image
