# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sinusoidal position embedding of a map's cells (Vaswani et al., 2017, section 3.5)."""

from __future__ import annotations

from functools import lru_cache
from math import hypot, pi

from recon3r_ros.nets.layers.rope import BASE
import torch
from torch import Tensor

#: Weight of the embedding relative to the map
_STRENGTH = 0.1


def sine_embedding(channels: int, height: int, width: int, aspect: float, device: torch.device
                   ) -> Tensor:
    """
    Embedding (channels, height, width) of a map's cells; cached for each size and device.

    :param channels: a multiple of 4; the first half encodes the column, the second the row
    :param aspect: width over height of the image
    """
    return _embedding(channels, height, width, aspect, device)


@lru_cache(maxsize=64)
def _embedding(channels: int, height: int, width: int, aspect: float, device: torch.device
               ) -> Tensor:
    diagonal = hypot(aspect, 1)
    column, row = (
        torch.linspace(-1, 1, n, dtype=torch.float64) * (n - 1) / n * side / diagonal
        if n > 1 else torch.zeros(1, dtype=torch.float64)
        for n, side in ((width, aspect), (height, 1)))
    quarter = channels // 4
    frequencies = BASE ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    by_column, by_row = (_STRENGTH * torch.cat([(x * frequencies[:, None]).sin(),
                                                (x * frequencies[:, None]).cos()])
                         for x in (column, row))  # (channels / 2, n)
    embedding = torch.cat([by_column[:, None, :].expand(-1, height, -1),
                           by_row[:, :, None].expand(-1, -1, width)])
    return embedding.float().to(device)


def sine_pairs(channels: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """
    Embedding (rows * columns, channels) of a map's cells; cached for each size and device.

    The first half of the channels encodes the row, the second the column: pairs (sin, cos) of
    2 pi * (index + 1) / count * 10000^(-i / (channels / 4)) (Carion et al., 2020, DETR).

    :param channels: a multiple of 4
    """
    return _sine_pairs(channels, rows, columns, device)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # for training, too, whoever asks first
def _sine_pairs(channels: int, rows: int, columns: int, device: torch.device) -> Tensor:
    quarter = channels // 4
    frequencies = 10000 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    by_row, by_column = (
        torch.stack([angles.sin(), angles.cos()], -1).flatten(1)  # (count, channels / 2)
        for angles in (2 * pi / n * torch.arange(1, n + 1, dtype=torch.float64)[:, None]
                       * frequencies for n in (rows, columns)))
    embedding = torch.cat([by_row[:, None].expand(-1, columns, -1),
                           by_column[None].expand(rows, -1, -1)], -1)
    return embedding.flatten(0, 1).float().to(device)
