# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Gaussians fitted to images with known poses, by the gradient of a renderer.

The loss is the mean absolute error of 3DGS (Kerbl et al., SIGGRAPH 2023, section 5) without its
term of structural similarity. Gaussians are neither added nor removed: they come from a dense map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from recon3r_ros.errors import Recon3rError
from recon3r_ros.nets.gaussian_raster import GaussianTensors, render, Rendered
import torch
from torch import Tensor

#: Step sizes of Adam: of positions in median widths, of logarithms of scales, of quaternions, of
#: logits of opacities, and of harmonics. Those of 3DGS, but for positions, which are not guesses
#: here, and larger by the ratio of its 30000 steps to some hundred
_STEPS = {'means': 0.05, 'scales': 0.02, 'quaternions': 0.01, 'opacities': 0.05, 'harmonics': 0.02}
#: Share of the first step size that is left at the end
_LAST = 0.1
#: Largest opacity that a logit is taken of
_MOST = 0.995


class Renderer(Protocol):
    """Renders Gaussians so that torch can differentiate the result."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def __call__(self, gaussians: GaussianTensors, T_cam_world: Tensor, K: Tensor, height: int,
                 width: int) -> Rendered:
        """Render a view: see `nets.gaussian_raster.render`."""
        ...


class TorchRenderer:
    """The rasteriser of this package, for tiny scenes on any device."""

    name = 'torch rasteriser'

    def __call__(self, gaussians: GaussianTensors, T_cam_world: Tensor, K: Tensor, height: int,
                 width: int) -> Rendered:
        """Render a view."""
        return render(gaussians, T_cam_world, K, height, width)


@dataclass(frozen=True, eq=False)
class PosedView:
    """
    An image to fit to.

    :param image: (H, W, 3) RGB, 0 to 1
    :param K: (3, 3) pinhole matrix, pixels, centres at integers
    :param T_cam_world: (4, 4)
    :param static: (H, W) pixels to fit to; None for all
    """

    image: Tensor
    K: Tensor
    T_cam_world: Tensor
    static: Tensor | None = None


def over(rendered: Rendered, background: Tensor) -> Tensor:
    """
    Put a rendered view on a background.

    :param background: (3,)
    :returns: (H, W, 3)
    """
    return rendered.image + (1 - rendered.alpha[..., None]) * background


def refine(gaussians: GaussianTensors, views: Sequence[PosedView], steps: int, background: Tensor,
           renderer: Renderer = TorchRenderer(), seed: int = 0,
           advance: Callable[[], None] = lambda: None) -> GaussianTensors:
    """
    Fit Gaussians to images.

    :param views: on the Gaussians' device; all equally often, in random order
    :param steps: one view each
    :param background: (3,) colour behind all Gaussians
    :param seed: of the order of the views
    :param advance: called after each step
    :returns: new ones, without gradients
    :raises Recon3rError: where there are no views or no Gaussians
    """
    if not views or len(gaussians.means) == 0:
        raise Recon3rError(f'refinement needs Gaussians and images: got {len(gaussians.means)} '
                           f'and {len(views)}')
    width = float(gaussians.scales.max(1).values.median())
    free = {
        'means': gaussians.means / width, 'scales': gaussians.scales.log(),
        'quaternions': gaussians.quaternions_wxyz,
        'opacities': torch.logit(gaussians.opacities.clamp(max=_MOST)),
        'harmonics': gaussians.harmonics}
    free = {name: value.detach().clone().requires_grad_() for name, value in free.items()}
    optimizer = torch.optim.Adam(
        [{'params': [value], 'lr': _STEPS[name]} for name, value in free.items()], eps=1e-15)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, _LAST ** (1 / max(steps, 1)))
    random = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for _ in range(steps):
        order = order or torch.randperm(len(views), generator=random).tolist()
        view = views[order.pop()]
        height, columns = view.image.shape[:2]
        error = (over(renderer(_built(free, width), view.T_cam_world, view.K, height, columns),
                      background) - view.image).abs()
        loss = error.mean() if view.static is None else error[view.static].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        advance()
    with torch.no_grad():
        return _built(free, width)


def _built(free: dict[str, Tensor], width: float) -> GaussianTensors:
    """Return the Gaussians of free parameters."""
    return GaussianTensors(free['means'] * width, free['quaternions'], free['scales'].exp(),
                           free['opacities'].sigmoid(), free['harmonics'])
