# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether intrinsics are plausible: lines for the user that name the numbers."""

from __future__ import annotations

from collections.abc import Collection
import math

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import distortion as lens
from recon3r_ros.geometry.camera import Camera

#: Width over focal length beyond which intrinsics are no pixels, but normalised or without a unit
MAX_FOCAL_LENGTHS = 100.0
#: Ratio of the focal lengths beyond which they are an error
MAX_RATIO = 3.0
#: Ratio of the focal lengths that no usual sensor has; anamorphic video reaches 1.46
UNUSUAL_RATIO = 1.5
#: Distance of the principal point from the middle, in image sizes. Lenses are mounted within a few
#: hundredths; a calibration for half the resolution is a quarter off
UNUSUAL_OFFSET = 0.2
#: What to do
CHECK = 'check that the calibration is of these images'
#: Horizontal field of view of a pinhole, degrees
NARROWEST, WIDEST = 3.0, 150.0
#: Horizontal field of view of an equidistant camera, degrees
WIDEST_FISHEYE = 200.0
_ANGLES = np.linspace(0.0, np.radians(179.9), 1800)  # every tenth of a degree
_SAMPLES = 33  # along each side of the image


def impossible(camera: Camera) -> str:
    """
    Say why intrinsics cannot be those of any camera.

    :param camera: its intrinsics, pixels
    :returns: the reason, with the numbers; '' where there is none
    """
    widths = max(camera.width / camera.fx, camera.height / camera.fy)
    if widths > MAX_FOCAL_LENGTHS:
        return (f'{_focal(camera)} make an image of {camera.width}x{camera.height} pixels '
                f'{widths:.0f} focal lengths wide: they must be in pixels, not normalised')
    if _ratio(camera) > MAX_RATIO:
        return (f'{_focal(camera)} differ by a factor of {_ratio(camera):.1f}: expected pixels '
                'that are nearly square')
    return ''


def unusual(camera: Camera) -> tuple[str, ...]:
    """
    Say what of intrinsics is possible, but probably wrong.

    :param camera: its intrinsics, pixels
    :returns: a line for each finding, with the numbers
    """
    found = [_principal_point(camera)]
    if _ratio(camera) > UNUSUAL_RATIO:
        found.append(f'{_focal(camera)} differ by a factor of {_ratio(camera):.2f}: pixels are '
                     'nearly square in most cameras')
    found += _fisheye(camera) if camera.model == 'equidistant' else _perspective(camera)
    return tuple(f'{line}; {CHECK}' for line in found if line)


def contradicted(focals: Collection[float], factor: float, sigma: float) -> str:
    """
    Say that images contradict the focal lengths that were given for them.

    :param focals: fx of each camera of the map, pixels
    :param factor: that the images agree best with
    :param sigma: standard deviation of its logarithm
    :returns: a line, with the numbers
    """
    given = sorted({f'{focal:.4g}' for focal in focals}, key=float)
    if len(given) == 1:
        best = factor * min(focals)
        return (f'a focal length of {given[0]} pixels was given; the images agree best with '
                f'{best:.4g} +- {_rounded(sigma * best)}: {CHECK}')
    return (f'focal lengths of {", ".join(given)} pixels were given; the images agree best with '
            f'{factor:.3g} +- {_rounded(sigma * factor)} times these: {CHECK}')


def _rounded(value: float) -> str:
    """Return a value with one digit, never with an exponent of ten."""
    return f'{float(f"{value:.1g}"):g}'


def middle_offset(camera: Camera) -> tuple[float, float]:
    """Return the principal point's offset from the middle, in widths and heights of the image."""
    return ((camera.cx + 0.5) / camera.width - 0.5, (camera.cy + 0.5) / camera.height - 0.5)


def _principal_point(camera: Camera) -> str:
    x, y = middle_offset(camera)
    if max(abs(x), abs(y)) <= UNUSUAL_OFFSET:
        return ''
    return (f'the principal point ({camera.cx:.1f}, {camera.cy:.1f}) is far from the middle of '
            f'{camera.width}x{camera.height} pixels: {abs(x):.2f} of the width, {abs(y):.2f} of '
            'the height')


def _perspective(camera: Camera) -> list[str]:
    found = []
    angle = 2 * math.degrees(math.atan(camera.width / (2 * camera.fx)))
    if not NARROWEST <= angle <= WIDEST:
        found.append(_field_of_view(camera, angle))
    if not camera.is_pinhole:
        u, v = np.meshgrid(np.linspace(0, camera.width - 1, _SAMPLES),
                           np.linspace(0, camera.height - 1, _SAMPLES))
        share = float(np.isnan(camera.unproject(np.stack([u, v], axis=-1))[..., 0]).mean())
        if share:
            found.append(_without_inverse(camera, f'in {100 * share:.2g} % of the image'))
    return found


def _fisheye(camera: Camera) -> list[str]:
    """Check the border's middles alone: the corners may lie outside of the lens's circle."""
    directions = np.stack([np.sin(_ANGLES), np.zeros_like(_ANGLES), np.cos(_ANGLES)], axis=-1)
    with np.errstate(all='ignore'):
        radii = lens.equidistant_distort(directions, camera.distortion)[:, 0]
        falls = np.flatnonzero(~(np.diff(radii) > 0))
    grows = int(falls[0]) + 1 if len(falls) else len(radii)
    reach = np.array([camera.cx + 0.5, camera.width - 0.5 - camera.cx]) / camera.fx
    upright = np.array([camera.cy + 0.5, camera.height - 0.5 - camera.cy]) / camera.fy
    if max(reach.max(), upright.max()) > radii[grows - 1] and grows < len(radii):
        return [_without_inverse(
            camera, f'beyond {math.degrees(_ANGLES[grows - 1]):.0f} degrees, inside the image')]
    angle = math.degrees(_angle_of(reach, radii).sum())
    return [_field_of_view(camera, angle)] if angle > WIDEST_FISHEYE else []


def _angle_of(reach: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.interp(reach, np.maximum.accumulate(radii), _ANGLES)


def _field_of_view(camera: Camera, angle: float) -> str:
    return (f'a focal length of {camera.fx:.4g} pixels gives an image {camera.width} pixels wide '
            f'a field of view of {angle:.3g} degrees')


def _without_inverse(camera: Camera, where: str) -> str:
    values = ', '.join(f'{value:.4g}' for value in camera.distortion)
    return f'the distortion ({values}) has no inverse {where}'


def _ratio(camera: Camera) -> float:
    return max(camera.fx / camera.fy, camera.fy / camera.fx)


def _focal(camera: Camera) -> str:
    return f'focal lengths of {camera.fx:.4g} and {camera.fy:.4g} pixels'
