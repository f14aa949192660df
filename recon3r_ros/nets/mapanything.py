# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
MapAnything: metric depth, rays and poses of a window of views, and of what is known of them.

'MapAnything: Universal Feed-Forward Metric 3D Reconstruction' (Keetha et al., 2025, section 3).
Every view goes through DINOv2 (Oquab et al., 2023) by itself. Encodings of known rays, depth and
poses are added to its patches; any of them may be missing. Attention among all views alternates
with attention within each; heads give rays, depth along them, poses, and one metric scale.

Names of modules are those of the published checkpoints, of both releases: v1 (September 2025) and
v1.1 (December 2025). Written from the paper and from the names and shapes of the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import cast

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, depth_of, Format, HEAD_SIZE
from recon3r_ros.nets.layers.attention import Mlp, MLP_RATIO, PatchEmbed, tokens_to_map
from recon3r_ros.nets.layers.dpt import as_maps, FeatureFusion, FUSED, fused, LAST, MAP_CHANNELS
from recon3r_ros.nets.layers.known import DenseEncoder, GlobalEncoder
from recon3r_ros.nets.vggt import Attention, normalised, PATCH, Scaled
import torch
from torch import nn, Tensor
from torch.nn.functional import interpolate, normalize, relu, silu

_EPS = 1e-6
#: Least length of a vector, mean depth, mean distance and scale
TINY = 1e-8
#: Channels of the dense head: ray (3), depth, confidence, logit of validity
_DENSE = 6
#: Widths of the pose head and the scale head
_POSE_WIDTH, _SCALE_WIDTH = 784, 196
#: Blocks of the sharing transformer whose middle and third quarter differ
_LEAST_DEPTH = 4


@dataclass(frozen=True)
class MapAnythingConfig:
    """
    Sizes of a network.

    :param embed_dim: channels of the image encoder
    :param encoder_depth: its blocks
    :param dim: channels of the sharing transformer
    :param depth: its blocks; the heads read its middle, third quarter and end
    :param release: 'v1.1' or 'v1', which differ in the layers of their blocks
    :param grid: patches along either side of the images that the encoder was trained with
    """

    embed_dim: int = 1536
    encoder_depth: int = 24
    dim: int = 1536
    depth: int = 16
    release: str = 'v1.1'
    grid: int = 37

    @property
    def gated(self) -> bool:
        """Whether blocks are those of the release v1.1."""
        return self.release == 'v1.1'

    @property
    def taps(self) -> tuple[int, int]:
        """Blocks of the sharing transformer that the dense head reads, besides the last one."""
        return self.depth // 2 - 1, 3 * self.depth // 4 - 1

    @property
    def image_size(self) -> int:
        """Longer side of the training images, pixels."""
        return PATCH * self.grid


@dataclass(frozen=True, eq=False)
class Given:
    """
    What is known of the poses of a window's views.

    :param rotations: (S, 4) quaternions xyzw of T_first_view
    :param translations: (S, 3) of T_first_view, divided by their mean length
    :param log_length: (1,) logarithm of that mean length
    :param posed: (S,) 1 for a view whose pose is known, else 0
    :param metric: (S,) 1 for one whose pose is known in metres, else 0
    """

    rotations: Tensor
    translations: Tensor
    log_length: Tensor
    posed: Tensor
    metric: Tensor

    @classmethod
    def of(cls, numbers: Tensor, log_length: Tensor) -> Given:
        """Split what is known of each view (S, 9): 4, 3, 1 and 1 numbers."""
        return cls(numbers[:, :4], numbers[:, 4:7], log_length, numbers[:, 7], numbers[:, 8])


@dataclass(frozen=True, eq=False)
class Shared:
    """
    Output of the sharing transformer.

    :param dense: three times (S, rows * columns, D): two inner blocks, and the last one
    :param scale: (D,) the window's scale token
    """

    dense: tuple[Tensor, ...]
    scale: Tensor


class GatedMlp(nn.Module):
    """Two layers, with a gate (SwiGLU: Shazeer, 2020)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = -(-(8 * width // 3) // 8) * 8
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, N, C)."""
        gate, value = self.w12(x).chunk(2, -1)
        out: Tensor = self.w3(silu(gate) * value)
        return out


