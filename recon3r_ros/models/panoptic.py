# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From the masks and classes of queries to one class and one object for each pixel.

'Per-Pixel Classification is Not All You Need for Semantic Segmentation' (Cheng et al., NeurIPS
2021, section 3.3), over all views of a group at once, as SIU3R does it (section 3.3).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.models.types import ViewLabels
import torch
from torch import Tensor
from torch.nn.functional import interpolate

#: Probability above which a query's class is taken
SURE = 0.5
#: Share of a query's own mask that it has to win from the others
_WON = 0.8
_INSIDE = 0.5
#: Size of the images that networks are trained with, at which masks become probabilities
_SIZE = (256, 256)


@dataclass(frozen=True)
class Segment:
    """
    An object, or a part of what is no object.

    :param id: from 1; of several views
    :param label: class, from 0
    :param score: probability of the class
    :param fused: whether its class is no objects, whose segments have one id
    """

    id: int
    label: int
    score: float
    fused: bool


@dataclass(frozen=True, eq=False)
class Panoptic:
    """
    Segments of a group of views.

    :param segmentation: (V, H, W) int32 ids of segments, 0 where there is none
    :param segments: in the order of the queries
    :param probability: (V, H, W) float32 of class and mask, 0 where there is no segment
    """

    segmentation: NDArray[np.int32]
    segments: tuple[Segment, ...]
    probability: NDArray[np.float32]


def segmented(classes: Tensor, masks: Tensor, size: tuple[int, int], stuff: Collection[int],
              sure: float = SURE) -> Panoptic:
    """
    Decide which query each pixel belongs to.

    :param classes: (Q, C + 1) logits; 'no object' is the last
    :param masks: (Q, V, h, w) logits
    :param size: rows and columns of the result
    :param stuff: classes that are no objects
    :param sure: probability above which a query's class is taken
    """
    scores, labels = classes.softmax(-1).max(-1)
    kept = torch.nonzero((labels < classes.shape[1] - 1) & (scores > sure))[:, 0]
    ids = torch.zeros((masks.shape[1], *size), dtype=torch.int32)
    probability = torch.zeros(ids.shape)
    segments: list[Segment] = []
    if len(kept) == 0:
        return Panoptic(ids.numpy(), (), probability.numpy())
    # Probabilities are interpolated, not logits: the order matters
    inside = interpolate(masks[kept], _SIZE, mode='bilinear').sigmoid()
    inside = interpolate(inside, size, mode='bilinear')
    weighted = scores[kept, None, None, None] * inside
    most, winner = weighted.max(0)
    shared: dict[int, int] = {}
    for n, (score, label) in enumerate(zip(scores[kept].tolist(), labels[kept].tolist())):
        won, own = winner == n, int((weighted[n] >= _INSIDE).sum())
        count = int(won.sum())
        if not count or not own or count / own <= _WON:
            continue
        new = 1 + max((s.id for s in segments), default=0)
        fused = label in stuff
        segment = Segment(shared.setdefault(label, new) if fused else new, label, score, fused)
        segments.append(segment)
        ids[won] = segment.id
        probability[won] = most[won]
    return Panoptic(ids.numpy(), tuple(segments), probability.numpy())


def labels_of(found: Panoptic) -> tuple[ViewLabels, ...]:
    """
    Return the classes of each view's pixels, numbered from 1, and its objects.

    What is no object, such as walls, has a class alone.
    """
    count = 1 + max((s.id for s in found.segments), default=0)
    classes, objects = np.zeros(count, np.uint8), np.zeros(count, np.uint16)
    for segment in found.segments:
        classes[segment.id] = segment.label + 1
        objects[segment.id] = 0 if segment.fused else segment.id
    return tuple(ViewLabels(classes[ids], sure, objects[ids])
                 for ids, sure in zip(found.segmentation, found.probability))
