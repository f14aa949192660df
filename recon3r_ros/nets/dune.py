# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
DUNE, an encoder distilled from several teachers, and MASt3R's decoder on it.

'DUNE: Distilling a Universal Encoder from Heterogeneous 2D and 3D Teachers' (Sariyildiz et al.,
CVPR 2025). The encoder is DINOv2 with registers (Oquab et al., 2023; Darcet et al., 2023); the
decoder and the heads are MASt3R's, with patches of 14 pixels. They are published in separate
files.

Names of modules are those of the published files. Written from the papers and from the names and
shapes of the files' tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
import re
from typing import cast

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, depth_of, Format, HEAD_SIZE
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig, Tokens, ViewOutput
from recon3r_ros.nets.layers.attention import empty_parameter, PatchEmbed
from recon3r_ros.nets.vggt import Block, normalised
import torch
from torch import nn, Tensor
from torch.nn.functional import interpolate

MODEL = 'dune-mast3r'
PATCH = 14
#: Longer side of the images that the decoder was trained with, pixels
IMAGE_SIZE = 518
_DINO_EPS, _NORM_EPS = 1e-6, 1e-5
#: Added to the rows and columns whose ratio to the trained grid scales the positions
_OFFSET = 0.1
#: Teachers of the encoder. DINOv2's features are normalised apart for the class token
TEACHERS = ('dino2reg_vitlarge_14', 'mast3r_vitlarge_16', 'multihmr_vitlarge_14_672')
_WITH_CLASS = TEACHERS[:1]


@dataclass(frozen=True)
class DuneConfig:
    """
    Sizes of an encoder.

    :param grid: patches along either side of the training images
    :param registers: tokens without a position
    :param teacher_dim: channels of the teachers' features
    """

    embed_dim: int = 768
    depth: int = 12
    heads: int = 12
    grid: int = 32
    registers: int = 4
    teacher_dim: int = 1024


