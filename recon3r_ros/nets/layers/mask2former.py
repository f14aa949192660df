# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Masks and classes of several views by queries that all views share.

'Masked-attention Mask Transformer for Universal Image Segmentation' (Cheng et al., CVPR 2022,
section 3), and 'Mask2Former for Video Instance Segmentation' (Cheng et al., 2021): queries attend
to the views as to the frames of a video. Names of modules are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import pi
from typing import cast

from recon3r_ros.nets.layers.deformable import (
    cell_centres,
    DeformableAttention,
    Grid,
    join_maps,
    split_maps,
)
import torch
from torch import nn, Tensor
from torch.nn.functional import interpolate, linear, relu, scaled_dot_product_attention

#: Scales of the maps that the queries attend to
LEVELS = 3
_GROUPS = 32
_BASE = 10_000.0
_MASK_LAYERS = 3


@dataclass(frozen=True)
class MaskConfig:
    """
    Sizes of a query decoder.

    :param features: channels of the maps given to it
    :param width: channels of queries and of its own maps
    :param heads: of every attention
    :param encoder_layers: of the pixel decoder
    :param encoder_hidden: width of their hidden layers
    :param layers: of the queries' decoder
    :param hidden: width of their hidden layers
    :param classes: without 'no object'
    """

    features: int = 1024
    width: int = 256
    heads: int = 8
    encoder_layers: int = 6
    encoder_hidden: int = 1024
    layers: int = 9
    hidden: int = 2048
    queries: int = 100
    classes: int = 20


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """
    Features of views' pixels.

    :param masks: (V, C, H / 4, W / 4), whose products with queries are masks
    :param levels: three times (V, C, h, w), coarse to fine, which queries attend to
    """

    masks: Tensor
    levels: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class QueryOutput:
    """
    What queries found.

    :param classes: (Q, classes + 1) logits; 'no object' is the last
    :param masks: (Q, V, H / 4, W / 4) logits
    """

    classes: Tensor
    masks: Tensor


class PixelEncoderLayer(nn.Module):
    """Cells of all maps attend to each other (Deformable DETR, section 4.1)."""

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = DeformableAttention(width, config.heads, LEVELS)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.encoder_hidden)
        self.fc2 = nn.Linear(config.encoder_hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, references: Tensor, grids: Sequence[Grid]
                ) -> Tensor:
        """Transform cells (V, N, C); positions (N, C) are added to queries, not to values."""
        x = self.self_attn_layer_norm(
            x + self.self_attn(x + positions, references, x, grids))
        out: Tensor = self.final_layer_norm(x + self.fc2(relu(self.fc1(x))))
        return out


class PixelEncoder(nn.Module):
    """The pixel decoder's layers, `encoder` in the checkpoints."""

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PixelEncoderLayer(config) for _ in range(config.encoder_layers))


def _projection(channels: int, out: int, size: int, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, size, padding=size // 2, bias=bias),
                         nn.GroupNorm(_GROUPS, out))


class PixelDecoder(nn.Module):
    """Four maps of a view to its pixels' features; views are independent."""

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        width = config.width
        self.level_embed = nn.Parameter(torch.zeros(LEVELS, width))
        self.input_projections = nn.ModuleList(
            _projection(config.features, width, 1) for _ in range(LEVELS))
        self.encoder = PixelEncoder(config)
        self.mask_projection = nn.Conv2d(width, width, 1)
        self.adapter_1 = _projection(config.features, width, 1, bias=False)
        self.layer_1 = _projection(width, width, 3, bias=False)

    def forward(self, maps: Sequence[Tensor]) -> PixelFeatures:
        """Transform maps (V, features, h, w) at 4, 8, 16 and 32 pixels a cell."""
        coarse = [layer(m) for layer, m in zip(self.input_projections, reversed(maps))]
        grids = [cast('Grid', tuple(m.shape[2:])) for m in coarse]
        positions = torch.cat([sine_positions(*grid, m).flatten(0, 1) + e
                               for grid, m, e in zip(grids, coarse, self.level_embed)])
        x, references = join_maps(coarse), cell_centres(grids, coarse[0])
        for layer in self.encoder.layers:
            x = layer(x, positions, references, grids)
        levels = split_maps(x, grids)
        fine = self.adapter_1(maps[0])
        fine = relu(self.layer_1(fine + _resized(levels[-1], fine.shape[2:])))
        return PixelFeatures(self.mask_projection(fine), tuple(levels))


