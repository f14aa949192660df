# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
VGGT: cameras, depth and points of many views in one pass.

'VGGT: Visual Geometry Grounded Transformer' (Wang et al., CVPR 2025, section 3). Every view goes
through DINOv2 with registers (Oquab et al., 2023; Darcet et al., 2023) by itself; then frame-wise
and global attention alternate, and small heads read the result.

Names of modules are those of the published checkpoint. Written from the papers and from the names
and shapes of the checkpoint's tensors. The track head is in `vggt_tracks.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, depth_of, Format, HEAD_SIZE
from recon3r_ros.nets.layers.attention import empty_parameter, Mlp, MLP_RATIO, PatchEmbed
from recon3r_ros.nets.layers.position import sine_embedding
from recon3r_ros.nets.layers.rope import rope_table, RopeTable
import torch
from torch import nn, Tensor
from torch.nn.functional import interpolate, layer_norm, relu, scaled_dot_product_attention

PATCH = 14
#: Camera and register tokens in front of each view's patches
REGISTERS, SPECIAL = 4, 5
_DINO_EPS, _EPS = 1e-6, 1e-5
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The camera head: heads of its attention, numbers of an encoded camera, refinements
_CAMERA_HEADS, _CAMERA, _ITERATIONS, _TRUNK = 16, 9, 4, 4
#: Channels of the dense heads' four maps, of their fusion, and of their last layers
_MAPS, _FUSED, _HALF, _LAST = (256, 512, 1024, 1024), 256, 128, 32


@dataclass(frozen=True)
class VggtConfig:
    """
    Sizes of a network.

    :param depth: pairs of frame-wise and global attention blocks
    :param dino_depth: blocks of DINOv2
    :param layers: blocks that the dense heads read, counted from 0
    :param grid: patches along either side of the images that DINOv2 was trained with
    """

    embed_dim: int = 1024
    depth: int = 24
    heads: int = 16
    dino_depth: int = 24
    layers: tuple[int, int, int, int] = (4, 11, 17, 23)
    grid: int = 37

    @property
    def image_size(self) -> int:
        """Longer side of the training images, pixels."""
        return PATCH * self.grid


@dataclass(frozen=True, eq=False)
class Steps:
    """
    Input of the heads: tokens of four blocks, frame-wise and global ones concatenated by channel.

    :param dense: four times (S, rows * columns, 2 C)
    :param cameras: (S, 2 C), the last block's camera tokens
    :param rows: of the grid of patches
    :param columns: of the grid of patches
    """

    dense: tuple[Tensor, ...]
    cameras: Tensor
    rows: int
    columns: int

    def of(self, views: slice) -> Steps:
        """Select some of the views."""
        return Steps(tuple(t[views] for t in self.dense), self.cameras[views], self.rows,
                     self.columns)


class Attention(nn.Module):
    """
    Self-attention.

    :param normalised: whether queries and keys are normalised
    """

    def __init__(self, width: int, heads: int, normalised: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        head = width // heads
        self.q_norm = nn.LayerNorm(head, _EPS) if normalised else nn.Identity()
        self.k_norm = nn.LayerNorm(head, _EPS) if normalised else nn.Identity()

    def forward(self, x: Tensor, rope: RopeTable | None = None) -> Tensor:
        """Transform tokens (B, N, C)."""
        # (B, N, 3 C) -> (3, B, heads, N, C / heads)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rope.rotate(q), rope.rotate(k)
        out = scaled_dot_product_attention(q, k, v)
        # (B, heads, N, C / heads) -> (B, N, C)
        projected: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return projected


class Scaled(nn.Module):
    """A factor per channel (LayerScale: Touvron et al., 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Transform (…, C)."""
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm transformer block whose branches are scaled by channel (DINOv2)."""

    def __init__(self, width: int, heads: int, eps: float = _EPS, normalised: bool = False
                 ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads, normalised)
        self.ls1 = Scaled(width)
        self.norm2 = nn.LayerNorm(width, eps)
        self.mlp = Mlp(width, MLP_RATIO * width, width)
        self.ls2 = Scaled(width)

    def forward(self, x: Tensor, rope: RopeTable | None = None) -> Tensor:
        """Transform tokens (B, N, C)."""
        x = x + self.ls1(self.attn(self.norm1(x), rope))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class Dino(nn.Module):
    """DINOv2 with registers: an image to patch tokens."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self._grid = config.grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid ** 2, width))
        self.register_tokens = nn.Parameter(torch.zeros(1, REGISTERS, width))
        # From training: present in the checkpoint, unused
        self.mask_token = empty_parameter(1, width)
        self.patch_embed = PatchEmbed(PATCH, width)
        self.blocks = nn.ModuleList(Block(width, config.heads, _DINO_EPS)
                                    for _ in range(config.dino_depth))
        self.norm = nn.LayerNorm(width, _DINO_EPS)

    def forward(self, image: Tensor) -> Tensor:
        """Transform normalised images (B, 3, H, W) to tokens (B, rows * columns, C)."""
        rows, columns = image.shape[2] // PATCH, image.shape[3] // PATCH
        patches = self.patch_embed(image) + self._positions(rows, columns)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(image), -1, -1)
        x = torch.cat([first, self.register_tokens.expand(len(image), -1, -1), patches], 1)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)[:, 1 + REGISTERS:]
        return out

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Embedding (1, rows * columns, C) of the patches' positions in the image."""
        known = self.pos_embed[:, 1:]
        if rows == columns == self._grid:
            return known
        # (1, 37², C) -> (1, C, 37, 37)
        grid = known.transpose(1, 2).unflatten(2, (self._grid, self._grid)).float()
        grid = interpolate(grid, (rows, columns), mode='bicubic', antialias=True)
        return grid.flatten(2).transpose(1, 2).to(known.dtype)


