# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
SIU3R: points, Gaussians, and masks with classes from two images.

'SIU3R: Simultaneous Scene Understanding and 3D Reconstruction Beyond Feature Alignment' (Xu et
al., NeurIPS 2025). The trunk is DUSt3R's with one token more, for the intrinsics. An adapter turns
the encoder's tokens into maps, in which queries that the views share look for objects.

Names of modules are those of the published checkpoint. Written from the papers and from the names
and shapes of the checkpoint's tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, depth_of, Format, HEAD_SIZE
from recon3r_ros.nets.dust3r import exponential_points, PATCH, Trunk, TrunkConfig
from recon3r_ros.nets.layers.attention import tokens_to_map
from recon3r_ros.nets.layers.dpt import as_maps, DptHead, FUSED, Scratch, upsampled
from recon3r_ros.nets.layers.mask2former import (
    Mask2Former,
    MaskConfig,
    PixelFeatures,
    QueryOutput,
)
from recon3r_ros.nets.layers.rope import rope_table, RopeTable
from recon3r_ros.nets.layers.vit_adapter import Adapter, INTERACTIONS
import torch
from torch import nn, Tensor
from torch.nn.functional import relu, softplus

MODEL = 'siu3r'
#: Side of the images that the network was trained with, pixels; others are multiples of STRIDE
IMAGE_SIZE, STRIDE = 256, 32
#: Side of the convolution that adds the image to the Gaussians' features
_MERGER = 7
#: Scales of Gaussians grow from the first number, and end at the second
_SCALE, _MAX_SCALE = 0.001, 0.3
#: Added to the length of quaternions
_LEAST_LENGTH = 1e-8
#: Weights of harmonics of degree k > 0: the first number times the second one's power of k
_HARMONICS, _DECAY = 0.1, 0.25