class Encoder(nn.Module):
    """An image to tokens: class, registers, patches."""

    def __init__(self, config: DuneConfig) -> None:
        super().__init__()
        width = config.embed_dim
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.grid ** 2, width))
        if config.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, width))
        # From training: present in the files, unused, as is `norm`: features are not normalised
        self.mask_token = empty_parameter(1, width)
        self.patch_embed = PatchEmbed(PATCH, width)
        # The files number chunks of blocks, of which there is one
        self.blocks = nn.ModuleList([nn.ModuleList(
            Block(width, config.heads, _DINO_EPS) for _ in range(config.depth))])
        self.norm = nn.LayerNorm(width, _DINO_EPS)

    def forward(self, images: Tensor) -> Tensor:
        """
        Transform images to tokens (B, 1 + registers + rows * columns, C), not normalised.

        :param images: (B, 3, H, W) in [0, 1], sides multiples of 14
        """
        rows, columns = (side // PATCH for side in images.shape[2:])
        x = normalised(images).to(self.cls_token.dtype)
        patches = self.patch_embed(x) + self._positions(rows, columns)
        special = [self.cls_token + self.pos_embed[:, :1]]
        if self.config.registers:
            special.append(self.register_tokens)
        x = torch.cat([*(t.expand(len(images), -1, -1) for t in special), patches], 1)
        for block in cast('nn.ModuleList', self.blocks[0]):
            x = block(x)
        return x

    def patches(self, tokens: Tensor) -> Tensor:
        """Select the patch tokens (B, rows * columns, C)."""
        return tokens[:, 1 + self.config.registers:]

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Embedding (1, rows * columns, C) of the patches' positions in the image."""
        known, side = self.pos_embed[:, 1:], self.config.grid
        if rows == columns == side:
            return known
        # (1, side², C) -> (1, C, side, side)
        grid = known.transpose(1, 2).unflatten(2, (side, side))
        grid = grid.to(torch.promote_types(grid.dtype, torch.float32))
        # By these factors, not to a size: they decide where the trained grid is read
        factors = (rows + _OFFSET) / side, (columns + _OFFSET) / side
        grid = interpolate(grid, scale_factor=factors, mode='bicubic')
        return grid.flatten(2).transpose(1, 2).to(known.dtype)


class Projector(nn.Module):
    """Tokens to a teacher's normalised features."""

    def __init__(self, config: DuneConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(config.embed_dim, config.heads, _DINO_EPS)])
        self.linear = nn.Linear(config.embed_dim, config.teacher_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform class and patch tokens (B, 1 + N, C) to (B, 1 + N, teacher's channels)."""
        out: Tensor = self.linear(self.blocks[0](tokens))
        return out


class Statistics(nn.Module):
    """Mean and deviation of a teacher's features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(width))
        self.std = nn.Parameter(torch.ones(width))


class Dune(nn.Module):
    """
    Content of an encoder's file: the encoder, and projections to its teachers' features.

    :param config: its sizes
    """

    def __init__(self, config: DuneConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.projectors = nn.ModuleDict({name: Projector(config) for name in TEACHERS})
        self.teacher_norms = nn.ModuleDict({name: nn.ModuleDict({'normalizers': nn.ModuleDict({
            kind: Statistics(config.teacher_dim)
            for kind in ('patch', *(('cls',) if name in _WITH_CLASS else ()))})})
            for name in TEACHERS})

    def project(self, tokens: Tensor, teacher: str) -> Tensor:
        """
        Predict a teacher's normalised features.

        :param tokens: of the encoder (B, 1 + registers + N, C)
        :param teacher: of `TEACHERS`
        :return: (B, 1 + N, teacher's channels)
        """
        kept = torch.cat([tokens[:, :1], self.encoder.patches(tokens)], 1)
        out: Tensor = self.projectors[teacher](kept)
        return out


@dataclass(frozen=True)
class DuneMast3rConfig:
    """
    Sizes of a decoder on DUNE.

    :param decoder: of MASt3R's part, without encoder blocks
    :param encoder_file: name of the encoder's file, as the decoder's file states it; '' if not
    """

    decoder: Dust3rConfig = Dust3rConfig(768, 0, 12, head='catmlp+dpt', patch=PATCH)
    encoder_file: str = ''

    @property
    def head(self) -> str:
        """Kind of head, as in `Dust3rConfig`."""
        return self.decoder.head

    @property
    def patch(self) -> int:
        """Side of a token's patch, pixels."""
        return self.decoder.patch


class Decoder(nn.Module):
    """
    Content of a decoder's file: everything but the encoder.

    :param config: its sizes
    :param mast3r: its main part; MASt3R's, unless given
    """

    def __init__(self, config: DuneMast3rConfig, mast3r: Dust3r | None = None) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.decoder.enc_embed_dim, _NORM_EPS)
        # Its `patch_embed` and `enc_norm` are present in the files and unused
        self.mast3r = Dust3r(config.decoder) if mast3r is None else mast3r


class DuneMast3r(nn.Module):
    """
    The network; `encode` a view once, `decode` it with as many others as needed.

    :param encoder: owned by the network, as is the decoder
    :param decoder: for tokens of the encoder's width
    :raises ValueError: where the widths differ
    """

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        width, expected = encoder.config.embed_dim, decoder.config.decoder.enc_embed_dim
        if width != expected:
            raise ValueError(f'an encoder of {width} channels, and a decoder of {expected}')
        self.config = decoder.config
        self.encoder, self.norm, self.mast3r = encoder, decoder.norm, decoder.mast3r

    def lower_precision(self, dtype: torch.dtype) -> DuneMast3r:
        """Change the trunk's data type; the heads' exponentials need float32."""
        self.encoder.to(dtype)
        self.norm.to(dtype)
        self.mast3r.lower_precision(dtype)
        return self

    def encode(self, image: Tensor) -> Tokens:
        """
        Encode a view.

        :param image: (B, 3, H, W) in [-1, 1], sides multiples of 14
        """
        tokens = self.encoder.patches(self.encoder(image * 0.5 + 0.5))
        return Tokens(self.norm(tokens), *(side // PATCH for side in image.shape[2:]))

    def decode(self, first: Tokens, second: Tokens, statistics: bool = False,
               moving: tuple[Tensor, Tensor] | None = None) -> tuple[ViewOutput, ViewOutput]:
        """Predict both views' points in the first camera's frame; see `Dust3r.decode`."""
        return self.mast3r.decode(first, second, statistics, moving)

    def forward(self, image1: Tensor, image2: Tensor) -> tuple[ViewOutput, ViewOutput]:
        """
        Encode and decode a pair.

        :param image1: (B, 3, H, W) in [-1, 1]
        :param image2: (B, 3, H', W') in [-1, 1]
        """
        return self.decode(self.encode(image1), self.encode(image2))


# File format

#: Parts of the network, each in a file of its own
ENCODER, DECODER = 'encoder', 'decoder'
#: What training adds to names
_PREFIXES = re.compile(r'\b(module|_orig_mod)\.')
_OF_ENCODER, _OF_DECODER = ('encoder.blocks.0.0.', 'projectors.'), ('mast3r.',)


def _recognises(state: Mapping[str, Tensor]) -> bool:
    return _holds(state, _OF_ENCODER) or _holds(state, _OF_DECODER)


def _holds(state: Mapping[str, Tensor], names: Sequence[str]) -> bool:
    return any(without_prefixes(key).startswith(tuple(names)) for key in state)


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    state = {without_prefixes(key): value for key, value in state.items()}
    if _holds(state, _OF_DECODER):
        decoder = Decoder(decoder_config(path, state, description))
        return Built(decoder, state, (MODEL,), IMAGE_SIZE, DECODER)
    encoder = Dune(_encoder_config(path, state))
    return Built(encoder, state, (MODEL,), PATCH * encoder.config.grid, ENCODER)


FORMAT = Format(_recognises, _build)


def without_prefixes(name: str) -> str:
    """Drop what training adds to a tensor's name."""
    return _PREFIXES.sub('', name)


def _encoder_config(path: Path, state: Mapping[str, Tensor]) -> DuneConfig:
    width = _width(path, state, 'encoder.cls_token', 2)
    positions = state.get('encoder.pos_embed')
    registers = state.get('encoder.register_tokens')
    linear = state.get(f'projectors.{TEACHERS[0]}.linear.weight')
    known = DuneConfig()
    return replace(
        known, embed_dim=width, depth=depth_of(state, 'encoder.blocks.0'),
        heads=width // HEAD_SIZE,
        grid=known.grid if positions is None else isqrt(max(positions.numel() // width - 1, 1)),
        registers=0 if registers is None else registers.numel() // width,
        teacher_dim=known.teacher_dim if linear is None or not linear.ndim else linear.shape[0])


def decoder_config(path: Path, state: Mapping[str, Tensor], description: str
                   ) -> DuneMast3rConfig:
    """
    Return the sizes of the decoder that a file holds.

    :param path: of the file, for errors
    :param state: its tensors by name
    :param description: the file's, of its encoder
    :raises InputError: where the tensors belong to another network
    """
    enc = _width(path, state, 'mast3r.decoder_embed.weight', 1)
    dec = _width(path, state, 'mast3r.decoder_embed.weight', 0)
    local = state.get('mast3r.downstream_head1.head_local_features.fc2.weight')
    descriptors = (Dust3rConfig.descriptor_dim if local is None or not local.ndim
                   else local.shape[0] // PATCH ** 2 - 1)
    return DuneMast3rConfig(
        Dust3rConfig(enc, 0, enc // HEAD_SIZE, dec, depth_of(state, 'mast3r.dec_blocks'),
                     dec // HEAD_SIZE, 'catmlp+dpt', descriptors, PATCH), description)


def _width(path: Path, state: Mapping[str, Tensor], name: str, axis: int) -> int:
    tensor = state.get(name)
    if tensor is None:
        raise InputError(f'{path}: has no {name}; it is damaged, or another network')
    width = tensor.shape[axis] if tensor.ndim > axis else 0
    if width < HEAD_SIZE or width % HEAD_SIZE:
        raise InputError(f'{path}: {name} has {width} channels, expected a multiple of '
                         f'{HEAD_SIZE}: it is damaged, or another network')
    return width
