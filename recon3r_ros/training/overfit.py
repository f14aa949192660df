# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Learning a few views by heart: shows that HAMSt3R's heads and losses fit what they are given.

It says nothing of views that were not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recon3r_ros.nets.dune import DuneConfig, Encoder
from recon3r_ros.nets.dust3r import Dust3rConfig
from recon3r_ros.nets.hamst3r import (
    found_people,
    Hamst3r,
    Hamst3rConfig,
    HumanDecoder,
    HumanOutput,
    InstanceConfig,
    InstanceOutput,
)
from recon3r_ros.training.losses import human_loss, LossConfig
from recon3r_ros.training.simulated import Batch
import torch
from torch import Tensor

#: Least pixels of a person in small images
_LEAST_PIXELS = 8
_MOST_GRADIENT = 1.0


@dataclass(frozen=True)
class Fit:
    """
    How well a network knows the views that it was trained on.

    :param people: mean intersection over union of people with the best of the masks that were
        found, each used once; a person who was not found counts as 0
    :param found: instances per person
    :param body: intersection over union of the mask of the body
    :param surface: median distance of places on the body, in the template's box
    :param points: median relative error of points
    :param matched: share of matches whose descriptors are mutual nearest ones among the matches
    """

    people: float
    found: float
    body: float
    surface: float
    points: float
    matched: float


def small_network(seed: int) -> Hamst3r:
    """
    Make an untrained network of a size for a CPU.

    :param seed: of its weights
    """
    torch.manual_seed(seed)
    decoder = Hamst3rConfig(Dust3rConfig(128, 0, 2, 128, 2, 2, 'human', 8, 14),
                            instances=InstanceConfig(6, 64, 2, 128, 2, 7))
    network = Hamst3r(Encoder(DuneConfig(128, 1, 2, 6, registers=1)), HumanDecoder(decoder))
    # Trained networks have these; zeros would hide where a patch is
    for tensor in (network.encoder.pos_embed, network.encoder.cls_token,
                   network.encoder.register_tokens):
        torch.nn.init.normal_(tensor, std=0.2)
    return network


def overfit(network: Hamst3r, batch: Batch, steps: int, rate: float, config: LossConfig,
            seed: int, report: Callable[[int, float], None] = lambda *_: None) -> list[float]:
    """
    Train all parameters on one batch.

    :param network: changed in place, and left in evaluation mode
    :param batch: shown in every step
    :param steps: how many
    :param rate: largest learning rate of AdamW; it rises for a tenth of the steps and falls to 0
    :param config: of the loss
    :param seed: of the points at which masks are compared
    :param report: called with each step and its loss
    :return: the loss of each step
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, rate, weight_decay=0.0, foreach=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(steps, 2),
                                                   pct_start=0.1)
    network.train()
    history = []
    for step in range(steps):
        loss = human_loss(network(batch.first, batch.second), batch.targets, config,
                          generator).total
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, _MOST_GRADIENT)
        optimiser.step()
        schedule.step()
        history.append(float(loss.detach()))
        report(step, history[-1])
    network.eval()
    return history


@torch.no_grad()
def fit_of(network: Hamst3r, batch: Batch) -> Fit:
    """Measure a network, in evaluation mode, on a batch."""
    views = network(batch.first, batch.second)
    overlaps, instances, persons = [], 0, 0
    inside, covered = 0, 0
    places, errors = [], []
    for view, true in zip(views, (batch.targets.first, batch.targets.second)):
        assert true.people is not None and true.body is not None and true.surface is not None
        for n, silhouettes in enumerate(true.people):
            found = found_people(
                InstanceOutput(view.instances.classes[n], view.instances.masks[n]),
                silhouettes.shape[1], silhouettes.shape[2], _LEAST_PIXELS)
            overlaps += _overlaps(found.labels, silhouettes)
            instances += len(found.scores)
            persons += len(silhouettes)
        body = view.surface_logits > 0
        inside += int((body & true.body).sum())
        covered += int((body | true.body).sum())
        places.append((view.surface - true.surface)[true.body].norm(dim=-1))
        errors.append(((view.points - true.points).norm(dim=-1)
                       / true.points.norm(dim=-1).clamp(min=0.1)).flatten())
    return Fit(sum(overlaps) / max(persons, 1), instances / max(persons, 1),
               inside / max(covered, 1), float(torch.cat(places).median()),
               float(torch.cat(errors).median()), _matched(views, batch.targets.matches))


def _overlaps(labels: Tensor, silhouettes: Tensor) -> list[float]:
    """Intersection over union of each person with the instance that fits it best."""
    best = []
    free = set(range(1, int(labels.max()) + 1))
    for person in silhouettes:
        values = {k: float(((labels == k) & person).sum() / ((labels == k) | person).sum())
                  for k in free}
        k = max(values, key=values.__getitem__, default=0)
        best.append(values.get(k, 0.0))
        free.discard(k)
    return best


def _matched(views: tuple[HumanOutput, HumanOutput], matches: Sequence[Tensor]) -> float:
    right, total = 0, 0
    for n, pixels in enumerate(matches):
        one, two = (view.descriptors[n, pixels[:, k, 1], pixels[:, k, 0]]  # type: ignore[index]
                    for k, view in enumerate(views))
        similar = one @ two.T
        own = torch.arange(len(pixels))
        right += int(((similar.argmax(1) == own) & (similar.argmax(0) == own)).sum())
        total += len(pixels)
    return right / max(total, 1)