class Aggregator(nn.Module):
    """The trunk (section 3.2): alternating frame-wise and global attention."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        width, heads = config.embed_dim, config.heads
        self._layers, self._head = config.layers, width // heads
        # Index 0 for the first view, which is the reference, index 1 for all others
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, width))
        self.register_token = nn.Parameter(torch.zeros(1, 2, REGISTERS, width))
        self.patch_embed = Dino(config)
        self.frame_blocks, self.global_blocks = (
            nn.ModuleList(Block(width, heads, normalised=True) for _ in range(config.depth))
            for _ in range(2))

    def forward(self, patches: Tensor, rows: int) -> Steps:
        """
        Process a window of views jointly.

        :param patches: (S, rows * columns, C) of `patch_embed`
        """
        views, columns = len(patches), patches.shape[1] // rows
        special = torch.cat([self.camera_token, self.register_token], 2)[0]  # (2, 5, C)
        which = (torch.arange(views, device=patches.device) > 0).long()
        x = torch.cat([special[which], patches], 1)  # (S, T, C)
        rope = rope_table(rows, columns, self._head, patches.device, SPECIAL, patches.dtype)
        rope_all = rope.repeated(views)
        dense, frame = {}, x
        for n, (within, among) in enumerate(zip(self.frame_blocks, self.global_blocks)):
            frame = within(x, rope)
            # (S, T, C) -> (1, S * T, C) and back
            x = among(frame.flatten(0, 1)[None], rope_all)[0].view_as(frame)
            if n in self._layers:
                dense[n] = torch.cat([frame, x], -1)[:, SPECIAL:]
        return Steps(tuple(dense[n] for n in self._layers),
                     torch.cat([frame, x], -1)[:, 0], rows, columns)


class CameraHead(nn.Module):
    """Refines the encoded cameras iteratively (section 3.3; modulated as in DiT)."""

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        width = 2 * config.embed_dim
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, _CAMERA))
        self.trunk = nn.Sequential(*(Block(width, _CAMERA_HEADS) for _ in range(_TRUNK)))
        self.token_norm = nn.LayerNorm(width, _EPS)
        self.trunk_norm = nn.LayerNorm(width, _EPS)
        self.embed_pose = nn.Linear(_CAMERA, width)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))
        self.pose_branch = Mlp(width, width // 2, _CAMERA)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform camera tokens (S, 2 C) to encodings (S, 9)."""
        p = self.token_norm(tokens)[None]  # (1, S, 2 C)
        normalised = layer_norm(p, p.shape[-1:], eps=_DINO_EPS)
        encoding, given = torch.zeros_like(p[..., :_CAMERA]), self.empty_pose_tokens
        for _ in range(_ITERATIONS):
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(given)).chunk(3, -1)
            x = gate * (normalised * (1 + scale) + shift) + p
            given = encoding = encoding + self.pose_branch(self.trunk_norm(self.trunk(x)))
        # Translation, quaternion, and fields of view, which are not negative
        return torch.cat([encoding[..., :7], relu(encoding[..., 7:])], -1)[0]


class ResidualConvUnit(nn.Module):
    """Two convolutions and a residual connection after a ReLU, as the weights expect."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Transform (B, C, H, W)."""
        x = relu(x)
        return x + self.conv2(relu(self.conv1(x)))


