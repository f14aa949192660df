# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Losses against cases that are computed by hand."""

from __future__ import annotations

from dataclasses import replace
from math import e, exp, log, sqrt

import pytest
from recon3r_ros.nets.hamst3r import HumanOutput, InstanceOutput
from recon3r_ros.training.losses import (
    assigned,
    dice,
    human_loss,
    log_scaled,
    LossConfig,
    matching_loss,
    PairTargets,
    people_loss,
    regression_loss,
    surface_loss,
    uncertain_points,
    ViewTargets,
)
import torch

CONFIG = LossConfig()
#: So that sigmoid and softmax saturate
SURE = 40.0


def output(**fields: torch.Tensor) -> HumanOutput:
    """Make an output of one image of 2 x 2 pixels, all fields of no interest 0."""
    shape = (1, 2, 2)
    default = {
        'points': torch.zeros(*shape, 3), 'confidence': torch.ones(shape),
        'descriptors': torch.eye(4).view(1, 2, 2, 4), 'descriptor_confidence': torch.ones(shape),
        'surface': torch.zeros(*shape, 3), 'surface_logits': torch.zeros(shape),
        'instances': InstanceOutput(torch.zeros(1, 3, 2), torch.zeros(1, 3, 2, 2))}
    return HumanOutput(**(default | fields))


def test_regression_weighs_distances_by_confidence() -> None:
    points = torch.tensor([[3.0, 4, 0], [0, 0, 1], [9, 9, 9]])[None, None]
    target = torch.zeros(1, 1, 3, 3)
    confidence = torch.tensor([[[2.0, e, 5]]])
    valid = torch.tensor([[[True, True, False]]])
    found = regression_loss(points, confidence, target, valid, 0.2)
    assert found.item() == pytest.approx((2 * 5 - 0.2 * log(2) + e * 1 - 0.2) / 2)
    assert regression_loss(points, confidence, target, ~valid & valid, 0.2).item() == 0
    scaled = regression_loss(points, torch.ones(1, 1, 3), target, valid, 0.2, log_points=True)
    assert scaled.item() == pytest.approx((log(6) + log(2)) / 2, rel=1e-6)
    assert log_scaled(torch.tensor([3.0, 4, 0])).tolist() == pytest.approx(
        [0.6 * log(6), 0.8 * log(6), 0])


def test_the_best_confidence_is_alpha_over_the_distance() -> None:
    points, confidence = torch.tensor([[[[0.1, 0, 0]]]]), torch.tensor([[[2.0]]],
                                                                       requires_grad=True)
    regression_loss(points, confidence, torch.zeros(1, 1, 1, 3),
                    torch.ones(1, 1, 1, dtype=torch.bool), 0.2).backward()
    assert confidence.grad is not None and confidence.grad.item() == pytest.approx(0, abs=1e-7)


def test_matching_is_cross_entropy_over_the_matches() -> None:
    config = replace(CONFIG, temperature=0.5)
    first = output()
    # Partners have similarity 1, others 0 and 0.6: pixel (0, 0) of the second view is between
    second = output(descriptors=torch.tensor([[1.0, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0],
                                              [0, 0, 0, 1]]).view(1, 2, 2, 4))
    pixels = torch.tensor([[[0, 0], [0, 0]], [[1, 0], [1, 0]]])
    logits = [[1 / 0.5, 0.6 / 0.5], [0, 0.8 / 0.5]]

    def lost(own: float, *others: float) -> float:
        return log(sum(exp(x) for x in (own, *others))) - own
    rows = (lost(logits[0][0], logits[0][1]) + lost(logits[1][1], logits[1][0])) / 2
    columns = (lost(logits[0][0], logits[1][0]) + lost(logits[1][1], logits[0][1])) / 2
    found = matching_loss((first, second), [pixels], config)
    assert found.item() == pytest.approx((rows + columns) / 2, rel=1e-6)
    weighted = matching_loss(
        (output(descriptor_confidence=torch.full((1, 2, 2), 3.0)), second), [pixels], config)
    expected = ((3 * rows - 10 * log(3)) + columns) / 2
    assert weighted.item() == pytest.approx(expected, rel=1e-6)
    assert matching_loss((first, second), [pixels[:0]], config).item() == 0


def test_dice() -> None:
    logits = torch.tensor([SURE, SURE, -SURE, -SURE])
    target = torch.tensor([[1.0, 0, 1, 0], [1, 1, 0, 0]])
    assert dice(logits, target).tolist() == pytest.approx([1 - 3 / 5, 0], abs=1e-6)


