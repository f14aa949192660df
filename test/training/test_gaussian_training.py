# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The network of H3R's kind learns a simulated room by rendering it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from recon3r_ros.bench.gaussian_rooms import measured, render_room, Room
from recon3r_ros.errors import Recon3rError
from recon3r_ros.models.gaussian_refinement import TorchRenderer
from recon3r_ros.nets.h3r import H3r, H3rConfig
from recon3r_ros.nets.vae_encoder import VaeConfig
from recon3r_ros.sim import SceneConfig
from recon3r_ros.training.gaussians import Example, loss, train
import torch

TINY = H3rConfig(VaeConfig((32, 32, 32), 1), 32, 4, 4, 4, 24, 64, 1, 16)
STEPS, RATE = 20, 2e-3


@pytest.fixture(scope='module', autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower in several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope='module')
def room(one_thread: None) -> Room:
    """Render a room."""
    return render_room(SceneConfig(frames=60, fps=15, width=48, height=32, trajectory='orbit',
                                   moving_objects=0, supersampling=2), 20, 4)


def test_a_room_is_learned(room: Room) -> None:
    """Views that are left out improve by 2 dB at least, and depth becomes right."""
    torch.manual_seed(0)
    network, losses = H3r(TINY), []
    before, _ = measured(network, room)
    train(network, [room.example], STEPS, RATE, advance=losses.append)
    assert len(losses) == STEPS and np.mean(losses[-3:]) < 0.1 * losses[0]
    after, wrong = measured(network, room)
    assert after > before + 2 and wrong < 0.08


def test_training_is_deterministic_and_frozen_parameters_stay(room: Room) -> None:
    example = room.example
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


def test_what_cannot_be_learned_is_named(room: Room) -> None:
    with pytest.raises(Recon3rError, match='got none'):
        train(H3r(TINY), [], 1)
    example = room.example
    broken = Example(example.views, example.targets, torch.full_like(example.depth, torch.nan))
    with torch.no_grad():
        out = H3r(TINY)(example.views)
    # Depth that is not known does not count
    assert torch.isfinite(loss(out, broken, TorchRenderer()))
    views = replace(example.views, near=torch.zeros(len(example.views.near)))
    with pytest.raises(Recon3rError, match='loss is nan at step 0'):
        train(H3r(TINY), [replace(example, views=views)], 1)