class FeatureFusion(nn.Module):
    """Adds a finer map to the fusion of the coarser ones and resizes it for the next one."""

    def __init__(self, width: int, has_finer: bool = True) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        if has_finer:
            self.resConfUnit1 = ResidualConvUnit(width)
        self.resConfUnit2 = ResidualConvUnit(width)

    def forward(self, x: Tensor, size: Sequence[int], finer: Tensor | None = None) -> Tensor:
        """Transform (B, C, h, w) to (B, C, *size)."""
        if finer is not None:
            x = x + self.resConfUnit1(finer)
        # A 1x1 convolution and an interpolation commute: before it, the cost is a quarter
        return resized(self.out_conv(self.resConfUnit2(x)), size)


class Fusion(nn.Module):
    """
    `scratch` of the checkpoint, to the first convolution after the fusion of the four maps.

    :param width: channels of the fusion
    :param out: channels of the result
    """

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            nn.Conv2d(c, width, 3, padding=1, bias=False) for c in _MAPS)
        self.refinenet1, self.refinenet2, self.refinenet3 = (
            FeatureFusion(width) for _ in range(3))
        self.refinenet4 = FeatureFusion(width, has_finer=False)
        self.output_conv1 = nn.Conv2d(width, out, 3, padding=1)

    def forward(self, maps: Iterable[Tensor]) -> Tensor:
        """Fuse four maps, fine to coarse, to (B, out, 2 h, 2 w) of the finest."""
        layers = (self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn)
        level1, level2, level3, level4 = (layer(m) for layer, m in zip(layers, maps))
        path = self.refinenet4(level4, level3.shape[2:])
        path = self.refinenet3(path, level2.shape[2:], level3)
        path = self.refinenet2(path, level1.shape[2:], level2)
        path = self.refinenet1(path, [2 * side for side in level1.shape[2:]], level1)
        out: Tensor = self.output_conv1(path)
        return out


class Scratch(Fusion):
    """
    `scratch` of a head whose result has the image's size.

    :param out: channels of the result
    """

    def __init__(self, out: int) -> None:
        super().__init__(_FUSED, _HALF)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(_HALF, _LAST, 3, padding=1), nn.ReLU(), nn.Conv2d(_LAST, out, 1))


class Maps(nn.Module):
    """
    Tokens of four blocks to four maps, fine to coarse (DPT: Ranftl et al., 2021, section 3).

    :param placed: whether positions in the image are added
    """

    def __init__(self, config: VggtConfig, placed: bool) -> None:
        super().__init__()
        width = 2 * config.embed_dim
        self._are_placed = placed
        self.norm = nn.LayerNorm(width, _EPS)
        self.projects = nn.ModuleList(nn.Conv2d(width, c, 1) for c in _MAPS)
        c1, c2, _, c4 = _MAPS
        self.resize_layers = nn.ModuleList([
            nn.ConvTranspose2d(c1, c1, 4, 4), nn.ConvTranspose2d(c2, c2, 2, 2), nn.Identity(),
            nn.Conv2d(c4, c4, 3, 2, 1)])

    def maps(self, steps: Steps) -> list[Tensor]:
        """Transform tokens to maps (S, c, h, w), in the data type of the parameters."""
        maps = []
        for tokens, project, resize in zip(steps.dense, self.projects, self.resize_layers):
            x = self.norm(tokens.to(self.norm.weight.dtype))
            x = x.transpose(1, 2).unflatten(2, (steps.rows, -1))
            # Convolutions are fastest with the channels last in memory
            x = project(x.contiguous(memory_format=torch.channels_last))
            maps.append(resize(self._placed(x, steps) if self._are_placed else x))
        return maps

    @staticmethod
    def _placed(x: Tensor, steps: Steps) -> Tensor:
        """Add the position embedding."""
        channels, height, width = x.shape[1:]
        return x + sine_embedding(channels, height, width, steps.columns / steps.rows, x.device)


class DenseHead(Maps):
    """
    Tokens of four blocks to a map of the image's size (section 3.3; DPT: Ranftl et al., 2021).

    :param out: channels of the map, the last a confidence
    """

    def __init__(self, config: VggtConfig, out: int) -> None:
        super().__init__(config, placed=True)
        self.scratch = Scratch(out)

    def forward(self, steps: Steps) -> Tensor:
        """Transform tokens to (S, out, H, W)."""
        x = self.scratch(self.maps(steps))
        x = resized(x, (steps.rows * PATCH, steps.columns * PATCH))
        out: Tensor = self.scratch.output_conv2(self._placed(x, steps))
        return out


