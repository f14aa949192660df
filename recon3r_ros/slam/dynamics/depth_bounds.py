# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Bounds of a frame's depth, by a keyframe's depth and its uncertainty.

Where depth is unknown the bounds reach from infinity to very near.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.slam.dynamics.cells import Cells
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Bounds of a known depth: this many standard deviations, at least this relative error
DEPTH_SIGMAS, MIN_DEPTH_SIGMA = 2.0, 0.03
#: Nearest depth where none is known, relative to the nearest known depths
NEAREST = 0.5
#: An unknown depth is likely similar to those within this share of the image's height
SURROUNDINGS = 1 / 8
#: Inverse depth of cells without any
_FAR = np.float32(1e9)


@dataclass(frozen=True, eq=False)
class DepthBounds:
    """Possible and likely bounds of the inverse depths (h, w) of a frame's cells."""

    low: Map
    high: Map
    likely_low: Map
    likely_high: Map
    known: Mask


@dataclass(frozen=True, eq=False)
class BoundedSurface:
    """
    Bounds of a keyframe's inverse depths on its grid, flattened, farthest first.

    :param rays: (N, 3)
    :param middle: (N,)
    :param low: (N,)
    :param high: (N,)
    :param front: (N,) bound of objects in front: `high` where the keyframe was static
    :param nearest: bound anywhere
    """

    rays: Map
    middle: Map
    low: Map
    high: Map
    front: Map
    nearest: float

    def moved(self, T_new_old: Array) -> BoundedSurface:
        """Express the surface in another frame."""
        T = T_new_old.astype(np.float32)
        points = self.rays @ T[:3, :3].T + self.middle[:, None] * T[:3, 3]
        use = points[:, 2] > 0.05
        z = points[use, 2]
        middle = self.middle[use] / z
        order = np.argsort(middle)
        return BoundedSurface((points[use] / z[:, None])[order], middle[order],
                              (self.low[use] / z)[order], (self.high[use] / z)[order],
                              (self.front[use] / z)[order], self.nearest)

    @classmethod
    def of(cls, reference: Keyframe, cells: Cells) -> BoundedSurface:
        """Bound the depths of a keyframe, at most one point a cell."""
        known = (reference.inverse_depth > 0) & ~reference.mask
        sigma = DEPTH_SIGMAS * np.maximum(
            1 / np.sqrt(np.maximum(reference.confidence, 1e-6)), MIN_DEPTH_SIGMA)
        factor = np.exp(np.minimum(sigma, 2.0)).astype(np.float32)
        kernel = np.ones((3, 3), np.uint8)
        low = cv2.erode(np.where(known, reference.inverse_depth / factor, _FAR), kernel)
        high = cv2.dilate(np.where(known, reference.inverse_depth * factor, 0), kernel)
        shape = reference.inverse_depth.shape
        rows = np.minimum(np.arange(cells.rows) * shape[0] // cells.rows, shape[0] - 1)
        cols = np.minimum(np.arange(cells.columns) * shape[1] // cells.columns, shape[1] - 1)
        grid = np.ix_(rows, cols)
        use = known[grid].ravel()
        middle = reference.inverse_depth[grid].ravel()[use]
        order = np.argsort(middle)
        pixels = np.stack(np.meshgrid(cols, rows), axis=-1).reshape(-1, 2).astype(np.float64)
        rays = pinhole.rays(pixels[use][order], reference.camera).astype(np.float32)
        nearest = float(np.percentile(middle, 98)) if len(middle) else 1.0
        own_high = high[grid].ravel()[use][order]
        return cls(rays, middle[order], low[grid].ravel()[use][order], own_high, own_high,
                   nearest / NEAREST)

    def completed(self, older: BoundedSurface, cells: Cells) -> BoundedSurface:
        """Add older points where there are none: at dynamic objects of the keyframe."""
        _, high, _ = self._render(np.eye(4), cells)
        cols, rows, inside = cells.of_points(older.rays)
        new = ~inside
        new[inside] = high[rows[inside], cols[inside]] <= 0
        # No more than one point a cell, the newest first
        limit = max(high.size - len(self.middle), 0)
        chosen = np.flatnonzero(new)
        chosen = chosen[::max(1, -(-len(chosen) // max(limit, 1)))] if limit else chosen[:0]
        middle = np.concatenate([self.middle, older.middle[chosen]])
        order = np.argsort(middle)
        return BoundedSurface(
            np.concatenate([self.rays, older.rays[chosen]])[order], middle[order],
            np.concatenate([self.low, older.low[chosen]])[order],
            np.concatenate([self.high, older.high[chosen]])[order],
            # A dynamic object may have come to rest there
            np.concatenate([self.front, np.full(len(chosen), self.nearest, np.float32)]
                           )[order], self.nearest)

    def seen(self, T_ref_cam: Array, cells: Cells) -> DepthBounds:
        """
        Bound the inverse depths of a frame's cells.

        :param T_ref_cam: (4, 4) pose of the frame in the surface's frame
        """
        low, high, front = self._render(T_ref_cam, cells)
        known = high > 0
        around = np.ones((2 * round(SURROUNDINGS * len(high)) + 1,) * 2, np.uint8)
        far, near = cv2.erode(low, around), cv2.dilate(high, around)
        likely_low, likely_high = np.where(known, low, far), np.where(known, high, near)
        nothing = likely_high <= 0
        likely_low[nothing], likely_high[nothing] = 0, self.nearest
        # A wrong depth is likely one of those around it
        return DepthBounds(
            np.where(known, far, np.float32(0)),
            np.where(known, np.maximum(front, near), np.float32(self.nearest)),
            likely_low, likely_high, known)

    def _render(self, T_ref_cam: Array, cells: Cells) -> tuple[Map, Map, Map]:
        """Low, high and front of the cells of a frame: (_FAR, 0, 0) where it has none."""
        T = se3.inverse(T_ref_cam).astype(np.float32)
        points = self.rays @ T[:3, :3].T + self.middle[:, None] * T[:3, 3]
        cols, rows, inside = cells.of_points(points)
        cols, rows, z = cols[inside], rows[inside], points[inside, 2]
        low = np.full(cells.shape, _FAR)
        high, front = np.zeros((2, *cells.shape), np.float32)
        # Nearest last, so that it stays where several points fall into one cell
        low[rows, cols] = self.low[inside] / z
        high[rows, cols] = self.high[inside] / z
        front[rows, cols] = self.front[inside] / z
        kernel = np.ones((3, 3), np.uint8)
        return cv2.erode(low, kernel), cv2.dilate(high, kernel), cv2.dilate(front, kernel)