class QueryAttention(nn.Module):
    """Self-attention of queries; positions are added to what is compared, not to values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Transform queries (Q, C)."""
        at = x + positions
        # (Q, C) -> (heads, Q, C / heads)
        q, k, v = (layer(t).unflatten(-1, (self._heads, -1)).transpose(0, 1)
                   for layer, t in ((self.q_proj, at), (self.k_proj, at), (self.v_proj, x)))
        out: Tensor = self.out_proj(
            scaled_dot_product_attention(q, k, v).transpose(0, 1).flatten(1))
        return out


class MaskedAttention(nn.Module):
    """Cross-attention of queries to some of the cells."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        # Projections of queries, keys and values, one below another
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, attended: Tensor) -> Tensor:
        """
        Transform queries (Q, C).

        :param keys: (M, C)
        :param values: (M, C)
        :param attended: (Q, M) bool, cells that a query sees; at least one for each
        """
        # (N, C) -> (heads, N, C / heads)
        q, k, v = (linear(x, weight, bias).unflatten(-1, (self._heads, -1)).transpose(0, 1)
                   for x, weight, bias in zip((queries, keys, values),
                                              self.in_proj_weight.chunk(3),
                                              self.in_proj_bias.chunk(3)))
        seen = scaled_dot_product_attention(q, k, v, attn_mask=attended[None])
        out: Tensor = self.out_proj(seen.transpose(0, 1).flatten(1))
        return out


class QueryLayer(nn.Module):
    """Masked cross-attention, self-attention, MLP (Mask2Former, section 3.2)."""

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        width = config.width
        self.self_attn = QueryAttention(width, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.cross_attn = MaskedAttention(width, config.heads)
        self.cross_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor, memory: Tensor, memory_positions: Tensor,
                attended: Tensor) -> Tensor:
        """
        Transform queries (Q, C).

        :param memory: (M, C) cells of all views
        :param attended: as for `MaskedAttention`
        """
        x = self.cross_attn_layer_norm(
            x + self.cross_attn(x + positions, memory + memory_positions, memory, attended))
        x = self.self_attn_layer_norm(x + self.self_attn(x, positions))
        out: Tensor = self.final_layer_norm(x + self.fc2(relu(self.fc1(x))))
        return out


class MaskPredictor(nn.Module):
    """Queries to masks: products with the pixels' features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Nested as in the checkpoints; a ReLU follows each but the last
        self.mask_embedder = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width)) for _ in range(_MASK_LAYERS))

    def forward(self, queries: Tensor, features: Tensor) -> Tensor:
        """
        Predict masks.

        :param queries: (Q, C)
        :param features: (V, C, h, w)
        :return: (Q, V, h, w) logits
        """
        *first, last = self.mask_embedder
        for layer in first:
            queries = relu(layer(queries))
        return torch.einsum('qc,vchw->qvhw', last(queries), features)


class QueryLayers(nn.Module):
    """The queries' layers, `decoder` in the checkpoints."""

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(QueryLayer(config) for _ in range(config.layers))
        self.layernorm = nn.LayerNorm(config.width)
        self.mask_predictor = MaskPredictor(config.width)


