# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Transformer blocks of the DUSt3R family; the names of modules are those of the checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from recon3r_ros.nets.layers.rope import RopeTable
import torch
from torch import nn, Tensor
from torch.nn.functional import gelu, scaled_dot_product_attention

NORM_EPS = 1e-6
MLP_RATIO = 4


class Mlp(nn.Module):
    """Two layers with an exact GELU between them."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, N, width) to (B, N, out)."""
        out: Tensor = self.fc2(gelu(self.fc1(x)))
        return out


class SelfAttention(nn.Module):
    """Attention of tokens to those of the same view."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rope: RopeTable) -> Tensor:
        """Transform tokens (B, N, C)."""
        # (B, N, 3 C) -> (3, B, heads, N, C / heads)
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rope.rotate(qkv[:2])
        return _joined(scaled_dot_product_attention(q, k, qkv[2]), self.proj)


@dataclass(frozen=True, eq=False)
class Moving:
    """
    Tokens of dynamic objects (Easi3R, equation 10).

    :param own: (B, N) bool, of the queries' view
    :param other: (B, M) bool, of the keys' view
    """

    own: Tensor
    other: Tensor


class ProjectedAttention(nn.Module):
    """What attention has whose queries, keys and values have a projection each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def projected(self, queries: Tensor, keys: Tensor, values: Tensor) -> list[Tensor]:
        """Project queries, keys and values, each (B, N, C), to heads (B, heads, N, C / heads)."""
        # (B, N, C) -> (B, heads, N, C / heads)
        return [layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer, x in (
            (self.projq, queries), (self.projk, keys), (self.projv, values))]

    def joined(self, x: Tensor) -> Tensor:
        """Join heads (B, heads, N, C / heads) to tokens (B, N, C)."""
        return _joined(x, self.proj)


class CrossAttention(ProjectedAttention):
    """Attention of one view's tokens to those of others."""

    def forward(self, x: Tensor, memory: Tensor, rope: RopeTable | None = None,
                memory_rope: RopeTable | None = None, means: list[Tensor] | None = None,
                moving: Moving | None = None) -> Tensor:
        """
        Transform tokens.

        :param x: (B, N, C) of the queries' view
        :param memory: (B, M, C) of the keys' view
        :param rope: of the queries; None for attention without positions
        :param memory_rope: of the keys
        :param means: list to which the logits' mean over the queries (B, heads, M) is appended
        :param moving: static queries give no weight to dynamic keys
        """
        q, k, v = self.projected(x, memory, memory)
        if rope is not None and memory_rope is not None:
            q, k = rope.rotate(q), memory_rope.rotate(k)
        if means is not None:
            means.append(_mean_logits(q, k))
        if moving is None:
            out = scaled_dot_product_attention(q, k, v)
        else:
            out = _reweighted(q, k, v, moving)
        return self.joined(out)


def _mean_logits(q: Tensor, k: Tensor) -> Tensor:
    """
    Mean of the attention logits over the queries: the product of the mean query with the keys.

    :param q: (B, heads, N, c)
    :param k: (B, heads, M, c)
    :return: (B, heads, M)
    """
    # (B, heads, 1, c) times (B, heads, c, M)
    product = q.mean(-2, keepdim=True) @ k.transpose(-1, -2)
    return product.squeeze(-2) * q.shape[-1] ** -0.5


def _reweighted(q: Tensor, k: Tensor, v: Tensor, moving: Moving) -> Tensor:
    """
    Attention without the weights of static queries for dynamic keys (Easi3R, equation 10).

    Zero weights after the softmax are equivalent to zero values. Static and dynamic queries go
    through one fused attention, as a batch of twice the size, which every backend supports.
    """
    silent = v.masked_fill(moving.other[:, None, :, None], 0)
    out = scaled_dot_product_attention(q.repeat(2, 1, 1, 1), k.repeat(2, 1, 1, 1),
                                       torch.cat([v, silent]))
    # (2 B, heads, N, c) -> twice (B, heads, N, c)
    of_moving, of_static = out.chunk(2)
    return torch.where(moving.own[:, None, :, None], of_moving, of_static)


def _joined(x: Tensor, projection: nn.Module) -> Tensor:
    # (B, heads, N, C / heads) -> (B, N, C)
    out: Tensor = projection(x.transpose(1, 2).flatten(2))
    return out


class EncoderBlock(nn.Module):
    """A pre-norm transformer block (CroCo v2, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, NORM_EPS)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, NORM_EPS)
        self.mlp = Mlp(width, MLP_RATIO * width, width)

    def forward(self, x: Tensor, rope: RopeTable) -> Tensor:
        """Transform tokens (B, N, C)."""
        x = x + self.attn(self.norm1(x), rope)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to the other view, MLP (DUSt3R, section 3.1)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, NORM_EPS)
        self.attn = SelfAttention(width, heads)
        self.cross_attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, NORM_EPS)
        self.norm3 = nn.LayerNorm(width, NORM_EPS)
        self.mlp = Mlp(width, MLP_RATIO * width, width)
        self.norm_y = nn.LayerNorm(width, NORM_EPS)

    def forward(self, x: Tensor, memory: Tensor, rope: RopeTable, memory_rope: RopeTable,
                means: list[Tensor] | None = None, moving: Moving | None = None) -> Tensor:
        """
        Transform tokens.

        :param x: (B, N, C) of this view
        :param memory: (B, M, C) of the other view, before this step
        :param means: as for `CrossAttention`
        :param moving: as for `CrossAttention`
        """
        x = x + self.attn(self.norm1(x), rope)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(memory), rope, memory_rope, means,
                                moving)
        return x + self.mlp(self.norm3(x))


class PatchEmbed(nn.Module):
    """Image to tokens: one per patch, row by row."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        """Transform an image (B, 3, H, W) to tokens (B, H / patch * W / patch, C)."""
        x: Tensor = self.proj(image)
        return x.flatten(2).transpose(1, 2)


def tokens_to_map(tokens: Tensor, rows: int) -> Tensor:
    """Reshape tokens (B, N, C) to (B, C, rows, N / rows)."""
    return tokens.transpose(1, 2).unflatten(2, (rows, -1))


def empty_parameter(*shape: int) -> nn.Parameter:
    """Return a parameter that is present in checkpoints and unused."""
    return nn.Parameter(torch.zeros(shape), requires_grad=False)
