# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Maps of several scales from the tokens of a plain transformer.

'Vision Transformer Adapter for Dense Predictions' (Chen et al., ICLR 2023, section 3), without
injectors: convolutions of the image extract from the tokens of the transformer's blocks, which
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from recon3r_ros.nets.layers.attention import NORM_EPS, tokens_to_map
from recon3r_ros.nets.layers.deformable import (
    cell_centres,
    DeformableAttention,
    Grid,
    join_maps,
    split_maps,
)
import torch
from torch import nn, Tensor
from torch.nn.functional import batch_norm, gelu, interpolate, max_pool2d

#: Interactions with the tokens; extractors of the last one beside its own
INTERACTIONS, EXTRA = 4, 2
#: Width of the extractors' hidden layer, as a share
_SHARE = 4
_BATCH_EPS = 1e-5


class BatchNorm(nn.Module):
    """Batch normalisation with the statistics of training, which never change."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer('running_mean', torch.zeros(channels))
        self.register_buffer('running_var', torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W)."""
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                          eps=_BATCH_EPS)


def _halving(channels: int, out: int, stride: int = 2) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, stride, 1, bias=False), BatchNorm(out), nn.ReLU()]


class SpatialPrior(nn.Module):
    """
    An image to maps at 4, 8, 16 and 32 pixels a cell (section 3.3).

    :param first: channels of the first convolutions
    :param width: channels of the maps
    """

    def __init__(self, first: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_halving(3, first), *_halving(first, first, 1),
                                  *_halving(first, first, 1))
        self.conv2 = nn.Sequential(*_halving(first, 2 * first))
        self.conv3 = nn.Sequential(*_halving(2 * first, 4 * first))
        self.conv4 = nn.Sequential(*_halving(4 * first, 4 * first))
        self.fc1 = nn.Conv2d(first, width, 1)
        self.fc2 = nn.Conv2d(2 * first, width, 1)
        self.fc3 = nn.Conv2d(4 * first, width, 1)
        self.fc4 = nn.Conv2d(4 * first, width, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Transform (B, 3, H, W) to four maps (B, width, h, w), fine to coarse."""
        c1 = max_pool2d(self.stem(image), 3, 2, 1)
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        return [self.fc1(c1), self.fc2(c2), self.fc3(c3), self.fc4(self.conv4(c3))]


class DepthwiseConvolution(nn.Module):
    """A convolution of each channel apart, on each of several maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Transform cells (B, N, C)."""
        return join_maps([self.dwconv(m) for m in split_maps(x, grids)])


class ConvolutionalMlp(nn.Module):
    """Two layers with a depthwise convolution and an exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.dwconv = DepthwiseConvolution(hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Transform cells (B, N, C)."""
        out: Tensor = self.fc2(gelu(self.dwconv(self.fc1(x), grids)))
        return out


class Extractor(nn.Module):
    """Cells of the maps attend to a block's tokens (section 3.4)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, NORM_EPS)
        self.feat_norm = nn.LayerNorm(width, NORM_EPS)
        self.attn = DeformableAttention(width, heads, 1)
        self.ffn = ConvolutionalMlp(width, width // _SHARE)
        self.ffn_norm = nn.LayerNorm(width, NORM_EPS)

    def forward(self, x: Tensor, grids: Sequence[Grid], tokens: Tensor, grid: Grid) -> Tensor:
        """
        Transform cells (B, N, C).

        :param grids: of the maps
        :param tokens: (B, M, C) of the block
        :param grid: of the tokens
        """
        x = x + self.attn(self.query_norm(x), cell_centres(grids, x), self.feat_norm(tokens),
                          [grid])
        return x + self.ffn(self.ffn_norm(x), grids)


class Interaction(nn.Module):
    """Extractors of one block's tokens, one after another."""

    def __init__(self, width: int, heads: int, extra: int) -> None:
        super().__init__()
        self.extractor = Extractor(width, heads)
        if extra:
            self.extra_extractors = nn.ModuleList(Extractor(width, heads) for _ in range(extra))

    def forward(self, x: Tensor, grids: Sequence[Grid], tokens: Tensor, grid: Grid) -> Tensor:
        """Transform cells (B, N, C); see `Extractor`."""
        for extractor in (self.extractor, *getattr(self, 'extra_extractors', ())):
            x = extractor(x, grids, tokens, grid)
        return x


class Adapter(nn.Module):
    """
    Tokens of four blocks and the image to four maps.

    :param width: channels of tokens and maps
    :param heads: of the extractors' attention
    :param first: channels of the first convolutions of the image
    """

    def __init__(self, width: int, heads: int, first: int) -> None:
        super().__init__()
        # Of the three coarser maps
        self.level_embed = nn.Parameter(torch.zeros(3, width))
        self.spm = SpatialPrior(first, width)
        self.interactions = nn.ModuleList(
            Interaction(width, heads, EXTRA if n == INTERACTIONS - 1 else 0)
            for n in range(INTERACTIONS))
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.norm1, self.norm2, self.norm3, self.norm4 = (BatchNorm(width) for _ in range(4))

    def forward(self, image: Tensor, tokens: Sequence[Tensor], grid: Grid) -> list[Tensor]:
        """
        Transform a view.

        :param image: (B, 3, H, W) in [0, 1], sides multiples of 32
        :param tokens: four times (B, N, C), early to late blocks
        :param grid: of the tokens
        :return: four times (B, C, h, w) at 4, 8, 16 and 32 pixels a cell
        """
        c1, *coarser = self.spm(image)
        grids = [cast('Grid', tuple(m.shape[2:])) for m in coarser]
        x = join_maps([m + e[:, None, None] for m, e in zip(coarser, self.level_embed)])
        for interaction, block in zip(self.interactions, tokens):
            x = interaction(x, grids, block, grid)
        c2, c3, c4 = split_maps(x, grids)
        maps = [c1 + self.up(c2), c2, c3, c4]
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        out = []
        for own, block, norm, factor in zip(maps, tokens, norms, (4, 2, 1, 0.5)):
            features = tokens_to_map(block, grid[0])
            if factor != 1:
                features = interpolate(features, scale_factor=factor, mode='bilinear')
            out.append(norm(own + features))
        return out
