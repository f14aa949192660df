# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Bounds of a frame's depth, by a keyframe's depth and its uncertainty.

Where depth is unknown the bounds reach from infinity to very near.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.slam.dynamics.cells import Cells
from recon3r_ros.slam.dynamics.compiled_bounds import bound, collect, find_uncovered, render
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Bounds of a known depth: this many standard deviations, at least this relative error
DEPTH_SIGMAS, MIN_DEPTH_SIGMA = 2.0, 0.03
#: Nearest depth where none is known, relative to the nearest known depths
NEAREST = 0.5
#: The same of the nearest possible depth where an object may have entered the image
ENTERED_NEAREST = 0.025
#: An unknown depth is likely similar to those within this share of the image's height
SURROUNDINGS = 1 / 8
#: Inverse depth of cells without any
_FAR = np.float32(1e9)
_NEIGHBOURS = np.ones((3, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class DepthBounds:
    """
    Bounds of the inverse depths of a frame's cells.

    :param values: (4, rows, columns) possible bounds and likely bounds, the lower one first
    :param known: (rows, columns) where the surface is seen
    """

    values: Map
    known: Mask


@dataclass(frozen=True, eq=False)
class BoundedSurface:
    """
    Bounds of a keyframe's inverse depths on its grid, flattened, farthest first.

    :param rays: (N, 3)
    :param inverse_depths: (N, 4): the points', their lower and upper bounds, and the bound of
        objects in front, which is the upper one where the keyframe was static
    :param nearest: bound of unknown inverse depths
    """

    rays: Map
    inverse_depths: Map
    nearest: float

    @classmethod
    def of(cls, reference: Keyframe, cells: Cells, older: BoundedSurface | None = None
           ) -> BoundedSurface:
        """
        Bound the depths of a keyframe, at most one point a cell.

        :param older: a surface in the same frame, whose points are added where there are none: at
            dynamic objects of the keyframe
        """
        known = (reference.inverse_depth > 0) & ~reference.mask
        sigma = DEPTH_SIGMAS * np.maximum(
            1 / np.sqrt(np.maximum(reference.confidence, 1e-6)), MIN_DEPTH_SIGMA)
        factor = np.exp(np.minimum(sigma, 2.0)).astype(np.float32)
        height, width = known.shape
        rows = np.minimum(np.arange(cells.rows) * height // cells.rows, height - 1)
        columns = np.minimum(np.arange(cells.columns) * width // cells.columns, width - 1)
        camera, size = reference.camera, cells.rows * cells.columns
        K = np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)
        rays, depths = np.empty((size, 3), np.float32), np.empty((size, 4), np.float32)
        count = collect(dense(reference.inverse_depth, np.float32), factor, known,
                        rows, columns, K, rays, depths)
        own = cls(rays[:count], depths[:count], 0.0)
        nearest = float(np.percentile(own.inverse_depths[:, 0], 98)) if count else 1.0
        own = replace(own, nearest=nearest / NEAREST)
        return (own if older is None else own._completed(older, cells))._sorted()

    def moved(self, T_new_old: Array) -> BoundedSurface:
        """Express the surface in another frame."""
        T = T_new_old.astype(np.float32)
        points: Map = self.rays @ T[:3, :3].T + self.inverse_depths[:, :1] * T[:3, 3]
        use = points[:, 2] > 0.05
        z: Map = points[use, 2:]
        return BoundedSurface(
            points[use] / z, self.inverse_depths[use] / z, self.nearest)._sorted()

    def _sorted(self) -> BoundedSurface:
        order = np.argsort(self.inverse_depths[:, 0])
        return replace(self, rays=self.rays[order], inverse_depths=self.inverse_depths[order])

    def _completed(self, older: BoundedSurface, cells: Cells) -> BoundedSurface:
        high = self._rendered(np.eye(4), cells)[1]
        new = np.empty(len(older.rays), bool)
        find_uncovered(older.rays, cells.K_of_cells, high, new)
        chosen = np.flatnonzero(new)
        # No more than one point a cell, the newest first
        limit = max(high.size - len(self.rays), 0)
        chosen = chosen[::max(1, -(-len(chosen) // max(limit, 1)))] if limit else chosen[:0]
        added = older.inverse_depths[chosen]
        added[:, 3] = self.nearest  # a dynamic object may have come to rest there
        return replace(self, rays=np.concatenate([self.rays, older.rays[chosen]]),
                       inverse_depths=np.concatenate([self.inverse_depths, added]))

    def seen(self, T_cam_ref: Array, cells: Cells, entered: Mask | None = None) -> DepthBounds:
        """
        Bound the inverse depths of a frame's cells.

        :param T_cam_ref: (4, 4) from the surface's frame to that one
        :param entered: (rows, columns) where an object may be in front of the surface, because it
            has not been in the image for long
        """
        surface = self._rendered(T_cam_ref, cells)
        around = np.ones((2 * round(SURROUNDINGS * cells.rows) + 1,) * 2, np.uint8)
        values = np.empty((4, *cells.shape), np.float32)
        bound(surface, cv2.erode(surface[0], around), cv2.dilate(surface[1], around),
              self.nearest, values)
        if entered is not None:
            values[1, entered] = self.nearest * NEAREST / ENTERED_NEAREST
        return DepthBounds(values, surface[1] > 0)

    def _rendered(self, T_cam_ref: Array, cells: Cells) -> Map:
        """Low, high and front (3, rows, columns) of a frame: (_FAR, 0, 0) where it has none."""
        out = np.zeros((3, *cells.shape), np.float32)
        out[0] = _FAR
        render(self.rays, self.inverse_depths, T_cam_ref[:3].astype(np.float32),
               cells.K_of_cells, out)
        for field, widened in zip(out, (cv2.erode, cv2.dilate, cv2.dilate)):
            widened(field, _NEIGHBOURS, field)
        return out
