# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Runs MapAnything: views, their rays and their depth encoded once, windows processed jointly.

Only the encodings of poses depend on the window; they are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.known import given_poses, KnownPose
from recon3r_ros.models.preprocess import to_tensor
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import Runner
from recon3r_ros.models.window_engine import DENSE_VIEWS, fitting
from recon3r_ros.nets.mapanything import Given, MapAnything
from recon3r_ros.nets.vggt import PATCH
import torch
from torch import Tensor

Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class KnownTokens:
    """
    Encoded patches of a view, with what is known of it.

    :param patches: (rows * columns, C) float32, on the network's device
    :param classes: (1 or 0, C) class token
    """

    patches: Tensor
    classes: Tensor
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)
class SeenDepth:
    """
    The network's dense output for a view.

    :param rays: (H, W, 3) of unit length, in its camera's frame
    :param depth: (H, W) along them, metres
    :param confidence: (H, W), > 1
    :param valid: (H, W) whether there is a depth: not in the sky
    """

    rays: Values
    depth: Values
    confidence: Values
    valid: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class KnownOutput:
    """
    The network's output for a window.

    :param poses: (S, 7) translation, metres, and quaternion xyzw of T_first_view
    :param dense: of each of the first views
    """

    poses: Values
    dense: tuple[SeenDepth, ...]


class KnownEngine:
    """
    A network on a device.

    :param network: moved there; owned by the engine
    :raises Recon3rError: where the configuration cannot be used
    """

    def __init__(self, network: MapAnything, config: EngineConfig = EngineConfig()) -> None:
        self._runner = Runner(config)
        self.device, self.precision = self._runner.device, self._runner.precision
        self.network = self._runner.moved(network).lower_precision(self.precision)
        self._encode = self._runner.prepared(self._encode_batch)
        self._encode_rays = self._runner.prepared(self._rays_of)
        self._encode_depth = self._runner.prepared(self._depth_of)
        self._look = self._runner.prepared(self._look_together)
        self._dense = self._runner.prepared(self._dense_of)
        self.dense_views = DENSE_VIEWS[self.device.type]
        #: Largest number of views of a window; reduced when memory runs out
        self.max_views: int | None = None

    def encode(self, image: NDArray[np.uint8], rays: Values | None = None,
               depth: Values | None = None) -> KnownTokens:
        """
        Encode a view, and what is known of it.

        :param image: (H, W, 3) RGB on the network's grid
        :param rays: (H, W, 3) of unit length, zero where unknown
        :param depth: (H, W) along the rays, metres, 0 where unknown
        """
        with torch.inference_mode(), self._runner.on_stream():
            # From [-1, 1] to [0, 1]
            values, classes = self._encode(to_tensor([image], self.device).add(1).div(2))
            patches = values[0].float()
            if rays is not None:
                patches = patches + self._encode_rays(self._sent(rays))[0]
            if depth is not None and depth.any():  # without any pixel its mean is no length
                patches = patches + self._encode_depth(self._sent(depth))[0]
        return KnownTokens(patches, classes[0], image.shape[0] // PATCH, image.shape[1] // PATCH)

    def look(self, views: Sequence[KnownTokens], wanted: int,
             poses: Sequence[KnownPose | None] = ()) -> KnownOutput:
        """
        Process a window of views jointly.

        :param views: of one size; the first is the reference
        :param wanted: number of first views that get dense outputs; the others are dropped, last
            ones first, when memory runs out
        :param poses: of the views, where known
        :raises Recon3rError: where the first views alone do not fit into memory
        """
        poses = poses or [None] * len(views)
        rows, columns = views[0].rows, views[0].columns
        with torch.inference_mode(), self._runner.on_stream():
            (found, scale, *steps), self.max_views = fitting(
                self._runner, len(views), wanted, self.max_views,
                lambda count: self._look_at(views[:count], poses[:count]))
            dense, self.dense_views = self._runner.halving(
                [[t[n] for t in steps] for n in range(wanted)], self.dense_views,
                partial(self._dense_batch, rows, columns, scale))
            return KnownOutput(found.cpu().numpy(), tuple(dense))

    def _look_at(self, views: Sequence[KnownTokens], poses: Sequence[KnownPose | None]
                 ) -> tuple[Tensor, ...]:
        given = given_poses(poses)
        out: tuple[Tensor, ...] = self._look(
            torch.stack([v.patches for v in views]), torch.stack([v.classes for v in views]),
            self._sent(given.numbers)[0], self._sent(np.array([given.log_length], np.float32))[0])
        return out

    def _dense_batch(self, rows: int, columns: int, scale: Tensor, views: list[list[Tensor]]
                     ) -> list[SeenDepth]:
        outputs = self._dense(rows, columns, scale, *(torch.stack(t) for t in zip(*views)))
        return [SeenDepth(*one) for one in zip(
            *(x.numpy() for x in self._runner.fetched(outputs)))]

    def _sent(self, values: Values) -> Tensor:
        """Copy values to the device, as a batch of one."""
        return torch.from_numpy(np.ascontiguousarray(values))[None].to(self.device)

    def _encode_batch(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode(images)

    def _rays_of(self, rays: Tensor) -> tuple[Tensor]:
        return (self.network.encode_rays(rays)[0],)

    def _depth_of(self, depth: Tensor) -> tuple[Tensor]:
        return (self.network.encode_depth(depth, torch.ones_like(depth[:, 0, 0]))[0],)

    def _look_together(self, patches: Tensor, classes: Tensor, numbers: Tensor,
                       log_length: Tensor) -> tuple[Tensor, ...]:
        fused = self.network.fuse(patches, Given.of(numbers, log_length))
        shared = self.network.share(fused, classes)
        poses, scale = self.network.poses(shared), self.network.scale(shared)
        metres = torch.cat([scale * poses[:, :3], poses[:, 3:]], 1)
        return metres, scale, fused, *shared.dense

    def _dense_of(self, rows: int, columns: int, scale: Tensor, patches: Tensor, *steps: Tensor
                  ) -> tuple[Tensor, ...]:
        rays, depth, confidence, logits = self.network.dense(patches, steps, rows, columns)
        return rays, scale * depth, confidence, logits > 0
