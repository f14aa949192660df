# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The grid of cells that optical flow is measured on, and the projection of static cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.flow import pixel_positions

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
T = TypeVar('T', bound=np.generic)

#: The mask has 1 / this of the tracking image's width and height; flow is measured at that size
MASK_STEP = 3
#: Residuals are computed once in this many mask pixels: the flow's finest level is no finer
CELL = 2


@dataclass(frozen=True, eq=False)
class Cells:
    """
    Cells of an image.

    :param width: of the mask, pixels
    :param height: of the mask
    :param columns: of cells
    :param rows: of cells
    :param K: (3, 3) intrinsics in mask pixels
    :param scale: (2,) mask pixels a cell
    :param positions: (rows, columns, 2) the cells' centres in mask pixels
    """

    width: int
    height: int
    columns: int
    rows: int
    K: Array
    scale: Map
    positions: Map

    @classmethod
    def of_camera(cls, camera: Camera) -> Cells:
        """Divide the tracking images of a pinhole camera."""
        width, height = max(camera.width // MASK_STEP, 16), max(camera.height // MASK_STEP, 16)
        columns, rows = max(width // CELL, 8), max(height // CELL, 8)
        scale = (np.array([width, height]) / [columns, rows]).astype(np.float32)
        positions = (pixel_positions(rows, columns) + 0.5) * scale - 0.5
        return cls(width, height, columns, rows, camera.resized(width, height).K, scale,
                   positions.astype(np.float32))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.rows, self.columns

    def resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring an image to mask pixels."""
        return cv2.resize(image, (self.width, self.height), interpolation=cv2.INTER_AREA)

    def averaged(self, field: NDArray[T]) -> NDArray[T]:
        """Bring a field in mask pixels to cells."""
        return np.asarray(cv2.resize(
            field, (self.columns, self.rows), interpolation=cv2.INTER_AREA), field.dtype)

    def from_pixels(self, pixels: Map) -> Map:
        """Bring coordinates in mask pixels (..., 2) to cells."""
        return (pixels + 0.5) / self.scale - 0.5

    def of_points(self, points: Map) -> tuple[NDArray[np.int32], NDArray[np.int32], Mask]:
        """Columns and rows of the cells that points (N, 3) project into, and which do."""
        K = self.K.astype(np.float32)
        K[:2, 2] += 0.5
        K[:2] /= self.scale[:, None]
        pixels = points @ K[:2].T / np.maximum(points[:, 2:], 1e-2)
        inside = (((pixels >= 0) & (pixels < (self.columns, self.rows))).all(1)
                  & (points[:, 2] > 1e-2))
        cols, rows = np.where(inside[:, None], pixels, 0).astype(np.int32).T
        return cols, rows, inside

    def static(self, T_other_cam: Array, inverse_depth: Map) -> Map:
        """
        Project static cells into another frame.

        :param T_other_cam: (4, 4)
        :param inverse_depth: (rows, columns) of the cells
        :return: (rows, columns, 2) mask pixels of the other frame
        """
        # K R K^-1 and K t act on pixels directly
        K = self.K
        H = (K @ T_other_cam[:3, :3] @ np.linalg.inv(K)).astype(np.float32)
        e = (K @ T_other_cam[:3, 3]).astype(np.float32)
        a, b, c = cv2.split(cv2.transform(self.positions, H))
        if e[2] < 0:
            inverse_depth = np.minimum(inverse_depth, 0.9 / -e[2] * c)
        z = 1 / (c + inverse_depth * e[2])
        return cv2.merge([(a + inverse_depth * e[0]) * z, (b + inverse_depth * e[1]) * z])