@dataclass(frozen=True)
class Siu3rConfig(TrunkConfig):
    """
    Sizes of a network.

    :param prior_width: channels of the first convolutions of the adapter
    :param masks: of the queries' decoder
    :param sh_degree: of the Gaussians' spherical harmonics
    :param mask_token: whether its files have one, as those for more than two views do
    """

    adapter_heads: int = 16
    prior_width: int = 64
    masks: MaskConfig = MaskConfig()
    sh_degree: int = 4
    mask_token: bool = False

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of the encoder that the adapter reads."""
        return tuple(self.enc_depth * (n + 1) // INTERACTIONS - 1 for n in range(INTERACTIONS))


@dataclass(frozen=True, eq=False)
class Tokens:
    """
    An image's tokens: those of the patches row by row, then that of the intrinsics.

    :param values: (B, rows * columns + 1, C)
    """

    values: Tensor
    rows: int
    columns: int

    def rope(self, head_size: int) -> RopeTable:
        """Rotary position embedding; the intrinsics are one row below the grid."""
        table = rope_table(self.rows + 1, self.columns, head_size, self.values.device,
                           dtype=self.values.dtype)
        count = self.values.shape[1]
        return RopeTable(table.cos[:count], table.sin[:count])


@dataclass(frozen=True, eq=False)
class Gaussians:
    """
    A view's Gaussians, one for each pixel, centred at its point.

    :param opacities: (B, H, W) in (0, 1)
    :param scales: (B, H, W, 3), standard deviations in the unit of the points
    :param quats_xyzw: (B, H, W, 4) of any length, from the Gaussian's axes to the frame of the
        points
    :param harmonics: (B, H, W, 3, n) coefficients of red, green and blue, in that frame
    """

    opacities: Tensor
    scales: Tensor
    quats_xyzw: Tensor
    harmonics: Tensor

    @property
    def covariances(self) -> Tensor:
        """Covariance matrices (B, H, W, 3, 3) in the frame of the points."""
        length = self.quats_xyzw.norm(dim=-1, keepdim=True) + _LEAST_LENGTH
        x, y, z, w = (self.quats_xyzw / length).unbind(-1)
        rotation = torch.stack([
            1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], -1)
        axes = rotation.unflatten(-1, (3, 3)) * self.scales[..., None, :]
        return axes @ axes.transpose(-1, -2)


class Backbone(Trunk):
    """DUSt3R's trunk, with a token of each view's intrinsics."""

    def __init__(self, config: Siu3rConfig) -> None:
        super().__init__(config, mask_token=config.mask_token)
        self.config = config
        self.intrinsic_encoder = nn.Linear(9, config.enc_embed_dim)

    def encode(self, image: Tensor, intrinsics: Tensor) -> tuple[Tokens, list[Tensor]]:
        """
        Encode views; see `Siu3r.encode`.

        :return: tokens, and those of the patches (B, N, C) after the adapter's four blocks
        """
        patches = self.patch_embed(image.to(self.dtype))
        known = self.intrinsic_encoder(intrinsics.to(self.dtype).flatten(1))[:, None]
        x = torch.cat([patches, known], 1)
        rows, columns = (side // PATCH for side in image.shape[2:])
        rope = Tokens(x, rows, columns).rope(
            self.config.enc_embed_dim // self.config.enc_num_heads)
        kept = []
        for n, block in enumerate(self.enc_blocks):
            x = block(x, rope)
            if n in self.config.blocks:
                kept.append(x[:, :-1])
        return Tokens(self.enc_norm(x), rows, columns), kept

    def decode(self, views: Sequence[Tokens]) -> list[list[Tensor]]:
        """
        Let each view attend to all others.

        :param views: at least two, the first one the reference
        :return: for each view what a DPT head reads: four times (B, N, C)
        """
        head_size = self.config.dec_embed_dim // self.config.dec_num_heads
        ropes = [view.rope(head_size) for view in views]
        others = [[m for m in range(len(views)) if m != n] for n in range(len(views))]
        memory_ropes = [RopeTable(torch.cat([ropes[m].cos for m in other]),
                                  torch.cat([ropes[m].sin for m in other]))
                        for other in others]
        xs = [self.decoder_embed(view.values) for view in views]
        steps = [[view.values] for view in views]
        for first, rest in zip(self.dec_blocks, self.dec_blocks2):
            # Each attends to the others' tokens from before this step
            xs = [(first if n == 0 else rest)(
                x, torch.cat([xs[m] for m in others[n]], 1), ropes[n], memory_ropes[n])
                for n, x in enumerate(xs)]
            for own, x in zip(steps, xs):
                own.append(x)
        for own, x in zip(steps, xs):
            own[-1] = self.dec_norm(x)
        return [[own[i][:, :-1] for i in self.config.hooks] for own in steps]


class PointHead(nn.Module):
    """A DPT head for points, without confidence."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.dpt = DptHead(widths, 3)

    def forward(self, steps: Sequence[Tensor], rows: int) -> Tensor:
        """Transform four times tokens (B, N, C) to points (B, H, W, 3)."""
        return exponential_points(self.dpt([x.to(self.dpt.dtype) for x in steps], rows))


