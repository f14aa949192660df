# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The heads learn people, their surfaces and points of a few views by heart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.models.hamst3r import Hamst3rPredictor
from recon3r_ros.models.human_engine import HumanEngine
from recon3r_ros.nets.hamst3r import Hamst3r
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.people import PeopleMasks
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame
from recon3r_ros.training.losses import LossConfig
from recon3r_ros.training.overfit import fit_of, overfit, small_network
from recon3r_ros.training.simulated import Batch, simulated_batch
import torch

#: Second camera: 0.25 m to the right
BESIDE = np.eye(4)
BESIDE[0, 3] = 0.25
#: Few steps have to do for the heads
CONFIG = LossConfig(people=0.1, surface=5.0, body=5.0, samples=512)


@pytest.fixture(autouse=True, scope='module')
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def sequences() -> list[SimulatedSequence]:
    return [SimulatedSequence(SceneConfig(
        seed=seed, frames=30, width=84, height=84, moving_objects=0, people=2,
        horizontal_fov_deg=50)) for seed in (1, 2)]


@pytest.fixture(scope='module')
def batch(sequences: list[SimulatedSequence]) -> Batch:
    return simulated_batch(sequences, [10], BESIDE)


def test_targets_of_both_views_are_the_same_points(sequences: list[SimulatedSequence],
                                                   batch: Batch) -> None:
    """Points of matches agree, and points of the first view project to their own pixels."""
    first, second = batch.targets.first, batch.targets.second
    pixels = torch.from_numpy(pixel_grid(84, 84))
    for n, (sequence, matches) in enumerate(zip(sequences, batch.targets.matches)):
        assert len(matches) > 100
        (u1, v1), (u2, v2) = matches[:, 0].T, matches[:, 1].T
        gap = (first.points[n, v1, u1] - second.points[n, v2, u2]).norm(dim=-1)
        # A pixel's half diagonal at some metres, on slanted surfaces more
        assert gap.median() < 0.04
        own = sequence.camera.project(first.points[n].numpy())
        assert np.abs(own - pixels.numpy()).max() < 0.01
        other = sequence.camera.project(second.points[n].numpy() - BESIDE[:3, 3])
        assert np.abs(other - pixels.numpy()).max() < 0.01
    for view in (first, second):
        assert view.people is not None and view.body is not None
        for silhouettes, body in zip(view.people, view.body):
            # Nobody's pixel is body; hair is a person's, but not body
            assert len(silhouettes) == 2 and bool((silhouettes.any(0) & ~body).any())
            assert (body & ~silhouettes.any(0)).sum() < 12


def test_training_repeats_to_the_bit(batch: Batch) -> None:
    runs = [overfit(small_network(3), batch, 2, 1e-3, CONFIG, 5) for _ in range(2)]
    assert runs[0] == runs[1]
    assert overfit(small_network(3), batch, 2, 1e-3, CONFIG, 6) != runs[0]


@pytest.mark.large
def test_a_small_network_learns_two_pairs_by_heart(batch: Batch) -> None:
    network = small_network(0)
    before = fit_of(network.eval(), batch)
    overfit(network, batch, 100, 3e-3, CONFIG, 0)
    after = fit_of(network, batch)
    assert before.people < 0.3 and after.people > 0.85
    assert 0.9 <= after.found <= 1.1
    assert before.body < 0.3 and after.body > 0.65
    assert before.surface > 0.4 and after.surface < 0.12
    assert before.points > 0.5 and after.points < 0.1
    assert before.matched < 0.5 and after.matched > 0.95
    check_people_of_an_image(network, batch)


def check_people_of_an_image(network: Hamst3r, batch: Batch) -> None:
    """Check what is kept out of a map: the people of an image alone."""
    assert batch.targets.first.people is not None
    finder = Hamst3rPredictor(HumanEngine(network), 84)
    image = ((batch.first[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    people = People(*finder.find(image))
    truth = batch.targets.first.people[0].any(0).numpy()
    masked = PeopleMasks().masked(Frame(image, 0, '0', 0, people=people)).mask
    assert masked is not None and len(people.ids) == 2
    # Trained with another view beside it
    assert (masked & truth).sum() > 0.9 * truth.sum() and masked.sum() < 1.4 * truth.sum()
