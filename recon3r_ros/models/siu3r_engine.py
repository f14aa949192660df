# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs SIU3R: views encoded once, pairs decoded in batches; queries, Gaussians pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.engine import MAX_BATCH
from recon3r_ros.models.preprocess import to_tensor
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import Runner
from recon3r_ros.nets.gaussian_raster import LEAST, MOST
from recon3r_ros.nets.layers.mask2former import PixelFeatures, QueryOutput
from recon3r_ros.nets.layers.pixel_gaussians import C0
from recon3r_ros.nets.siu3r import Siu3r, Tokens
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Encoded:
    """
    An encoded view, on the network's device.

    :param tokens: (1, N, C)
    :param features: of its pixels, for the queries
    """

    tokens: Tokens
    features: PixelFeatures


@dataclass(frozen=True, eq=False)
class Seen:
    """
    What the network says of a pair, on the CPU.

    :param points: of both views (H, W, 3) in the first camera's frame, up to scale
    :param queries: objects of both views
    """

    points: tuple[NDArray[np.float32], NDArray[np.float32]]
    queries: QueryOutput


@dataclass(frozen=True, eq=False)
class PixelGaussians:
    """
    Gaussians of a view's pixels in its camera's frame, on the CPU.

    :param points: (H, W, 3) centres, up to scale
    :param opacities: (H, W) at most MOST; 0 where no renderer draws them
    :param scales: (H, W, 3) standard deviations, in the unit of the points
    :param quats_xyzw: (H, W, 4) of any length, axes of the Gaussian to the camera
    :param colors: (H, W, 3) RGB, 0 to 1: the harmonics' constant term
    """

    points: NDArray[np.float32]
    opacities: NDArray[np.float32]
    scales: NDArray[np.float32]
    quats_xyzw: NDArray[np.float32]
    colors: NDArray[np.float32]


