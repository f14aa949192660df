# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Names and coefficients of lens models, as formats and drivers state them."""

from __future__ import annotations

from collections.abc import Sequence
import re

from recon3r_ros.errors import InputError

#: Names of OpenCV's polynomial model, without case and punctuation
_POLYNOMIAL = frozenset((
    '', 'none', 'pinhole', 'perspective', 'plumbbob', 'radtan', 'radialtangential',
    'brownconrady', 'opencv', 'rationalpolynomial', 'rational', 'thinprism', 'fullopencv'))
#: Names of Kannala and Brandt's model with four coefficients
_EQUIDISTANT = frozenset((
    'equidistant', 'equi', 'fisheye', 'opencvfisheye', 'kannalabrandt', 'kannalabrandt4',
    'kannalabrandt8', 'kb4'))
#: Coefficients that OpenCV's model may have, and the name for so many
_COUNTS = {5: 'plumb_bob', 8: 'rational_polynomial', 12: 'rational_polynomial',
           14: 'rational_polynomial'}


def lens(name: str, coefficients: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """
    Return `Camera.model` and `Camera.distortion` of a lens.

    :param name: of the model, in any convention; how many coefficients of OpenCV's polynomial are
        not zero decides between its variants
    :param coefficients: in OpenCV's order; none are zeros, which every perspective model may have
    :raises InputError: for a model that is neither OpenCV's polynomial nor Kannala and Brandt's,
        or another number of coefficients than it has
    """
    values = tuple(float(value) for value in coefficients)
    plain = re.sub(r'[^a-z0-9]', '', name.lower())
    if plain in _EQUIDISTANT:
        if any(values[4:]):
            raise InputError(f'{name} distortion with {len(values)} coefficients, expected 4')
        return 'equidistant', (*values, *(0.0,) * (4 - len(values)))[:4]
    if not any(values):
        return 'plumb_bob', ()
    if plain not in _POLYNOMIAL:
        raise InputError(f'distortion model {name!r} is not one of plumb_bob, '
                         'rational_polynomial, equidistant')
    used = max(i for i, value in enumerate(values, start=1) if value)
    if used > max(_COUNTS) or len(values) < min(_COUNTS) - 1:
        raise InputError(f'distortion with {len(values)} coefficients, expected 0, 4, '
                         + ', '.join(map(str, _COUNTS)))
    count = min(count for count in _COUNTS if used <= count)
    return _COUNTS[count], (*values, *(0.0,) * (count - len(values)))[:count]
