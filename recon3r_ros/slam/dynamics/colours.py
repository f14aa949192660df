# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Colours of dynamic objects and of the static scene, by their place in the image.

Both are histograms over coarse positions and colours (CIE L*a*b*), smoothed along all axes: a
bilateral grid, as in Maerki et al., 'Bilateral Space Video Segmentation', CVPR 2016. Frames are
weighted by the evidence in their cells, and shared over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, f4, i4

Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Indices = NDArray[np.int32]
Mask = NDArray[np.bool_]

#: Bins: along the image's height and width, and of L*, a* and b*
ROWS, COLUMNS, LIGHTNESS, CHROMA = 3, 4, 12, 16
#: Range of a* and b* around 0 that is divided; values beyond are those at its ends
CHROMA_RANGE = 50
#: Cells that are added to a bin, and to all bins of a place
_RARE, _PRIOR = f4(0.05), f4(5)
#: Colours say as much, at most, as a ratio of their likelihoods of exp(LIMIT)
LIMIT = f4(3.0)
_SHAPE = (2, ROWS, COLUMNS, LIGHTNESS, CHROMA, CHROMA)
_COLOURS = LIGHTNESS * CHROMA * CHROMA
_0, _1, _HALF, _QUARTER = f4(0), f4(1), f4(0.5), f4(0.25)
# OpenCV builds tables at the first conversion, 50 ms for which no image should wait
cv2.cvtColor(np.zeros((1, 1, 3), np.uint8), cv2.COLOR_RGB2Lab)


