# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
DUSt3R, and MonST3R and MASt3R, which share its trunk.

'DUSt3R: Geometric 3D Vision Made Easy' (Wang et al., CVPR 2024), 'MonST3R' (Zhang et al., ICLR
2025), 'Grounding Image Matching in 3D with MASt3R' (Leroy et al., ECCV 2024). Two images go
through one encoder; two decoders attend to each other's tokens; each has a head that gives every
pixel a point in the first camera's frame, and a confidence.

Names of modules are those of the published checkpoints. Written from the papers and from the
names and shapes of the checkpoints' tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
import re
from typing import Literal

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, depth_of, Format, HEAD_SIZE
from recon3r_ros.nets.layers.attention import (
    DecoderBlock,
    empty_parameter,
    EncoderBlock,
    Mlp,
    Moving,
    NORM_EPS,
    PatchEmbed,
)
from recon3r_ros.nets.layers.dpt import DptHead
from recon3r_ros.nets.layers.rope import rope_table, RopeTable
import torch
from torch import nn, Tensor
from torch.nn.functional import normalize, pixel_shuffle

PATCH = 16
HeadName = Literal['linear', 'dpt', 'catmlp+dpt', 'human']
#: Channels of a head: a point and a confidence
_POINT_AND_CONFIDENCE = 4


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of an encoder and two decoders."""

    enc_embed_dim: int = 1024
    enc_depth: int = 24
    enc_num_heads: int = 16
    dec_embed_dim: int = 768
    dec_depth: int = 12
    dec_num_heads: int = 12

    @property
    def hooks(self) -> tuple[int, int, int, int]:
        """Entries of the decoder's list that a DPT head reads; 0 are the encoder's tokens."""
        return 0, self.dec_depth // 2, self.dec_depth * 3 // 4, self.dec_depth


@dataclass(frozen=True)
class Dust3rConfig(TrunkConfig):
    """
    Sizes of a network.

    :param head: `linear` and `dpt` are DUSt3R's, `catmlp+dpt` MASt3R's, `human` HAMSt3R's
    :param descriptor_dim: channels of MASt3R's local features
    :param patch: side of a token's patch, pixels
    """

    head: HeadName = 'dpt'
    descriptor_dim: int = 24
    patch: int = PATCH


@dataclass(frozen=True, eq=False)
class ViewOutput:
    """
    The output of a head for its view.

    :param points: (B, H, W, 3) in the first camera's frame, up to scale (MASt3R: metres)
    :param confidence: (B, H, W), > 1
    :param descriptors: (B, H, W, D) unit vectors, MASt3R only
    :param descriptor_confidence: (B, H, W), > 0, MASt3R only
    :param attention: (B, rows, columns, steps * heads) cross-attention logits of this view's
        tokens as keys, averaged over the other view's queries (Easi3R, section 3.2); only on
        request
    """

    points: Tensor
    confidence: Tensor
    descriptors: Tensor | None = None
    descriptor_confidence: Tensor | None = None
    attention: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Tokens:
    """
    An image's tokens, row by row.

    :param values: (B, rows * columns, C)
    """

    values: Tensor
    rows: int
    columns: int

    def rope(self, head_size: int) -> RopeTable:
        """Rotary position embedding of their grid."""
        return rope_table(self.rows, self.columns, head_size, self.values.device,
                          dtype=self.values.dtype)


class LinearHead(nn.Module):
    """One linear layer per token (DUSt3R, section 4)."""

    def __init__(self, config: Dust3rConfig) -> None:
        super().__init__()
        self._patch = config.patch
        self.proj = nn.Linear(config.dec_embed_dim, _POINT_AND_CONFIDENCE * config.patch ** 2)

    def forward(self, steps: Sequence[Tensor], rows: int) -> ViewOutput:
        """Transform the decoder's list of tokens (B, N, C), in the head's own data type."""
        x = steps[-1].to(self.proj.weight.dtype)
        return points_and_confidence(unpatched(self.proj(x), rows, self._patch))


class DenseHead(nn.Module):
    """A DPT head (DUSt3R, section 4), optionally with MASt3R's local features (section 3.2)."""

    def __init__(self, config: Dust3rConfig) -> None:
        super().__init__()
        self._hooks, self._patch = config.hooks, config.patch
        widths = [config.enc_embed_dim, *3 * [config.dec_embed_dim]]
        self.dpt = DptHead(widths, _POINT_AND_CONFIDENCE, config.patch)
        self.head_local_features: Mlp | None = None
        if config.head == 'catmlp+dpt':
            width = config.enc_embed_dim + config.dec_embed_dim
            self.head_local_features = Mlp(
                width, 4 * width, (config.descriptor_dim + 1) * config.patch ** 2)

    def forward(self, steps: Sequence[Tensor], rows: int) -> ViewOutput:
        """Transform the decoder's list of tokens (B, N, C), in the head's own data type."""
        dtype = self.dpt.dtype
        out = points_and_confidence(self.dpt([steps[i].to(dtype) for i in self._hooks], rows))
        if self.head_local_features is None:
            return out
        return ViewOutput(out.points, out.confidence, *local_features(
            self.head_local_features, steps, rows, self._patch))


