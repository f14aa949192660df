# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Encoders of what is known of a view before it is predicted (MapAnything, section 3.1)."""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn.functional import gelu, pixel_unshuffle

_EPS = 1e-6
#: Channels after the first convolution and the two residual blocks
_DENSE_WIDTHS = (588, 768, 1024)
#: Widths of the layers of a global encoder before the last one
_GLOBAL_WIDTHS = (128, 256, 512)


class _Residual(nn.Module):
    """Two convolutions with a GELU after each, and a shortcut of one."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, rows, columns)."""
        return gelu(self.conv2(gelu(self.conv1(x))) + self.shortcut(x))


class DenseEncoder(nn.Module):
    """
    An image of numbers to tokens, one per patch.

    :param channels: of the image
    :param patch: its sides are multiples of it, pixels
    :param width: channels of the tokens
    """

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self._patch = patch
        first, middle, last = _DENSE_WIDTHS
        self.conv_in = nn.Conv2d(channels * patch ** 2, first, 3, padding=1)
        self.encoder = nn.Sequential(_Residual(first, middle), _Residual(middle, last),
                                     nn.Conv2d(last, width, 1))
        self.norm_layer = nn.LayerNorm(width, _EPS)

    def forward(self, image: Tensor) -> Tensor:
        """Transform (B, channels, H, W) to tokens (B, N, width)."""
        # (B, c, H, W) -> (B, c * patch², rows, columns)
        x = pixel_unshuffle(image, self._patch).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.norm_layer(self.encoder(self.conv_in(x)).flatten(2).transpose(1, 2))
        return out


class GlobalEncoder(nn.Module):
    """
    A few numbers of a view to a token.

    :param numbers: how many
    :param width: channels of the token
    """

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        first, second, third = _GLOBAL_WIDTHS
        # Nested as in the checkpoints, whose names tell the levels; a GELU ends each
        innermost = nn.Sequential(nn.Sequential(nn.Linear(numbers, first), nn.GELU()),
                                  nn.Linear(first, second), nn.GELU())
        self.encoder = nn.Sequential(
            nn.Sequential(innermost, nn.Linear(second, third), nn.GELU()),
            nn.Linear(third, width))
        self.norm_layer = nn.LayerNorm(width, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (S, numbers) to (S, width)."""
        out: Tensor = self.norm_layer(self.encoder(x))
        return out