class Block(nn.Module):
    """
    A pre-norm transformer block.

    :param gated: whether its MLP is a `GatedMlp`
    :param scaled: whether its branches are scaled by channel
    """

    def __init__(self, width: int, gated: bool, scaled: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _EPS)
        self.attn = Attention(width, width // HEAD_SIZE, normalised=False)
        self.ls1 = Scaled(width) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(width, _EPS)
        self.mlp = GatedMlp(width) if gated else Mlp(width, MLP_RATIO * width, width)
        self.ls2 = Scaled(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, N, C)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class Dino(nn.Module):
    """DINOv2 without registers: an image to patch tokens and a class token."""

    def __init__(self, config: MapAnythingConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self._grid = config.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid ** 2, width))
        self.patch_embed = PatchEmbed(PATCH, width)
        self.blocks = nn.ModuleList(Block(width, config.gated, True)
                                    for _ in range(config.encoder_depth))
        self.norm = nn.Identity() if config.gated else nn.LayerNorm(width, _EPS)

    def forward(self, image: Tensor) -> Tensor:
        """Transform normalised images (B, 3, H, W) to tokens (B, 1 + N, C), class token first."""
        rows, columns = image.shape[2] // PATCH, image.shape[3] // PATCH
        patches = self.patch_embed(image) + self._positions(rows, columns)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(image), -1, -1)
        x = torch.cat([first, patches], 1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Embedding (1, rows * columns, C) of the patches' positions in the image."""
        known = self.pos_embed[:, 1:]
        if rows == columns == self._grid:
            return known
        grid = tokens_to_map(known, self._grid).float()
        # Positions follow from the factors, not from the sizes: so it was trained
        factors = ((rows + 0.1) / self._grid, (columns + 0.1) / self._grid)
        grid = interpolate(grid, scale_factor=factors, mode='bicubic',
                           recompute_scale_factor=False)
        return grid.flatten(2).transpose(1, 2).to(known.dtype)


class Sharing(nn.Module):
    """The trunk: attention among all views alternates with attention within each."""

    def __init__(self, config: MapAnythingConfig) -> None:
        super().__init__()
        width = config.dim
        self._taps = config.taps
        # Added to the first view, which makes it the reference
        self.view_pos_table = nn.Parameter(torch.zeros(1, width))
        self.proj_embed = (nn.Identity() if config.gated
                           else nn.Linear(config.embed_dim, width))
        self.self_attention_blocks = nn.ModuleList(Block(width, config.gated, config.gated)
                                                   for _ in range(config.depth))
        self.norm = nn.LayerNorm(width, _EPS)

    def forward(self, tokens: Tensor, scale: Tensor) -> tuple[list[Tensor], Tensor]:
        """
        Process a window.

        :param tokens: (S, T, C) of each view
        :param scale: (C,) token of the window
        :return: tokens (S, T, D) of two inner blocks and the last one, and the scale token (D,)
        """
        x, scale = self.proj_embed(tokens), self.proj_embed(scale)[None]
        x = torch.cat([x[:1] + self.view_pos_table[0], x[1:]])
        steps = []
        for n, block in enumerate(self.self_attention_blocks):
            if n % 2 == 0:
                # (S, T, D) -> (1, S * T + 1, D) and back
                together = block(torch.cat([x.flatten(0, 1), scale])[None])[0]
                x, scale = together[:-1].view_as(x), together[-1:]
            else:
                x = block(x)
            if n in self._taps:
                steps.append(self.norm(x))
        return [*steps, self.norm(x)], self.norm(scale)[0]


class DenseHead(nn.ModuleList):
    """Tokens of four depths to a map of the image's size (DPT: Ranftl et al., 2021)."""

    def __init__(self, config: MapAnythingConfig) -> None:
        levels = nn.ModuleList(
            nn.Sequential(as_map, nn.Conv2d(channels, FUSED, 3, padding=1, bias=False))
            for as_map, channels in zip(as_maps((config.embed_dim, *3 * (config.dim,))),
                                        MAP_CHANNELS))
        fusions = nn.ModuleDict({
            f'refinenet{n}': FeatureFusion(FUSED, has_finer=n < 4) for n in (1, 2, 3, 4)})
        last = nn.ModuleDict({
            'conv1': nn.Conv2d(FUSED, LAST, 3, padding=1),
            'conv2': nn.Sequential(nn.Conv2d(LAST, LAST, 3, padding=1), nn.ReLU(),
                                   nn.Conv2d(LAST, _DENSE, 1))})
        super().__init__([nn.ModuleDict({'input_process': levels, 'scratch': fusions}), last])

    def forward(self, tokens: Sequence[Tensor], rows: int, columns: int) -> Tensor:
        """Transform four times (S, N, C) to (S, 6, H, W)."""
        features, last = (cast('nn.ModuleDict', part) for part in self)
        levels = cast('nn.ModuleList', features['input_process'])
        fusions = list(cast('nn.ModuleDict', features['scratch']).values())
        # Convolutions are fastest with the channels last in memory
        maps = [layer(tokens_to_map(t, rows).contiguous(memory_format=torch.channels_last))
                for layer, t in zip(levels, tokens)]
        x = interpolate(last['conv1'](fused(maps, fusions)), (rows * PATCH, columns * PATCH),
                        mode='bilinear', align_corners=True)
        out: Tensor = last['conv2'](x)
        return out


class PoseResidual(nn.Module):
    """Three layers per patch, and a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.res_conv1, self.res_conv2, self.res_conv3 = (
            nn.Conv2d(_POSE_WIDTH, _POSE_WIDTH, 1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (S, C, rows, columns)."""
        return x + relu(self.res_conv3(relu(self.res_conv2(relu(self.res_conv1(x))))))


class PoseHead(nn.Module):
    """Patches of each view to its pose."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width, _POSE_WIDTH, 1)
        self.res_conv = nn.Sequential(PoseResidual(), PoseResidual())
        self.more_mlps = nn.Sequential(nn.Linear(_POSE_WIDTH, _POSE_WIDTH), nn.ReLU(),
                                       nn.Linear(_POSE_WIDTH, _POSE_WIDTH), nn.ReLU())
        self.fc_t = nn.Linear(_POSE_WIDTH, 3)
        self.fc_rot = nn.Linear(_POSE_WIDTH, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform tokens (S, N, D) to translations and quaternions xyzw, (S, 7)."""
        x = self.res_conv(self.proj(tokens_to_map(tokens, 1)))  # (S, C, 1, N)
        x = self.more_mlps(x.mean((2, 3)))
        return torch.cat([self.fc_t(x), normalize(self.fc_rot(x), dim=-1, eps=TINY)], -1)


class ScaleHead(nn.Module):
    """The scale token to metres per unit of length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, _SCALE_WIDTH)
        self.mlp = nn.Sequential(*(
            nn.Sequential(nn.Linear(_SCALE_WIDTH, _SCALE_WIDTH), nn.ReLU()) for _ in range(2)))
        self.output_proj = nn.Linear(_SCALE_WIDTH, 1)

    def forward(self, token: Tensor) -> Tensor:
        """Transform a token (D,) to the scale (1,)."""
        out: Tensor = self.output_proj(self.mlp(self.proj(token))).exp().clamp(min=TINY)
        return out


class MapAnything(nn.Module):
    """
    The network: `encode` each view and what is known of it once, `share` windows of views.

    :param config: its sizes
    """

    def __init__(self, config: MapAnythingConfig) -> None:
        super().__init__()
        self.config = config
        width = config.embed_dim
        self.encoder = nn.ModuleDict({'model': Dino(config)})
        self.ray_dirs_encoder = DenseEncoder(3, PATCH, width)
        self.depth_encoder = DenseEncoder(1, PATCH, width)
        self.depth_scale_encoder = GlobalEncoder(1, width)
        self.cam_rot_encoder = GlobalEncoder(4, width)
        self.cam_trans_encoder = GlobalEncoder(3, width)
        self.cam_trans_scale_encoder = GlobalEncoder(1, width)
        self.fusion_norm_layer = nn.LayerNorm(width, _EPS)
        self.scale_token = nn.Parameter(torch.zeros(width))
        self.info_sharing = Sharing(config)
        self.dense_head = DenseHead(config)
        self.pose_head = PoseHead(config.dim)
        self.scale_head = ScaleHead(config.dim)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the trunk."""
        return self.info_sharing.view_pos_table.dtype

    def lower_precision(self, dtype: torch.dtype) -> MapAnything:
        """Change the trunk's data type; heads and encoders of what is known need float32."""
        self.encoder.to(dtype)
        self.info_sharing.to(dtype)
        return self

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """
        Encode views, each by itself.

        :param images: (B, 3, H, W) in [0, 1], sides multiples of 14
        :return: patches (B, H / 14 * W / 14, C) and class token (B, 1, C), or none (B, 0, C) for
            a network that does not use it
        """
        tokens = self.encoder['model'](normalised(images).to(self.dtype))
        return tokens[:, 1:], tokens[:, :int(self.config.gated)]

    def encode_rays(self, rays: Tensor) -> Tensor:
        """
        Encode known rays.

        :param rays: (B, H, W, 3) of any length, in each camera's frame; zero where unknown
        :return: (B, H / 14 * W / 14, C)
        """
        out: Tensor = self.ray_dirs_encoder(normalize(rays, dim=-1, eps=TINY).permute(0, 3, 1, 2))
        return out

    def encode_depth(self, depth: Tensor, metric: Tensor) -> Tensor:
        """
        Encode known depth.

        :param depth: (B, H, W) along the rays, 0 where unknown
        :param metric: (B,) 1 for depth in metres, else 0
        :return: (B, H / 14 * W / 14, C)
        """
        known = (depth > 0).sum((1, 2)).clamp(min=1)
        mean = (depth.sum((1, 2)) / known).clamp(min=TINY)
        shape = self.depth_encoder((1 + depth / mean[:, None, None]).log()[:, None])
        length = self.depth_scale_encoder((mean + TINY).log()[:, None])
        out: Tensor = shape + (metric[:, None] * length)[:, None]
        return out

    def fuse(self, patches: Tensor, given: Given) -> Tensor:
        """
        Add what is known of the poses to a window's patches.

        :param patches: (S, N, C) of `encode`, with those of `encode_rays` and `encode_depth` added
        """
        lengths = self.cam_trans_scale_encoder(given.log_length[None])  # (1, C)
        pose = (self.cam_rot_encoder(given.rotations) + self.cam_trans_encoder(given.translations)
                ) * given.posed[:, None] + lengths * given.metric[:, None]
        out: Tensor = self.fusion_norm_layer(patches + pose[:, None])
        return out

    def share(self, patches: Tensor, classes: Tensor) -> Shared:
        """
        Process a window of views jointly; the first is the reference.

        :param patches: (S, N, C) of `fuse`
        :param classes: (S, 1 or 0, C) of `encode`
        """
        tokens = torch.cat([patches.to(self.dtype), classes.to(self.dtype)], 1)
        steps, scale = self.info_sharing(tokens, self.scale_token.to(self.dtype))
        of_patches = tuple(x[:, :patches.shape[1]].to(patches.dtype) for x in steps)
        return Shared(of_patches, scale.to(patches.dtype))

    def poses(self, shared: Shared) -> Tensor:
        """Predict T_first_view: translation, up to scale, and quaternion xyzw, (S, 7)."""
        out: Tensor = self.pose_head(shared.dense[-1])
        return out

    def scale(self, shared: Shared) -> Tensor:
        """Predict the metres of the window's unit of length, (1,)."""
        out: Tensor = self.scale_head(shared.scale)
        return out

    def dense(self, patches: Tensor, steps: Sequence[Tensor], rows: int, columns: int
              ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """
        Predict what each pixel sees.

        :param patches: (S, N, C) of `fuse`
        :param steps: `dense` of the same views' `Shared`
        :return: unit rays (S, H, W, 3); depth along them (S, H, W), up to scale; confidence
            (S, H, W), > 1; logit (S, H, W) of a valid depth, negative in the sky
        """
        x = self.dense_head((patches, *steps), rows, columns).permute(0, 2, 3, 1)
        rays = normalize(x[..., :3], dim=-1, eps=TINY)
        return rays, x[..., 3].exp(), 1 + x[..., 4].exp(), x[..., 5]


# File format

#: Further names of tensors in files of the authors' training format
SECOND_NAMES = ('dpt_feature_head.', 'dpt_regressor_head.', 'dense_head.0.scratch.layer')


def _recognises(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(('info_sharing.', 'encoder.model.')) for key in state)


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    state = {k: v for k, v in state.items() if not k.startswith(SECOND_NAMES)}
    network = MapAnything(_config(path, state))
    return Built(network, state, ('mapanything',), network.config.image_size)


FORMAT = Format(_recognises, _build)


def _config(path: Path, state: Mapping[str, Tensor]) -> MapAnythingConfig:
    widths = []
    for name in ('encoder.model.pos_embed', 'info_sharing.view_pos_table'):
        table = state.get(name)
        width = table.shape[-1] if table is not None and table.ndim > 1 else 0
        if width < HEAD_SIZE or width % HEAD_SIZE:
            raise InputError(f'{path}: {name} has {width} channels, expected a multiple of '
                             f'{HEAD_SIZE}: it is damaged, or another network')
        widths.append(width)
    depth = depth_of(state, 'info_sharing.self_attention_blocks')
    if depth < _LEAST_DEPTH:
        raise InputError(f'{path}: info_sharing.self_attention_blocks has {depth} blocks, '
                         f'expected {_LEAST_DEPTH} or more: it is damaged, or another network')
    positions = state['encoder.model.pos_embed'].numel() // widths[0]
    gated = 'encoder.model.blocks.0.mlp.w12.weight' in state
    return MapAnythingConfig(
        widths[0], depth_of(state, 'encoder.model.blocks'), widths[1],
        depth, 'v1.1' if gated else 'v1', isqrt(max(positions - 1, 1)))
