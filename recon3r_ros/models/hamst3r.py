# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
HAMSt3R as a `Predictor`, as a `PeopleFinder`, and for the people of a window of views.

To the map it is a pair network whose points of people have no confidence. Nobody has published
its weights: it runs files that this package has trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models import dune
from recon3r_ros.models.dust3r import Dust3rEncoding, Dust3rPredictor
from recon3r_ros.models.fallback import WithPeople
from recon3r_ros.models.human_engine import HumanEngine
from recon3r_ros.models.matching import match_reciprocally, STRIDE
from recon3r_ros.models.people_links import Detection, joined, Link, overlaps, persons
from recon3r_ros.models.pointmaps import finite
from recon3r_ros.models.registry import Model
from recon3r_ros.models.types import NO_CONFIDENCE, Prediction, View
from recon3r_ros.nets.dust3r import ViewOutput
from recon3r_ros.nets.hamst3r import found_people, FoundPeople, Hamst3r, HumanOutput

#: A person's points are nearer to its median depth than this many median deviations
_DEVIATIONS = 3.0
_LEAST_DEVIATION = 0.02  # of the depth


@dataclass(frozen=True, eq=False)
class ViewPeople:
    """
    The people in a view of a window.

    :param labels: (H, W) uint16 on the network's grid: 0 nobody, else the person's number, which
        is the same in all views
    :param scores: by number, in [0, 1]
    :param surface: (H, W, 3) float32 in [0, 1], place on the body, in its template's box
    :param surface_mask: (H, W) float32, probability that a pixel shows the bare body
    :param points: (H, W, 3) float32 in this camera's frame; metres
    :param confidence: (H, W) float32 of the points, > 1
    """

    labels: NDArray[np.uint16]
    scores: dict[int, float]
    surface: NDArray[np.float32]
    surface_mask: NDArray[np.float32]
    points: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def points_of(self, number: int) -> NDArray[np.float32]:
        """Points (N, 3) of a person, without those far from its median depth."""
        points = self.points[self.labels == number]
        if not len(points):
            return points
        depth = points[:, 2]
        middle = np.median(depth)
        spread = max(float(np.median(np.abs(depth - middle))), _LEAST_DEVIATION * abs(middle))
        return np.asarray(points[np.abs(depth - middle) <= _DEVIATIONS * spread])


class Hamst3rPredictor(Dust3rPredictor):
    """
    HAMSt3R: pairs, single views as pairs with themselves, and people of images and windows.

    :param engine: runs the network
    :param image_size: longer side of the training images, pixels
    """

    def __init__(self, engine: HumanEngine, image_size: int) -> None:
        super().__init__(engine, image_size)
        self._engine = engine

    def people(self, views: Sequence[Dust3rEncoding]) -> list[ViewPeople]:
        """
        Find the people of a window, the same person having one number in all of its views.

        :param views: of one instant, or of instants so close that people have hardly moved; all
            ordered pairs of them are decoded
        :raises Recon3rError: where the device runs out of memory
        """
        pairs = list(permutations(range(len(views)), 2)) or [(0, 0)] * len(views)
        decoded = self._engine.decode_people([
            (views[a].tokens, views[b].tokens) for a, b in pairs])
        found = [(_found(one), _found(other)) for one, other in decoded]
        detections = [Detection(view, n, side, label)
                      for view in range(len(views)) for n, side in _places(view, pairs)
                      for label in range(1, len(found[n][side].scores) + 1)]
        numbers = persons(detections, [*_within(len(views), pairs, found),
                                       *self._across(pairs, found, decoded)])
        return [_merged(view, pairs, found, decoded, numbers) for view in range(len(views))]

    def find(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint16], dict[int, float]]:
        """
        Find the people in an image, as a pair with itself.

        :param image: (H, W, 3) RGB or (H, W) grey
        :return: (H, W), 0 nobody, other values a person each; their scores in [0, 1]
        :raises Recon3rError: where the device runs out of memory
        """
        height, width = image.shape[:2]
        # Any focal length: pixels are brought to the grid and back by the same cameras
        camera = Camera(width, height, width, width, (width - 1) / 2, (height - 1) / 2)
        encoding = self.encode(View(image, camera))
        people, = self.people([encoding])
        grid = encoding.camera.project(camera.unproject(pixel_grid(height, width)))
        # What the grid crops at the edges is taken for what is next to it
        labels = cv2.remap(people.labels, grid.astype(np.float32), None, cv2.INTER_NEAREST,
                           borderMode=cv2.BORDER_REPLICATE)
        return labels, people.scores

    def _across(self, pairs: Sequence[tuple[int, int]],
                found: Sequence[tuple[FoundPeople, FoundPeople]],
                decoded: Sequence[tuple[HumanOutput, HumanOutput]]) -> list[Link]:
        """Link detections of the two views of a pair."""
        links = []
        for n, ((a, b), people, outputs) in enumerate(zip(pairs, found, decoded)):
            one, other = outputs
            if a == b or not all(len(p.scores) for p in people) or (
                    one.descriptors is None or other.descriptors is None):
                continue
            pixels = match_reciprocally(one.descriptors, other.descriptors, STRIDE)
            scores = joined((people[0].labels.numpy(), people[1].labels.numpy()), pixels,
                            (finite(one.points.numpy()), finite(other.points.numpy())), STRIDE,
                            self._metric)
            links += [Link(score, Detection(a, n, 0, i), Detection(b, n, 1, j))
                      for (i, j), score in scores.items()]
        return links

    def _prediction(self, group: tuple[Dust3rEncoding, ...], own: ViewOutput, other: ViewOutput
                    ) -> Prediction:
        prediction = super()._prediction(group, own, other)
        confidences = []
        for view, confidence in zip((own, other), prediction.confidences):
            assert isinstance(view, HumanOutput)
            labels = _found(view).labels.numpy()
            confidences.append(np.where(labels > 0, np.float32(NO_CONFIDENCE), confidence))
        return replace(prediction, confidences=tuple(confidences))


