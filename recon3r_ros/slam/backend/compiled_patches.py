# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Compiled loops that align patches of one image with another, to a small part of a pixel.

Inverse compositional alignment (Baker and Matthews, IJCV 2004) of a patch that is warped to how
the other camera sees it: two unknowns, the patch's position, whatever its gain and offset.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

#: A patch reaches this many pixels from its centre; its weights are a Gaussian
RADIUS = 5
_SIGMA = 3.0
_SIDE = 2 * RADIUS + 1
_ITERATIONS = 15
#: Squared step, pixels^2, after which the position is final
_CONVERGED = 1e-4
#: Least variance of a patch's brightness, and least curvature of its squared difference in any
#: direction: below, noise decides
_MIN_VARIANCE = 2.0
_MIN_CURVATURE = 1.0
#: Least gain from the patch to the image
_MIN_GAIN = 0.2
#: Slopes of surfaces are fitted to this many pixels around, to depths this close to the middle's
_REACH = 4
_SAME_SURFACE = 0.1
_MIN_PIXELS = 20


@compiled('f8[:,::1](f4[:,::1], b1[:,::1], i4[:,::1], f8[::1])')
def slopes(inverse_depth: NDArray[np.float32], mask: NDArray[np.bool_],
           keypoints: NDArray[np.int32], landmarks: Array) -> Array:
    """
    Fit planes around keypoints: on one, the inverse depth is linear in the pixel.

    :param inverse_depth: (H, W) 0 where unknown
    :param mask: (H, W) pixels to leave out
    :param keypoints: (K, 2)
    :param landmarks: (K,) their inverse depths
    :return: (K, 2) derivatives of the inverse depth by the pixel; 0 where unknown
    """
    height, width = inverse_depth.shape
    out = np.zeros((len(keypoints), 2))
    for k in range(len(keypoints)):
        u, v, middle = keypoints[k, 0], keypoints[k, 1], landmarks[k]
        count, sx, sy, sq, xx, xy, yy, xq, yq = 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for row in range(max(v - _REACH, 0), min(v + _REACH + 1, height)):
            for column in range(max(u - _REACH, 0), min(u + _REACH + 1, width)):
                q = np.float64(inverse_depth[row, column])
                if q > 0 and not mask[row, column] and abs(q - middle) < _SAME_SURFACE * middle:
                    x, y = np.float64(column - u), np.float64(row - v)
                    count += 1
                    sx, sy, sq = sx + x, sy + y, sq + q
                    xx, xy, yy = xx + x * x, xy + x * y, yy + y * y
                    xq, yq = xq + x * q, yq + y * q
        if count < _MIN_PIXELS:
            continue
        xx, xy, yy = xx - sx * sx / count, xy - sx * sy / count, yy - sy * sy / count
        xq, yq = xq - sx * sq / count, yq - sy * sq / count
        determinant = xx * yy - xy * xy
        if determinant > count:
            out[k, 0] = (yy * xq - xy * yq) / determinant
            out[k, 1] = (xx * yq - xy * xq) / determinant
    return out


@compiled()
def _weights() -> Array:
    out = np.empty((_SIDE, _SIDE))
    for i in range(_SIDE):
        for j in range(_SIDE):
            out[i, j] = np.exp(-0.5 * ((i - RADIUS) ** 2 + (j - RADIUS) ** 2) / _SIGMA ** 2)
    return out / out.sum()


@compiled()
def _warp(source: Image, centre: Array, warp: Array, out: Array) -> bool:
    """Sample a patch and the pixels around it; tell whether all of it is inside the image."""
    height, width = source.shape
    for i in range(_SIDE + 2):
        for j in range(_SIDE + 2):
            du, dv = j - RADIUS - 1, i - RADIUS - 1
            u = centre[0] + warp[0, 0] * du + warp[0, 1] * dv
            v = centre[1] + warp[1, 0] * du + warp[1, 1] * dv
            if not (u >= 0 and v >= 0 and u < width - 1 and v < height - 1):
                return False
            column, row = int(u), int(v)
            a, b = u - column, v - row
            out[i, j] = (
                (1 - b) * ((1 - a) * source[row, column] + a * source[row, column + 1])
                + b * ((1 - a) * source[row + 1, column] + a * source[row + 1, column + 1]))
    return True