class QueryDecoder(nn.Module):
    """Queries to what they found, `transformer_module` in the checkpoints."""

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        self.queries_embedder = nn.Embedding(config.queries, config.width)
        self.queries_features = nn.Embedding(config.queries, config.width)
        self.decoder = QueryLayers(config)
        self.level_embed = nn.Embedding(LEVELS, config.width)

    def forward(self, features: PixelFeatures) -> tuple[Tensor, Tensor]:
        """
        Look for objects in all views together.

        :return: queries (Q, C), and logits of their masks (Q, V, h, w)
        """
        grids = [cast('Grid', tuple(m.shape[2:])) for m in features.levels]
        # (V, C, h, w) -> (V * h * w, C)
        memories = [m.permute(0, 2, 3, 1).flatten(0, 2) + e
                    for m, e in zip(features.levels, self.level_embed.weight)]
        places = [view_positions(m).flatten(0, 2) for m in features.levels]
        x, positions = self.queries_features.weight, self.queries_embedder.weight
        masks = self._masks(x, features)
        for n, layer in enumerate(self.decoder.layers):
            level = n % LEVELS
            x = layer(x, positions, memories[level], places[level],
                      attended(masks, grids[level]))
            masks = self._masks(x, features)
        return x, masks

    def _masks(self, x: Tensor, features: PixelFeatures) -> Tensor:
        masks: Tensor = self.decoder.mask_predictor(self.decoder.layernorm(x), features.masks)
        return masks


class MaskModel(nn.Module):
    """`model` of the checkpoints."""

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(config)
        self.transformer_module = QueryDecoder(config)


class Criterion(nn.Module):
    """Weights of the training's loss: present in the checkpoints, unused."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer('empty_weight', torch.ones(classes + 1))


class Mask2Former(nn.Module):
    """
    Maps of views to masks and classes.

    :param config: its sizes
    """

    def __init__(self, config: MaskConfig) -> None:
        super().__init__()
        self.config = config
        self.model = MaskModel(config)
        self.class_predictor = nn.Linear(config.width, config.classes + 1)
        self.criterion = Criterion(config.classes)

    def features(self, maps: Sequence[Tensor]) -> PixelFeatures:
        """Compute features of the pixels of views, each apart; see `PixelDecoder.forward`."""
        out: PixelFeatures = self.model.pixel_decoder(maps)
        return out

    def forward(self, features: PixelFeatures) -> QueryOutput:
        """Look for objects in all views together."""
        module = self.model.transformer_module
        queries, masks = module(features)
        return QueryOutput(self.class_predictor(module.decoder.layernorm(queries)), masks)


def attended(masks: Tensor, grid: Grid) -> Tensor:
    """
    Cells that queries attend to: those inside the masks they predict.

    :param masks: (Q, V, h, w) logits
    :param grid: of the cells
    :return: (Q, V * rows * columns) bool; everything for a query whose mask is empty
    """
    logits = _resized(masks, grid).flatten(1)
    return (logits >= 0) | (logits.amax(1, keepdim=True) < 0)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return interpolate(x, list(size), mode='bilinear')


def sine_positions(rows: int, columns: int, like: Tensor) -> Tensor:
    """
    Sinusoidal embedding of a map's cells: first half by row, second half by column.

    :param like: (…, C, …) map with C on axis 1, which gives width, device and data type
    :return: (rows, columns, C)
    """
    half = like.shape[1] // 2
    by_row, by_column = (waves(n, half, like.device, like.dtype) for n in (rows, columns))
    return torch.cat([by_row[:, None].expand(-1, columns, -1),
                      by_column[None].expand(rows, -1, -1)], -1)


def view_positions(like: Tensor) -> Tensor:
    """
    Embedding of the cells of several views: `sine_positions` plus one of the view.

    :param like: (V, C, rows, columns)
    :return: (V, rows, columns, C)
    """
    views, width, rows, columns = like.shape
    by_view = waves(views, width, like.device, like.dtype)
    return by_view[:, None, None] + sine_positions(rows, columns, like)


def waves(count: int, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """
    Embed the numbers 1 to `count`, sine and cosine in turn; cached like `rope_table`.

    :return: (count, channels)
    """
    return _waves(count, channels, device, dtype)


@lru_cache(maxsize=64)
def _waves(count: int, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # In float64 on the CPU, whatever the device: angles of all devices agree
    number = torch.arange(1, count + 1, dtype=torch.float64) * (2 * pi / (count + 1e-6))
    k = torch.arange(channels, dtype=torch.float64)
    angles = number[:, None] / _BASE ** (2 * (k // 2) / channels)
    return torch.where(k % 2 == 0, angles.sin(), angles.cos()).to(device, dtype)
