# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network of H3R's kind learns a simulated room by rendering it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.models.gaussian_refinement import PosedView, TorchRenderer
from recon3r_ros.models.h3r import as_views, PosedImage
from recon3r_ros.nets.h3r import H3r, H3rConfig
from recon3r_ros.nets.vae_encoder import VaeConfig
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.training.gaussians import drawn, Example, loss, train
import torch

TINY = H3rConfig(VaeConfig((32, 32, 32), 1), 32, 4, 4, 4, 24, 64, 1, 16)
STEPS, RATE = 20, 2e-3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower in several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def room() -> tuple[Example, list[PosedView]]:
    """Render five views of a room: three to learn from, with depth, and those between."""
    sequence = SimulatedSequence(SceneConfig(
        frames=60, fps=15, width=48, height=32, trajectory='orbit', moving_objects=0,
        supersampling=2))
    frames = [sequence.render(i) for i in range(20, 40, 4)]
    K = torch.tensor(sequence.camera.K, dtype=torch.float32)
    targets = [PosedView(torch.tensor(f.image / np.float32(255)), K, torch.tensor(
        se3.inverse(f.T_world_cam), dtype=torch.float32)) for f in frames]
    given = frames[::2]
    bounds = [np.quantile(f.depth, [0.02, 0.98]) * [0.5, 2] for f in given]
    views = as_views([PosedImage(f.image, sequence.camera, f.T_world_cam, *map(float, b),
                                 ~f.motion_mask) for f, b in zip(given, bounds)])
    depth = torch.tensor(np.stack([f.depth for f in given]))
    return Example(views, targets[::2], depth), targets[1::2]


def ratio(network: H3r, example: Example, left_out: list[PosedView]) -> float:
    """Return the mean peak signal-to-noise ratio of views left out, dB."""
    with torch.no_grad():
        out = network(example.views)
        return float(np.mean([-10 * torch.log10((drawn(
            out, view, example.views, TorchRenderer()).clamp(0, 1) - view.image).square().mean())
            for view in left_out]))


def test_a_room_is_learned() -> None:
    """Views that are left out improve by 2 dB at least, and depth becomes right."""
    example, left_out = room()
    torch.manual_seed(0)
    network = H3r(TINY)
    before, losses = ratio(network, example, left_out), []
    train(network, [example], STEPS, RATE, advance=losses.append)
    assert len(losses) == STEPS and np.mean(losses[-3:]) < 0.1 * losses[0]
    assert ratio(network, example, left_out) > before + 2
    with torch.no_grad():
        wrong = (network(example.views).depth / example.depth - 1).abs().median()
    assert wrong < 0.08


def test_training_is_deterministic_and_frozen_parameters_stay() -> None:
    example, _ = room()
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        network = H3r(TINY)
        network.vae.requires_grad_(False)
        before = {k: v.clone() for k, v in network.state_dict().items()}
        train(network, [example, example], 2, RATE)
        found.append(network.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(found[0].values(), found[1].values()))
    for name, value in found[0].items():
        frozen = name.startswith('vae.')
        # Of what has no influence at the start, some parts learn from the second step on
        assert torch.equal(value, before[name]) if frozen else torch.isfinite(value).all()
    assert not torch.equal(found[0]['decoder.out.weight'], before['decoder.out.weight'])


def test_what_cannot_be_learned_is_named() -> None:
    with pytest.raises(Recon3rError, match='got none'):
        train(H3r(TINY), [], 1)
    example, _ = room()
    broken = Example(example.views, example.targets, torch.full_like(example.depth, torch.nan))
    with torch.no_grad():
        out = H3r(TINY)(example.views)
    # Depth that is not known does not count
    assert torch.isfinite(loss(out, broken, TorchRenderer()))
    example.views.near.zero_()
    with pytest.raises(Recon3rError, match='loss is nan at step 0'):
        train(H3r(TINY), [example], 1)
