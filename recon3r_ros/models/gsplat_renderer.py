# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Rendering of Gaussians by gsplat (Apache-2.0), an optional package that needs CUDA."""

from __future__ import annotations

from recon3r_ros.errors import missing_package, Recon3rError
from recon3r_ros.nets.gaussian_raster import GaussianTensors, Rendered
import torch
from torch import Tensor

_PIXEL_CENTRE = 0.5  # gsplat's; this package has centres at integers


class GsplatRenderer:
    """
    A `Renderer` of `gaussian_refinement` for whole scenes.

    :raises Recon3rError: where there is no CUDA device, or no gsplat
    """

    name = 'gsplat'

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise Recon3rError('gsplat needs a CUDA device, and there is none: use the torch '
                               'rasteriser, for tiny scenes')
        try:
            from gsplat import rasterization
        except ModuleNotFoundError as error:
            raise missing_package(error, 'rendering on CUDA') from error
        self._rasterize = rasterization

    def __call__(self, gaussians: GaussianTensors, T_cam_world: Tensor, K: Tensor, height: int,
                 width: int) -> Rendered:
        """Render a view: see `nets.gaussian_raster.render`."""
        shifted = K.clone()
        shifted[:2, 2] += _PIXEL_CENTRE
        degree = int(gaussians.harmonics.shape[1] ** 0.5) - 1
        colors, alphas, _ = self._rasterize(
            gaussians.means, gaussians.quaternions_wxyz, gaussians.scales, gaussians.opacities,
            gaussians.harmonics, T_cam_world[None], shifted[None], width, height,
            sh_degree=degree, render_mode='RGB+D')
        return Rendered(colors[0, ..., :3], colors[0, ..., 3], alphas[0, ..., 0])
