# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
MUSt3R: views decoded one after the other, with a memory of those before them.

'MUSt3R: Multi-view Network for Stereo 3D Reconstruction' (Cabon et al., CVPR 2025). DUSt3R's
encoder, and one decoder for all views, whose layers attend to the tokens that entered the same
layer for earlier views (section 3). Every pixel gets a point in the first view's frame,
one in its own, and a confidence.

The memory is a value: a tensor for each remembered view, a sequence of them for several. It has no
positions, so that the order of views in it does not matter.

Names of modules are those of the published checkpoints. Written from the paper and from the names
and shapes of the checkpoints' tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, depth_of, Format, HEAD_SIZE
from recon3r_ros.nets.dust3r import exponential_points, image_size, PATCH, Tokens, unpatched
from recon3r_ros.nets.layers.attention import (
    CrossAttention,
    EncoderBlock,
    Mlp,
    MLP_RATIO,
    NORM_EPS,
    PatchEmbed,
    SelfAttention,
)
from recon3r_ros.nets.layers.rope import RopeTable
import torch
from torch import nn, Tensor

#: Channels of the head: a point in the reference's frame, one in the view's own, a confidence
_CHANNELS = 7
#: Unlike all other norms
_FEEDBACK_EPS = 1e-5


@dataclass(frozen=True)
class Must3rConfig:
    """Sizes of a network."""

    enc_embed_dim: int = 1024
    enc_depth: int = 24
    enc_num_heads: int = 16
    dec_embed_dim: int = 768
    dec_depth: int = 12
    dec_num_heads: int = 12


@dataclass(frozen=True, eq=False)
class ViewOutput:
    """
    The network's output for a view.

    :param points: (B, H, W, 3) in the frame of the memory's first view, metres
    :param own_points: (B, H, W, 3) in the view's own frame, metres
    :param confidence: (B, H, W), > 1
    """

    points: Tensor
    own_points: Tensor
    confidence: Tensor


class Encoder(nn.Module):
    """An image to tokens, as in DUSt3R."""

    def __init__(self, config: Must3rConfig) -> None:
        super().__init__()
        width = config.enc_embed_dim
        self._head_size = width // config.enc_num_heads
        self.patch_embed = PatchEmbed(PATCH, width)
        self.blocks_enc = nn.ModuleList(
            EncoderBlock(width, config.enc_num_heads) for _ in range(config.enc_depth))
        self.norm_enc = nn.LayerNorm(width, NORM_EPS)

    def forward(self, image: Tensor) -> Tokens:
        """Transform an image (B, 3, H, W)."""
        rows, columns = image.shape[2] // PATCH, image.shape[3] // PATCH
        x = self.patch_embed(image)
        rope = Tokens(x, rows, columns).rope(self._head_size)
        for block in self.blocks_enc:
            x = block(x, rope)
        return Tokens(self.norm_enc(x), rows, columns)


class MemoryBlock(nn.Module):
    """Self-attention, cross-attention to a memory, MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, NORM_EPS)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, NORM_EPS)
        # Of tokens that are remembered, or seen by other views
        self.norm_y = nn.LayerNorm(width, NORM_EPS)
        self.cross_attn = CrossAttention(width, heads)
        self.norm3 = nn.LayerNorm(width, NORM_EPS)
        self.mlp = Mlp(width, MLP_RATIO * width, width)

    def forward(self, x: Tensor, memory: Tensor, rope: RopeTable) -> Tensor:
        """
        Transform tokens.

        :param x: (B, N, C)
        :param memory: (B, M, C), or (1, M, C) for all of them, after `norm_y`
        """
        x = x + self.attn(self.norm1(x), rope)
        queries = self.norm2(x)
        if len(memory) == len(x):
            x = x + self.cross_attn(queries, memory)
        else:  # one attention for all views: (B, N, C) -> (1, B * N, C) and back
            x = x + self.cross_attn(queries.flatten(0, 1)[None], memory)[0].view_as(x)
        return x + self.mlp(self.norm3(x))


class Head(nn.Module):
    """One linear layer per token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, _CHANNELS * PATCH ** 2)

    def forward(self, tokens: Tensor, rows: int) -> ViewOutput:
        """Transform tokens (B, N, C), in float32."""
        x = unpatched(self.proj(tokens.float()), rows)  # (B, 7, H, W)
        return ViewOutput(exponential_points(x[:, :3]), exponential_points(x[:, 3:6]),
                          1 + x[:, 6].exp())