class Siu3rEngine:
    """
    SIU3R on a device.

    :param network: moved there; owned by the engine
    :raises Recon3rError: where the configuration cannot be used
    """

    def __init__(self, network: Siu3r, config: EngineConfig = EngineConfig()) -> None:
        self._runner = Runner(config)
        self.device, self.precision = self._runner.device, self._runner.precision
        self.network = self._runner.moved(network).lower_precision(self.precision)
        self._encode = self._runner.prepared(self._encode_view)
        self._decode = self._runner.prepared(self._decode_batch)
        self._look = self._runner.prepared(self._look_for_objects)
        self.max_batch = MAX_BATCH[self.device.type]

    def encode(self, image: NDArray[np.uint8], intrinsics: NDArray[np.float32]) -> Encoded:
        """
        Encode a view.

        :param image: (H, W, 3) RGB, sides multiples of 32
        :param intrinsics: (3, 3), the first row divided by W, the second one by H
        :raises Recon3rError: where the view does not fit into memory
        """
        with torch.inference_mode(), self._runner.on_stream():
            (encoded,), _ = self._runner.halving([(image, intrinsics)], 1, self._encoded)
        found: Encoded = encoded
        return found

    def decode(self, pairs: Sequence[tuple[Encoded, Encoded]]) -> list[Seen]:
        """
        Decode directed pairs; those of the same shapes in one batch.

        :raises Recon3rError: where a single pair does not fit into memory
        """
        with torch.inference_mode(), self._runner.on_stream():
            decoded, self.max_batch = self._runner.by_shape(
                pairs, _shape, self.max_batch, self._decoded)
        return decoded

    def gaussians(self, images: Sequence[NDArray[np.uint8]],
                  intrinsics: Sequence[NDArray[np.float32]]) -> PixelGaussians:
        """
        Make the Gaussians of a view, with another one of the same place.

        :param images: of the view and the other, (H, W, 3) RGB of one size, sides multiples of 32
        :param intrinsics: of both, as of `encode`
        :raises Recon3rError: where the pair does not fit into memory
        """
        with torch.inference_mode(), self._runner.on_stream():
            (made,), _ = self._runner.halving([(images, intrinsics)], 1, self._made)
        found: PixelGaussians = made
        return found

    def _made(self, items: list[tuple[Sequence[NDArray[np.uint8]],
                                      Sequence[NDArray[np.float32]]]]) -> list[PixelGaussians]:
        (images, intrinsics), = items
        # The network's images are in [0, 1]
        batch = to_tensor(images, self.device) * 0.5 + 0.5
        # Neither adapter nor queries are needed
        both, _ = self.network.backbone.encode(
            batch, torch.from_numpy(np.stack(intrinsics)).to(self.device))
        views = [replace(both, values=both.values[k:k + 1]) for k in range(2)]
        first, steps = views[:1], self.network.decode(views)[:1]
        points, = self.network.points(first, steps)
        own, = self.network.gaussians(first, steps, [batch[:1]])
        opacities = torch.where(own.opacities < LEAST, 0.0, own.opacities.clamp(max=MOST))
        colors = (C0 * own.harmonics[..., 0] + 0.5).clamp(0, 1)
        return [PixelGaussians(*(values[0].float().numpy() for values in self._runner.fetched(
            [points, opacities, own.scales, own.quats_xyzw, colors])))]

    def _encoded(self, items: list[tuple[NDArray[np.uint8], NDArray[np.float32]]]
                 ) -> list[Encoded]:
        (image, intrinsics), = items
        rows, columns, values, *maps = self._encode(
            to_tensor([image], self.device), torch.from_numpy(intrinsics)[None].to(self.device))
        return [Encoded(Tokens(values, rows, columns), PixelFeatures(maps[0], tuple(maps[1:])))]

    def _decoded(self, pairs: list[tuple[Encoded, Encoded]]) -> list[Seen]:
        tokens = [[pair[k].tokens for pair in pairs] for k in range(2)]
        values = [torch.cat([t.values for t in own]) for own in tokens]
        sizes = [(own[0].rows, own[0].columns) for own in tokens]
        points = self._runner.fetched(self._decode(*values, *sizes[0], *sizes[1]))
        out = []
        for n, pair in enumerate(pairs):
            queries = QueryOutput(*self._runner.fetched(self._objects(*pair)))
            first, second = (p[n].float().numpy() for p in points)
            out.append(Seen((first, second), queries))
        return out

    def _objects(self, first: Encoded, second: Encoded) -> Sequence[Tensor]:
        if first.features.masks.shape != second.features.masks.shape:
            raise ValueError('queries look at views of one size')
        found: Sequence[Tensor] = self._look(*(torch.cat(own) for own in zip(
            _maps(first.features), _maps(second.features))))
        return found

    def _encode_view(self, images: Tensor, intrinsics: Tensor) -> tuple[int | Tensor, ...]:
        # The network's images are in [0, 1]
        tokens, features = self.network.encode(images * 0.5 + 0.5, intrinsics)
        return tokens.rows, tokens.columns, tokens.values, *_maps(features)

    def _decode_batch(self, first: Tensor, second: Tensor, rows1: int, columns1: int, rows2: int,
                      columns2: int) -> tuple[Tensor, ...]:
        views = Tokens(first, rows1, columns1), Tokens(second, rows2, columns2)
        return tuple(self.network.points(views, self.network.decode(views)))

    def _look_for_objects(self, masks: Tensor, *levels: Tensor) -> tuple[Tensor, ...]:
        found = self.network.queries(PixelFeatures(masks, levels))
        return found.classes, found.masks


def _shape(pair: tuple[Encoded, Encoded]) -> tuple[int, ...]:
    a, b = (view.tokens for view in pair)
    return a.rows, a.columns, b.rows, b.columns


def _maps(features: PixelFeatures) -> tuple[Tensor, ...]:
    return features.masks, *features.levels