def _found(view: HumanOutput) -> FoundPeople:
    return found_people(view.instances, *view.surface_logits.shape)


def _places(view: int, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """List where a view is: number of the pair, and side; of a pair with itself the first."""
    return [(n, pair.index(view)) for n, pair in enumerate(pairs) if view in pair]


def _within(count: int, pairs: Sequence[tuple[int, int]],
            found: Sequence[tuple[FoundPeople, FoundPeople]]) -> list[Link]:
    """Link detections of one view, of so many, in several pairs."""
    return [Link(score, Detection(view, *one, i), Detection(view, *other, j))
            for view in range(count) for one, other in combinations(_places(view, pairs), 2)
            for (i, j), score in overlaps(*(found[n][side].labels.numpy()
                                            for n, side in (one, other))).items()]


def _merged(view: int, pairs: Sequence[tuple[int, int]],
            found: Sequence[tuple[FoundPeople, FoundPeople]],
            decoded: Sequence[tuple[HumanOutput, HumanOutput]], numbers: dict[Detection, int]
            ) -> ViewPeople:
    """
    Merge what the pairs of a view say of it.

    A pixel belongs to the person that at least half of the pairs see there.
    """
    places = _places(view, pairs)
    outputs = [decoded[n][side] for n, side in places]
    own = [detection for detection in numbers if detection.view == view]
    shape = tuple(outputs[0].surface_logits.shape)
    votes = {number: np.zeros(shape, np.float32) for number in sorted({numbers[d] for d in own})}
    scores: dict[int, list[float]] = {number: [] for number in votes}
    for d in own:
        people = found[d.pair][d.side]
        votes[numbers[d]] += people.labels.numpy() == d.label
        scores[numbers[d]].append(float(people.scores[d.label - 1]))
    labels = np.zeros(shape, np.uint16)
    if votes:
        counts = np.stack(list(votes.values()))
        best = counts.argmax(0)
        labels = np.where(2 * counts.max(0) >= len(places), np.array(list(votes), np.uint16)[best],
                          0).astype(np.uint16)
    body = np.stack([o.surface_logits.sigmoid().numpy() for o in outputs])
    weights = (np.stack([o.confidence.numpy() for o in outputs]) * body)[..., None] + 1e-9
    surface = (weights * np.stack([o.surface.numpy() for o in outputs])).sum(0) / weights.sum(0)
    # In its own frame where it is first
    firsts = [o for o, (_, side) in zip(outputs, places) if side == 0]
    sure = np.stack([o.confidence.numpy() for o in firsts])
    points = np.stack([finite(o.points.numpy()) for o in firsts])
    points = (sure[..., None] * points).sum(0) / sure.sum(0)[..., None]
    present = set(np.unique(labels).tolist()) - {0}
    return ViewPeople(
        labels, {n: sum(s) / len(s) for n, s in scores.items() if n in present},
        surface.clip(0, 1).astype(np.float32), body.mean(0).astype(np.float32),
        points.astype(np.float32), sure.mean(0).astype(np.float32))


def make(model: Model) -> WithPeople:
    """
    Load the network of a model.

    :raises Recon3rError: where one of the two files or the device cannot be used
    """
    network, image_size = dune.load(model, Hamst3r)
    return WithPeople(Hamst3rPredictor(HumanEngine(network, model.engine), image_size))
