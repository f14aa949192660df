# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Depth predicted by a network: it needs no parallax, only a scale.

Each prediction, of a pair or a whole window, has one unit of length of its own. The landmarks of
all its keyframes, which bundle adjustment refines, estimate its scale in the map; in turn
predicted depths are priors of the landmarks, which matter where parallax is small.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.models.types import Prediction
from recon3r_ros.slam.backend.depth import ImageVote, Vote
from recon3r_ros.slam.pair_table import PairTable
from recon3r_ros.slam.types import at, Keyframe

Array = NDArray[np.float64]

NOTHING: Mapping[int, Keyframe] = MappingProxyType({})
#: Least landmarks to estimate the scale of a prediction
MIN_LANDMARKS = 15
#: Errors of neighbouring pixels are correlated: the inverse variance of a predicted depth is
#: limited to this, a relative error of a tenth
MAX_INFORMATION = 100.0
#: Inverse variance of the relative depth below which a pixel's depth is not used for landmarks
MIN_INFORMATION = 25.0


@dataclass(frozen=True, eq=False)
class LearnedDepth:
    """
    A keyframe's depth in one prediction.

    :param depth: (H, W) float32 along the optical axis, in the prediction's unit
    :param confidence: (H, W) float32, inverse variance of the relative depth
    :param metric: whether that unit is the metre
    :param window: that it is of, see `Pair`
    """

    depth: NDArray[np.float32]
    confidence: NDArray[np.float32]
    metric: bool = False
    window: int | None = None

    @classmethod
    def of(cls, prediction: Prediction, window: int | None = None) -> LearnedDepth:
        """Take the depth of a prediction's first view, in whose frame it is given."""
        return cls(prediction.pointmaps[0][..., 2], prediction.confidences[0], prediction.metric,
                   window)

    def at(self, pixels: NDArray[np.int32]) -> tuple[Array, Array]:
        """Depth and confidence (K,) at pixels (K, 2); a confidence of 0 where unusable."""
        depth, confidence = (at(f, pixels).astype(float) for f in (self.depth, self.confidence))
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
    weights = np.cumsum(np.minimum(confidences[use][order], MAX_INFORMATION))
    return float(np.exp(ratios[order][np.searchsorted(weights, weights[-1] / 2)]))


def length_of(partners: Sequence[tuple[Keyframe, Prediction]], T_map_cam: Array) -> float | None:
    """
    Length of the unit of a view's predictions in map units, by its partners' landmarks.

    :param partners: with the predictions of both, in the view's frame, in one unit of length
    :param T_map_cam: (4, 4) pose of the view
    :return: None where too few landmarks are predicted
    """
    depths, confidences, known = [], [], []
    for partner, prediction in partners:
        use = partner.landmarks > 0
        points = se3.transform(se3.inverse(T_map_cam) @ partner.T_map_cam,
                               partner.landmark_points()[use])
        confidence = at(prediction.confidences[1], partner.keypoints)[use].astype(float)
        depths.append(at(prediction.pointmaps[1], partner.keypoints)[use][:, 2].astype(float))
        confidences.append(np.where(confidence > MIN_INFORMATION, confidence, 0.0))
        known.append(points[:, 2])
    return unit(*(np.concatenate(values) for values in (depths, confidences, known)))


def in_scale_of(partners: Sequence[tuple[Keyframe, Prediction]], new: Keyframe) -> Array:
    """
    Initialise a new keyframe's landmarks with predicted depth, in its partners' scale.

    :param partners: with the predictions of both, in the new one's frame, in one unit of length
    :return: inverse depths (K,), unchanged where none is predicted, and on dynamic objects
    """
    length = length_of(partners, new.T_map_cam)
    if length is None:
        return new.landmarks
    own, sure = LearnedDepth.of(partners[0][1]).at(new.keypoints)
    take = (new.landmarks == 0) & (sure > 0) & ~at(new.mask, new.keypoints)
    return np.where(take, 1 / (length * np.where(take, own, 1.0)), new.landmarks)


