# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which detections of people are the same person: in several pairs of an image, and in two views.

HAMSt3R (arXiv 2508.16433) joins detections of one image by their overlap. Across the views of a
pair, matches of descriptors join them here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Labels = NDArray[np.int16]

#: Least intersection over union of two masks of one person in one image
MIN_OVERLAP = 0.5
#: Least share of the smaller mask's samples whose matches lie in the other mask
MIN_JOINED = 0.2
#: Greatest median distance of joined points, metres; or relative to the scene's median depth
MAX_DISTANCE, MAX_RELATIVE = 0.5, 0.05


@dataclass(frozen=True, order=True)
class Detection:
    """
    An instance of one view of one pair.

    :param view: of the window
    :param pair: number of the pair
    :param side: 0 where the view is the first of the pair, else 1
    :param label: of the instance
    """

    view: int
    pair: int
    side: int
    label: int


@dataclass(frozen=True)
class Link:
    """
    Two detections that may be one person.

    :param score: in [0, 1], how much speaks for it
    """

    score: float
    one: Detection
    other: Detection


def overlaps(one: Labels, other: Labels) -> dict[tuple[int, int], float]:
    """
    Find people that two detections of one image share.

    :param one: (H, W), 0 nobody
    :param other: (H, W)
    :return: intersection over union by labels in both; each label once
    """
    rows, columns = int(one.max(initial=0)), int(other.max(initial=0))
    joint = np.bincount((one.astype(np.int64) * (columns + 1) + other).ravel(),
                        minlength=(rows + 1) * (columns + 1)).reshape(rows + 1, columns + 1)
    union = joint.sum(1, keepdims=True) + joint.sum(0) - joint
    return _best(joint[1:, 1:] / np.maximum(union[1:, 1:], 1), MIN_OVERLAP)


def joined(labels: tuple[Labels, Labels], pixels: tuple[NDArray[np.int64], NDArray[np.int64]],
           points: tuple[NDArray[np.float32], NDArray[np.float32]], stride: int,
           metric: bool) -> dict[tuple[int, int], float]:
    """
    Find people whom matches join across the two views of a pair.

    :param labels: (H, W) of either view, 0 nobody
    :param pixels: (M, 2) matches (u, v) in either view
    :param points: (H, W, 3) of either view, in the first camera's frame
    :param stride: of the pixels that matching started from
    :param metric: whether points are in metres
    :return: score by labels in both views; each label once
    """
    at = [(p[:, 1], p[:, 0]) for p in pixels]
    own = [image[place].astype(np.int64) for image, place in zip(labels, at)]
    gaps = np.linalg.norm(points[0][at[0]] - points[1][at[1]], axis=1)
    limit = MAX_DISTANCE if metric else MAX_RELATIVE * float(np.median(points[0][..., 2]))
    counts = [np.bincount(image[stride // 2::stride, stride // 2::stride].ravel(),
                          minlength=int(image.max(initial=0)) + 1) for image in labels]
    scores = np.zeros((len(counts[0]) - 1, len(counts[1]) - 1))
    for i in range(1, len(counts[0])):
        for j in range(1, len(counts[1])):
            both = (own[0] == i) & (own[1] == j)
            if both.any() and float(np.median(gaps[both])) < limit:
                samples = max(min(counts[0][i], counts[1][j]), 1)
                scores[i - 1, j - 1] = min(both.sum() / samples, 1.0)
    return _best(scores, MIN_JOINED)


def persons(detections: Sequence[Detection], links: Iterable[Link]) -> dict[Detection, int]:
    """
    Assign a number, from 1, to every person of a window.

    The strongest links first; one that would make two instances of a view and pair one person is
    dropped.

    :param detections: all of them
    :param links: between them
    """
    groups: dict[Detection, set[Detection]] = {d: {d} for d in detections}
    for link in sorted(links, key=lambda link: (-link.score, link.one, link.other)):
        one, other = groups[link.one], groups[link.other]
        seen = {(d.view, d.pair, d.side) for d in one}
        if one is other or seen & {(d.view, d.pair, d.side) for d in other}:
            continue
        one |= other
        for member in other:
            groups[member] = one
    numbers: dict[int, int] = {}
    return {d: numbers.setdefault(id(groups[d]), len(numbers) + 1) for d in sorted(groups)}


def _best(scores: NDArray[np.float64], least: float) -> dict[tuple[int, int], float]:
    """Assign rows to columns at the largest sum of scores (Hungarian method)."""
    scores = np.where(scores >= least, scores, 0.0)
    rows, columns = linear_sum_assignment(scores, maximize=True)
    return {(int(i) + 1, int(j) + 1): float(scores[i, j])
            for i, j in zip(rows, columns) if scores[i, j] > 0}
