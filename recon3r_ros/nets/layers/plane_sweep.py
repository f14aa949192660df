# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Plane sweep: features of a view as another view sees them, for each of some depths.

Epipolar geometry by construction: hypotheses of a pixel lie on its epipolar line in every other
view (Collins, 'A space-sweep approach to true multi-image matching', CVPR 1996). Pixel centres
are at integers; what a view does not see is marked, not zero.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d

#: Least depth in a view, in the unit of lengths
_NEAREST = 1e-3
#: Least share of a sample that is static, but for rounding
_STATIC = 1 - 1e-3


def of_cells(K: Tensor, stride: int) -> Tensor:
    """Pinhole matrices (V, 3, 3) of a grid of cells, from those of pixels."""
    share, offset = 1 / stride, 0.5 / stride - 0.5
    cells_from_pixels = [[share, 0, offset], [0, share, offset], [0, 0, 1]]
    return torch.tensor(cells_from_pixels, device=K.device, dtype=K.dtype) @ K


def static_cells(static: Tensor, stride: int) -> Tensor:
    """Cells (V, h, w) without any dynamic pixel, float, of static pixels (V, H, W)."""
    return 1 - max_pool2d(1 - static.float()[:, None], stride)[:, 0]


def rays(K: Tensor, rows: int, columns: int) -> Tensor:
    """
    Return viewing rays with z = 1 in the camera's frame.

    :param K: (V, 3, 3) of the grid, without skew
    :returns: (V, rows, columns, 3)
    """
    v, u = torch.meshgrid(torch.arange(rows, device=K.device, dtype=K.dtype),
                          torch.arange(columns, device=K.device, dtype=K.dtype), indexing='ij')
    x = (u - K[:, 0, 2, None, None]) / K[:, 0, 0, None, None]
    y = (v - K[:, 1, 2, None, None]) / K[:, 1, 1, None, None]
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def plucker(T_world_cam: Tensor, K: Tensor, rows: int, columns: int) -> Tensor:
    """
    Return Pluecker coordinates of the viewing rays: unit direction d, and moment o x d.

    The frame is the first view's, and the unit the mean distance of the other centres from it, so
    that neither a motion nor the scale of the world changes them.

    :param T_world_cam: (V, 3, 4) or more rows
    :param K: (V, 3, 3) of the grid
    :returns: (V, rows, columns, 6)
    """
    R_first = T_world_cam[0, :3, :3]
    centres = (T_world_cam[:, :3, 3] - T_world_cam[0, :3, 3]) @ R_first  # rows: R_first^T o
    unit = centres[1:].norm(dim=-1).mean()
    centres = centres / torch.where(unit > 0, unit, torch.ones_like(unit))
    R = R_first.T @ T_world_cam[:, :3, :3]
    directions = torch.einsum('vij,vhwj->vhwi', R, rays(K, rows, columns))
    directions = directions / directions.norm(dim=-1, keepdim=True)
    moments = torch.linalg.cross(centres[:, None, None].expand_as(directions), directions)
    return torch.cat([directions, moments], dim=-1)


def sweep(features: Tensor, static: Tensor, K: Tensor, T_source_view: Tensor, view_rays: Tensor,
          depths: Tensor) -> tuple[Tensor, Tensor]:
    """
    Sample a source view's features where a view's cells would lie in it.

    :param features: (C, h, w) of the source
    :param static: (h, w) float, 1 on its static cells
    :param K: (3, 3) of the source's grid
    :param T_source_view: (3, 4) from the view's camera frame to the source's
    :param view_rays: (h', w', 3) of the view's cells
    :param depths: (D,) hypotheses, along the view's optical axis
    :returns: features (C, D, h', w'), and which of the samples (D, h', w') the source sees
    """
    height, width = features.shape[1:]
    D, (rows, columns) = len(depths), view_rays.shape[:2]
    turned = view_rays @ T_source_view[:3, :3].T
    points = turned[None] * depths[:, None, None, None] + T_source_view[:3, 3]  # (D, h', w', 3)
    z = points[..., 2].clamp(min=_NEAREST)
    u = K[0, 0] * points[..., 0] / z + K[0, 2]
    v = K[1, 1] * points[..., 1] / z + K[1, 2]
    grid = torch.stack([(2 * u + 1) / width - 1, (2 * v + 1) / height - 1], dim=-1)
    with_static = torch.cat([features, static[None]])
    sampled = grid_sample(with_static[None], grid.reshape(1, D * rows, columns, 2).clamp(-2, 2),
                          mode='bilinear', padding_mode='border', align_corners=False)
    # (1, C + 1, D h', w') -> (C + 1, D, h', w')
    sampled = sampled[0].unflatten(1, (D, rows))
    seen = (grid.abs() <= 1).all(-1) & (points[..., 2] > _NEAREST) & (sampled[-1] > _STATIC)
    return sampled[:-1], seen