class GaussianDpt(nn.Module):
    """`dpt` of a head for Gaussians: a DPT head to which the image is added."""

    def __init__(self, widths: Sequence[int], out: int) -> None:
        super().__init__()
        self.scratch = Scratch()
        # Index 2 of `head` is a ReLU, indices 1 and 3 do nothing
        self.head = nn.ModuleDict({
            '0': nn.Conv2d(FUSED, FUSED, 3, padding=1, bias=False),
            '4': nn.Conv2d(FUSED, out, 1)})
        self.act_postprocess = nn.ModuleList(as_maps(widths))
        self.input_merger = nn.Sequential(
            nn.Conv2d(3, FUSED, _MERGER, padding=_MERGER // 2), nn.ReLU())

    def forward(self, steps: Sequence[Tensor], rows: int, image: Tensor) -> Tensor:
        """Transform four times tokens (B, N, C) and images (B, 3, H, W) to (B, out, H, W)."""
        dtype = next(self.parameters()).dtype
        maps = [layer(tokens_to_map(t.to(dtype), rows).contiguous(
            memory_format=torch.channels_last)) for layer, t in zip(self.act_postprocess, steps)]
        x = upsampled(self.scratch(maps)) + self.input_merger(image.to(dtype))
        out: Tensor = self.head['4'](relu(self.head['0'](x)))
        return out


class GaussianHead(nn.Module):
    """Parameters of a Gaussian for each pixel (section 3.2)."""

    def __init__(self, widths: Sequence[int], sh_degree: int) -> None:
        super().__init__()
        self._degree = sh_degree
        # Opacity, scales, rotation, harmonics of three colours
        self.dpt = GaussianDpt(widths, 1 + 3 + 4 + 3 * (sh_degree + 1) ** 2)

    def forward(self, steps: Sequence[Tensor], rows: int, image: Tensor) -> Gaussians:
        """Transform four times tokens (B, N, C) and images (B, 3, H, W)."""
        # (B, C, H, W) -> (B, H, W, C)
        x = self.dpt(steps, rows, image).permute(0, 2, 3, 1)
        opacity, scale, rotation, colour = x.split([1, 3, 4, x.shape[-1] - 8], -1)
        weight = torch.cat([x.new_full((2 * k + 1,), _HARMONICS * _DECAY ** k if k else 1)
                            for k in range(self._degree + 1)])
        return Gaussians(opacity[..., 0].sigmoid(),
                         (_SCALE * softplus(scale)).clamp(max=_MAX_SCALE), rotation,
                         colour.unflatten(-1, (3, -1)) * weight)


class Siu3r(nn.Module):
    """
    The network; `encode` a view once, `decode` it with as many others as needed.

    :param config: its sizes
    """

    def __init__(self, config: Siu3rConfig) -> None:
        super().__init__()
        self.config = config
        enc, dec = config.enc_embed_dim, config.dec_embed_dim
        widths = [enc, *3 * [dec]]
        self.backbone = Backbone(config)
        self.adapter = Adapter(enc, config.adapter_heads, config.prior_width)
        self.mask2former = Mask2Former(config.masks)
        # Of the first view, and of all others
        self.downstream_head1, self.downstream_head2 = PointHead(widths), PointHead(widths)
        self.gaussian_param_head1 = GaussianHead(widths, config.sh_degree)
        self.gaussian_param_head2 = GaussianHead(widths, config.sh_degree)

    def lower_precision(self, dtype: torch.dtype) -> Siu3r:
        """Change the trunk's data type; heads, adapter and queries stay in float32."""
        self.backbone.to(dtype)
        return self

    def encode(self, image: Tensor, intrinsics: Tensor) -> tuple[Tokens, PixelFeatures]:
        """
        Encode views, each apart.

        :param image: (B, 3, H, W) in [0, 1], sides multiples of 32
        :param intrinsics: (B, 3, 3), the first row divided by W, the second one by H
        :return: their tokens, and the features that queries look at
        """
        tokens, blocks = self.backbone.encode(image, intrinsics)
        dtype = self.adapter.level_embed.dtype
        maps = self.adapter(image.to(dtype), [b.to(dtype) for b in blocks],
                            (tokens.rows, tokens.columns))
        return tokens, self.mask2former.features(maps)

    def decode(self, views: Sequence[Tokens]) -> list[list[Tensor]]:
        """Let each view attend to all others; see `Backbone.decode`."""
        return self.backbone.decode(views)

    def points(self, views: Sequence[Tokens], steps: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """
        Predict each view's points (B, H, W, 3) in the first camera's frame, up to scale.

        :param steps: of `decode`
        """
        heads = [self.downstream_head1, *(len(views) - 1) * [self.downstream_head2]]
        return [head(own, view.rows) for head, view, own in zip(heads, views, steps)]

    def gaussians(self, views: Sequence[Tokens], steps: Sequence[Sequence[Tensor]],
                  images: Sequence[Tensor]) -> list[Gaussians]:
        """
        Predict each view's Gaussians, whose centres are its points.

        :param steps: of `decode`
        :param images: for each view (B, 3, H, W) in [0, 1]
        """
        heads = [self.gaussian_param_head1, *(len(views) - 1) * [self.gaussian_param_head2]]
        return [head(own, view.rows, image)
                for head, view, own, image in zip(heads, views, steps, images)]

    def queries(self, features: PixelFeatures) -> QueryOutput:
        """Look for objects in all views together."""
        out: QueryOutput = self.mask2former(features)
        return out


# File format

#: Of the network in a file of its training, which also holds the loss's network and metrics
_PREFIX = 'model.'
#: Batch normalisation counts batches while it is trained
_COUNTER = '.num_batches_tracked'
_OWN = ('mask2former.', 'gaussian_param_head1.')


def _recognises(state: Mapping[str, Tensor]) -> bool:
    return any(k.removeprefix(_PREFIX).startswith(_OWN) for k in state)


def _build(path: Path, state: dict[str, Tensor], _: str) -> Built:
    if any(k.startswith(_PREFIX) for k in state):
        state = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    state = {k: v for k, v in state.items() if not k.endswith(_COUNTER)}
    return Built(Siu3r(_config(path, state)), state, (MODEL,), IMAGE_SIZE)


FORMAT = Format(_recognises, _build)


def _config(path: Path, state: Mapping[str, Tensor]) -> Siu3rConfig:
    def size(name: str, axis: int, least: int = 1, multiple: int = 1) -> int:
        tensor = state.get(name)
        if tensor is None:
            raise InputError(f'{path}: has no {name}; it is damaged, or another network, such as '
                             'the adapter and decoder alone')
        found = tensor.shape[axis] if tensor.ndim > axis else 0
        if found < least or found % multiple:
            raise InputError(f'{path}: {name} has {found} channels, expected a multiple of '
                             f'{max(least, multiple)}: it is damaged, or another network')
        return found

    known, masks = Siu3rConfig(), 'mask2former.model'
    enc = size('backbone.patch_embed.proj.weight', 0, HEAD_SIZE, HEAD_SIZE)
    dec = size('backbone.decoder_embed.weight', 0, HEAD_SIZE, HEAD_SIZE)
    width = size(f'{masks}.pixel_decoder.level_embed', 1, 32, 32)
    queries = f'{masks}.transformer_module'
    channels = size('gaussian_param_head1.dpt.head.4.weight', 0)
    # 4 weights a head in the adapter, 12 in the pixel decoder: heads follow from their numbers
    weights = 'attn.attention_weights.weight'
    return replace(
        known, enc_embed_dim=enc, enc_depth=depth_of(state, 'backbone.enc_blocks'),
        enc_num_heads=enc // HEAD_SIZE, dec_embed_dim=dec,
        dec_depth=depth_of(state, 'backbone.dec_blocks'), dec_num_heads=dec // HEAD_SIZE,
        adapter_heads=size(f'adapter.interactions.0.extractor.{weights}', 0, 4, 4) // 4,
        prior_width=size('adapter.spm.stem.0.weight', 0),
        masks=MaskConfig(
            enc, width,
            size(f'{masks}.pixel_decoder.encoder.layers.0.self_{weights}', 0, 12, 12) // 12,
            depth_of(state, f'{masks}.pixel_decoder.encoder.layers'),
            size(f'{masks}.pixel_decoder.encoder.layers.0.fc1.weight', 0),
            depth_of(state, f'{queries}.decoder.layers'),
            size(f'{queries}.decoder.layers.0.fc1.weight', 0),
            size(f'{queries}.queries_features.weight', 0),
            size('mask2former.class_predictor.weight', 0, 2) - 1),
        sh_degree=isqrt(max(channels - 8, 3) // 3) - 1,
        mask_token='backbone.mask_token' in state)
