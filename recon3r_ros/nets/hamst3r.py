# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
HAMSt3R: points of the scene, people as instances, and places on their bodies.

'HAMSt3R: Human-Aware Multi-view Stereo 3D Reconstruction' (arXiv 2508.16433). DUNE's encoder and
MASt3R's two decoders; each has a head that is linear for points, local features and places on the
body (DensePose), and asks for instances as Mask2Former does ('Masked-attention Mask Transformer
for Universal Image Segmentation', Cheng et al., CVPR 2022, section 3.2).

Its authors have published neither code nor weights: sizes that the papers do not state are
choices of this package, and it loads files that this package has trained alone. Such a file holds
everything but the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import cast

from recon3r_ros.errors import InputError
from recon3r_ros.nets.checkpoints import Built, depth_of, Format
from recon3r_ros.nets.dune import (
    DECODER,
    Decoder,
    decoder_config,
    DuneMast3r,
    DuneMast3rConfig,
    Encoder,
    IMAGE_SIZE,
    PATCH,
    without_prefixes,
)
from recon3r_ros.nets.dust3r import (
    Dust3r,
    Dust3rConfig,
    local_features,
    points_and_confidence,
    Tokens,
    unpatched,
    ViewOutput,
)
from recon3r_ros.nets.layers.attention import Mlp, ProjectedAttention
from recon3r_ros.nets.layers.position import sine_pairs
import torch
from torch import nn, Tensor
from torch.nn.functional import interpolate, relu, scaled_dot_product_attention

MODEL = 'hamst3r'
#: Channels of the densepose head: a point of the template, and whether a pixel shows the body
_PLACE_AND_MASK = 4
_NORM_EPS = 1e-5
#: Classes of a query: a person, and nobody
PERSON, NOBODY = 0, 1
#: Channels of an attention head of the instance decoder, at the sizes of the paper
_HEAD_SIZE = 32


#: Least probability of a person, and of a pixel of a mask
SURE = 0.5
#: Least share of a mask that is a person's own, and least number of pixels
KEPT, LEAST_PIXELS = 0.8, 64


@dataclass(frozen=True)
class InstanceConfig:
    """
    Sizes of the instance head.

    :param queries: most people in an image
    :param width: channels of a query
    :param heads: of its attention
    :param hidden: channels of its MLP
    :param layers: how many
    :param cells: rows and columns of mask cells along a token
    """

    queries: int = 32
    width: int = 256
    heads: int = 8
    hidden: int = 1024
    layers: int = 6
    cells: int = 4


@dataclass(frozen=True)
class Hamst3rConfig(DuneMast3rConfig):
    """Sizes of the network without its encoder."""

    decoder: Dust3rConfig = Dust3rConfig(768, 0, 12, head='human', patch=PATCH)
    instances: InstanceConfig = InstanceConfig()


@dataclass(frozen=True, eq=False)
class InstanceOutput:
    """
    A prediction of the instance head.

    :param classes: (B, Q, 2) logits of `PERSON` and `NOBODY`
    :param masks: (B, Q, h, w) logits
    """

    classes: Tensor
    masks: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class HumanOutput(ViewOutput):
    """
    The output of a head for its view.

    :param surface: (B, H, W, 3), place on the body in the bounding box of its template, where
        [0, 1] is inside
    :param surface_logits: (B, H, W), that the pixel shows the body, neither hair nor loose clothes
    :param instances: the last prediction
    :param earlier: predictions before it, for training; empty for inference
    """

    surface: Tensor
    surface_logits: Tensor
    instances: InstanceOutput
    earlier: tuple[InstanceOutput, ...] = ()


class QueryAttention(ProjectedAttention):
    """Attention of queries whose keys and values differ."""

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None = None
                ) -> Tensor:
        """
        Ask.

        :param queries: (B, Q, C)
        :param keys: (B, N, C)
        :param values: (B, N, C)
        :param seen: (B, Q, N) bool, keys that each query attends to; None for all
        :return: (B, Q, C)
        """
        q, k, v = self.projected(queries, keys, values)
        mask = None if seen is None else seen[:, None]
        return self.joined(scaled_dot_product_attention(q, k, v, attn_mask=mask))


