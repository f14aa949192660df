# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Runs a pair network: views encoded once, pairs decoded in batches, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.preprocess import to_tensor
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import Runner
from recon3r_ros.nets.dune import DuneMast3r
from recon3r_ros.nets.dust3r import Dust3r, Tokens, ViewOutput
import torch
from torch import Tensor

#: Largest batch of pairs, reduced when memory runs out; a CPU is slower with more, because of its
#: caches
MAX_BATCH = {'cuda': 16, 'cpu': 4}
#: Fields of a `ViewOutput` that stay on the device, where they are matched: descriptors, several
#: times as large as the others, and their confidence
_STAY = (2, 3)
Pair = tuple[Tokens, Tokens]
#: Masks (rows, columns) of a pair's tokens of dynamic objects
Moving = tuple[NDArray[np.bool_], NDArray[np.bool_]]


class Engine:
    """
    A network on a device.

    :param network: moved there; owned by the engine
    :param attention: whether to collect statistics of the cross-attention
    :raises Recon3rError: where the configuration cannot be used
    """

    def __init__(self, network: Dust3r | DuneMast3r, config: EngineConfig = EngineConfig(),
                 attention: bool = False) -> None:
        self._runner = Runner(config)
        self.device, self.precision = self._runner.device, self._runner.precision
        self.network = self._runner.moved(network).lower_precision(self.precision)
        self.config = network.config
        self._attention = attention
        self._encode = self._runner.prepared(self._encode_batch)
        self._decode = self._runner.prepared(self._decode_batch)
        self.max_batch = MAX_BATCH[self.device.type]

    def encode(self, image: NDArray[np.uint8]) -> Tokens:
        """
        Encode a view.

        :param image: (H, W, 3) RGB on the network's grid
        """
        with torch.inference_mode(), self._runner.on_stream():
            (encoded,), self.max_batch = self._runner.halving(
                [image], self.max_batch, self._encode_images)
        return Tokens(*encoded)

    def decode(self, pairs: Sequence[Pair], moving: Sequence[Moving] | None = None
               ) -> list[tuple[ViewOutput, ViewOutput]]:
        """
        Decode directed pairs; those of the same shapes in one batch.

        :param moving: for each pair, tokens of dynamic objects in both views, to re-weight the
            attention
        :return: for each pair both views' outputs without the batch axis, on the CPU; descriptors
            on the network's device
        :raises Recon3rError: where a single pair does not fit into memory
        """
        items = list(zip(pairs, [None] * len(pairs) if moving is None else moving))
        with torch.inference_mode(), self._runner.on_stream():
            decoded, self.max_batch = self._runner.by_shape(
                items, _shape, self.max_batch, self._decode_pairs)
        return decoded

    def _encode_images(self, images: list[NDArray[np.uint8]]) -> list[tuple[Tensor, int, int]]:
        batch = to_tensor(images, self.device)
        values, rows, columns = self._encode(batch)
        return [(value[None], rows, columns) for value in values]

    def _encode_batch(self, batch: Tensor) -> tuple[Tensor, int, int]:
        tokens = self.network.encode(batch)
        return tokens.values, tokens.rows, tokens.columns

    def _decode_pairs(self, items: list[tuple[Pair, Moving | None]]
                      ) -> list[tuple[ViewOutput, ViewOutput]]:
        pairs = [pair for pair, _ in items]
        (a, b), = {((p.rows, p.columns), (q.rows, q.columns)) for p, q in pairs}
        first, second = (torch.cat([pair[i].values for pair in pairs]) for i in range(2))
        moving = [m for _, m in items if m is not None]
        masks = [torch.from_numpy(np.stack([m[i] for m in moving])).flatten(1).to(self.device)
                 for i in range(2)] if moving else [None, None]
        outputs = list(self._decode(first, second, *a, *b, *masks))
        half = len(outputs) // 2
        wanted = [i for i in range(len(outputs)) if i % half not in _STAY]
        for i, x in zip(wanted, self._runner.fetched([outputs[i] for i in wanted])):
            outputs[i] = x
        return [(self._view(n, outputs[:half]), self._view(n, outputs[half:]))
                for n in range(len(pairs))]

    def _decode_batch(self, first: Tensor, second: Tensor, rows1: int, columns1: int,
                      rows2: int, columns2: int, moving1: Tensor | None,
                      moving2: Tensor | None) -> tuple[Tensor | None, ...]:
        moving = None if moving1 is None or moving2 is None else (moving1, moving2)
        outputs = self.network.decode(
            Tokens(first, rows1, columns1), Tokens(second, rows2, columns2),
            # The second pass needs no statistics, only points
            self._attention and moving is None, moving)
        return tuple(x for o in outputs for x in self._tensors(o))

    def _tensors(self, output: ViewOutput) -> tuple[Tensor | None, ...]:
        """List what is kept of a view's output; see `_view`."""
        return (output.points, output.confidence, output.descriptors,
                output.descriptor_confidence,
                None if output.attention is None else output.attention.half())

    def _view(self, n: int, outputs: list[Tensor | None]) -> ViewOutput:
        """Take one view out of a batch of `_tensors`."""
        points, confidence, *rest = (None if x is None else x[n] for x in outputs)
        assert points is not None and confidence is not None
        return ViewOutput(points, confidence, *rest)


def _shape(item: tuple[Pair, Moving | None]) -> tuple[int, ...]:
    (a, b), _ = item
    return a.rows, a.columns, b.rows, b.columns