class LearnedDepths:
    """Predicted depths of the window's keyframes."""

    def __init__(self) -> None:
        self._known: PairTable[LearnedDepth] = PairTable()

    def copy(self) -> LearnedDepths:
        """Return an independent copy."""
        out = LearnedDepths()
        out._known = self._known.copy()
        return out

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Keyframes and their partners."""
        return list(self._known)

    def add(self, i: int, partner: int, learned: LearnedDepth) -> None:
        """Add the depth of keyframe i by a prediction with a partner, or with itself."""
        self._known[i, partner] = learned

    def forget(self, i: int) -> None:
        """Drop a keyframe."""
        self._known.forget(i)

    def keep(self, window: Collection[int]) -> None:
        """Drop all keyframes but these."""
        self._known.keep_own(window)

    def prior(self, keyframe: Keyframe, keyframes: Mapping[int, Keyframe] = NOTHING
              ) -> tuple[Array, Array]:
        """
        Combine the predicted depths of a keyframe's landmarks.

        :param keyframes: those that it may share windows with
        :return: inverse depths (K,) in map units, and their information (K,), 0 where there is
            none
        """
        pixels = keyframe.keypoints
        total, weighted = np.zeros(len(pixels)), np.zeros(len(pixels))
        scaled = self._scaled(keyframe, keyframes)
        for learned, length in scaled:
            depths, confidences = learned.at(pixels)
            total += confidences
            weighted += confidences * -np.log(length * np.where(depths > 0, depths, 1.0))
        # Errors of predictions of one image are correlated: information is averaged, not summed
        information = total / max(len(scaled), 1)
        return (np.exp(weighted / np.maximum(total, 1e-9)),
                information / (1 + information / MAX_INFORMATION))

    def votes(self, keyframe: Keyframe, keyframes: Mapping[int, Keyframe] = NOTHING
              ) -> list[Vote]:
        """Return each prediction's estimate of a keyframe's depths, in map units; see `prior`."""
        scaled = self._scaled(keyframe, keyframes)
        votes: list[Vote] = []
        for learned, length in scaled:
            inverse = 1 / (length * np.where(learned.depth > 0, learned.depth, np.inf))
            # As for the prior: together they have the confidence of one
            votes.append(ImageVote(inverse.astype(np.float32),
                                   learned.confidence / np.float32(len(scaled))))
        return votes

    def metres(self, keyframe: Keyframe, keyframes: Mapping[int, Keyframe] = NOTHING
               ) -> list[float]:
        """Return the length of a map unit by each prediction that is metric; see `prior`."""
        return [1 / length for learned, length in self._scaled(keyframe, keyframes)
                if learned.metric]

    def _scaled(self, keyframe: Keyframe, keyframes: Mapping[int, Keyframe]
                ) -> list[tuple[LearnedDepth, float]]:
        """Return a keyframe's predictions, one a window, and their units in map units."""
        own = {(partner if learned.window is None else None, learned.window): learned
               for partner, learned in self._known.of(keyframe.id)}
        lengths = [(learned, self._unit(learned, keyframe, keyframes)) for learned in own.values()]
        return [(learned, length) for learned, length in lengths if length is not None]

    def _unit(self, learned: LearnedDepth, keyframe: Keyframe, keyframes: Mapping[int, Keyframe]
              ) -> float | None:
        """Length of a prediction's unit in map units, by the landmarks of all its keyframes."""
        views = {keyframe.id: (keyframe, learned)}
        if learned.window is not None:
            views |= {i: (keyframes[i], other) for (i, _), other in self._known.items()
                      if other.window == learned.window and i in keyframes and i not in views}
        depths, confidences = zip(*(view.at(k.keypoints) for k, view in views.values()))
        known = [1 / np.where(k.landmarks > 0, k.landmarks, -1) for k, _ in views.values()]
        return unit(np.concatenate(depths), np.concatenate(confidences), np.concatenate(known))
