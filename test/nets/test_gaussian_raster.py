# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The rasteriser of Gaussians, against outputs of a reference, and its slopes."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import parity
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.models.gaussian_refinement import over, PosedView, refine
from recon3r_ros.nets.gaussian_raster import GaussianTensors, project, render
import torch


def relative(out: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the largest difference over the largest value of the reference."""
    return float((out - reference).abs().max() / reference.abs().max())


@pytest.mark.parametrize('kind', [torch.float32, torch.float64])
def test_the_reference_is_met(shared_data, kind):
    meta, arrays = parity.read(shared_data.golden('gaussian_render_small.npz'))
    a = {name: torch.tensor(values).to(kind) for name, values in arrays.items()}
    height, width = meta['size']
    K = a['K'].clone()
    K[:2, 2] -= meta['pixel_centre']  # centres are at integers here
    scene = GaussianTensors(a['means'], a['quaternions_wxyz'], a['scales'], a['opacities'],
                            a['harmonics'])
    projected = project(scene, a['view'], K, height, width, meta['near'])
    seen = projected.radii[:, 0] > 0
    assert int(seen.sum()) == meta['visible']
    assert relative(projected.means[seen] + 0.5, a['means2d'][seen]) < 2e-6
    assert relative(projected.conics[seen], a['conics'][seen]) < 2e-6
    assert relative(projected.depths, a['depths']) < 2e-6
    assert relative(projected.colors[seen], a['colors'][seen]) < 2e-6
    out = render(scene, a['view'], K, height, width, meta['near'])
    for name in ('image', 'depth', 'alpha'):
        assert relative(getattr(out, name), a[name]) < 2e-6, name


@pytest.fixture
def scene() -> tuple[GaussianTensors, torch.Tensor]:
    """Return 12 Gaussians before a camera of 20x14 pixels, and its matrix, float64."""
    rng = np.random.default_rng(2)
    return GaussianTensors(*(torch.tensor(a) for a in (
        rng.uniform((-0.5, -0.4, 2), (0.5, 0.4, 3), (12, 3)), rng.normal(size=(12, 4)),
        rng.uniform(0.1, 0.3, (12, 3)), rng.uniform(0.4, 0.8, 12), rng.normal(size=(12, 4, 3)) / 4,
    ))), torch.tensor([[30.0, 0, 9.5], [0, 30, 6.5], [0, 0, 1]], dtype=torch.float64)


def test_slopes_are_those_of_the_function(scene):
    made, K = scene
    pose = torch.eye(4, dtype=torch.float64)
    values = tuple(v.clone().requires_grad_() for v in astuple(made))
    weights = torch.rand(14, 20, 5, generator=torch.Generator().manual_seed(0)).double()

    def outcome(*parameters):
        out = render(GaussianTensors(*parameters), pose, K, 14, 20)
        return (weights * torch.cat([out.image, out.depth[..., None], out.alpha[..., None]],
                                    dim=-1)).sum()

    assert torch.autograd.gradcheck(outcome, values, eps=1e-7, atol=1e-4, rtol=1e-3)


def test_what_is_not_before_the_camera_leaves_no_trace(scene):
    made, K = scene
    behind = replace(made, means=made.means * torch.tensor([1, 1, -1]))
    out = render(behind, torch.eye(4, dtype=torch.float64), K, 14, 20)
    assert out.image.shape == (14, 20, 3) and not out.alpha.any() and not out.image.any()


def test_refinement_recovers_colours_and_needs_images(scene):
    made, K = scene
    made = GaussianTensors(*(v.float() for v in astuple(made)))
    K, pose, background = K.float(), torch.eye(4), torch.zeros(3)
    with torch.no_grad():
        image = over(render(made, pose, K, 14, 20), background)
    grey = replace(made, harmonics=torch.zeros_like(made.harmonics))

    def error(some):
        with torch.no_grad():
            return float((over(render(some, pose, K, 14, 20), background) - image).abs().mean())

    refined = refine(grey, [PosedView(image, K, pose)], 100, background)
    assert error(refined) < 0.25 * error(grey)
    with pytest.raises(Recon3rError, match='got 12 and 0'):
        refine(grey, [], 10, background)
