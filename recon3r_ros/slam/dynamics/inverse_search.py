# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Optical flow by inverse search.

Kroeger et al., 'Fast Optical Flow using Dense Inverse Search', ECCV 2016, with displacements that
are propagated between patches as in PatchMatch (Barnes et al., SIGGRAPH 2009). Patches on a
regular grid are aligned by inverse compositional gradient descent, from coarse levels to fine
ones; a pixel's flow is the mean of those of its patches, weighted by how well they match.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, f4, i4, u4

Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Integers = NDArray[np.int32]

#: Width of the patches and their distance, pixels: large ones spread motion beyond its outline by
#: half their size
PATCH, STRIDE = 6, 4
#: Iterations of gradient descent after either pass of propagation
ITERATIONS = 3
#: Patches along the longer side of the coarsest level
COARSEST = 4
#: Width of images' replicated borders: patches may lie outside
BORDER = 16
_0, _HALF, _1 = f4(0), f4(0.5), f4(1)
_PIXELS, _EPSILON = f4(PATCH * PATCH), f4(1e-3)
#: Displacements that differ less need not be compared, pixels
_SAME = f4(0.1)


@dataclass(frozen=True, eq=False)
class Level:
    """
    An image at one resolution.

    :param image: (H + 2 BORDER, W + 2 BORDER) grey values
    :param gradient_x: of the same shape
    :param gradient_y: of the same shape
    """

    image: Map
    gradient_x: Map
    gradient_y: Map

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width without the border."""
        height, width = self.image.shape
        return height - 2 * BORDER, width - 2 * BORDER

    @classmethod
    def of(cls, image: Image) -> Level:
        """Prepare an image (H, W)."""
        wide = cv2.copyMakeBorder(image, *[BORDER] * 4, cv2.BORDER_REPLICATE)
        return cls(wide.astype(np.float32), cv2.Sobel(wide, cv2.CV_32F, 1, 0, scale=1 / 8),
                   cv2.Sobel(wide, cv2.CV_32F, 0, 1, scale=1 / 8))


def pyramid(image: Image) -> list[Level]:
    """Prepare an image (H, W) for `flow`: its levels, the finest first."""
    height, width = image.shape
    count = 1 + max(0, min(round(math.log2(max(height, width) / (COARSEST * PATCH))),
                           int(math.log2(min(height, width) / PATCH))))
    levels = [Level.of(image)]
    for n in range(1, count):
        image = cv2.resize(image, (width >> n, height >> n), interpolation=cv2.INTER_AREA)
        levels.append(Level.of(image))
    return levels


def flow(a: list[Level], b: list[Level]) -> Map:
    """
    Optical flow from image a to image b, of the same size.

    :return: (2, H, W)
    """
    out = np.zeros((2, 1, 1), np.float32)
    for own, other in zip(reversed(a), reversed(b)):
        height, width = own.shape
        coarse, out = out, np.empty((2, height, width), np.float32)
        rows, columns = _corners(height), _corners(width)
        space = np.empty((4, len(rows), len(columns)), np.float32)
        _search(own.image, own.gradient_x, own.gradient_y, other.image, coarse, rows, columns,
                space)
        _densify(own.image, other.image, rows, columns, space, np.empty_like(out[0]), out)
    return out


def _corners(size: int) -> Integers:
    """First pixels of the patches along an axis, which cover it."""
    count = -(-(size - PATCH) // STRIDE) + 1
    return np.minimum(STRIDE * np.arange(count), size - PATCH).astype(np.int32)


@compiled()
def _weights(shape: tuple[int, int], y: float, x: float
             ) -> tuple[int, float, float, float, float]:
    """Index of the first pixel of a patch in a flat image with a border, and its weights."""
    x = min(max(x, f4(1 - BORDER)), f4(shape[1] - BORDER - PATCH - 1)) + f4(BORDER)
    y = min(max(y, f4(1 - BORDER)), f4(shape[0] - BORDER - PATCH - 1)) + f4(BORDER)
    j, i = i4(x), i4(y)
    s, t = x - f4(j), y - f4(i)
    both = s * t
    return i4(i * i4(shape[1]) + j), _1 - s - t + both, s - both, t - both, both


@compiled()
def _difference(target: Map, at: int, pitch: int, w00: float, w01: float, w10: float, w11: float
                ) -> float:
    below = i4(at + pitch)
    return (w00 * target[u4(at)] + w01 * target[u4(at + 1)] + w10 * target[u4(below)]
            + w11 * target[u4(below + 1)])


@compiled()
def _mismatch(image: Map, target: Map, shape: tuple[int, int], i: int, j: int, u: float, v: float,
              limit: float) -> float:
    """
    Sum of squared differences of a patch, less their mean, to one that is displaced.

    :param limit: above which the sum is not completed
    """
    pitch = i4(shape[1])
    there, w00, w01, w10, w11 = _weights(shape, f4(i) + v, f4(j) + u)
    here = i4(i4(i + BORDER) * pitch + j + BORDER)
    total, squares = _0, _0
    for row in range(PATCH):
        for column in range(PATCH):
            d = _difference(target, i4(there + column), pitch, w00, w01, w10, w11) - image[
                u4(here + column)]
            total += d
            squares += d * d
        there, here = i4(there + pitch), i4(here + pitch)
        # It never falls with more pixels
        if squares - total * total / f4((row + 1) * PATCH) > limit:
            return f4(np.inf)
    return squares - total * total / _PIXELS


@compiled()
def _step(image: Map, gx: Map, gy: Map, target: Map, shape: tuple[int, int], i: int, j: int,
          u: float, v: float, sum_x: float, sum_y: float) -> tuple[float, float, float]:
    """Mismatch, and its derivatives by the displacement."""
    pitch = i4(shape[1])
    there, w00, w01, w10, w11 = _weights(shape, f4(i) + v, f4(j) + u)
    here = i4(i4(i + BORDER) * pitch + j + BORDER)
    total, squares, by_x, by_y = _0, _0, _0, _0
    for row in range(PATCH):
        for column in range(PATCH):
            n = u4(here + column)
            d = _difference(target, i4(there + column), pitch, w00, w01, w10, w11) - image[n]
            total += d
            squares += d * d
            by_x += d * gx[n]
            by_y += d * gy[n]
        there, here = i4(there + pitch), i4(here + pitch)
    mean = total / _PIXELS
    return squares - total * mean, by_x - mean * sum_x, by_y - mean * sum_y


@compiled()
def _descend(image: Map, gx: Map, gy: Map, target: Map, shape: tuple[int, int], i: int, j: int,
             u: float, v: float) -> tuple[float, float, float, float]:
    """
    Align a patch from a displacement (section 2.1).

    :return: the displacement, its mismatch, and 1 where it is the end of the descent
    """
    pitch = i4(shape[1])
    here = i4(i4(i + BORDER) * pitch + j + BORDER)
    sum_x, sum_y, xx, xy, yy = _0, _0, _0, _0, _0
    for row in range(PATCH):
        for column in range(PATCH):
            n = u4(here + column)
            sum_x += gx[n]
            sum_y += gy[n]
            xx += gx[n] * gx[n]
            xy += gx[n] * gy[n]
            yy += gy[n] * gy[n]
        here = i4(here + pitch)
    xx -= sum_x * sum_x / _PIXELS
    xy -= sum_x * sum_y / _PIXELS
    yy -= sum_y * sum_y / _PIXELS
    determinant = max(xx * yy - xy * xy, _EPSILON)
    start_u, start_v = u, v
    least, by_x, by_y = _step(image, gx, gy, target, shape, i, j, u, v, sum_x, sum_y)
    start = least
    for _ in range(ITERATIONS):
        u -= (yy * by_x - xy * by_y) / determinant
        v -= (xx * by_y - xy * by_x) / determinant
        # Farther than its size a patch has left its basin of attraction
        if not (u - start_u) ** 2 + (v - start_v) ** 2 <= _PIXELS:
            return start_u, start_v, start, _1
        mismatch, by_x, by_y = _step(image, gx, gy, target, shape, i, j, u, v, sum_x, sum_y)
        # The step is kept: noise, too, makes minima
        if not mismatch < least:
            return u, v, mismatch, _1
        least = mismatch
    return u, v, least, _0


@compiled('void(f4[:,::1], f4[:,::1], f4[:,::1], f4[:,::1], f4[:,:,::1], i4[::1], i4[::1], '
          'f4[:,:,::1])')
def _search(image: Map, gradient_x: Map, gradient_y: Map, target: Map, coarse: Map,
            rows: Integers, columns: Integers, patches: Map) -> None:
    """
    Displace the patches of a level.

    :param image: the level's
    :param gradient_x: the level's
    :param gradient_y: the level's
    :param target: of the other image
    :param coarse: (2, h, w) flow at the next coarser level, or (2, 1, 1) of 0
    :param rows: (R,) first ones of the patches
    :param columns: (C,) first ones of the patches
    :param patches: (4, R, C) takes displacements, mismatches and whether these are minima
    """
    shape = image.shape
    flat, gx, gy, other = image.ravel(), gradient_x.ravel(), gradient_y.ravel(), target.ravel()
    for m in range(len(rows)):
        for n in range(len(columns)):
            i = min((rows[m] + PATCH // 2) >> 1, coarse.shape[1] - 1)
            j = min((columns[n] + PATCH // 2) >> 1, coarse.shape[2] - 1)
            u, v = f4(2) * coarse[0, i, j], f4(2) * coarse[1, i, j]
            patches[0, m, n], patches[1, m, n] = u, v
            patches[2, m, n] = _mismatch(flat, other, shape, rows[m], columns[n], u, v, f4(np.inf))
            patches[3, m, n] = 0
    for backwards in range(2):
        before = 1 if backwards else -1
        for m_ in range(len(rows)):
            m = len(rows) - 1 - m_ if backwards else m_
            for n_ in range(len(columns)):
                n = len(columns) - 1 - n_ if backwards else n_
                u, v, least = patches[0, m, n], patches[1, m, n], patches[2, m, n]
                for vertical in range(2):
                    k, o = (m + before, n) if vertical else (m, n + before)
                    if 0 <= k < len(rows) and 0 <= o < len(columns):
                        other_u, other_v = patches[0, k, o], patches[1, k, o]
                        if abs(other_u - u) + abs(other_v - v) < _SAME:
                            continue
                        mismatch = _mismatch(flat, other, shape, rows[m], columns[n], other_u,
                                             other_v, least)
                        if mismatch < least:
                            u, v, least = other_u, other_v, mismatch
                            patches[3, m, n] = 0
                if patches[3, m, n] == 0:
                    (patches[0, m, n], patches[1, m, n], patches[2, m, n], patches[3, m, n]
                     ) = _descend(flat, gx, gy, other, shape, rows[m], columns[n], u, v)


@compiled('void(f4[:,::1], f4[:,::1], i4[::1], i4[::1], f4[:,:,::1], f4[:,::1], f4[:,:,::1])')
def _densify(image: Map, target: Map, rows: Integers, columns: Integers, patches: Map,
             weights: Map, out: Map) -> None:
    """
    Average the displacements of the patches at each pixel, the better matches the more (eq. 3).

    :param image: the level's
    :param target: of the other image
    :param rows: (R,) first ones of the patches
    :param columns: (C,) first ones of the patches
    :param patches: (4, R, C) displacements, and more
    :param weights: (H, W) space
    :param out: (2, H, W) takes the flow
    """
    shape, width = image.shape, weights.shape[1]
    pitch = i4(shape[1])
    flat, other, sums = image.ravel(), target.ravel(), weights.ravel()
    us, vs = out[0].ravel(), out[1].ravel()
    for n in range(len(sums)):
        us[n], vs[n], sums[n] = 0, 0, 0
    for m in range(len(rows)):
        for n in range(len(columns)):
            u, v = patches[0, m, n], patches[1, m, n]
            there, w00, w01, w10, w11 = _weights(shape, f4(rows[m]) + v, f4(columns[n]) + u)
            here = i4(i4(rows[m] + BORDER) * pitch + columns[n] + BORDER)
            at = i4(rows[m] * i4(width) + columns[n])
            for row in range(PATCH):
                for column in range(PATCH):
                    d = _difference(other, i4(there + column), pitch, w00, w01, w10, w11) - flat[
                        u4(here + column)]
                    weight = _1 / max(_1, abs(d))
                    sums[u4(at + column)] += weight
                    us[u4(at + column)] += weight * u
                    vs[u4(at + column)] += weight * v
                there, here, at = i4(there + pitch), i4(here + pitch), i4(at + width)
    for n in range(len(sums)):
        us[n] /= sums[n]
        vs[n] /= sums[n]
