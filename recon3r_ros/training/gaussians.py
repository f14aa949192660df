# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Training of the network of H3R's kind, by rendering its Gaussians from other views.

The loss is the mean squared error of the rendered views, as of pixelSplat (Charatan et al., CVPR
2024, section 4.3) and MVSplat, without their perceptual term, whose network has weights of its
own; where depth is known, as in simulated scenes, with the smooth L1 error of inverse depth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recon3r_ros.errors import Recon3rError
from recon3r_ros.models.gaussian_refinement import over, PosedView, Renderer, TorchRenderer
from recon3r_ros.nets.h3r import H3r, H3rOutput, Views
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

#: Weight of the error of inverse depth, which is relative to the range of hypotheses
_DEPTH = 1.0
#: Error of inverse depth, relative to the range, from which on it counts linearly
_LINEAR = 0.05
#: Largest norm of a gradient
_STEEPEST = 1.0
#: Share of the first step size that is left at the end
_LAST = 0.1


@dataclass(frozen=True, eq=False)
class Example:
    """
    Views of a scene, and what is seen from elsewhere.

    :param views: that the network is given
    :param targets: that its Gaussians are rendered to; in the world of the views
    :param depth: (V, H, W) of the views, 0 where unknown; None without any
    """

    views: Views
    targets: Sequence[PosedView]
    depth: Tensor | None = None


def train(network: H3r, examples: Sequence[Example], steps: int, rate: float = 5e-4,
          renderer: Renderer = TorchRenderer(), seed: int = 0,
          advance: Callable[[float], None] = lambda loss: None) -> None:
    """
    Train the parameters that require a gradient, in place.

    :param examples: on the network's device; all equally often, in random order
    :param steps: one example each
    :param rate: first step size of Adam
    :param seed: of the order of the examples
    :param advance: called after each step with its loss
    :raises Recon3rError: where there are no examples, or a loss is not finite
    """
    if not examples:
        raise Recon3rError('training needs examples: got none')
    free = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(free, lr=rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, _LAST ** (1 / max(steps, 1)))
    random = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for step in range(steps):
        order = order or torch.randperm(len(examples), generator=random).tolist()
        example = examples[order.pop()]
        error = loss(network(example.views), example, renderer)
        if not torch.isfinite(error):
            raise Recon3rError(f'training: the loss is {error.item()} at step {step}: use a '
                               f'smaller step size than {rate:g}')
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(free, _STEEPEST)
        optimizer.step()
        schedule.step()
        advance(error.item())


def loss(out: H3rOutput, example: Example, renderer: Renderer) -> Tensor:
    """Return the loss of the network's output for an example."""
    errors = [((drawn(out, target, example.views, renderer) - target.image).square()
               if target.static is None else
               (drawn(out, target, example.views, renderer) - target.image)[target.static]
               .square()).mean() for target in example.targets]
    total = torch.stack(errors).mean() if errors else out.depth.new_zeros(())
    if example.depth is not None:
        farthest, nearest = (1 / bound[:, None, None]
                             for bound in (example.views.far, example.views.near))
        known = (example.depth > 0) & example.views.static
        inverse = 1 / torch.where(known, example.depth, 1)
        wrong = (1 / out.depth - inverse) / (nearest - farthest)
        wrong = wrong[known]
        if len(wrong):
            total = total + _DEPTH * smooth_l1_loss(wrong, torch.zeros_like(wrong), beta=_LINEAR)
    return total


def drawn(out: H3rOutput, target: PosedView, views: Views, renderer: Renderer) -> Tensor:
    """
    Render a view of the network's Gaussians on the mean colour of the views it was given.

    :returns: (H, W, 3)
    """
    behind = (views.images.mean((0, 2, 3)) + 1) / 2
    height, width = target.image.shape[:2]
    return over(renderer(out.kept(), target.T_cam_world, target.K, height, width), behind)
