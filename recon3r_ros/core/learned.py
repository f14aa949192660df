# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Depth that a network read off images: it needs no parallax, only a scale.

Each prediction has a unit of length of its own. Landmarks, which bundle adjustment refines, say
how long it is in the map; in turn they are held near what was learned where no parallax tells
more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.inference.types import Prediction

Array = NDArray[np.float64]

#: Landmarks that tell the scale of a prediction, at least
MIN_LANDMARKS = 15
#: Relative error that neighbouring pixels share, which no number of landmarks averages out
SYSTEMATIC = 0.1
#: Inverse variance of the relative depth below which a pixel's depth is no landmark's
MIN_INFORMATION = 25.0


@dataclass(frozen=True, eq=False)
class LearnedDepth:
    """
    A keyframe's depth as one prediction has it.

    :param depth: (H, W) float32 along the optical axis, in the prediction's unit
    :param confidence: (H, W) float32, inverse variance of the relative depth
    :param metric: whether that unit is the metre
    """

    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    metric: bool = False

    @classmethod
    def of(cls, prediction: Prediction) -> LearnedDepth:
        """Take the depth of a prediction's first view, in whose frame it is given."""
        return cls(prediction.pointmaps[0][..., 2], prediction.confidences[0], prediction.metric)

    def at(self, pixels: NDArray[np.int32]) -> tuple[Array, Array]:
        """Depth and confidence (K,) at pixels (K, 2); a confidence of 0 where it is not to use."""
        depth = self.depth[pixels[:, 1], pixels[:, 0]].astype(float)
        confidence = self.confidence[pixels[:, 1], pixels[:, 0]].astype(float)
        return depth, np.where((depth > 0) & (confidence > MIN_INFORMATION), confidence, 0.0)


def unit(depths: Array, confidences: Array, known: Array) -> float | None:
    """
    Length of a prediction's unit in map units.

    :param depths: (K,) predicted
    :param confidences: (K,) 0 where there is none
    :param known: (K,) depths in map units, not positive where they are unknown
    :return: the confidence-weighted median of the ratios, or None where there are too few
    """
    use = (confidences > 0) & (depths > 0) & (known > 0)
    if use.sum() < MIN_LANDMARKS:
        return None
    ratios = np.log(known[use] / depths[use])
    order = np.argsort(ratios)
    weights = np.cumsum(np.minimum(confidences[use][order], 1 / SYSTEMATIC ** 2))
    return float(np.exp(ratios[order][np.searchsorted(weights, weights[-1] / 2)]))


def prior(learned: Sequence[LearnedDepth], pixels: NDArray[np.int32], landmarks: Array
          ) -> tuple[Array, Array]:
    """
    Sum up what several predictions say of a keyframe's landmarks.

    :param landmarks: (K,) inverse depths in map units, 0 where unknown
    :return: inverse depths (K,) in map units, and their information (K,), 0 where there is none
    """
    total, weighted = np.zeros(len(landmarks)), np.zeros(len(landmarks))
    known = 1 / np.where(landmarks > 0, landmarks, -1)
    count = 0
    for prediction in learned:
        depths, confidences = prediction.at(pixels)
        length = unit(depths, confidences, known)
        if length is None:
            continue
        count += 1
        total += confidences
        weighted += confidences * -np.log(length * np.where(depths > 0, depths, 1.0))
    # Predictions of one image err alike: they are averaged, not added up
    information = total / max(count, 1)
    information = information / (1 + information * SYSTEMATIC ** 2)
    return np.exp(weighted / np.maximum(total, 1e-9)), information
