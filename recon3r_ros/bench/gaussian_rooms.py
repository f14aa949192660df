# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Simulated rooms to train the network of H3R's kind with, and what it has learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.models.gaussian_refinement import PosedView, Renderer, TorchRenderer
from recon3r_ros.models.h3r import as_views, PosedImage
from recon3r_ros.nets.h3r import H3r
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.training.gaussians import drawn, Example
import torch

#: Quantiles of a view's depth, and factors of them, that bound the network's: as of a map's
_NEAR, _FAR = (0.02, 0.5), (0.98, 2.0)
#: Views that the network is given; there is one between each two of them
GIVEN = 3


@dataclass(frozen=True, eq=False)
class Room:
    """
    A static room.

    :param example: views with depth, which are the targets as well
    :param between: views between them, which are left out of training
    """

    example: Example
    between: tuple[PosedView, ...]


def render_room(config: SceneConfig, first: int, step: int) -> Room:
    """
    Render a room.

    :param config: without dynamic objects
    :param first: frame of the first view
    :param step: frames from a view to the next one, given or left out
    """
    sequence = SimulatedSequence(config)
    frames = [sequence.render(first + i * step) for i in range(2 * GIVEN - 1)]
    K = torch.tensor(sequence.camera.K, dtype=torch.float32)
    seen = [PosedView(torch.tensor(f.image / np.float32(255)), K, torch.tensor(
        se3.inverse(f.T_world_cam), dtype=torch.float32)) for f in frames]
    given = frames[::2]
    views = as_views([PosedImage(f.image, sequence.camera, f.T_world_cam, *_bounds(f.depth),
                                 ~f.motion_mask) for f in given])
    depth = torch.tensor(np.stack([f.depth for f in given]))
    return Room(Example(views, seen[::2], depth), tuple(seen[1::2]))


def _bounds(depth: NDArray[np.float32]) -> tuple[float, float]:
    near, far = (factor * float(np.quantile(depth, share)) for share, factor in (_NEAR, _FAR))
    return near, far


@torch.no_grad()
def measured(network: H3r, room: Room, renderer: Renderer = TorchRenderer()
             ) -> tuple[float, float]:
    """
    Measure a network in a room.

    :returns: mean peak signal-to-noise ratio of the views left out, dB, and median relative error
        of depth in the given ones
    """
    out, views = network(room.example.views), room.example.views
    ratios = [-10 * torch.log10((drawn(out, view, views, renderer).clamp(0, 1) - view.image)
                                .square().mean()).item() for view in room.between]
    assert room.example.depth is not None
    return float(np.mean(ratios)), (out.depth / room.example.depth - 1).abs().median().item()
