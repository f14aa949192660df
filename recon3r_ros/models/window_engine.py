# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Runs VGGT: views encoded once, windows of them processed jointly, outputs of heads on request.

The DINOv2 tokens of a view do not depend on the window: they are cached, and only the alternating
attention runs again as the window slides. Points of any view are tracked with its tokens in front
of the others' for the track head alone: the trunk's reference stays the same (training had both
in one view; to run the trunk again would multiply the cost).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import DeviceMemoryError
from recon3r_ros.models.preprocess import to_tensor
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import Runner, too_little_memory
from recon3r_ros.nets.vggt import PATCH, Steps, Vggt
from recon3r_ros.nets.vggt_tracks import VggtWithTracks
import torch
from torch import Tensor

_log = logging.getLogger(__name__)
#: Largest batch of a dense head, reduced when memory runs out; one view on a CPU, for its caches
DENSE_VIEWS = {'cuda': 8, 'cpu': 1}
#: Numbers of tracked points are multiples of this; points are repeated to fill up
QUERIES = 64
Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ViewTokens:
    """
    Encoded patches of a view.

    :param values: (rows * columns, C), on the network's device
    """

    values: Tensor
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)
class WindowOutput:
    """
    The network's output for a window.

    :param cameras: (S, 9), see `Vggt.cameras`
    :param dense: for each of the first views, depth (H, W) and its confidence, > 1
    :param tracks: for each of the first views whose points are tracked, their positions
        (S', N, 2) in these views, and the probabilities (S', N) that they are right
    """

    cameras: Values
    dense: tuple[tuple[Values, Values], ...]
    tracks: tuple[tuple[Values, Values], ...] = ()


