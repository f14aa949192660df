# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dense prediction from a transformer's tokens.

'Vision Transformers for Dense Prediction' (Ranftl et al., ICCV 2021, section 3): tokens of four
layers become maps at 4, 8, 16 and 32 pixels a cell, which are fused from coarse to fine.
"""

from __future__ import annotations

from collections.abc import Sequence

from recon3r_ros.nets.layers.attention import tokens_to_map
import torch
from torch import nn, Tensor
from torch.nn.functional import interpolate, relu

#: Channels of the four maps, and of their fusion
MAP_CHANNELS = (96, 192, 384, 768)
FUSED, LAST = 256, 128


class ResidualConvUnit(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W)."""
        return x + self.conv2(relu(self.conv1(relu(x))))


class FeatureFusion(nn.Module):
    """
    Adds a finer map to the coarser ones' fusion and doubles its size.

    :param has_finer: whether its checkpoint has the layer of a finer map
    """

    def __init__(self, channels: int, has_finer: bool = True) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        if has_finer:
            self.resConfUnit1 = ResidualConvUnit(channels)
        self.resConfUnit2 = ResidualConvUnit(channels)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Transform (B, C, H, W) to (B, C, 2 H, 2 W)."""
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        # A 1x1 convolution and an interpolation commute: before it, the cost is a quarter
        return upsampled(self.out_conv(self.resConfUnit2(x)))


class Scratch(nn.Module):
    """`scratch` of the checkpoints: everything after the four maps except the last layers."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(c, FUSED, 3, padding=1, bias=False) for c in MAP_CHANNELS]
        # Checkpoints hold these four under two names. The list's is set last and is used
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = layers
        self.layer_rn = nn.ModuleList(layers)
        self.refinenet1 = FeatureFusion(FUSED)
        self.refinenet2 = FeatureFusion(FUSED)
        self.refinenet3 = FeatureFusion(FUSED)
        self.refinenet4 = FeatureFusion(FUSED)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse four maps, fine to coarse, to (B, 256, H / 2, W / 2) of the image."""
        levels = [layer(m) for layer, m in zip(self.layer_rn, maps)]
        return fused(levels, (self.refinenet1, self.refinenet2, self.refinenet3,
                              self.refinenet4))


def fused(levels: Sequence[Tensor], fusions: Sequence[nn.Module]) -> Tensor:
    """
    Fuse four maps from coarse to fine.

    :param levels: (B, C, h, w) each, fine to coarse
    :param fusions: a `FeatureFusion` for each
    :return: (B, C, 2 h, 2 w) of the finest
    """
    path, finer = fusions[3](levels[3]), levels[2]
    # With an odd number of rows or columns of tokens, one too many is left here
    path = path[..., :finer.shape[2], :finer.shape[3]]
    for level, fusion in zip(levels[2::-1], fusions[2::-1]):
        path = fusion(path, level)
    return path


def as_maps(widths: Sequence[int]) -> list[nn.Sequential]:
    """
    Layers that turn maps of tokens into the four of `MAP_CHANNELS`, at 1/4 to 1/32 of the image.

    :param widths: channels of the tokens of each
    """
    c1, c2, c3, c4 = MAP_CHANNELS
    return [nn.Sequential(nn.Conv2d(widths[0], c1, 1), nn.ConvTranspose2d(c1, c1, 4, 4)),
            nn.Sequential(nn.Conv2d(widths[1], c2, 1), nn.ConvTranspose2d(c2, c2, 2, 2)),
            nn.Sequential(nn.Conv2d(widths[2], c3, 1)),
            nn.Sequential(nn.Conv2d(widths[3], c4, 1), nn.Conv2d(c4, c4, 3, 2, 1))]


class DptHead(nn.Module):
    """
    Tokens of four layers to a map of the image's size.

    :param widths: channels of the tokens of each layer
    :param out: channels of the map
    :param patch: side of a token's patch, pixels
    """

    def __init__(self, widths: Sequence[int], out: int, patch: int = 16) -> None:
        super().__init__()
        self._patch = patch
        self.scratch = Scratch()
        # Index 1 of `head` is the interpolation, index 3 the ReLU
        self.head = nn.ModuleDict({
            '0': nn.Conv2d(FUSED, LAST, 3, padding=1),
            '2': nn.Conv2d(LAST, LAST, 3, padding=1),
            '4': nn.Conv2d(LAST, out, 1),
        })
        self.act_postprocess = nn.ModuleList(as_maps(widths))

    @property
    def dtype(self) -> torch.dtype:
        """Data type of its parameters."""
        return next(self.parameters()).dtype

    def forward(self, tokens: Sequence[Tensor], rows: int) -> Tensor:
        """
        Transform tokens to a map.

        :param tokens: four times (B, N, C)
        :param rows: of the tokens' grid
        :return: (B, out, H, W)
        """
        # Convolutions are fastest with the channels last in memory
        maps = [layer(tokens_to_map(t, rows).contiguous(memory_format=torch.channels_last))
                for layer, t in zip(self.act_postprocess, tokens)]
        x = self.head['0'](self.scratch(maps))
        # Fused maps have 8 cells along a token, whatever its patch
        size = [self._patch * side for side in (rows, tokens[0].shape[1] // rows)]
        x = interpolate(x, size, mode='bilinear', align_corners=True)
        out: Tensor = self.head['4'](relu(self.head['2'](x)))
        return out


def upsampled(x: Tensor) -> Tensor:
    """Double a map's size, corners aligned."""
    return interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