@dataclass(frozen=True, eq=False)
class Colours:
    """
    The colours of a frame's cells.

    :param image: (rows, columns, 3) RGB
    :param bins: (rows, columns) of the histograms
    """

    image: Image
    bins: Indices

    @classmethod
    def of(cls, image: Image) -> Colours:
        """Find the bins of colours (rows, columns, 3)."""
        bins = np.empty(image.shape[:2], np.int32)
        _find_bins(cv2.cvtColor(image, cv2.COLOR_RGB2Lab), bins)
        return cls(image, bins)

    def histograms(self, evidence: Map) -> Map:
        """
        Count the colours of dynamic objects and of the static scene.

        :param evidence: (rows, columns) for a dynamic object; beyond 1 it is certain
        :return: of `_SHAPE`, relative to the number of cells
        """
        out, space = np.zeros(_SHAPE, np.float32), np.empty(_SHAPE, np.float32)
        _count(self.bins, evidence, out)
        for axis in (1, 2, 3, 4, 5):
            inner = int(np.prod(_SHAPE[axis + 1:], dtype=int))
            _smooth(out.ravel(), space.ravel(), _SHAPE[axis], inner)
            out, space = space, out
        return out

    def distribution(self, cells: Mask) -> Map:
        """Return the shares of coarser colours (K,) in some cells (rows, columns)."""
        counts = np.bincount(self.bins[cells], minlength=_COLOURS).reshape(
            LIGHTNESS // 2, 2, CHROMA // 2, 2, CHROMA // 2, 2).sum((1, 3, 5), dtype=np.float32)
        return np.asarray(counts.ravel() / max(counts.sum(), _1))

    def evidence(self, histograms: Map) -> Map:
        """
        Log-ratio of the likelihoods of the cells' colours at their places.

        :param histograms: of some frames
        :return: (rows, columns) in [-1, 1], for a dynamic object where positive
        """
        out = np.empty(self.bins.shape, np.float32)
        _ratio(self.bins, histograms, histograms.sum((3, 4, 5)), out)
        return out


@compiled('void(u1[:,:,::1], i4[:,::1])')
def _find_bins(lab: Image, bins: Indices) -> None:
    """Find the bins of colours, which OpenCV gives as L* * 2.55, a* + 128, b* + 128."""
    for i in range(bins.shape[0]):
        for j in range(bins.shape[1]):
            index = i4(lab[i, j, 0]) * LIGHTNESS // 256
            for c in (1, 2):
                chroma = (i4(lab[i, j, c]) - 128 + CHROMA_RANGE) * CHROMA // (2 * CHROMA_RANGE)
                index = index * CHROMA + min(max(chroma, 0), CHROMA - 1)
            bins[i, j] = index


@compiled('void(i4[:,::1], f4[:,::1], f4[:,:,:,:,:,::1])')
def _count(bins: Indices, evidence: Map, out: Map) -> None:
    """Count colours by their evidence."""
    rows, columns = bins.shape
    counts, share = out.reshape(2, ROWS * COLUMNS, _COLOURS), _1 / f4(bins.size)
    for i in range(rows):
        for j in range(columns):
            place = (i * ROWS // rows) * COLUMNS + j * COLUMNS // columns
            weight = min(max(evidence[i, j], -_1), _1) * share
            if weight > 0:
                counts[0, place, bins[i, j]] += weight
            else:
                counts[1, place, bins[i, j]] -= weight


@compiled('void(f4[::1], f4[::1], i8, i8)')
def _smooth(values: Map, out: Map, size: int, inner: int) -> None:
    """
    Smooth along an axis with weights 1/4, 1/2, 1/4; bins beyond its ends are empty.

    :param size: of the axis
    :param inner: size of the axes after it
    """
    # As if the ends of an axis were neighbours of other lines, which is mended below: two simple
    # loops become vector instructions
    last = len(values) - inner
    for n in range(inner):
        out[n] = _HALF * values[n] + _QUARTER * values[n + inner]
        out[last + n] = _HALF * values[last + n] + _QUARTER * values[last + n - inner]
    before, here, after = values[:last - inner], values[inner:last], values[2 * inner:]
    middle = out[inner:last]
    for n in range(len(middle)):
        middle[n] = _HALF * here[n] + _QUARTER * (before[n] + after[n])
    for begin in range(size * inner, len(values), size * inner):
        for n in range(begin, begin + inner):
            out[n] -= _QUARTER * values[n - inner]
            out[n - inner] -= _QUARTER * values[n]


@compiled('void(i4[:,::1], f4[:,:,:,:,:,::1], f4[:,:,::1], f4[:,::1])')
def _ratio(bins: Indices, histograms: Map, totals: Map, out: Map) -> None:
    """
    Log-ratio of likelihoods; between places, histograms are interpolated bilinearly.

    :param totals: (2, ROWS, COLUMNS) sums over all colours
    """
    rows, columns = bins.shape
    counts = histograms.reshape(2, ROWS, COLUMNS, _COLOURS)
    rare, prior = _RARE / f4(bins.size), _PRIOR / f4(bins.size)
    for i in range(rows):
        y = min(max((f4(i) + _HALF) * f4(ROWS) / f4(rows) - _HALF, _0), f4(ROWS - 1))
        m = min(i4(y), ROWS - 2)
        t = y - f4(m)
        for j in range(columns):
            x = min(max((f4(j) + _HALF) * f4(COLUMNS) / f4(columns) - _HALF, _0), f4(COLUMNS - 1))
            k = min(i4(x), COLUMNS - 2)
            s, colour = x - f4(k), bins[i, j]
            own, other, all_own, all_other = _0, _0, _0, _0
            for dm in range(2):
                for dk in range(2):
                    weight = (t if dm else _1 - t) * (s if dk else _1 - s)
                    own += weight * counts[0, m + dm, k + dk, colour]
                    other += weight * counts[1, m + dm, k + dk, colour]
                    all_own += weight * totals[0, m + dm, k + dk]
                    all_other += weight * totals[1, m + dm, k + dk]
            ratio = np.log((own + rare) * (all_other + prior)
                           / ((other + rare) * (all_own + prior)))
            out[i, j] = min(max(ratio, -LIMIT), LIMIT) / LIMIT
