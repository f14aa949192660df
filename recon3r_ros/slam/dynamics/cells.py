# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The grid of cells that optical flow is measured on, and the projection of static cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry.averaging import Averaging
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.flow import pixel_positions

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: The mask has 1 / this of the tracking image's width and height
MASK_STEP = 3
#: Mask pixels a cell: flow is measured, and evidence collected, once in so many
CELL = 2
#: The same where time does not matter
FINE_CELL = 1
#: Columns of cells that are not made fewer by larger cells: flow of patches blurs objects
ENOUGH_COLUMNS = 80
#: Cells a side at least: more than a patch of flow has
MIN_CELLS = 8


def mask_size(camera: Camera) -> tuple[int, int]:
    """Width and height of the masks of a tracking camera's images."""
    return max(camera.width // MASK_STEP, 16), max(camera.height // MASK_STEP, 16)


@dataclass(frozen=True, eq=False)
class Cells:
    """
    Cells of an image.

    :param width: of the mask, pixels
    :param height: of the mask
    :param columns: of cells
    :param rows: of cells
    :param K: (3, 3) intrinsics in mask pixels
    :param positions: (2, rows, columns) the cells' centres in mask pixels
    """

    width: int
    height: int
    columns: int
    rows: int
    K: Array
    positions: Map
    _to_mask: Averaging
    _to_cells: Averaging

    @classmethod
    def of_camera(cls, camera: Camera, cell: int = CELL) -> Cells:
        """
        Divide the tracking images of a pinhole camera.

        :param cell: width of a cell, mask pixels; less in small images
        """
        width, height = mask_size(camera)
        cell = min(cell, max(1, width // ENOUGH_COLUMNS))
        columns, rows = max(width // cell, MIN_CELLS), max(height // cell, MIN_CELLS)
        scale = np.array([width, height]) / [columns, rows]
        positions = np.moveaxis((pixel_positions(rows, columns) + 0.5) * scale - 0.5, 2, 0)
        return cls(width, height, columns, rows, camera.resized(width, height).K,
                   dense(positions, np.float32),
                   Averaging.over((camera.height, camera.width), height, width),
                   Averaging.over((height, width), rows, columns))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    def refocused(self, camera: Camera) -> Cells:
        """Return the cells of a camera whose images have the same size."""
        return replace(self, K=camera.resized(self.width, self.height).K)

    def of_image(self, image: Image) -> Image:
        """Average a tracking image (H, W) over the cells; in two steps, rounded in both."""
        to_mask = self._to_mask
        if image.shape != to_mask.shape:  # of another camera
            to_mask = Averaging.over(image.shape, self.height, self.width)
        return self._to_cells.of(to_mask.of(image))

    def of_colours(self, colours: Image) -> Image:
        """Average colours in mask pixels (height, width, 3) over the cells."""
        if self.shape == (self.height, self.width):
            return colours
        return self._to_cells.of(colours)

    def projections(self, T_others_cam: Array) -> Map:
        """
        Return P = [K R K^-1 | K t] (n, 3, 4) of other frames: see `evidence`.

        :param T_others_cam: (n, 4, 4)
        """
        P = self.K @ T_others_cam[:, :3]
        P[:, :, :3] = P[:, :, :3] @ self._inverse_K
        return P.astype(np.float32)

    @cached_property
    def K_of_cells(self) -> Map:
        """Intrinsics (2, 3) that give points' cells, whose corners are at integers."""
        K = self.K[:2].copy()
        K[:, 2] += 0.5
        return (K * [[self.columns / self.width], [self.rows / self.height]]).astype(np.float32)

    @cached_property
    def _inverse_K(self) -> Array:
        return np.asarray(np.linalg.inv(self.K))


def resized_mask(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """
    Bring a mask to another size: averaged where it becomes smaller, else interpolated.

    :param shape: rows and columns
    """
    if mask.shape == shape:
        return mask
    method = cv2.INTER_AREA if mask.shape[1] > shape[1] else cv2.INTER_LINEAR
    return cv2.resize(mask.astype(np.uint8) * np.uint8(255), shape[::-1],
                      interpolation=method) >= 128
