# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Gaussians of a run, fitted to the images of its keyframes."""

from __future__ import annotations

from dataclasses import replace
import logging
from time import perf_counter

import cv2
import numpy as np
from recon3r_ros.cli.console import ProgressBar
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.io.gaussian_files import C0
from recon3r_ros.io.run_folder import RunFolder
from recon3r_ros.models.gaussian_refinement import PosedView, refine, Renderer, TorchRenderer
from recon3r_ros.models.gsplat_renderer import GsplatRenderer
from recon3r_ros.nets.gaussian_raster import GaussianTensors
from recon3r_ros.slam.types import Gaussians, Keyframe
import torch

logger = logging.getLogger(__name__)

#: Files hold opacities between these
_LEAST, _MOST = 1e-4, 1 - 1e-4
_SMALLEST = 1e-9


def refined(run: RunFolder, made: Gaussians, steps: int, bar: ProgressBar) -> Gaussians:
    """
    Fit Gaussians to the archived images of the keyframes, but for dynamic objects.

    By gsplat on CUDA; without it by the torch rasteriser on the CPU, with a warning of the time
    that it takes.

    :param made: in the frame and unit of the results
    :param steps: one image each
    :param bar: counts them
    :raises Recon3rError: where there are no images or no Gaussians
    """
    renderer, device, problem = _renderer()
    views = [view_of(run, keyframe, device) for keyframe in run.keyframes.values()]
    start, behind = as_tensors(made, device), background(made).to(device)
    if problem and views:
        begin = perf_counter()
        refine(start, views, 1, behind, renderer)
        minutes = steps * (perf_counter() - begin) / 60
        height, width = views[0].image.shape[:2]
        logger.warning(
            '%s; refining %d Gaussians in images of %dx%d by the %s, which is for tiny scenes: '
            'about %.0f minutes; a larger --voxel or fewer steps take less', problem, len(made),
            width, height, renderer.name, np.ceil(minutes))
    bar.stage(f'refinement by {renderer.name}', steps)
    return as_gaussians(refine(start, views, steps, behind, renderer, advance=bar.advance))


def _renderer() -> tuple[Renderer, str, str]:
    """Return a renderer, its device, and why it is not the fast one; '' where it is."""
    try:
        return GsplatRenderer(), 'cuda', ''
    except Recon3rError as error:
        return TorchRenderer(), 'cpu', str(error)


def view_of(run: RunFolder, keyframe: Keyframe, device: str = 'cpu') -> PosedView:
    """Return the archived image of a keyframe, to fit to."""
    image = run.archive[keyframe.id].view(1.0).image
    height, width = image.shape[:2]
    colors = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    mask = cv2.resize(keyframe.mask.astype(np.uint8), (width, height),
                      interpolation=cv2.INTER_NEAREST)
    return PosedView(
        torch.tensor(colors / np.float32(255), device=device),
        torch.tensor(keyframe.camera.resized(width, height).K, dtype=torch.float32, device=device),
        torch.tensor(se3.inverse(keyframe.T_map_cam), dtype=torch.float32, device=device),
        torch.tensor(mask == 0, device=device))


def as_tensors(made: Gaussians, device: str = 'cpu') -> GaussianTensors:
    """Return Gaussians for torch."""
    return GaussianTensors(*(torch.tensor(values, device=device) for values in (
        made.means, made.quaternions_wxyz, made.scales, made.opacities,
        ((made.colors - 0.5) / np.float32(C0))[:, None])))


def as_gaussians(fitted: GaussianTensors) -> Gaussians:
    """
    Return Gaussians of torch for files.

    :param fitted: harmonics of degree 0; what a step has made infinite is left out
    """
    quaternions = fitted.quaternions_wxyz
    quaternions = quaternions / quaternions.norm(dim=1, keepdim=True).clamp(min=1e-12)
    made = Gaussians(*(np.asarray(values.detach().cpu().numpy(), np.float32) for values in (
        fitted.means, quaternions, fitted.scales.clamp(min=_SMALLEST),
        fitted.opacities.clamp(_LEAST, _MOST), (0.5 + C0 * fitted.harmonics[:, 0]).clamp(0, 1))))
    values = (made.means, made.quaternions_wxyz, made.scales, made.opacities[:, None], made.colors)
    whole = np.isfinite(np.concatenate(values, axis=1)).all(1)
    return replace(made, **{name: getattr(made, name)[whole] for name in (
        'means', 'quaternions_wxyz', 'scales', 'opacities', 'colors')})


def background(made: Gaussians) -> torch.Tensor:
    """Return the colour (3,) that is seen where there are no Gaussians: their mean."""
    return torch.tensor(made.colors.mean(0))