class Decoder(nn.Module):
    """Views to points, given a memory, which may grow by them."""

    def __init__(self, config: Must3rConfig) -> None:
        super().__init__()
        width = config.dec_embed_dim
        self._head_size = width // config.dec_num_heads
        self.feat_embed_enc_to_dec = nn.Linear(config.enc_embed_dim, width)
        # Added to all views but the reference
        self.image2_embed = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks_dec = nn.ModuleList(
            MemoryBlock(width, config.dec_num_heads) for _ in range(config.dec_depth))
        self.feedback_norm = nn.LayerNorm(width, _FEEDBACK_EPS)
        self.feedback_layer = Mlp(width, MLP_RATIO * width, width)
        self.norm_dec = nn.LayerNorm(width, NORM_EPS)
        self.head_dec = Head(width)

    @property
    def _blocks(self) -> list[MemoryBlock]:
        return cast('list[MemoryBlock]', list(self.blocks_dec))

    def render(self, views: Tokens, memory: Sequence[Tensor]) -> ViewOutput:
        """See `Must3r.render`."""
        x = self.feat_embed_enc_to_dec(views.values) + self.image2_embed
        rope = views.rope(self._head_size)
        for n, block in enumerate(self._blocks):
            x = block(x, torch.cat([m[n] for m in memory], 1), rope)
        out: ViewOutput = self.head_dec(self.norm_dec(x), views.rows)
        return out

    def update(self, views: Sequence[Tokens], memory: Sequence[Tensor]
               ) -> tuple[list[ViewOutput], list[Tensor]]:
        """See `Must3r.update`."""
        tokens = [self.feat_embed_enc_to_dec(v.values) for v in views]
        tokens = [x if n == 0 and not memory else x + self.image2_embed
                  for n, x in enumerate(tokens)]
        ropes = [v.rope(self._head_size) for v in views]
        entered = []
        for n, block in enumerate(self._blocks):
            entered.append(tokens)
            known, new = [m[n] for m in memory], [block.norm_y(x) for x in tokens]
            tokens = [block(x, torch.cat(_seen(k, known, new), 1), rope)
                      for k, (x, rope) in enumerate(zip(tokens, ropes))]
        outputs = [self.head_dec(self.norm_dec(x), v.rows) for x, v in zip(tokens, views)]
        return outputs, [self._remembered([step[k] for step in entered])
                         for k in range(len(views))]

    def _remembered(self, entered: list[Tensor]) -> Tensor:
        """
        Memory (L, B, N, C) of a view, with the feedback of the last layer to all before it.

        :param entered: tokens (B, N, C) that entered each layer
        """
        feedback = self.feedback_layer(self.feedback_norm(entered[-1]))
        last = len(entered) - 1
        return torch.stack([block.norm_y(x if n == last else x + feedback)
                            for n, (block, x) in enumerate(zip(self._blocks, entered))])


def _seen(k: int, memory: list[Tensor], new: list[Tensor]) -> list[Tensor]:
    """Return what view k of a call sees: the memory and the others, itself only where alone."""
    return [*memory, *new[:k], *new[k + 1:]] or new


class Must3r(nn.Module):
    """
    The network: `encode` a view once, then `update` a memory by it, or `render` it.

    :param config: its sizes
    """

    def __init__(self, config: Must3rConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the trunk."""
        return self.decoder.image2_embed.dtype

    def lower_precision(self, dtype: torch.dtype) -> Must3r:
        """Change the trunk's data type; the head's exponentials need float32."""
        self.to(dtype)
        self.decoder.head_dec.float()
        return self

    def encode(self, image: Tensor) -> Tokens:
        """
        Encode views, each by itself.

        :param image: (B, 3, H, W) in [-1, 1], sides multiples of 16
        """
        tokens: Tokens = self.encoder(image.to(self.dtype))
        return tokens

    def update(self, views: Sequence[Tokens], memory: Sequence[Tensor] = ()
               ) -> tuple[list[ViewOutput], list[Tensor]]:
        """
        Predict views that also see each other, and what is to be remembered of them.

        :param views: one or more, of any sizes; the first is the reference where nothing is
            remembered
        :param memory: (L, B, M, C) of each remembered view, of L layers
        :return: each view's output, and its memory (L, B, N, C)
        """
        return self.decoder.update(views, memory)

    def render(self, views: Tokens, memory: Sequence[Tensor]) -> ViewOutput:
        """
        Predict views that see the memory alone.

        :param views: (B, N, C) of one size; those that are remembered see themselves in the memory
        :param memory: (L, 1, M, C) of each remembered view, one or more
        """
        return self.decoder.render(views, memory)


# File format

def _recognises(state: Mapping[str, Tensor]) -> bool:
    return 'decoder.image2_embed' in state or 'encoder.blocks_enc.0.norm1.weight' in state


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    return Built(Must3r(_config(path, state)), state, ('must3r',), image_size(path, description))


FORMAT = Format(_recognises, _build)


def _config(path: Path, state: Mapping[str, Tensor]) -> Must3rConfig:
    widths = []
    for name in ('encoder.patch_embed.proj.weight', 'decoder.feat_embed_enc_to_dec.weight'):
        weight = state.get(name)
        width = weight.shape[0] if weight is not None and weight.ndim > 1 else 0
        if width < HEAD_SIZE or width % HEAD_SIZE:
            raise InputError(f'{path}: {name} has {width} channels, expected a multiple of '
                             f'{HEAD_SIZE}: it is damaged, or another network')
        widths.append(width)
    enc, dec = widths
    return Must3rConfig(enc, depth_of(state, 'encoder.blocks_enc'), enc // HEAD_SIZE, dec,
                        depth_of(state, 'decoder.blocks_dec'), dec // HEAD_SIZE)