class InstanceLayer(nn.Module):
    """A layer of Mask2Former's decoder: each branch is normalised after it is added."""

    def __init__(self, config: InstanceConfig) -> None:
        super().__init__()
        width = config.width
        self.cross_attn = QueryAttention(width, config.heads)
        self.norm1 = nn.LayerNorm(width, _NORM_EPS)
        self.self_attn = QueryAttention(width, config.heads)
        self.norm2 = nn.LayerNorm(width, _NORM_EPS)
        self.fc1 = nn.Linear(width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, width)
        self.norm3 = nn.LayerNorm(width, _NORM_EPS)

    def forward(self, x: Tensor, embed: Tensor, keys: Tensor, memory: Tensor, seen: Tensor
                ) -> Tensor:
        """
        Transform queries.

        :param x: queries (B, Q, C)
        :param embed: their embedding (Q, C)
        :param keys: memory with its positions (B, N, C)
        :param memory: (B, N, C)
        :param seen: (B, Q, N) bool
        """
        x = self.norm1(x + self.cross_attn(x + embed, keys, memory, seen))
        asked = x + embed
        x = self.norm2(x + self.self_attn(asked, asked, x))
        out: Tensor = self.norm3(x + self.fc2(relu(self.fc1(x))))
        return out


class Instances(nn.Module):
    """
    Tokens to masks of people (Mask2Former, section 3.2), with one level of memory.

    :param config: sizes
    :param token_dim: channels of the tokens
    """

    def __init__(self, config: InstanceConfig, token_dim: int) -> None:
        super().__init__()
        width = config.width
        self._cells = config.cells
        self.memory_proj = nn.Linear(token_dim, width)
        self.pixel_proj = nn.Linear(token_dim, width * config.cells ** 2)
        self.query_feat = nn.Parameter(torch.randn(config.queries, width))
        self.query_embed = nn.Parameter(torch.randn(config.queries, width))
        self.layers = nn.ModuleList(InstanceLayer(config) for _ in range(config.layers))
        self.decoder_norm = nn.LayerNorm(width, _NORM_EPS)
        self.class_embed = nn.Linear(width, 2)
        self.mask_embed = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, tokens: Tensor, rows: int) -> list[InstanceOutput]:
        """
        Predict people, before the first layer and after each.

        :param tokens: (B, N, C) of the image's grid
        :param rows: of the grid
        """
        memory = self.memory_proj(tokens)
        columns = tokens.shape[1] // rows
        keys = memory + sine_pairs(memory.shape[2], rows, columns, memory.device)
        # (B, width, rows * cells, columns * cells)
        pixels = unpatched(self.pixel_proj(tokens), rows, self._cells)
        x = self.query_feat.expand(len(tokens), -1, -1)
        found = [self._predict(x, pixels)]
        for layer in self.layers:
            x = layer(x, self.query_embed, keys, memory, attended(found[-1].masks, rows, columns))
            found.append(self._predict(x, pixels))
        return found

    def _predict(self, queries: Tensor, pixels: Tensor) -> InstanceOutput:
        x = self.decoder_norm(queries)
        first, second, last = self.mask_embed
        embedded = last(relu(second(relu(first(x)))))
        # (B, Q, C) with (B, C, h, w) -> (B, Q, h, w)
        masks = (embedded @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
        return InstanceOutput(self.class_embed(x), masks)


def attended(masks: Tensor, rows: int, columns: int) -> Tensor:
    """
    Select the tokens in each query's mask; all where it is empty (Mask2Former, equation 3).

    :param masks: (B, Q, h, w) logits
    :return: (B, Q, rows * columns) bool
    """
    cells = interpolate(masks.detach(), (rows, columns), mode='bilinear', align_corners=False)
    inside = cells.flatten(2) >= 0
    return inside | inside.any(-1, keepdim=True).logical_not()


class HumanHead(nn.Module):
    """A linear head for points, descriptors and places on the body, and the instance head."""

    def __init__(self, config: Dust3rConfig, instances: InstanceConfig) -> None:
        super().__init__()
        enc, dec, pixels = config.enc_embed_dim, config.dec_embed_dim, config.patch ** 2
        self._patch = config.patch
        self.proj = nn.Linear(dec, 4 * pixels)
        self.head_local_features = Mlp(
            enc + dec, 4 * (enc + dec), (config.descriptor_dim + 1) * pixels)
        self.densepose = nn.ModuleDict({'proj': nn.Linear(dec, _PLACE_AND_MASK * pixels)})
        self.instances = Instances(instances, dec)

    def forward(self, steps: Sequence[Tensor], rows: int) -> HumanOutput:
        """Transform the decoder's list of tokens (B, N, C), in the head's own data type."""
        tokens = steps[-1].to(self.proj.weight.dtype)
        view = points_and_confidence(unpatched(self.proj(tokens), rows, self._patch))
        descriptors, confidence = local_features(
            self.head_local_features, steps, rows, self._patch)
        places = unpatched(self.densepose['proj'](tokens), rows, self._patch)  # (B, 4, H, W)
        *earlier, last = self.instances(tokens, rows)
        return HumanOutput(
            view.points, view.confidence, descriptors, confidence,
            surface=places[:, :3].permute(0, 2, 3, 1), surface_logits=places[:, 3],
            instances=last, earlier=tuple(earlier) if self.training else ())


class HumanDust3r(Dust3r):
    """
    MASt3R's decoders with heads for people.

    :param config: sizes of all but the encoder
    """

    def __init__(self, config: Hamst3rConfig) -> None:
        self._instances = config.instances
        super().__init__(config.decoder)

    def _head(self) -> nn.Module:
        return HumanHead(self.config, self._instances)


class HumanDecoder(Decoder):
    """Content of a file: everything but the encoder."""

    def __init__(self, config: Hamst3rConfig) -> None:
        super().__init__(config, HumanDust3r(config))


class Hamst3r(DuneMast3r):
    """
    The network; `encode` a view once, `decode` it with as many others as needed.

    :param encoder: DUNE's
    :param decoder: for tokens of the encoder's width
    :raises ValueError: where the widths differ
    """

    def __init__(self, encoder: Encoder, decoder: HumanDecoder) -> None:
        super().__init__(encoder, decoder)

    def decode(self, first: Tokens, second: Tokens, statistics: bool = False,
               moving: tuple[Tensor, Tensor] | None = None) -> tuple[HumanOutput, HumanOutput]:
        """Predict both views' points in the first camera's frame, and their people."""
        return cast('tuple[HumanOutput, HumanOutput]',
                    super().decode(first, second, statistics, moving))

    def forward(self, image1: Tensor, image2: Tensor) -> tuple[HumanOutput, HumanOutput]:
        """
        Encode and decode a pair.

        :param image1: (B, 3, H, W) in [-1, 1]
        :param image2: (B, 3, H', W') in [-1, 1]
        """
        return self.decode(self.encode(image1), self.encode(image2))


@dataclass(frozen=True, eq=False)
class FoundPeople:
    """
    People of an image.

    :param labels: (H, W) int16, 0 nobody, k the k-th person
    :param scores: (K,) probability that it is one
    :param masks: (K, H, W) probability of each pixel
    """

    labels: Tensor
    scores: Tensor
    masks: Tensor


def found_people(instances: InstanceOutput, height: int, width: int, least: int = LEAST_PIXELS
                 ) -> FoundPeople:
    """
    Select the queries that are people, and assign pixels to them (Mask2Former, section 3.2).

    A person of whom others have taken more than a fifth, or who has too few pixels, is dropped.

    :param instances: of a single image, without the batch axis
    :param least: pixels of a person
    """
    scores = instances.classes.softmax(-1)[:, PERSON]
    sure = scores > SURE
    scores = scores[sure]
    labels = torch.zeros(height, width, dtype=torch.int16)
    if not len(scores):
        return FoundPeople(labels, scores, scores.new_zeros(0, height, width))
    masks = interpolate(instances.masks[sure][None], (height, width), mode='bilinear',
                        align_corners=False)[0].sigmoid()
    own = (scores[:, None, None] * masks).argmax(0)
    kept = []
    for n, mask in enumerate(masks > SURE):
        part = mask & (own == n)
        area = int(part.sum())
        if area >= max(least, KEPT * int(mask.sum())):
            kept.append(n)
            labels[part] = len(kept)
    return FoundPeople(labels, scores[kept], masks[kept])


# File format

_HEAD = 'mast3r.downstream_head1.instances'


def _recognises(state: Mapping[str, Tensor]) -> bool:
    return any(without_prefixes(key).startswith(f'{_HEAD}.') for key in state)


def _build(path: Path, state: dict[str, Tensor], description: str) -> Built:
    state = {without_prefixes(key): value for key, value in state.items()}
    known = decoder_config(path, state, description)
    config = Hamst3rConfig(replace(known.decoder, head='human'), known.encoder_file,
                           _instance_config(path, state))
    return Built(HumanDecoder(config), state, (MODEL,), IMAGE_SIZE, DECODER)


FORMAT = Format(_recognises, _build)


def _instance_config(path: Path, state: Mapping[str, Tensor]) -> InstanceConfig:
    shapes = []
    for name in ('query_feat', 'layers.0.fc1.weight', 'pixel_proj.weight'):
        tensor = state.get(f'{_HEAD}.{name}')
        if tensor is None or tensor.ndim != 2 or not tensor.numel():
            raise InputError(f'{path}: has no {_HEAD}.{name}, or not in two dimensions; it is '
                             'damaged, or another network')
        shapes.append(tensor.shape)
    (queries, width), (hidden, _), (pixels, _) = shapes
    if width % _HEAD_SIZE:
        raise InputError(f'{path}: queries have {width} channels, expected a multiple of '
                         f'{_HEAD_SIZE}: it is damaged, or another network')
    return InstanceConfig(queries, width, width // _HEAD_SIZE, hidden,
                          depth_of(state, f'{_HEAD}.layers'), isqrt(pixels // width))
