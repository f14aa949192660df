# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes predicted in pairs; each is encoded once for as long as it is in the window."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.core import pair_graph, reobservation
from recon3r_ros.core.archive import ArchivedView
from recon3r_ros.core.correspondence import correspond, Correspondence
from recon3r_ros.core.types import at, Keyframe
from recon3r_ros.inference.types import Encoding, Prediction, Predictor, View

Mask = NDArray[np.bool_]

#: Share of a partner's landmarks that a new keyframe should see
MIN_OVERLAP = 0.4
#: Standard deviation of the logarithm of a guessed focal length
FOCAL_SIGMA = 0.3
#: The same where predictions tell it
LEARNED_FOCAL_SIGMA = 0.05
#: Correspondences of keypoints, in both directions together, that make a pair
MIN_COMMON = 30
#: Focal lengths that are kept, the newest ones
MAX_FOCALS = 50


@dataclass(frozen=True, eq=False)
class Pair:
    """The predictions of a new keyframe with a partner, in the partner's frame and in its own."""

    partner: int
    forward: Prediction
    backward: Prediction
    of_new: Correspondence
    of_partner: Correspondence


class Pairing:
    """
    Encodes keyframes and predicts them.

    :param predictor: what predicts pointmaps
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.archive: dict[int, ArchivedView] = {}
        self._encodings: dict[int, Encoding] = {}
        self._focals: deque[float] = deque(maxlen=MAX_FOCALS)

    def encode(self, view: View) -> Encoding:
        """Encode a view that may become a keyframe."""
        return self.predictor.encode(view)

    def features(self, i: int) -> NDArray[np.float32] | None:
        """Return the features of a keyframe's patches, where the predictor has any."""
        return self._encodings[i].features if i in self._encodings else None

    def holds(self, i: int) -> bool:
        """Tell whether a keyframe's encoding is at hand."""
        return i in self._encodings

    def insert(self, i: int, encoding: Encoding) -> None:
        """Keep a keyframe's encoding."""
        self._encodings[i] = encoding

    def keep(self, window: Collection[int], everything: Collection[int]) -> None:
        """
        Let go of what is no longer needed.

        :param window: keyframes that keep their encodings
        :param everything: those that keep their images
        """
        self._encodings = {i: e for i, e in self._encodings.items() if i in window}
        self.archive = {i: v for i, v in self.archive.items() if i in everything}

    def with_partners(self, new: Keyframe, encoding: Encoding, keyframes: dict[int, Keyframe],
                      placed: bool, window: int, focal_factor: float
                      ) -> tuple[list[Pair], int | None]:
        """
        Predict a new keyframe with partners among all there are.

        :param placed: whether it is known where the new one is; else it is looked for by its looks
        :param window: newest keyframes that are too near to close a loop with
        :param focal_factor: see `predict`
        :return: pairs that show the same scene, and which partner closes a loop, if one does
        """
        ids = list(keyframes)

        def predict(partners: list[int]) -> list[Pair]:
            return self.predict(new, encoding, [keyframes[i] for i in partners], focal_factor)

        descriptors = [keyframes[i].descriptor for i in ids] + [new.descriptor]
        if placed:
            own = [i for i in ids if keyframes[i].camera_name == new.camera_name]
            partners = [own[p] for p in pair_graph.window_partners(len(own) + 1)]
            loop = pair_graph.loop_candidate(descriptors, window)
            pairs = predict([p for p in partners if p == own[-1] or _overlaps(keyframes[p], new)])
            loops = [] if loop is None else predict([ids[loop]])
            return pairs + loops, loops[0].partner if loops else None
        candidates = pair_graph.relocalisation_candidates(descriptors)
        recent = predict([ids[p] for p in candidates[:2]])
        return recent or predict([ids[p] for p in candidates[2:]]), None

    def predict(self, new: Keyframe, encoding: Encoding, partners: Sequence[Keyframe],
                focal_factor: float) -> list[Pair]:
        """
        Predict a new keyframe with others, all pairs at once.

        :param focal_factor: true over guessed focal length, as it is known now
        :return: those pairs that show the same scene
        """
        encodings = {k.id: self._encoding(k.id, focal_factor) for k in partners}
        # Those of a salvaged map may have been made of smaller images
        partners = [k for k in partners
                    if encodings[k.id].image.shape[:2] == k.image.shape[:2]]
        groups = []
        for partner in partners:
            groups += [(encodings[partner.id], encoding), (encoding, encodings[partner.id])]
        predictions = self.predictor.predict(groups)
        pairs = []
        for partner, forward, backward in zip(partners, predictions[::2], predictions[1::2]):
            pair = _pair(partner.id, forward, backward, encodings[partner.id], encoding)
            self._note_focal(forward, partner, focal_factor)
            self._note_focal(backward, new, focal_factor)
            common = sum(int((at(c.confidence, k.keypoints) > 0).sum())
                         for c, k in ((pair.of_new, new), (pair.of_partner, partner)))
            if common >= MIN_COMMON:
                pairs.append(pair)
        return pairs

    def predict_again(self, new: Keyframe, partners: Sequence[Keyframe]) -> list[Pair]:
        """
        Predict a keyframe with others once more, now that it is known what moves in each.

        :param new: with its mask, as the others; all still have their encodings
        """
        own = self._encodings[new.id]
        groups: list[tuple[Encoding, Encoding]] = []
        moving: list[tuple[Mask, Mask]] = []
        for partner in partners:
            other = self._encodings[partner.id]
            groups += [(other, own), (own, other)]
            moving += [(partner.mask, new.mask), (new.mask, partner.mask)]
        predictions = self.predictor.predict(groups, moving)
        return [_pair(partner.id, forward, backward, self._encodings[partner.id], own)
                for partner, forward, backward in zip(
                    partners, predictions[::2], predictions[1::2])]

    def predict_alone(self, keyframe: Keyframe, focal_factor: float) -> Prediction:
        """Predict what one view shows by itself."""
        prediction, = self.predictor.predict([(self._encodings[keyframe.id],)])
        self._note_focal(prediction, keyframe, focal_factor)
        return prediction

    def focal(self) -> float | None:
        """Logarithm of true over guessed focal length by the predictions, if they tell."""
        return float(np.median(self._focals)) if self._focals else None

    def focal_prior(self, focal_factor: float) -> tuple[float, float]:
        """Mean and sigma of the logarithm of what the focal length is still to change by."""
        focal = self.focal()
        if focal is None:
            return -float(np.log(focal_factor)), FOCAL_SIGMA
        return focal - float(np.log(focal_factor)), LEARNED_FOCAL_SIGMA

    def _encoding(self, i: int, focal_factor: float) -> Encoding:
        if i in self._encodings:
            return self._encodings[i]
        return self.predictor.encode(self.archive[i].view(focal_factor))

    def _note_focal(self, prediction: Prediction, first: Keyframe, focal_factor: float) -> None:
        if prediction.focal is not None:
            guess = first.camera.fx / focal_factor
            self._focals.append(float(np.log(prediction.focal / guess)))


def _overlaps(partner: Keyframe, new: Keyframe) -> bool:
    """Whether a keyframe shares enough with a new one, of known pose, to be predicted."""
    known = int((partner.landmarks > 0).sum())
    return known == 0 or len(reobservation.visible(partner, new)[0]) > MIN_OVERLAP * known


def _pair(partner: int, forward: Prediction, backward: Prediction, of_partner: Encoding,
          of_new: Encoding) -> Pair:
    return Pair(
        partner, forward, backward,
        correspond(forward.pointmaps[1], forward.confidences[1], of_partner.camera),
        correspond(backward.pointmaps[1], backward.confidences[1], of_new.camera))
