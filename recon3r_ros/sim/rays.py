# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Grids of pixel rays, and the window of a grid that can hit a solid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

Array = NDArray[np.float64]
Window = tuple[slice, slice]  # rows, columns

_NEAREST = 0.01  # near plane, metres, at which an outline is clipped


@dataclass(frozen=True, eq=False)
class Rays:
    """
    A grid of pixel rays: direction (x, y, 1) in the camera frame, so a ray parameter is depth.

    :param x: of the columns (w,), evenly spaced
    :param y: of the rows (h,), evenly spaced
    :param length: of the directions (h, w)
    :param origin: y and x of the first ray
    :param step: y and x between neighbours
    """

    x: Tensor
    y: Tensor
    length: Tensor
    origin: tuple[float, float]
    step: tuple[float, float]

    @classmethod
    def grid(cls, x: Array, y: Array, device: torch.device) -> Rays:
        """
        Make a grid.

        :param x: of the columns (w,), at least two, evenly spaced
        :param y: of the rows (h,), at least two, evenly spaced
        :param device: of the tensors
        :returns: the rays
        """
        across = torch.tensor(x, dtype=torch.float32, device=device)
        down = torch.tensor(y, dtype=torch.float32, device=device)
        length = (across * across + (down * down)[:, None] + 1.0).sqrt_()
        return cls(across, down, length, (float(y[0]), float(x[0])),
                   (float(y[1] - y[0]), float(x[1] - x[0])))

    def component(self, row: Array) -> Tensor:
        """
        One component of the directions in another frame.

        :param row: that component's row (3,) of R_frame_cam
        :returns: (h, w)
        """
        down = self.y * float(row[1]) + float(row[2])
        return (self.x * float(row[0]))[None, :] + down[:, None]

    def window(self, outline: Array) -> Window | None:
        """
        Rows and columns of the rays that can hit a convex polygon or body.

        :param outline: corners (n, 3) in the camera frame, each connected to all that follow it
        :returns: the window, or None if no ray can
        """
        front = outline[:, 2] > _NEAREST
        if not front.any():
            return None
        corners = outline[front]
        if not front.all():
            near, far = outline[~front][:, None], corners[None]
            part = (_NEAREST - near[..., 2:]) / (far[..., 2:] - near[..., 2:])
            corners = np.concatenate([corners, (near + part * (far - near)).reshape(-1, 3)])
        plane = corners[:, 1::-1] / corners[:, 2:]
        first = np.floor((plane.min(axis=0) - self.origin) / self.step)
        last = np.ceil((plane.max(axis=0) - self.origin) / self.step) + 1
        first = np.maximum(first, 0).astype(int)
        last = np.minimum(last, self.length.shape).astype(int)
        if (first >= last).any():
            return None
        return slice(first[0], last[0]), slice(first[1], last[1])

    def crop(self, window: Window) -> Rays:
        """
        Keep the rays of a window.

        :param window: rows and columns
        :returns: its rays
        """
        rows, columns = window
        origin = (self.origin[0] + rows.start * self.step[0],
                  self.origin[1] + columns.start * self.step[1])
        return replace(self, x=self.x[columns], y=self.y[rows], length=self.length[window],
                       origin=origin)
