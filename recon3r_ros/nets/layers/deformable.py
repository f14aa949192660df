# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Attention to a few points of a pyramid of maps.

'Deformable DETR: Deformable Transformers for End-to-End Object Detection' (Zhu et al., ICLR 2021,
section 4.1): each query looks at a few places around its reference point, which it chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn, Tensor
from torch.nn.functional import grid_sample

#: Places that a query looks at in each map, per head
POINTS = 4
Grid = tuple[int, int]


class DeformableAttention(nn.Module):
    """
    Multi-scale deformable attention.

    :param width: channels of queries and maps
    :param levels: maps
    """

    def __init__(self, width: int, heads: int, levels: int) -> None:
        super().__init__()
        self._heads, self._levels = heads, levels
        places = heads * levels * POINTS
        self.sampling_offsets = nn.Linear(width, 2 * places)
        self.attention_weights = nn.Linear(width, places)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, references: Tensor, maps: Tensor, grids: Sequence[Grid]
                ) -> Tensor:
        """
        Transform queries.

        :param queries: (B, N, C)
        :param references: (N, 2) x and y, in [0, 1] of every map's sides
        :param maps: (B, M, C) cells of all maps, one map after another, row by row
        :param grids: rows and columns of each map
        :return: (B, N, C)
        """
        shape = (self._heads, self._levels, POINTS)
        # (B, N, heads * levels * points * 2) -> (B, N, heads, levels, points, 2)
        offsets = self.sampling_offsets(queries).unflatten(-1, (*shape, 2))
        # The softmax is over levels and points
        weights = self.attention_weights(queries).unflatten(-1, (self._heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, shape[1:])
        # (B, M, C) -> (B, heads, C / heads, M)
        values = self.value_proj(maps).unflatten(-1, (self._heads, -1)).permute(0, 2, 3, 1)
        found, start = [], 0
        for level, (rows, columns) in enumerate(grids):
            own = values[..., start:start + rows * columns].unflatten(-1, (rows, columns))
            start += rows * columns
            # Offsets are in cells
            x, y = offsets[:, :, :, level].unbind(-1)
            places = references[:, None, None] + torch.stack([x / columns, y / rows], -1)
            # (B, N, heads, points, 2) -> (B * heads, N, points, 2), in [-1, 1]
            places = 2 * places.transpose(1, 2).flatten(0, 1) - 1
            sampled = grid_sample(own.flatten(0, 1), places, align_corners=False)
            # (B, N, heads, points) -> (B * heads, 1, N, points)
            weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)[:, None]
            found.append((sampled * weight).sum(-1))
        # (B * heads, C / heads, N) -> (B, N, C)
        out: Tensor = torch.stack(found).sum(0).unflatten(0, (-1, self._heads))
        joined: Tensor = self.output_proj(out.flatten(1, 2).transpose(1, 2))
        return joined


def cell_centres(grids: Sequence[Grid], like: Tensor) -> Tensor:
    """
    Centres of the cells of maps, one map after another, row by row.

    :param like: gives device and data type
    :return: (N, 2) x and y, in [0, 1] of each map's sides
    """
    return torch.cat([grid_centres(*grid, like.device, like.dtype) for grid in grids])


def grid_centres(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Centres (rows * columns, 2) of a map's cells; cached for each size, device and type."""
    return _grid_centres(rows, columns, device, dtype)


@lru_cache(maxsize=64)
def _grid_centres(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    y, x = torch.meshgrid(*((torch.arange(n, dtype=torch.float64) + 0.5) / n
                            for n in (rows, columns)), indexing='ij')
    return torch.stack([x, y], -1).flatten(0, 1).to(device, dtype)


def split_maps(tokens: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
    """
    Separate the maps in cells of all of them.

    :param tokens: (B, N, C)
    :return: (B, C, rows, columns) of each
    """
    parts = tokens.split([rows * columns for rows, columns in grids], 1)
    return [part.transpose(1, 2).unflatten(2, grid) for part, grid in zip(parts, grids)]


def join_maps(maps: Sequence[Tensor]) -> Tensor:
    """Cells (B, N, C) of maps (B, C, rows, columns), one map after another, row by row."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
