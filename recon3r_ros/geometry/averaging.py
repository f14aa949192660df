# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images at lower resolutions, averaged with weights that are computed once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, dense, f4, i4, u4

Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Indices = NDArray[np.int32]

#: Weights are padded to a multiple of so many: the loops take that many at once
_BLOCK = 4


@dataclass(frozen=True, eq=False)
class Averaging:
    """
    Averages over the cells of a grid that divides an image; pixels on their edges count in shares.

    OpenCV's `INTER_AREA`, to rounding, in a third of its time.

    :param shape: height and width of the images
    :param first_row: (rows,) first pixel of each row of cells
    :param row_weights: (n, rows) shares of that pixel and of those that follow
    :param first_column: (columns,)
    :param column_weights: (m, columns)
    """

    shape: tuple[int, ...]
    first_row: Indices
    row_weights: Map
    first_column: Indices
    column_weights: Map

    @classmethod
    def over(cls, shape: tuple[int, ...], rows: int, columns: int) -> Averaging:
        """Divide images of a shape into rows and columns."""
        return cls(shape, *_shares(shape[0], rows), *_shares(shape[1], columns))

    def part(self, rows: slice, columns: slice) -> Averaging:
        """Return the averages over some of the cells."""
        return replace(self, first_row=self.first_row[rows],
                       row_weights=dense(self.row_weights[:, rows]),
                       first_column=self.first_column[columns],
                       column_weights=dense(self.column_weights[:, columns]))

    def of(self, image: Image) -> Image:
        """Average an image (H, W) or (H, W, C): (rows, columns) or (rows, columns, C), rounded."""
        height, width, *channels = image.shape
        out = np.empty((len(self.first_row), len(self.first_column), *channels), np.uint8)
        count = channels[0] if channels else 1
        _average(dense(image).reshape(height, width * count), count,
                 self.first_row, self.row_weights, self.first_column, self.column_weights,
                 out.reshape(len(out), -1))
        return out


def resized(image: Image, rows: int, columns: int, part: tuple[slice, slice] | None = None
            ) -> Image:
    """
    Bring an image (H, W) or (H, W, C) to another size.

    :param part: rows and columns of the result; None for all
    """
    part = part or (slice(None), slice(None))
    if image.shape[0] >= rows and image.shape[1] >= columns and image.shape[:2] != (rows, columns):
        return Averaging.over(image.shape[:2], rows, columns).part(*part).of(image)
    if image.shape[:2] != (rows, columns):
        image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    return dense(image[part])


def _shares(size: int, parts: int) -> tuple[Indices, Map]:
    """First pixel of each part of an axis, and (n, parts) the shares of it and its successors."""
    edges = np.arange(parts + 1) * (size / parts)
    # Rounded edges of parts may miss those of pixels
    first = np.floor(edges[:-1] + 1e-6)
    most = int((np.ceil(edges[1:] - 1e-6) - first).max())
    pixels = first + np.arange(-(-most // _BLOCK) * _BLOCK)[:, None]
    shares = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    shares = np.where(shares > 1e-6, shares, 0) * (parts / size)
    return first.astype(np.int32), shares.astype(np.float32)


@compiled('void(u1[:,::1], i8, i4[::1], f4[:,::1], i4[::1], f4[:,::1], u1[:,::1])')
def _average(image: Image, channels: int, first_row: Indices, row_weights: Map,
             first_column: Indices, column_weights: Map, out: Image) -> None:
    """Average an image whose rows have the channels of their pixels one after the other."""
    starts, sums = channels * first_column, np.empty(len(first_column), np.float32)
    begin = starts[0]
    end = min(starts[-1] + channels * len(column_weights), image.shape[1])
    # Padding may reach beyond the last pixel
    line = np.zeros(image.shape[1] + channels * len(column_weights), np.float32)
    used = line[begin:end]
    for i in range(len(first_row)):
        used[:] = 0
        for n in range(len(row_weights)):
            weight = row_weights[n, i]
            if weight != 0:
                row = image[first_row[i] + n, begin:end]
                for x in range(len(used)):
                    used[x] += weight * f4(row[x])
        for c in range(channels):
            sums[:] = f4(0.5)
            for n in range(0, len(column_weights), _BLOCK):
                w0, w1, w2, w3 = (column_weights[n], column_weights[n + 1], column_weights[n + 2],
                                  column_weights[n + 3])
                line0 = line[channels * n + c:]
                line1, line2, line3 = (line0[channels:], line0[2 * channels:],
                                       line0[3 * channels:])
                for j in range(len(sums)):
                    x = u4(starts[j])
                    sums[j] += (w0[j] * line0[x] + w1[j] * line1[x] + w2[j] * line2[x]
                                + w3[j] * line3[x])
            values = out[i, c:]
            for j in range(len(sums)):
                values[channels * j] = np.uint8(i4(sums[j]))
