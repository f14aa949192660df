# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The losses of HAMSt3R (arXiv 2508.16433, section 3): points, descriptors, people, their surfaces.

Points and descriptors: 'DUSt3R' (Wang et al., CVPR 2024, equation 4), 'MASt3R' (Leroy et al., ECCV
2024, equations 9 to 12). People: 'Mask2Former' (Cheng et al., CVPR 2022, sections 3.3 and 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recon3r_ros.nets.hamst3r import HumanOutput, InstanceOutput, NOBODY, PERSON
from scipy.optimize import linear_sum_assignment
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, grid_sample


@dataclass(frozen=True)
class LossConfig:
    """
    Weights and numbers, with the values of the papers.

    :param matching: weight of the descriptors' loss against that of points
    :param people: weight of the instances' loss
    :param surface: weight of the places on the body
    :param body: weight of the mask of the body
    :param points_alpha: weight of the points' log-confidence
    :param matching_alpha: weight of the descriptors' log-confidence
    :param temperature: of the descriptors' similarity
    :param log_points: whether points are compared after `log_scaled`
    :param class_weight: of a query's class, in cost and loss
    :param mask_weight: of the binary cross-entropy of its mask, and of the dice loss
    :param nobody_weight: of queries that have no person, among those of the class
    :param samples: points at which masks are compared
    :param oversampling: of the points that the least certain are chosen from
    :param uncertain: share of the points that is chosen so
    """

    matching: float = 0.075
    people: float = 0.01
    surface: float = 1.0
    body: float = 1.0
    points_alpha: float = 0.2
    matching_alpha: float = 10.0
    temperature: float = 0.05
    log_points: bool = False
    class_weight: float = 2.0
    mask_weight: float = 5.0
    nobody_weight: float = 0.1
    samples: int = 112 ** 2
    oversampling: int = 3
    uncertain: float = 0.75


@dataclass(frozen=True, eq=False)
class ViewTargets:
    """
    What is true of a view.

    :param points: (B, H, W, 3) in the first camera's frame, metres
    :param valid: (B, H, W) bool, where points are known
    :param people: for each image the silhouettes (P, H, W) bool of its people, hair and clothes
        included; None where they are not annotated
    :param surface: (B, H, W, 3) in [0, 1], place on the body; None as `people`
    :param body: (B, H, W) bool, where `surface` is known: bare surface of the body; None as
        `people`
    """

    points: Tensor
    valid: Tensor
    people: tuple[Tensor, ...] | None = None
    surface: Tensor | None = None
    body: Tensor | None = None


@dataclass(frozen=True, eq=False)
class PairTargets:
    """
    What is true of pairs of views.

    :param first: of the first views
    :param second: of the second ones
    :param matches: for each pair (M, 2, 2) int64, pixels (u, v) of a point in the first view and
        in the second
    """

    first: ViewTargets
    second: ViewTargets
    matches: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Losses:
    """
    Parts of the loss, weighted; scalars.

    :param points: of points and their confidence
    :param matching: of descriptors
    :param people: of instances
    :param surface: of places on the body
    :param body: of its mask
    """

    points: Tensor
    matching: Tensor
    people: Tensor
    surface: Tensor
    body: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.points + self.matching + self.people + self.surface + self.body


def human_loss(views: tuple[HumanOutput, HumanOutput], targets: PairTargets,
               config: LossConfig, generator: torch.Generator) -> Losses:
    """
    Compute the loss of pairs: of both views, and of every prediction of people.

    :param views: output of the network
    :param targets: for them
    :param config: weights
    :param generator: of the points at which masks are compared
    """
    zero = views[0].points.new_zeros(())
    points, people, surface, body = zero, zero, zero, zero
    for view, true in zip(views, (targets.first, targets.second)):
        points = points + regression_loss(view.points, view.confidence, true.points, true.valid,
                                          config.points_alpha, config.log_points)
        if true.people is not None:
            for found in (*view.earlier, view.instances):
                people = people + people_loss(found, true.people, config, generator)
        if true.surface is not None and true.body is not None:
            surface = surface + surface_loss(view.surface, true.surface, true.body)
            body = body + binary_cross_entropy_with_logits(
                view.surface_logits, true.body.to(view.surface_logits.dtype))
    return Losses(points, config.matching * matching_loss(views, targets.matches, config),
                  config.people * people, config.surface * surface, config.body * body)


def regression_loss(points: Tensor, confidence: Tensor, target: Tensor, valid: Tensor,
                    alpha: float, log_points: bool = False) -> Tensor:
    """
    Distance of points, weighted by a confidence that costs: mean of c d - alpha log c.

    :param points: (B, H, W, 3)
    :param confidence: (B, H, W), > 0
    :param target: (B, H, W, 3)
    :param valid: (B, H, W) bool
    :param alpha: what confidence is worth
    :param log_points: whether both are scaled by `log_scaled`
    :return: a scalar, 0 where nothing is valid
    """
    if log_points:
        points, target = log_scaled(points), log_scaled(target)
    distance = (points - target)[valid].norm(dim=-1)
    sure = confidence[valid]
    return (sure * distance - alpha * sure.log()).sum() / max(distance.numel(), 1)


def log_scaled(points: Tensor) -> Tensor:
    """Shorten vectors (..., 3) from length l to log(1 + l)."""
    length = points.norm(dim=-1, keepdim=True).clamp(min=1e-8)
    return points * (length.log1p() / length)


def matching_loss(views: tuple[HumanOutput, HumanOutput], matches: Sequence[Tensor],
                  config: LossConfig) -> Tensor:
    """
    InfoNCE of descriptors in both directions, weighted as `regression_loss` is.

    Each pixel of a match is to be more similar to its partner than to all other pixels of the
    matches (MASt3R, equations 10 and 11), its descriptor's confidence being the weight.

    :param views: with descriptors (B, H, W, D), of unit length
    :param matches: for each pair (M, 2, 2) int64 pixels (u, v)
    :return: a scalar, the mean over directions and pairs that have matches
    """
    found = []
    for n, pixels in enumerate(matches):
        if not len(pixels):
            continue
        described, weights = [], []
        for k, view in enumerate(views):
            assert view.descriptors is not None and view.descriptor_confidence is not None
            u, v = pixels[:, k].unbind(1)
            described.append(view.descriptors[n, v, u])
            weights.append(view.descriptor_confidence[n, v, u])
        similar = described[0] @ described[1].T / config.temperature  # (M, M)
        own = torch.arange(len(pixels), device=similar.device)
        for logits, sure in ((similar, weights[0]), (similar.T, weights[1])):
            lost = cross_entropy(logits, own, reduction='none')
            found.append((sure * lost - config.matching_alpha * sure.log()).mean() / 2)
    if not found:
        return views[0].points.new_zeros(())
    return torch.stack(found).sum() / (len(found) / 2)


def people_loss(found: InstanceOutput, people: Sequence[Tensor], config: LossConfig,
                generator: torch.Generator) -> Tensor:
    """
    Loss of a prediction, each person assigned to a query.

    :param found: for B images
    :param people: for each image (P, H, W) bool; P <= queries
    :param config: weights
    :param generator: on the CPU
    :return: a scalar
    """
    wanted = torch.full(found.classes.shape[:2], NOBODY, device=found.classes.device)
    crosses, dices = [], []
    for n, silhouettes in enumerate(people):
        if not len(silhouettes):
            continue
        true = silhouettes.to(found.masks.dtype)
        where = _random(len(true), config.samples, generator, true.device)[:1]
        queries, persons = assigned(
            found.classes[n].detach(), _sampled(found.masks[n].detach(), where),
            _sampled(true, where), config)
        wanted[n, queries] = PERSON
        logits, true = found.masks[n][queries], true[persons]
        where = uncertain_points(logits.detach(), config, generator)
        at, expected = _sampled(logits, where), _sampled(true, where)
        crosses.append(_cross_entropies(at, expected).sum())
        dices.append(dice(at, expected).sum())
    count = max(sum(len(p) for p in people), 1)
    weights = found.classes.new_ones(2)
    weights[NOBODY] = config.nobody_weight
    loss = config.class_weight * cross_entropy(found.classes.flatten(0, 1), wanted.flatten(),
                                               weights)
    for parts in (crosses, dices):
        if parts:
            loss = loss + config.mask_weight * torch.stack(parts).sum() / count
    return loss


def assigned(classes: Tensor, masks: Tensor, people: Tensor, config: LossConfig
             ) -> tuple[Tensor, Tensor]:
    """
    Assign every person to a query of its own, at the least total cost (Hungarian method).

    :param classes: (Q, 2) logits
    :param masks: (Q, S) logits at points of the image
    :param people: (P, S) in [0, 1], the silhouettes there
    :param config: weights of the cost, which are those of the loss
    :return: queries (P,) and people (P,), int64
    """
    cost = (-config.class_weight * classes.log_softmax(-1)[:, PERSON, None]
            + config.mask_weight * (_cross_entropies(masks[:, None], people)
                                    + dice(masks[:, None], people)))  # (Q, P)
    queries, persons = linear_sum_assignment(cost.cpu().numpy())
    return (torch.as_tensor(queries, device=masks.device),
            torch.as_tensor(persons, device=masks.device))


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """
    Dice loss, 1 - (2 p t + 1) / (p + t + 1) with sums over the last axis.

    :param logits: (..., S)
    :param target: (..., S) in [0, 1]
    :return: (...)
    """
    p = logits.sigmoid()
    return 1 - (2 * (p * target).sum(-1) + 1) / (p.sum(-1) + target.sum(-1) + 1)


def surface_loss(surface: Tensor, target: Tensor, body: Tensor) -> Tensor:
    """
    Squared distance of places on the body, the mean over its pixels.

    :param surface: (B, H, W, 3)
    :param target: (B, H, W, 3)
    :param body: (B, H, W) bool
    :return: a scalar, 0 where no pixel shows a body
    """
    squares = (surface - target)[body].square().sum(-1)
    return squares.sum() / max(squares.numel(), 1)


def uncertain_points(logits: Tensor, config: LossConfig, generator: torch.Generator) -> Tensor:
    """
    Draw points of an image, most of them where masks are least certain (PointRend, CVPR 2020).

    :param logits: (P, h, w)
    :param config: numbers
    :param generator: on the CPU
    :return: (P, S, 2), x and y in [-1, 1] from edge to edge
    """
    count = len(logits)
    drawn = _random(count, config.oversampling * config.samples, generator, logits.device)
    kept = int(config.uncertain * config.samples)
    nearest = _sampled(logits, drawn).abs().topk(kept, largest=False).indices  # (P, kept)
    return torch.cat([drawn.gather(1, nearest[..., None].expand(-1, -1, 2)),
                      _random(count, config.samples - kept, generator, logits.device)], 1)


def _cross_entropies(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy (...) over the last axis of (..., S)."""
    logits, target = torch.broadcast_tensors(logits, target)
    return binary_cross_entropy_with_logits(logits, target, reduction='none').mean(-1)


def _random(count: int, samples: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(count, samples, 2, generator=generator).to(device) * 2 - 1


def _sampled(maps: Tensor, where: Tensor) -> Tensor:
    """Interpolate maps (P, h, w) at points (P or 1, S, 2), to (P, S)."""
    grid = where.to(maps.dtype).expand(len(maps), -1, -1)[:, None]
    return grid_sample(maps[:, None], grid, mode='bilinear', padding_mode='border',
                       align_corners=False)[:, 0, 0]