class Vggt(nn.Module):
    """
    The network: `encode` each view once, `aggregate` windows of views.

    :param config: its sizes
    """

    def __init__(self, config: VggtConfig) -> None:
        super().__init__()
        self.config = config
        self.aggregator = Aggregator(config)
        self.camera_head = CameraHead(config)
        self.point_head = DenseHead(config, 4)
        self.depth_head = DenseHead(config, 2)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the trunk."""
        return self.aggregator.camera_token.dtype

    def lower_precision(self, dtype: torch.dtype) -> Vggt:
        """Change the trunk's data type; the heads need float32."""
        self.aggregator.to(dtype)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """
        Encode views, each by itself.

        :param images: (B, 3, H, W) in [0, 1], sides multiples of 14
        :return: (B, H / 14 * W / 14, C)
        """
        tokens: Tensor = self.aggregator.patch_embed(normalised(images).to(self.dtype))
        return tokens

    def aggregate(self, patches: Tensor, rows: int) -> Steps:
        """
        Process a window of views jointly; the first is the reference.

        :param patches: (S, rows * columns, C) of views of one size
        """
        steps: Steps = self.aggregator(patches, rows)
        return steps

    def cameras(self, steps: Steps) -> Tensor:
        """
        Predict the cameras, encoded (S, 9).

        Translation and quaternion (xyzw, of any length) of T_cam_first, then vertical and
        horizontal fields of view, radians.
        """
        encodings: Tensor = self.camera_head(steps.cameras.float())
        return encodings

    def depth(self, steps: Steps) -> tuple[Tensor, Tensor]:
        """Predict depth (S, H, W) in each view's frame, up to scale, and confidence, > 1."""
        depth, confidence = self.depth_head(steps).unbind(1)
        return depth.exp(), 1 + confidence.exp()

    def points(self, steps: Steps) -> tuple[Tensor, Tensor]:
        """Predict points (S, H, W, 3) in the first view, up to scale, and confidence, > 1."""
        x = self.point_head(steps).permute(0, 2, 3, 1)
        points, confidence = x[..., :3], x[..., 3]
        return points.sign() * points.abs().expm1(), 1 + confidence.exp()


def normalised(images: Tensor) -> Tensor:
    """Subtract the mean of images (B, 3, H, W) in [0, 1], and divide by the deviation."""
    # Filled on the device: CUDA graphs cannot copy from the CPU. Each (3, 1, 1). The authors'
    # constants are in float32
    mean, deviation = (torch.stack([images.new_full((1, 1), x, dtype=torch.float32).to(
        images.dtype) for x in values])
                       for values in (_MEAN, _DEVIATION))
    return (images - mean) / deviation


def resized(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a map, corners aligned."""
    return interpolate(x, tuple(size), mode='bilinear', align_corners=True)


# File format

#: Tensors of published files that are loaded on request only: see `vggt_tracks.py`
LEFT_OUT = 'track_head.'


def _recognises(state: Mapping[str, Tensor]) -> bool:
    return any(key.startswith('aggregator.') for key in state)


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    state = {k: v for k, v in state.items() if not k.startswith(LEFT_OUT)}
    network = Vggt(_config(path, state))
    return Built(network, state, ('vggt',), network.config.image_size)


FORMAT = Format(_recognises, _build)


def _config(path: Path, state: Mapping[str, Tensor]) -> VggtConfig:
    token = state.get('aggregator.camera_token')
    width = token.shape[-1] if token is not None and token.ndim == 4 else 0
    if width < HEAD_SIZE or width % HEAD_SIZE:
        raise InputError(f'{path}: aggregator.camera_token has {width} channels, expected a '
                         f'multiple of {HEAD_SIZE}: it is damaged, or another network')
    depth = depth_of(state, 'aggregator.frame_blocks')
    # No tensor determines which blocks the heads read: those of the published network, scaled
    known = VggtConfig()
    layers = [round(n * (depth - 1) / (known.depth - 1)) for n in known.layers]
    positions = state.get('aggregator.patch_embed.pos_embed')
    grid = known.grid if positions is None else isqrt(max(positions.numel() // width - 1, 1))
    return VggtConfig(width, depth, width // HEAD_SIZE,
                      depth_of(state, 'aggregator.patch_embed.blocks'),
                      (layers[0], layers[1], layers[2], layers[3]), grid)
