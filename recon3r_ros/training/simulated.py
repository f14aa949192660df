# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs of simulated views of one instant, with all that HAMSt3R is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.sim.people_truth import people_truth
from recon3r_ros.sim.render import SimulatedFrame, SimulatedSequence
from recon3r_ros.training.losses import PairTargets, ViewTargets
import torch
from torch import Tensor

#: A person with fewer pixels is no target
_LEAST_PIXELS = 12
#: Depths of one surface differ by less than this factor
_SAME_DEPTH = 1.03


@dataclass(frozen=True, eq=False)
class Batch:
    """
    Pairs of views.

    :param first: (B, 3, H, W) images in [-1, 1]
    :param second: (B, 3, H, W) images in [-1, 1]
    :param targets: for them
    """

    first: Tensor
    second: Tensor
    targets: PairTargets


def simulated_batch(sequences: Sequence[SimulatedSequence], indices: Sequence[int],
                    T_cam_other: NDArray[np.float64], most: int = 256) -> Batch:
    """
    Render a pair of views for each sequence and each index: a rig of two cameras.

    Both cameras see the same instant, so that people have one pose in a pair.

    :param sequences: of images of one size, whose sides are multiples of 14
    :param indices: of frames
    :param T_cam_other: (4, 4) pose of the second camera in the first one's frame, metres
    :param most: matches of a pair
    """
    firsts, seconds, matches = [], [], []
    for sequence in sequences:
        other = sequence.seen_by(T_cam_other)
        for index in indices:
            a, b = sequence.render(index), other.render(index)
            T_first_second = se3.inverse(a.T_world_cam) @ b.T_world_cam
            firsts.append(_view(sequence, a, np.eye(4)))
            seconds.append(_view(other, b, T_first_second))
            matches.append(torch.from_numpy(_matches(sequence, a, b, T_first_second, most)))
    (image1, target1), (image2, target2) = (_stacked(views) for views in (firsts, seconds))
    return Batch(image1, image2, PairTargets(target1, target2, tuple(matches)))


def _view(sequence: SimulatedSequence, frame: SimulatedFrame, T_first_cam: NDArray[np.float64]
          ) -> tuple[Tensor, ViewTargets]:
    """Make the image (3, H, W) and the targets of one view."""
    height, width = frame.depth.shape
    rays = sequence.camera.unproject(pixel_grid(height, width))
    points = se3.transform(T_first_cam, rays * frame.depth[..., None]).astype(np.float32)
    truth = people_truth(sequence, frame)
    silhouettes = [truth.instances == n for n in np.unique(truth.instances) if n
                   and (truth.instances == n).sum() >= _LEAST_PIXELS]
    people = (np.stack(silhouettes) if silhouettes else np.zeros((0, height, width), bool))
    image = torch.from_numpy(frame.image).permute(2, 0, 1) / 127.5 - 1
    return image, ViewTargets(
        torch.from_numpy(points), torch.ones(height, width, dtype=torch.bool),
        (torch.from_numpy(people),), torch.from_numpy(truth.surface),
        torch.from_numpy(truth.part > 0))


def _stacked(views: Sequence[tuple[Tensor, ViewTargets]]) -> tuple[Tensor, ViewTargets]:
    images, targets = zip(*views)
    points, valid, surface, body = (torch.stack([getattr(t, name) for t in targets])
                                    for name in ('points', 'valid', 'surface', 'body'))
    people = tuple(person for t in targets for person in t.people)
    return torch.stack(images), ViewTargets(points, valid, people, surface, body)


def _matches(sequence: SimulatedSequence, a: SimulatedFrame, b: SimulatedFrame,
             T_a_b: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Pixels (M, 2, 2) that show the same point in both views, evenly chosen."""
    height, width = a.depth.shape
    pixels = pixel_grid(height, width).reshape(-1, 2)
    points = se3.transform(
        se3.inverse(T_a_b), sequence.camera.unproject(pixels) * a.depth.reshape(-1, 1))
    ahead = points[:, 2] > 0
    with np.errstate(divide='ignore', invalid='ignore'):
        there = np.rint(np.where(ahead[:, None], sequence.camera.project(points), -1))
    inside = ahead & np.all((there >= 0) & (there < [width, height]), axis=1)
    u, v = there[inside].astype(np.int64).T
    ratio = points[inside, 2] / b.depth[v, u]
    same = ((ratio < _SAME_DEPTH) & (ratio > 1 / _SAME_DEPTH)
            & (b.object_index[v, u] == a.object_index.reshape(-1)[inside]))
    pairs = np.stack([pixels[inside].astype(np.int64), np.stack([u, v], 1)], 1)[same]
    # One partner each: several pixels may round to one
    _, unique = np.unique(pairs[:, 1], axis=0, return_index=True)
    pairs = pairs[np.sort(unique)]
    return pairs[np.unique(np.linspace(0, len(pairs) - 1, most).astype(int))] if len(
        pairs) else pairs
