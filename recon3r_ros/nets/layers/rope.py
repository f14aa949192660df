# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Rotary position embedding in two dimensions.

RoFormer (Su et al., 2021, section 3.4.2) for tokens on an image's grid, as CroCo v2 (Weinzaepfel
et al., ICCV 2023, section 3.2) uses it: the first half of a head's channels is rotated by the
row, the second half by the column.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

#: Base of the frequencies: about the ratio of the fastest to the slowest
BASE = 100.0


@dataclass(frozen=True, eq=False)
class RopeTable:
    """
    Cosines and sines of every token's angles.

    :param cos: (N, head size), of the data type of what is rotated
    :param sin: (N, head size), negative where a channel takes its partner's negative
    """

    cos: Tensor
    sin: Tensor

    def rotate(self, x: Tensor) -> Tensor:
        """
        Rotate queries or keys.

        :param x: (…, N, head size)
        """
        quarter = x.shape[-1] // 4
        # Channel c and c + quarter of each half are partners: (…, 2 halves, 2 partners, quarter)
        swapped = x.unflatten(-1, (2, 2, quarter)).flip(-2).flatten(-3)
        return x * self.cos + swapped * self.sin

    def repeated(self, views: int) -> RopeTable:
        """Table for the tokens of several views of one size, view by view."""
        return RopeTable(self.cos.repeat(views, 1), self.sin.repeat(views, 1))


def rope_table(rows: int, columns: int, head_size: int, device: torch.device,
               special: int = 0, dtype: torch.dtype = torch.float32) -> RopeTable:
    """
    Table for a grid of tokens, row by row; cached for each grid, device and data type.

    :param head_size: channels of a head, a multiple of 4
    :param special: tokens before the grid that have no position in the image: they are at (0, 0),
        and the grid then begins at (1, 1)
    :param dtype: of the queries and keys
    """
    cos, sin = cos_and_sin(rows, columns, head_size, device, special, dtype)
    return RopeTable(cos, sin)


def cos_and_sin(rows: int, columns: int, head_size: int, device: torch.device, special: int,
                dtype: torch.dtype) -> Tensor:
    """Return the fields of `rope_table`, as one tensor (2, N, head size)."""
    return _cos_and_sin(rows, columns, head_size, device, special, dtype)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # for training, too, whoever asks first
def _cos_and_sin(rows: int, columns: int, head_size: int, device: torch.device, special: int,
                 dtype: torch.dtype) -> Tensor:
    quarter = head_size // 4
    # In float32 on the CPU, whatever the device: angles of all devices agree to the last bit
    frequencies = BASE ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
    row, column = torch.meshgrid(
        torch.arange(rows, dtype=torch.float32), torch.arange(columns, dtype=torch.float32),
        indexing='ij')
    nowhere = torch.zeros(special)
    by_row, by_column = (
        torch.cat([nowhere, x.flatten() + min(special, 1)])[:, None] * frequencies
        for x in (row, column))  # (N, quarter)
    angles = torch.cat([by_row, by_row, by_column, by_column], 1)  # (N, head size)
    sign = torch.ones(4, quarter)
    sign[0::2] = -1
    return torch.stack([angles.cos(), angles.sin() * sign.flatten()]).to(device, dtype)
