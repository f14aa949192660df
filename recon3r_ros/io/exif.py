# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Focal length from the EXIF data of a photograph."""

from __future__ import annotations

from collections.abc import Mapping
import logging
import math
from pathlib import Path
from typing import Any

from PIL import Image
from recon3r_ros.io import heif

_log = logging.getLogger(__name__)

# Tags of EXIF 2.32; Pillow's names of them came with version 9.4
_EXIF = 0x8769
_WIDTH, _HEIGHT = 0xA002, 0xA003
_FOCAL_MM, _FOCAL_ON_FILM_MM = 0x920A, 0xA405
_SENSOR_RESOLUTION, _SENSOR_UNIT = 0xA20E, 0xA210

#: Diagonal of 24x36 mm film, which a 35 mm equivalent refers to (CIPA DCG-001)
_FILM_DIAGONAL_MM = math.hypot(24, 36)
#: Millimetres of FocalPlaneResolutionUnit; without a unit it is an inch
_UNITS_MM = {1: 25.4, 2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
#: Focal length over the longer side: a field of view of 136 degrees to one of 5
_PLAUSIBLE = (0.2, 12.0)
#: Relative difference of two aspects of one image
_SAME_ASPECT = 0.01


def focal_prior(path: Path, width: int, height: int) -> float | None:
    """
    Return the focal length of a photograph by its EXIF data.

    :param path: file of an image that can be decoded
    :param width: of the decoded image, which may have been turned upright
    :param height: of the decoded image
    :returns: pixels; None where the file has no focal length, an implausible one, or was cropped
    """
    try:
        tags = _tags(path)
    except Exception as error:  # Pillow raises many kinds on damaged EXIF data
        _log.debug('%s: no EXIF data: %r', path, error)
        return None
    sides = max(width, height), min(width, height)
    taken = sorted((_number(tags, _WIDTH), _number(tags, _HEIGHT)), reverse=True)
    if 0 in taken:
        taken = list(sides)
    if abs(taken[0] * sides[1] / (taken[1] * sides[0]) - 1) > _SAME_ASPECT:
        return None  # cropped since, or bordered
    film = _number(tags, _FOCAL_ON_FILM_MM)
    for focal in (film * math.hypot(*sides) / _FILM_DIAGONAL_MM,
                  _sensor_focal(tags) * sides[0] / taken[0]):
        if _PLAUSIBLE[0] <= focal / sides[0] <= _PLAUSIBLE[1]:
            return focal
    return None


def _tags(path: Path) -> Mapping[int, Any]:
    """Return the tags of a photograph's EXIF data that describe how it was taken."""
    with path.open('rb') as file:
        if heif.is_heif(file.read(heif.START)):
            exif = Image.Exif()
            exif.load(heif.exif(path))
            return exif.get_ifd(_EXIF)
    with Image.open(path) as image:
        return image.getexif().get_ifd(_EXIF)


def _sensor_focal(tags: Mapping[int, Any]) -> float:
    """Return the focal length in pixels of the photograph as it was taken; 0 where unknown."""
    unit = _UNITS_MM.get(int(_number(tags, _SENSOR_UNIT)) or 2, 0.0)
    per_unit = _number(tags, _SENSOR_RESOLUTION)
    return _number(tags, _FOCAL_MM) * per_unit / unit if unit else 0.0


def _number(tags: Mapping[int, Any], tag: int) -> float:
    """Return a positive, finite value; 0 where there is none."""
    try:
        value = float(tags.get(tag, 0))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0