def test_every_person_gets_the_query_that_is_least_wrong() -> None:
    people = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    masks = SURE * torch.tensor([[-1.0, -1, 1, 1], [1, -1, -1, -1], [1, 1, -1, -1]])
    classes = torch.zeros(3, 2)
    queries, persons = assigned(classes, masks, people, CONFIG)
    assert dict(zip(persons.tolist(), queries.tolist())) == {0: 2, 1: 0}
    # A query that is sure of a person, with half a mask, is preferred to one that is sure of
    # nobody: 2 * 2 * 25 of the classes against 5 * (40 / 4 + dice) of the masks
    classes = torch.tensor([[0.0, 0], [25, -25], [-25, 25]])
    queries, persons = assigned(classes, masks, people, CONFIG)
    assert dict(zip(persons.tolist(), queries.tolist())) == {0: 1, 1: 0}


def test_people_of_one_image() -> None:
    """Masks that are the same everywhere: no matter at which points they are compared."""
    config = replace(CONFIG, samples=16)
    person = torch.ones(1, 2, 2, dtype=torch.bool)
    masks = torch.stack([torch.full((2, 2), 1.0), torch.full((2, 2), -1.0)])[None]
    classes = torch.tensor([[[2.0, 0], [0, 0]]])
    found = people_loss(InstanceOutput(classes, masks), [person], config,
                        torch.Generator().manual_seed(0))
    p = 1 / (1 + exp(-1))
    # A weighted mean, as the classes' weights differ
    class_loss = (log(1 + exp(-2)) + 0.1 * log(2)) / 1.1
    assert found.item() == pytest.approx(
        2 * class_loss + 5 * -log(p) + 5 * (1 - (2 * 16 * p + 1) / (16 * p + 17)), rel=1e-5)
    nobody = people_loss(InstanceOutput(classes, masks), [person[:0]], config,
                         torch.Generator())
    assert nobody.item() == pytest.approx(2 * (log(1 + exp(2)) + log(2)) / 2, rel=1e-6)


def test_points_are_drawn_where_masks_are_uncertain() -> None:
    config = replace(CONFIG, samples=400)
    logits = torch.linspace(-8, 8, 64).expand(1, 8, 64)  # from left to right
    where = uncertain_points(logits, config, torch.Generator().manual_seed(1))
    assert where.shape == (1, 400, 2) and where.abs().max() <= 1
    chosen, rest = where[0, :300, 0].abs(), where[0, 300:, 0].abs()
    # The nearest quarter of three times as many
    assert chosen.max() < 0.32 and rest.mean() > 0.4


def test_places_are_compared_on_the_body() -> None:
    surface, target = torch.zeros(1, 1, 2, 3), torch.tensor([[[[1.0, 2, 2], [9, 9, 9]]]])
    body = torch.tensor([[[True, False]]])
    assert surface_loss(surface, target, body).item() == 9
    assert surface_loss(surface, target, ~body & body).item() == 0


def test_parts_of_the_loss_are_weighted_and_summed_over_views_and_predictions() -> None:
    body = torch.tensor([[[True, False], [False, False]]])
    points = torch.zeros(1, 2, 2, 3)
    known = ViewTargets(points, torch.ones(1, 2, 2, dtype=torch.bool),
                        (torch.zeros(0, 2, 2, dtype=torch.bool),), points, body)
    view = output(points=torch.full((1, 2, 2, 3), 1 / sqrt(3)),
                  surface=torch.full((1, 2, 2, 3), 2.0))
    view = replace(view, earlier=(view.instances,))
    targets = PairTargets(known, known, (torch.zeros(0, 2, 2, dtype=torch.int64),))
    losses = human_loss((view, view), targets, CONFIG, torch.Generator())
    assert losses.points.item() == pytest.approx(2)
    assert losses.surface.item() == pytest.approx(2 * 12)
    assert losses.body.item() == pytest.approx(2 * log(2))
    assert losses.people.item() == pytest.approx(0.01 * 2 * 2 * 2 * log(2))
    assert losses.total.item() == pytest.approx(2 + 24 + 2.08 * log(2))
    # Views without people's annotations
    plain = replace(known, people=None, surface=None, body=None)
    losses = human_loss((view, view), replace(targets, first=plain, second=plain), CONFIG,
                        torch.Generator())
    assert losses.total.item() == pytest.approx(2)