class WindowEngine:
    """
    A network on a device.

    :param network: moved there; owned by the engine
    :raises Recon3rError: where the configuration cannot be used
    """

    def __init__(self, network: Vggt, config: EngineConfig = EngineConfig()) -> None:
        self._runner = Runner(config)
        self.device, self.precision = self._runner.device, self._runner.precision
        self.network = self._runner.moved(network).lower_precision(self.precision)
        self._encode = self._runner.prepared(self._encode_batch)
        self._look = self._runner.prepared(self._look_together)
        self._depth = self._runner.prepared(self._depth_of)
        self._features = self._runner.prepared(self._features_of)
        self._track = self._runner.prepared(self._track_points)
        self.dense_views = DENSE_VIEWS[self.device.type]
        #: Largest number of views of a window; reduced when memory runs out
        self.max_views: int | None = None
        #: Whether there is memory to track points; once there is not, none are tracked any more
        self.tracks_fit = True

    def encode(self, image: NDArray[np.uint8]) -> ViewTokens:
        """
        Encode a view.

        :param image: (H, W, 3) RGB on the network's grid
        """
        with torch.inference_mode(), self._runner.on_stream():
            # From [-1, 1] to [0, 1]
            values = self._encode(to_tensor([image], self.device).add(1).div(2))[0]
        return ViewTokens(values, image.shape[0] // PATCH, image.shape[1] // PATCH)

    def look(self, views: Sequence[ViewTokens], wanted: int, queries: Sequence[Values] = ()
             ) -> WindowOutput:
        """
        Process a window of views jointly.

        :param views: of one size; the first is the reference
        :param wanted: number of first views that get dense outputs; the others are dropped, last
            ones first, when memory runs out
        :param queries: points (N, 2) of each of these, one or more, to be tracked in all of
            them as long as there is memory; none where nothing is tracked
        :raises Recon3rError: where the first views alone do not fit into memory
        """
        rows, columns = views[0].rows, views[0].columns
        with torch.inference_mode(), self._runner.on_stream():
            (cameras, *dense), self.max_views = fitting(
                self._runner, len(views), wanted, self.max_views, lambda count: self._look(
                    torch.stack([view.values for view in views[:count]]), rows))
            chosen: list[Any] = [[t[n] for t in dense] for n in range(wanted)]
            found, self.dense_views = self._runner.halving(
                chosen, self.dense_views, lambda some: self._dense(some, rows, columns))
            tracks = self._tracked_if_it_fits(chosen, rows, columns, queries)
            encoded, = self._runner.fetched([cameras])
            return WindowOutput(encoded.numpy(), tuple(found), tracks)

    def _dense(self, views: list[list[Tensor]], rows: int, columns: int
               ) -> list[tuple[Values, Values]]:
        dense = self._depth(rows, columns, *(torch.stack(t) for t in zip(*views)))
        depth, confidence = self._runner.fetched(dense)
        return list(zip(depth.numpy(), confidence.numpy()))

    def _tracked_if_it_fits(self, views: list[list[Tensor]], rows: int, columns: int,
                            queries: Sequence[Values]) -> tuple[tuple[Values, Values], ...]:
        if not queries or not self.tracks_fit:
            return ()
        try:
            return self._tracked(views, rows, columns, queries)
        except (torch.OutOfMemoryError, DeviceMemoryError):
            self.tracks_fit = False
            _log.warning('out of memory: no points are tracked any more')
        self._runner.free()
        return ()

    def _tracked(self, views: list[list[Tensor]], rows: int, columns: int,
                 queries: Sequence[Values]) -> tuple[tuple[Values, Values], ...]:
        features, self.dense_views = self._runner.halving(
            views, self.dense_views,
            lambda some: list(self._features(rows, columns, *(torch.stack(t) for t in zip(*some))
                                             )[0]))
        tracks = []
        for n, points in enumerate(queries):
            # In a few sizes: each is recorded or compiled by itself
            padded = np.resize(points, (-(-len(points) // QUERIES) * QUERIES, 2))
            positions, probability = self._runner.fetched(self._track(
                torch.stack([features[n], *features[:n], *features[n + 1:]]),
                torch.from_numpy(padded.astype(np.float32)).to(self.device)))
            order = [*range(1, n + 1), 0, *range(n + 1, len(features))]
            # Copies: fetched memory is scarce
            tracks.append((positions.numpy()[order, :len(points)],
                           probability.numpy()[order, :len(points)]))
        return tuple(tracks)

    def _encode_batch(self, images: Tensor) -> Tensor:
        return self.network.encode(images)

    def _look_together(self, patches: Tensor, rows: int) -> tuple[Tensor, ...]:
        steps = self.network.aggregate(patches, rows)
        return self.network.cameras(steps), *steps.dense

    def _depth_of(self, rows: int, columns: int, *dense: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.depth(Steps(dense, dense[0][:, 0], rows, columns))

    def _features_of(self, rows: int, columns: int, *dense: Tensor) -> tuple[Tensor, ...]:
        network = self.network
        assert isinstance(network, VggtWithTracks), 'points are tracked with a track head only'
        return network.features(Steps(dense, dense[0][:, 0], rows, columns)),

    def _track_points(self, features: Tensor, queries: Tensor) -> tuple[Tensor, ...]:
        network = self.network
        assert isinstance(network, VggtWithTracks), 'points are tracked with a track head only'
        tracked = network.track(features, queries)
        return tracked.positions, tracked.visibility * tracked.confidence


def fitting(runner: Runner, count: int, wanted: int, most: int | None, work: Callable[[int], Any]
            ) -> tuple[Any, int | None]:
    """
    Process as many views of a window as fit into memory.

    :param count: of the window
    :param wanted: first ones that cannot be dropped
    :param most: largest number of views that fits; None where it is unknown
    :param work: processes the first views
    :return: what `work` returns, and the largest number that fits
    :raises Recon3rError: where the first views alone do not fit
    """
    while True:
        used = count if most is None else min(count, max(most, wanted))
        try:
            return work(used), most
        except torch.OutOfMemoryError as error:
            if used <= wanted:
                raise too_little_memory() from error
            most = max(wanted, used // 2)
            _log.warning('out of memory with %d views at once; going on with %d', used, most)
        runner.free()  # here, because the exception keeps what its functions had
