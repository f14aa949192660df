# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The adapter of gsplat; the real package needs CUDA."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.models.gsplat_renderer import GsplatRenderer
from recon3r_ros.nets.gaussian_raster import GaussianTensors, render
import torch


def test_without_cuda_or_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(Recon3rError, match='needs a CUDA device'):
        GsplatRenderer()
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setitem(sys.modules, 'gsplat', None)
    with pytest.raises(Recon3rError, match=r'pip install "recon3r_ros\[splatting\]"'):
        GsplatRenderer()


def test_pixel_centres_and_harmonics_are_those_of_gsplat(monkeypatch):
    """A stand-in renders by gsplat's definition: centres of pixels at +0.5."""
    def rasterization(means, quats, scales, opacities, colors, viewmats, Ks, width, height,
                      sh_degree, render_mode):
        assert colors.shape[1] == (sh_degree + 1) ** 2 and render_mode == 'RGB+D'
        own = Ks[0].clone()
        own[:2, 2] -= 0.5
        out = render(GaussianTensors(means, quats, scales, opacities, colors), viewmats[0], own,
                     height, width)
        return (torch.cat([out.image, out.depth[..., None]], -1)[None], out.alpha[None, ..., None],
                {})
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setitem(sys.modules, 'gsplat', SimpleNamespace(rasterization=rasterization))
    scene = GaussianTensors(torch.tensor([[0, 0, 2.0]]), torch.tensor([[1.0, 0, 0, 0]]),
                            torch.full((1, 3), 0.1), torch.tensor([0.8]), torch.ones(1, 4, 3))
    K = torch.tensor([[20.0, 0, 7], [0, 20, 5], [0, 0, 1]])
    out, expected = GsplatRenderer()(scene, torch.eye(4), K, 12, 16), render(
        scene, torch.eye(4), K, 12, 16)
    for name in ('image', 'depth', 'alpha'):
        assert torch.equal(getattr(out, name), getattr(expected, name))
    assert int(out.alpha.argmax()) == 5 * 16 + 7
