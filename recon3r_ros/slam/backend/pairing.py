# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Keyframes predicted in pairs or windows; each is encoded once for as long as it is in the window.

A predictor's memory of a window's views is a value of the map's state: a rejected keyframe does
not change it, and a loaded map computes it again.

A prediction of a window is a hyper-edge: its views have one frame and one scale. It is split into
the pairs of its new view with each partner, which keep its one unit of length: all views that
window and map share align the window to the map jointly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.pointmaps import as_pair
from recon3r_ros.models.types import Encoding, MapPrior, Prediction, Predictor, View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend import pair_graph
from recon3r_ros.slam.backend.correspondence import correspond, tracked
from recon3r_ros.slam.types import at, Correspondence, Keyframe, Pair
from recon3r_ros.slam.visibility import visible

Mask = NDArray[np.bool_]

#: Share of a partner's landmarks that should be visible in a new keyframe
MIN_OVERLAP = 0.4
#: Standard deviation of the logarithm of an initial focal length
FOCAL_SIGMA = 0.3
#: The same where predictions estimate it
LEARNED_FOCAL_SIGMA = 0.05
#: Least correspondences of keypoints of a pair, in both directions together
MIN_COMMON = 30
#: Newest focal lengths that are kept
MAX_FOCALS = 50


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
        # Of each camera's present window, by keyframe, oldest first
        self._memory: dict[str, dict[int, Any]] = {}
        self._windows = 0

    def copy(self) -> Pairing:
        """Return an independent copy; the predictor is shared."""
        out = Pairing(self.predictor)
        out.archive, out._encodings = dict(self.archive), dict(self._encodings)
        out._windows = self._windows
        out._focals, out._memory = (
            self._focals.copy(), {c: dict(m) for c, m in self._memory.items()})
        return out

    def encode(self, view: View) -> Encoding:
        """Encode a view that may become a keyframe."""
        return self.predictor.encode(view)

    def features(self, i: int) -> NDArray[np.float32] | None:
        """Return the features of a keyframe's patches, where the predictor has any."""
        return self._encodings[i].features if i in self._encodings else None

    def holds(self, i: int) -> bool:
        """Tell whether a keyframe's encoding is kept."""
        return i in self._encodings

    def insert(self, i: int, encoding: Encoding) -> None:
        """Keep a keyframe's encoding."""
        self._encodings[i] = encoding

    def keep(self, window: Collection[int], everything: Mapping[int, Keyframe]) -> None:
        """
        Drop what is no longer needed.

        :param window: keyframes that keep their encodings, with those of each camera's window
        :param everything: those that keep their images
        """
        together = self.predictor.together
        if together is not None:
            cameras: dict[str, list[int]] = {}
            for i in sorted(everything):
                cameras.setdefault(everything[i].camera_name, []).append(i)
            window = set(window).union(
                *(ids[1 - together.window.size:] for ids in cameras.values()))
        self._encodings = {i: e for i, e in self._encodings.items() if i in window}
        self.archive = {i: v for i, v in self.archive.items() if i in everything}
        for memory in self._memory.values():
            for i in [i for i in memory if i not in everything]:
                del memory[i]

    def with_partners(self, new: Keyframe, encoding: Encoding, keyframes: dict[int, Keyframe],
                      window: int, focal_factor: float, metre: float | None = None
                      ) -> tuple[list[Pair], int | None]:
        """
        Predict a new keyframe, whose pose is known, with partners from the whole map.

        :param window: newest keyframes that are too near to close a loop with
        :param focal_factor: see `predict`
        :param metre: its length in map units, where measurements tell it
        :return: pairs that show the same scene, and which partner closes a loop, if one does
        """
        ids = list(keyframes)
        descriptors = [keyframes[i].descriptor for i in ids] + [new.descriptor]

        def predict(partners: Sequence[int], members: Sequence[int] = ()) -> list[Pair]:
            return self.predict(new, encoding, [keyframes[i] for i in partners], focal_factor,
                                [keyframes[i] for i in members], partial(_prior, metre=metre))

        own = [i for i in ids if keyframes[i].camera_name == new.camera_name]
        members = self._members(own, encoding, keyframes)
        near = members[::-1] or own
        partners = [near[p] for p in pair_graph.window_partners(len(near) + 1)]
        if members and near[0] not in partners and len(near) < pair_graph.OFFSETS[-1]:
            partners.append(near[0])  # a window that just began shares few views
        loop = pair_graph.loop_candidate(descriptors, window)
        partners = [p for p in partners if p == own[-1] or _overlaps(keyframes[p], new)]
        # Of several cameras, one's window may reach far back
        old = [ids[loop]] if loop is not None and ids[loop] not in partners else []
        if self.predictor.together is None:  # pairs are independent of each other
            pairs = predict([*partners, *old], members)
        else:
            pairs = predict(partners, members) + predict(old, members)
        closing = [p.partner for p in pairs if p.partner in old]
        return pairs, closing[0] if closing else None

    def rendered(self, new: Keyframe, encoding: Encoding, keyframes: Mapping[int, Keyframe],
                 reference: int, focal_factor: float, metre: float | None, placed: bool
                 ) -> list[Pair]:
        """
        Predict a frame that does not become a keyframe, with one keyframe.

        :param reference: that keyframe, where the window that the next keyframe will be in has
            it, or there are no windows; else the newest one of that window
        :param focal_factor: see `predict`
        :param metre: see `with_partners`
        :param placed: whether the frame's pose is known
        :return: a pair, or none where the two do not show the same scene
        """
        own = [i for i, k in keyframes.items() if k.camera_name == new.camera_name]
        members = self._members(own, encoding, keyframes)
        partner = members[0] if members and reference not in members else reference
        prior = partial(_prior, metre=metre)
        return self.predict(new, encoding, [keyframes[partner]], focal_factor,
                            [keyframes[i] for i in members],
                            prior if placed else lambda k: None if k is new else prior(k))

    @staticmethod
    def relocalisation_partners(new: Keyframe, keyframes: Mapping[int, Keyframe], similar: int
                                ) -> list[list[int]]:
        """
        Choose partners for a keyframe whose pose is unknown.

        :param similar: how many of the keyframes that look similar
        :return: groups of keyframes to try, most promising first
        """
        ids = list(keyframes)
        return [[ids[n] for n in group] for group in pair_graph.relocalisation_candidates(
            [keyframes[i].descriptor for i in ids] + [new.descriptor],
            [abs(keyframes[i].stamp_ns - new.stamp_ns) for i in ids], similar)]

    def predict(self, new: Keyframe, encoding: Encoding, partners: Sequence[Keyframe],
                focal_factor: float, members: Sequence[Keyframe] = (),
                prior: Callable[[Keyframe], MapPrior | None] = lambda _: None
                ) -> list[Pair]:
        """
        Predict a new keyframe with others, all pairs at once.

        :param focal_factor: true over initial focal length, as estimated now
        :param members: keyframes that are processed jointly with these, most important first;
            without any, each pair is processed by itself
        :param prior: what is known of each; nothing where the new one's pose is unknown
        :return: those pairs that show the same scene
        """
        if not partners:
            return []
        memory = (self._remembered(new.camera_name, [k.id for k in members], focal_factor)
                  if members else None)
        encodings = {k.id: self._encoding(k.id, focal_factor) for k in partners}
        # Those of a recovered map may have smaller images
        partners = [k for k in partners
                    if encodings[k.id].image.shape[:2] == k.image.shape[:2]]
        pairs = []
        known = [[prior(k) for k in some] for some in ([*partners, new], members)]
        for partner, (forward, backward, window) in zip(partners, self._both_ways(
                [encodings[k.id] for k in partners], encoding, known, memory)):
            pair = replace(_pair(partner.id, forward, backward, encodings[partner.id], encoding),
                           window=window)
            self._note_focal(forward, partner, focal_factor)
            self._note_focal(backward, new, focal_factor)
            common = sum(int((at(c.confidence, k.keypoints) > 0).sum())
                         for c, k in ((pair.of_new, new), (pair.of_partner, partner)))
            if common >= MIN_COMMON:
                pairs.append(pair)
        return pairs

    def _both_ways(self, partners: list[Encoding], new: Encoding,
                   priors: Sequence[Sequence[MapPrior | None]], memory: list[Any] | None
                   ) -> list[tuple[Prediction, Prediction, int | None]]:
        """
        Predict a view with others, in each one's frame and in its own, and of which window.

        :param priors: of each of them and the new one, and of the memory's views
        :param memory: of a window that they all share; None where each is paired with the new one
            alone
        """
        together = self.predictor.together
        (*known, own), of_memory = priors
        if together is None or any(
                p.image.shape != new.image.shape for p in partners):
            groups = [pair for p in partners for pair in ((p, new), (new, p))]
            predictions = self.predictor.predict(
                groups, priors=[pair for k in known for pair in ((k, own), (own, k))])
            return [(*both, None) for both in zip(predictions[::2], predictions[1::2])]
        windows = ([[n] for n in range(len(partners))] if memory is None
                   else [list(range(len(partners)))] if partners else [])
        both: list[tuple[Prediction, Prediction, int | None]] = []
        for window in windows:
            self._windows += 1
            group, last = (*(partners[n] for n in window), new), len(window)
            prediction = together.predict_together(
                group, memory or (), [*(known[n] for n in window), own, *of_memory])
            both += [(as_pair(prediction, group, n, last), as_pair(prediction, group, last, n),
                      self._windows) for n in range(last)]
        return both

    def _remembered(self, camera_name: str, members: Sequence[int], focal_factor: float
                    ) -> list[Any]:
        """
        Return the memory of a window's views, computed where it is missing.

        :param members: newest first
        """
        together = self.predictor.together
        assert together is not None
        memory = self._memory.get(camera_name, {})
        if members[-1] != next(iter(memory), None):
            memory = self._memory[camera_name] = {}  # the window begins with another view
        for i in reversed(members):
            if i not in memory:
                self._encodings[i] = encoding = self._encoding(i, focal_factor)
                memory[i] = together.remember(encoding, list(memory.values()))
        return [memory[i] for i in members]

    def _members(self, own: list[int], new: Encoding, keyframes: Mapping[int, Keyframe]
                 ) -> list[int]:
        """
        List the keyframes of the window that a new one is in, newest first.

        :param own: of its camera, oldest first
        :return: none where the predictor processes pairs
        """
        if self.predictor.together is None:
            return []
        window = self.predictor.together.window
        start = pair_graph.window_start(len(own) + 1, window.size, window.overlap)
        return [i for i in reversed(own[start:])
                if keyframes[i].image.shape == new.image.shape]

    def predict_again(self, new: Keyframe, partners: Sequence[Keyframe]) -> list[Pair]:
        """
        Predict a keyframe with others again, with the dynamic mask of each.

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
        """Predict a single view."""
        prediction, = self.predictor.predict([(self._encodings[keyframe.id],)])
        self._note_focal(prediction, keyframe, focal_factor)
        return prediction

    def focal(self) -> float | None:
        """Logarithm of true over initial focal length by the predictions, if they estimate it."""
        return float(np.median(self._focals)) if self._focals else None

    def focal_prior(self, focal_factor: float) -> tuple[float, float]:
        """Mean and sigma of the logarithm of the focal length's remaining correction."""
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


def _prior(keyframe: Keyframe, metre: float | None) -> MapPrior:
    """Return what the map knows of a keyframe."""
    known = keyframe.inverse_depth.any()
    return MapPrior(keyframe.T_map_cam, keyframe.inverse_depth if known else None, metre)


def _overlaps(partner: Keyframe, new: Keyframe) -> bool:
    """Whether a keyframe overlaps enough with a new one, of known pose, to be predicted."""
    known = int((partner.landmarks > 0).sum())
    return known == 0 or len(visible(partner, new)[0]) > MIN_OVERLAP * known


def _pair(partner: int, forward: Prediction, backward: Prediction, of_partner: Encoding,
          of_new: Encoding) -> Pair:
    return Pair(partner, forward, backward, _seen(forward, of_new, of_partner.camera),
                _seen(backward, of_partner, of_new.camera))


def _seen(prediction: Prediction, second: Encoding, camera: Camera) -> Correspondence:
    """Find the pixels of a pair's second view in the first one, whose camera is given."""
    found = correspond(prediction.pointmaps[1], prediction.confidences[1], camera)
    if prediction.tracks is None:
        return found
    return tracked(found, second.keypoints, prediction.tracks[0], camera)
