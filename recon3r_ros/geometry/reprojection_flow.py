# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Flow between two views that a known depth of one and their relative pose predict.

It seeds dense matching where the baseline is too wide for optical flow alone. Depths are averaged
over cells of `CELL` pixels: a seed need only be near.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.flow import pixel_positions, sample

Array = NDArray[np.float64]
Grid = NDArray[np.float32]

#: Side of a cell, pixels
CELL = 4
#: Least share of the first view's pixels with known depth
MIN_KNOWN = 0.1


def seeds(inverse_depth: Grid, camera_a: Camera, camera_b: Camera, T_b_a: Array
          ) -> tuple[Grid, Grid] | None:
    """
    Predict the flow from a to b, and from b to a.

    :param inverse_depth: (H, W) of a along the optical axis, 0 where unknown
    :param camera_a: pinhole camera of a's grid
    :param camera_b: the same of b
    :param T_b_a: (4, 4), in the unit of the depths
    :return: (H, W, 2) and (H', W', 2), pixels; None where too little depth is known, or too little
        of it is seen in b
    """
    rows, columns = _cells(camera_a)
    known = cv2.resize((inverse_depth > 0).astype(np.float32), (columns, rows),
                       interpolation=cv2.INTER_AREA)
    if known.mean() < MIN_KNOWN:
        return None
    mean = cv2.resize(inverse_depth, (columns, rows), interpolation=cv2.INTER_AREA) / np.maximum(
        known, 1e-6)
    mean = _filled(mean, known > 0)
    centres = _centres(camera_a)
    points = np.concatenate([pinhole.rays(centres, camera_a), mean[..., None]], axis=-1) @ (
        T_b_a[:3].T.astype(np.float32))  # over the depth
    in_b = pinhole.project(points, camera_b)
    inverse_in_b = mean / np.maximum(points[..., 2], 1e-6)
    back = _in_other_view(in_b, inverse_in_b, camera_b)
    if back is None:
        return None
    other = np.concatenate([pinhole.rays(_centres(camera_b), camera_b), back[..., None]], axis=-1)
    in_a = pinhole.project(other @ np.linalg.inv(T_b_a)[:3].T.astype(np.float32), camera_a)
    return (_dense(in_b - centres, camera_a), _dense(in_a - _centres(camera_b), camera_b))


def _in_other_view(pixels: Grid, inverse_depth: Grid, camera: Camera) -> Grid | None:
    """Mean inverse depth of the cells of another view, by the points that are seen in it."""
    rows, columns = _cells(camera)
    with np.errstate(invalid='ignore'):
        cell = np.floor((pixels + 0.5) / [camera.width / columns, camera.height / rows])
        inside = ((cell >= 0) & (cell < [columns, rows])).all(-1)
    if inside.mean() < MIN_KNOWN:
        return None
    u, v = cell[inside].astype(int).T
    index = v * columns + u
    counts = np.bincount(index, minlength=rows * columns)
    sums = np.bincount(index, inverse_depth[inside], rows * columns)
    mean = (sums / np.maximum(counts, 1)).reshape(rows, columns).astype(np.float32)
    return _filled(mean, (counts > 0).reshape(rows, columns))


def _filled(values: Grid, known: NDArray[np.bool_]) -> Grid:
    """Give unknown cells the value of the nearest known one."""
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    by_label = np.zeros(labels.max() + 1, np.float32)
    by_label[labels[known]] = values[known]
    return by_label[labels]


def _cells(camera: Camera) -> tuple[int, int]:
    """Rows and columns of cells."""
    return (-(-camera.height // CELL), -(-camera.width // CELL))


def _centres(camera: Camera) -> Grid:
    """Pixels (rows, columns, 2) of the cells' centres."""
    rows, columns = _cells(camera)
    size = np.array([camera.width / columns, camera.height / rows], np.float32)
    return (pixel_positions(rows, columns) + np.float32(0.5)) * size - np.float32(0.5)


def _dense(flow: Grid, camera: Camera) -> Grid:
    """Interpolate the cells' flow; what is not in front of the camera moves as its neighbours."""
    rows, columns = _cells(camera)
    known = np.asarray(np.isfinite(flow).all(-1))
    flow = np.dstack([_filled(flow[..., k], known) for k in range(2)])
    positions = (pixel_positions(camera.height, camera.width) + np.float32(0.5)) * np.array(
        [columns / camera.width, rows / camera.height], np.float32) - np.float32(0.5)
    corner = np.array([columns - 1, rows - 1], np.float32)
    return sample(flow.astype(np.float32), np.clip(positions, 0, corner))
