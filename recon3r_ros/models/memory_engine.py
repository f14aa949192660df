# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Runs MUSt3R: views encoded once, then joined to a memory, or rendered against it.

A memory is a value that the caller holds: one tensor for each remembered view, on the network's
device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.preprocess import to_tensor
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import Runner
from recon3r_ros.nets.dust3r import Tokens
from recon3r_ros.nets.must3r import Must3r
import torch
from torch import Tensor

#: Largest batch of views that are rendered, reduced when memory runs out
MAX_VIEWS = 8
Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Seen:
    """
    The network's output for a view.

    :param points: (H, W, 3) in the frame of the memory's first view, or of the first view that
        joins an empty memory, metres
    :param own_points: (H, W, 3) in the view's own frame, metres
    :param confidence: (H, W), > 1
    """

    points: Values
    own_points: Values
    confidence: Values


class MemoryEngine:
    """
    A network on a device.

    :param network: moved there; owned by the engine
    :raises Recon3rError: where the configuration cannot be used
    """

    def __init__(self, network: Must3r, config: EngineConfig = EngineConfig()) -> None:
        self._runner = Runner(config)
        self.device, self.precision = self._runner.device, self._runner.precision
        self.network = self._runner.moved(network).lower_precision(self.precision)
        self._encode = self._runner.prepared(self._encode_batch)
        self._join = self._runner.prepared(self._join_views)
        self._render = self._runner.prepared(self._render_batch)
        self.max_views = MAX_VIEWS

    def encode(self, image: NDArray[np.uint8]) -> Tokens:
        """
        Encode a view.

        :param image: (H, W, 3) RGB on the network's grid
        """
        with torch.inference_mode(), self._runner.on_stream():
            return Tokens(*self._encode(to_tensor([image], self.device)))

    def join(self, views: Sequence[Tokens], memory: Sequence[Tensor]) -> list[tuple[Seen, Tensor]]:
        """
        Predict views that see a memory and each other.

        :param views: of any sizes; the first is the reference of an empty memory
        :param memory: of each remembered view
        :return: for each view, what the network says and its own memory (L, 1, N, C)
        :raises Recon3rError: where they do not fit into the device's memory
        """
        with torch.inference_mode(), self._runner.on_stream():
            (found,), _ = self._runner.halving([views], 1, partial(self._join_all, memory))
        joined: list[tuple[Seen, Tensor]] = found
        return joined

    def render(self, views: Sequence[Tokens], memory: Sequence[Tensor]) -> list[Seen]:
        """
        Predict views that see a memory alone; those of one size in one batch.

        :param memory: of each remembered view, one or more
        :raises Recon3rError: where a single view does not fit into the device's memory
        """
        with torch.inference_mode(), self._runner.on_stream():
            seen, self.max_views = self._runner.by_shape(
                views, lambda view: (view.rows, view.columns), self.max_views,
                partial(self._render_all, memory))
        return seen

    def _join_all(self, memory: Sequence[Tensor], calls: list[Sequence[Tokens]]
                  ) -> list[list[tuple[Seen, Tensor]]]:
        views, = calls
        outputs = self._join(tuple((v.rows, v.columns) for v in views),
                             *(v.values for v in views), *memory)
        fetched = self._runner.fetched(outputs[:-len(views)])
        return [[(_seen([x[0] for x in fetched[3 * n:3 * n + 3]]), remembered)
                 for n, remembered in enumerate(outputs[-len(views):])]]

    def _render_all(self, memory: Sequence[Tensor], views: list[Tokens]) -> list[Seen]:
        outputs = self._render(views[0].rows, views[0].columns,
                               torch.cat([v.values for v in views]), *memory)
        return [_seen(one) for one in zip(*self._runner.fetched(outputs))]

    def _encode_batch(self, images: Tensor) -> tuple[Tensor, int, int]:
        tokens = self.network.encode(images)
        return tokens.values, tokens.rows, tokens.columns

    def _join_views(self, sizes: tuple[tuple[int, int], ...], *tensors: Tensor
                    ) -> tuple[Tensor, ...]:
        views = [Tokens(x, *size) for x, size in zip(tensors, sizes)]
        outputs, memories = self.network.update(views, tensors[len(sizes):])
        return (*(x for o in outputs for x in (o.points, o.own_points, o.confidence)), *memories)

    def _render_batch(self, rows: int, columns: int, values: Tensor, *memory: Tensor
                      ) -> tuple[Tensor, ...]:
        output = self.network.render(Tokens(values, rows, columns), memory)
        return output.points, output.own_points, output.confidence


def _seen(outputs: Sequence[Tensor]) -> Seen:
    points, own_points, confidence = (x.numpy() for x in outputs)
    return Seen(points, own_points, confidence)
