# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The compiled loops of `depth_bounds`: fields are (rows, columns) float32 of a frame's cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, f4, i4

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]

_0, _1, _NEAR = f4(0), f4(1), f4(1e-2)


@compiled()
def _cell(a: float, b: float, depth: float, K: Map, rows: int, columns: int) -> int:
    """Index of the cell that a point (a, b, depth) is seen in; -1 outside."""
    scale = _1 / depth
    u, v = K[0, 0] * a * scale + K[0, 2], K[1, 1] * b * scale + K[1, 2]
    if depth > _NEAR and u >= 0 and v >= 0 and u < columns and v < rows:
        return i4(v) * i4(columns) + i4(u)
    return i4(-1)


@compiled('i8(f4[:,::1], f4[:,::1], b1[:,::1], i8[::1], i8[::1], f4[::1], f4[:,::1], f4[:,::1])')
def collect(inverse_depth: Map, factor: Map, known: Mask, rows: Indices, columns: Indices,
            K: Map, rays: Map, inverse_depths: Map) -> int:
    """
    Collect the points of a surface.

    :param inverse_depth: (H, W)
    :param factor: (H, W) by which bounds differ from it
    :param known: (H, W) where it is known
    :param rows: of the pixels that are taken
    :param columns: of the pixels that are taken
    :param K: (fx, fy, cx, cy)
    :param rays: (N, 3) takes those of the points
    :param inverse_depths: (N, 4) takes the points', low, high and front; the bounds are the
        lowest and the highest of the neighbours'
    :return: the number of points
    """
    height, width, count = inverse_depth.shape[0], inverse_depth.shape[1], 0
    for i in rows:
        for j in columns:
            if not known[i, j]:
                continue
            low, high = f4(np.inf), _0
            for k in range(max(i - 1, 0), min(i + 2, height)):
                for n in range(max(j - 1, 0), min(j + 2, width)):
                    if known[k, n]:
                        low = min(low, inverse_depth[k, n] / factor[k, n])
                        high = max(high, inverse_depth[k, n] * factor[k, n])
            rays[count, 0] = (f4(j) - K[2]) / K[0]
            rays[count, 1] = (f4(i) - K[3]) / K[1]
            rays[count, 2] = _1
            inverse_depths[count, 0], inverse_depths[count, 1] = inverse_depth[i, j], low
            inverse_depths[count, 2], inverse_depths[count, 3] = high, high
            count += 1
    return count


@compiled('void(f4[:,::1], f4[:,::1], f4[:,::1], f4[:,::1], f4[:,:,::1])')
def render(rays: Map, inverse_depths: Map, T: Map, K: Map, out: Map) -> None:
    """
    Render the bounds of a surface: of the points that fall into a cell, the last one counts.

    :param rays: (N, 3)
    :param inverse_depths: (N, 4): the points', low, high and front
    :param T: (3, 4) to the frame
    :param K: (2, 3) intrinsics in cells whose corners are integers
    :param out: (3, rows, columns) takes low, high and front where there are points
    """
    rows, columns = out.shape[1:]
    low, high, front = out[0].ravel(), out[1].ravel(), out[2].ravel()
    for n in range(len(rays)):
        x, y, z, d = rays[n, 0], rays[n, 1], rays[n, 2], inverse_depths[n, 0]
        depth = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3] * d
        cell = _cell(T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3] * d,
                     T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3] * d, depth, K, rows,
                     columns)
        if cell >= 0:
            scale = _1 / depth
            low[cell] = inverse_depths[n, 1] * scale
            high[cell] = inverse_depths[n, 2] * scale
            front[cell] = inverse_depths[n, 3] * scale


@compiled('void(f4[:,::1], f4[:,::1], f4[:,::1], b1[::1])')
def find_uncovered(rays: Map, K: Map, high: Map, out: Mask) -> None:
    """Find points of a surface (N, 3) in the same frame that fall into no cell with a depth."""
    depths = high.ravel()
    for n in range(len(rays)):
        cell = _cell(rays[n, 0], rays[n, 1], rays[n, 2], K, high.shape[0], high.shape[1])
        out[n] = not (cell >= 0 and depths[cell] > 0)


@compiled('void(f4[:,:,::1], f4[:,::1], f4[:,::1], f4, f4[:,:,::1])')
def bound(surface: Map, far: Map, near: Map, nearest: float, out: Map) -> None:
    """
    Bound the inverse depths of cells.

    :param surface: (3, rows, columns) low, high and front as rendered
    :param far: lowest bound around
    :param near: highest bound around
    :param nearest: bound anywhere
    :param out: (4, rows, columns) takes low and high, likely low and high
    """
    lows, highs, fronts = surface[0].ravel(), surface[1].ravel(), surface[2].ravel()
    fars, nears = far.ravel(), near.ravel()
    low, high, likely_low, likely_high = (out[0].ravel(), out[1].ravel(), out[2].ravel(),
                                          out[3].ravel())
    for n in range(len(low)):
        known, around = highs[n] > 0, nears[n] > 0
        # A wrong depth is likely one of those around it
        low[n] = fars[n] if known else _0
        high[n] = max(fronts[n], nears[n]) if known else nearest
        likely_low[n] = lows[n] if known else (fars[n] if around else _0)
        likely_high[n] = highs[n] if known else (nears[n] if around else nearest)
