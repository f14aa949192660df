# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
HEIF images, above all HEIC as phones write it, through the optional package pi-heif.

Orientation is that of the container (boxes irot and imir), always applied: beside it the EXIF
orientation only informs (ISO/IEC 23008-12, annex A). Of several images in a file, the primary one
is taken. Images of 10 or 12 bits become such of 8: like those, they are coded for the eye.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError, missing_package, one_line

#: Names of such files; of HEVC in HEIF, a camera's may end in .hif
SUFFIXES = ('.heic', '.heif', '.hif')
#: Bytes that `is_heif` needs
START = 12
# Brands of HEIC, and of HEIF with any coder, which the library names where it lacks it
_BRANDS = (b'heic', b'heix', b'heim', b'heis', b'hevc', b'hevx', b'mif1', b'msf1')


def is_heif(data: bytes) -> bool:
    """Whether a file is HEIF, by its first `START` bytes."""
    return data[4:8] == b'ftyp' and data[8:START] in _BRANDS


def decode(data: bytes) -> NDArray[np.uint8]:
    """
    Return RGB (H, W, 3) or grey (H, W) of a HEIF file, upright.

    :raises InputError: the error does not name the file
    """
    image = _opened(data)
    try:
        pixels = np.asarray(image)
    except Exception as error:  # of several kinds, for damaged files and unknown coders
        raise InputError(f'cannot be decoded: {one_line(error)}') from None
    if pixels.dtype == np.uint16:  # the library leaves grey images so
        pixels = pixels >> 8
    if pixels.ndim == 3:  # without alpha, which comes last
        pixels = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., 0]
    return np.array(pixels, np.uint8)  # a copy: the library's cannot be written to


def size(path: Path) -> tuple[int, int]:
    """
    Return (width, height) that `decode` gives, without decoding.

    :raises InputError: where the header cannot be read
    """
    width, height = _opened(path.read_bytes()).size
    return int(width), int(height)


def exif(path: Path) -> bytes:
    """
    Return the EXIF data of a file; empty where it has none.

    :raises InputError: where the header cannot be read
    """
    return _opened(path.read_bytes()).info.get('exif') or b''


def _opened(data: bytes) -> Any:
    """Return the library's image, which is decoded when its pixels are asked for."""
    try:
        import pi_heif
    except ModuleNotFoundError as missing:
        raise InputError(str(missing_package(missing, 'a HEIC image'))) from None
    try:
        return pi_heif.open_heif(data)
    except Exception as error:  # of several kinds, for damaged files
        raise InputError(f'damaged, or no HEIC image: {one_line(error)}') from None