@compiled()
def _differentiate(warped: Array, weights: Array, patch: Array, along_x: Array, along_y: Array
                   ) -> tuple[float, float, float, float, float, float]:
    """
    Take the patch out of its warped surroundings, and its derivatives, all of mean 0.

    :return: weighted means of the derivatives' products xx, xy and yy, of the patch's square, and
        of its products with the derivatives
    """
    mean, mean_x, mean_y = 0.0, 0.0, 0.0
    for i in range(_SIDE):
        for j in range(_SIDE):
            along_x[i, j] = 0.5 * (warped[i + 1, j + 2] - warped[i + 1, j])
            along_y[i, j] = 0.5 * (warped[i + 2, j + 1] - warped[i, j + 1])
            w = weights[i, j]
            mean += w * warped[i + 1, j + 1]
            mean_x += w * along_x[i, j]
            mean_y += w * along_y[i, j]
    xx, xy, yy, variance, by_x, by_y = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(_SIDE):
        for j in range(_SIDE):
            w = weights[i, j]
            p = patch[i, j] = warped[i + 1, j + 1] - mean
            x = along_x[i, j] = along_x[i, j] - mean_x
            y = along_y[i, j] = along_y[i, j] - mean_y
            xx, xy, yy = xx + w * x * x, xy + w * x * y, yy + w * y * y
            variance, by_x, by_y = variance + w * p * p, by_x + w * p * x, by_y + w * p * y
    return xx, xy, yy, variance, by_x, by_y


@compiled()
def _compare(image: Image, u: float, v: float, weights: Array, patch: Array, along_x: Array,
             along_y: Array, seen: Array) -> tuple[float, float, float, float]:
    """
    Compare a patch with an image around (u, v), inside of it.

    :return: weighted means of the image's square, about its mean there, and of its products with
        the patch and with the patch's derivatives
    """
    column, row = int(u) - RADIUS, int(v) - RADIUS
    a, b = u - int(u), v - int(v)
    w00, w01, w10, w11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
    mean = 0.0
    for i in range(_SIDE):
        for j in range(_SIDE):
            r, c = row + i, column + j
            s = seen[i, j] = (w00 * image[r, c] + w01 * image[r, c + 1]
                              + w10 * image[r + 1, c] + w11 * image[r + 1, c + 1])
            mean += weights[i, j] * s
    power, common, x, y = 0.0, 0.0, 0.0, 0.0
    for i in range(_SIDE):
        for j in range(_SIDE):
            s = seen[i, j] - mean
            w = weights[i, j] * s
            power += w * s
            common += w * patch[i, j]
            x += w * along_x[i, j]
            y += w * along_y[i, j]
    return power, common, x, y


@compiled()
def _aligned(image: Image, warped: Array, weights: Array, patch: Array, along_x: Array,
             along_y: Array, seen: Array, position: Array) -> float:
    """
    Align one patch.

    :param warped: the patch and the pixels around it
    :param patch, along_x, along_y, seen: scratch
    :param position: (2,) where to begin; takes what was found
    :return: correlation, 0 where nothing was found
    """
    xx, xy, yy, variance, by_x, by_y = _differentiate(warped, weights, patch, along_x, along_y)
    if variance < _MIN_VARIANCE:
        return 0.0
    # The gain is eliminated; the offset is, because the means were subtracted
    xx, xy, yy = (xx - by_x * by_x / variance, xy - by_x * by_y / variance,
                  yy - by_y * by_y / variance)
    determinant = xx * yy - xy * xy
    if 0.5 * (xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy * xy)) < _MIN_CURVATURE:
        return 0.0
    height, width = image.shape
    u, v = position[0], position[1]
    final = False
    for _ in range(_ITERATIONS):
        if not (RADIUS <= u < width - RADIUS - 1 and RADIUS <= v < height - RADIUS - 1):
            return 0.0
        power, common, x, y = _compare(image, u, v, weights, patch, along_x, along_y, seen)
        gain = common / variance
        if gain < _MIN_GAIN:
            return 0.0
        if final:
            position[0], position[1] = u, v
            return common / np.sqrt(power * variance)
        x, y = x / gain - by_x, y / gain - by_y
        du, dv = (yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant
        u, v = u - du, v - dv
        if abs(u - position[0]) + abs(v - position[1]) > 2 * RADIUS:
            return 0.0
        final = du * du + dv * dv < _CONVERGED
    return 0.0


@compiled('f8[::1](u1[:,::1], u1[:,::1], f8[:,::1], f8[:,:,::1], f8[:,::1])')
def align(source: Image, image: Image, centres: Array, warps: Array, positions: Array) -> Array:
    """
    Align patches around pixels of one image with another image.

    :param source: the image that the patches are taken from
    :param image: the image that they are searched in
    :param centres: (N, 2) pixels of the first
    :param warps: (N, 2, 2) derivatives of pixels of the first by pixels of the other
    :param positions: (N, 2) where to begin in the other image; takes what was found
    :return: (N,) correlation of the patches with what was found, 0 where nothing was
    """
    weights = _weights()
    patch, along_x, along_y = (np.empty((_SIDE, _SIDE)), np.empty((_SIDE, _SIDE)),
                               np.empty((_SIDE, _SIDE)))
    warped, seen = np.empty((_SIDE + 2, _SIDE + 2)), np.empty((_SIDE, _SIDE))
    likeness = np.zeros(len(centres))
    for n in range(len(centres)):
        if _warp(source, centres[n], warps[n], warped):
            likeness[n] = _aligned(image, warped, weights, patch, along_x, along_y, seen,
                                   positions[n])
    return likeness
