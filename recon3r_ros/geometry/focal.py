# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Focal length of a camera from its pointmap."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.geometry.se3 import as_array

# tan of the widest angle off the axis at which a point is used: a depth close to zero
# would otherwise give one point unbounded leverage
_LARGEST_SLOPE = np.tan(np.radians(80.0))
_SMALLEST_RESIDUAL = 1e-6  # pixels, keeps Weiszfeld's weights finite at a perfect fit


def estimate_focal_weiszfeld(
    pointmap: ArrayLike,
    confidence: ArrayLike,
    principal_point: ArrayLike,
    iterations: int = 10,
) -> float:
    """
    Focal length of least reprojection error of a pointmap; square pixels assumed.

    Minimises sum_i conf_i |(u_i', v_i') - f (X_i, Y_i) / Z_i| over f with Weiszfeld's iteration
    (DUSt3R, Wang et al. 2024, section 3.3), initialised by the median of the per-pixel estimates.

    :param pointmap: points (H, W, 3) in the frame of their camera, any scale
    :param confidence: weights (H, W); pixels where it is not positive are ignored
    :param principal_point: (cx, cy), pixels
    :param iterations: of Weiszfeld's algorithm
    :returns: focal length, pixels
    :raises GeometryError: if no pixel has a finite point in front of the camera and off its axis,
        or the points are mirrored
    """
    pointmap = as_array(pointmap, (None, None, 3), 'pointmap')
    confidence = as_array(confidence, pointmap.shape[:2], 'confidence')
    if pointmap.ndim != 3 or confidence.ndim != 2:
        raise GeometryError(f'pointmap: got shape {pointmap.shape}, expected (H, W, 3)')
    pixels = pixel_grid(*confidence.shape) - as_array(principal_point, (2,), 'principal_point')
    with np.errstate(all='ignore'):
        slopes = pointmap[..., :2] / pointmap[..., 2:]
        squared = np.sum(slopes**2, axis=-1)
        good = (pointmap[..., 2] > 0) & np.isfinite(confidence) & (confidence > 0)
        good &= (squared > 0) & (squared < _LARGEST_SLOPE**2)
    if not good.any():
        raise GeometryError(f'focal: got no usable point among {good.size}, expected at least one')
    pixels, slopes, squared, weights = pixels[good], slopes[good], squared[good], confidence[good]
    product = np.sum(pixels * slopes, axis=-1)
    focal = float(np.median(product / squared))
    for _ in range(iterations):
        residual = np.linalg.norm(pixels - focal * slopes, axis=-1)
        pull = weights / np.maximum(residual, _SMALLEST_RESIDUAL)
        focal = float(np.sum(pull * product) / np.sum(pull * squared))
    if not focal > 0:
        raise GeometryError(f'focal: got {focal}, expected > 0; the pointmap is mirrored')
    return focal