def local_features(layers: Mlp, steps: Sequence[Tensor], rows: int, patch: int
                   ) -> tuple[Tensor, Tensor]:
    """
    Compute MASt3R's descriptors (section 3.2).

    :param layers: to (D + 1) * patch² channels
    :param steps: the decoder's list of tokens (B, N, C)
    :return: unit vectors (B, H, W, D) and confidences (B, H, W)
    """
    x = layers(torch.cat([steps[0], steps[-1]], -1).to(layers.fc1.weight.dtype))
    # (B, D + 1, H, W) -> (B, H, W, D + 1)
    local = unpatched(x, rows, patch).permute(0, 2, 3, 1)
    return normalize(local[..., :-1], dim=-1), local[..., -1].exp()


class Trunk(nn.Module):
    """
    Layers of an encoder and of two decoders that attend to each other's tokens.

    :param config: their sizes
    :param patch: side of a token's patch, pixels
    :param mask_token: whether files have one, from the encoder's pre-training (CroCo v2); unused
    """

    def __init__(self, config: TrunkConfig, patch: int = PATCH, mask_token: bool = True) -> None:
        super().__init__()
        enc, dec = config.enc_embed_dim, config.dec_embed_dim
        if mask_token:
            self.mask_token = empty_parameter(1, 1, dec)
        self.patch_embed = PatchEmbed(patch, enc)
        self.enc_blocks = nn.ModuleList(
            EncoderBlock(enc, config.enc_num_heads) for _ in range(config.enc_depth))
        self.enc_norm = nn.LayerNorm(enc, NORM_EPS)
        self.decoder_embed = nn.Linear(enc, dec)
        self.dec_blocks = nn.ModuleList(
            DecoderBlock(dec, config.dec_num_heads) for _ in range(config.dec_depth))
        self.dec_blocks2 = nn.ModuleList(
            DecoderBlock(dec, config.dec_num_heads) for _ in range(config.dec_depth))
        self.dec_norm = nn.LayerNorm(dec, NORM_EPS)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of its parameters."""
        return self.decoder_embed.weight.dtype


class Dust3r(Trunk):
    """
    The network; `encode` a view once, `decode` it with as many others as needed.

    :param config: its sizes
    """

    def __init__(self, config: Dust3rConfig) -> None:
        super().__init__(config, config.patch)
        self.config = config
        self.downstream_head1 = self._head()
        self.downstream_head2 = self._head()

    def _head(self) -> nn.Module:
        return (LinearHead if self.config.head == 'linear' else DenseHead)(self.config)

    def lower_precision(self, dtype: torch.dtype) -> Dust3r:
        """Change the trunk's data type; the heads' exponentials need float32."""
        for module in (self.patch_embed, self.enc_blocks, self.enc_norm, self.decoder_embed,
                       self.dec_blocks, self.dec_blocks2, self.dec_norm):
            module.to(dtype)
        return self

    def encode(self, image: Tensor) -> Tokens:
        """
        Encode a view.

        :param image: (B, 3, H, W) in [-1, 1], sides multiples of 16
        """
        rows, columns = (side // self.config.patch for side in image.shape[2:])
        head_size = self.config.enc_embed_dim // self.config.enc_num_heads
        x = self.patch_embed(image.to(self.dtype))
        rope = rope_table(rows, columns, head_size, image.device, dtype=self.dtype)
        for block in self.enc_blocks:
            x = block(x, rope)
        return Tokens(self.enc_norm(x), rows, columns)

    def decode(self, first: Tokens, second: Tokens, statistics: bool = False,
               moving: tuple[Tensor, Tensor] | None = None) -> tuple[ViewOutput, ViewOutput]:
        """
        Predict both views' points in the first camera's frame.

        :param first: of view 1 (B, N, C)
        :param second: of view 2 (B, M, C)
        :param statistics: whether to collect statistics of the cross-attention
        :param moving: (B, N) and (B, M) bool, tokens of dynamic objects: static queries of view 1
            then get no attention to dynamic keys of view 2 (Easi3R, equation 10)
        """
        head_size = self.config.dec_embed_dim // self.config.dec_num_heads
        rope1, rope2 = first.rope(head_size), second.rope(head_size)
        steps1, steps2 = [first.values], [second.values]
        x1, x2 = self.decoder_embed(first.values), self.decoder_embed(second.values)
        asked1: list[Tensor] | None = [] if statistics else None
        asked2: list[Tensor] | None = [] if statistics else None
        reweighting = None if moving is None else Moving(*moving)
        for block1, block2 in zip(self.dec_blocks, self.dec_blocks2):
            # Each attends to the other's tokens from before this step
            x1, x2 = (block1(x1, x2, rope1, rope2, asked2, reweighting),
                      block2(x2, x1, rope2, rope1, asked1))
            steps1.append(x1)
            steps2.append(x2)
        steps1[-1], steps2[-1] = self.dec_norm(x1), self.dec_norm(x2)
        views = (self.downstream_head1(steps1, first.rows),
                 self.downstream_head2(steps2, second.rows))
        if asked1 is None or asked2 is None:
            return views
        return (replace(views[0], attention=_by_token(asked1, first.rows)),
                replace(views[1], attention=_by_token(asked2, second.rows)))

    def forward(self, image1: Tensor, image2: Tensor) -> tuple[ViewOutput, ViewOutput]:
        """
        Encode and decode a pair.

        :param image1: (B, 3, H, W) in [-1, 1]
        :param image2: (B, 3, H', W') in [-1, 1]
        """
        return self.decode(self.encode(image1), self.encode(image2))


def _by_token(means: list[Tensor], rows: int) -> Tensor:
    # steps times (B, heads, N) -> (B, steps * heads, N) -> (B, rows, columns, steps * heads)
    return torch.cat(means, 1).float().unflatten(-1, (rows, -1)).permute(0, 2, 3, 1)


def unpatched(x: Tensor, rows: int, patch: int = PATCH) -> Tensor:
    """Rearrange each token's channels (B, N, C patch²) to its pixels (B, C, H, W)."""
    # (B, N, C patch²) -> (B, C patch², rows, columns) -> (B, C, H, W)
    return pixel_shuffle(x.transpose(1, 2).unflatten(2, (rows, -1)), patch)


def points_and_confidence(x: Tensor) -> ViewOutput:
    """Transform channels (B, 4, H, W) to points and their confidence."""
    return ViewOutput(exponential_points(x[:, :3]), 1 + x[:, 3].exp())


def exponential_points(x: Tensor) -> Tensor:
    """Points (B, H, W, 3), which grow exponentially with the length of channels (B, 3, H, W)."""
    v = x.permute(0, 2, 3, 1)  # (B, H, W, 3)
    length = v.norm(dim=-1, keepdim=True)
    return v * (length.expm1() / length.clamp(min=1e-8))


# File format

#: Longer side of the training images, where the file does not state it
IMAGE_SIZE = 512
#: Heads of each model
HEADS: dict[str, tuple[HeadName, ...]] = {
    'dust3r': ('dpt', 'linear'), 'monst3r': ('dpt',), 'mast3r': ('catmlp+dpt',)}


def _recognises(state: Mapping[str, Tensor]) -> bool:
    return 'decoder_embed.weight' in state and 'enc_blocks.0.norm1.weight' in state


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    state = _completed(state)
    network = Dust3r(_config(path, state))
    models = tuple(m for m, heads in HEADS.items() if network.config.head in heads)
    return Built(network, state, models, image_size(path, description))


FORMAT = Format(_recognises, _build)


def _completed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Use the blocks of one decoder for both, where the file has only one."""
    if any(k.startswith('dec_blocks2.') for k in state):
        return state
    return state | {k.replace('dec_blocks.', 'dec_blocks2.', 1): v for k, v in state.items()
                    if k.startswith('dec_blocks.')}


def _config(path: Path, state: Mapping[str, Tensor]) -> Dust3rConfig:
    try:
        enc = state['patch_embed.proj.weight'].shape[0]
        dec = state['decoder_embed.weight'].shape[0]
    except KeyError as missing:
        raise InputError(f'{path}: has no {missing.args[0]}: it holds another network, or its '
                         'tensors were renamed') from None
    except IndexError:
        enc = dec = 0
    if min(enc, dec) < HEAD_SIZE or enc % HEAD_SIZE or dec % HEAD_SIZE:
        raise InputError(f'{path}: tokens have {enc} and {dec} channels, expected multiples of '
                         f'{HEAD_SIZE}: it holds another network')
    head: HeadName = 'linear'
    descriptor_dim = Dust3rConfig.descriptor_dim
    local = state.get('downstream_head1.head_local_features.fc2.weight')
    if local is not None:
        head, descriptor_dim = 'catmlp+dpt', local.shape[0] // PATCH ** 2 - 1
    elif any(k.startswith('downstream_head1.dpt.') for k in state):
        head = 'dpt'
    return Dust3rConfig(enc, depth_of(state, 'enc_blocks'), enc // HEAD_SIZE, dec,
                        depth_of(state, 'dec_blocks'), dec // HEAD_SIZE, head, descriptor_dim)


def image_size(path: Path, description: str) -> int:
    """Longer side of the training images, from the file's description or its name."""
    found = re.search(r'img_size=\(?(\d+)\D+(\d+)', description)
    if found:
        return max(int(found.group(1)), int(found.group(2)))
    return 224 if '_224_' in path.name else IMAGE_SIZE
