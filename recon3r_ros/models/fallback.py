# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What happens when a network's device runs out of memory while the camera moves.

The engines process smaller batches first. Then windows have fewer views, and last the geometric
model takes over, on the grid of the network, so that the map goes on. Nothing of it is taken back:
what took the memory may take it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import gc
import logging
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import DeviceMemoryError
from recon3r_ros.geometry.flow import Pyramid
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.geometric_encoding import GeometricEncoding
from recon3r_ros.models.keypoints import detect_keypoints
from recon3r_ros.models.pointmaps import on_rays
from recon3r_ros.models.registry import Window
from recon3r_ros.models.types import Encoding, MapPrior, NO_CONFIDENCE, Prediction, View
import torch

_log = logging.getLogger(__name__)
_OUT_OF_MEMORY = (DeviceMemoryError, torch.OutOfMemoryError)
#: Fewest views of a window
_PAIR = 2
Masks = Sequence[tuple[NDArray[np.bool_], ...]]
Priors = Sequence[tuple[MapPrior | None, ...]]


class WithFallback:
    """
    A network as a `Predictor`, and the geometric model where there is no memory for it.

    :param network: a `Predictor` that has `prepared`, which brings a view to its grid without
        holding the network
    """

    def __init__(self, network: Any) -> None:
        self.network: Any = network
        self._prepared = network.prepared
        self._geometric = GeometricPredictor()
        self._of_view: WeakKeyDictionary[Any, GeometricEncoding] = WeakKeyDictionary()
        #: Largest number of views of a window; None where it was never too large
        self._most: int | None = None

    @property
    def single_view(self) -> bool:
        """Whether a group may be a single view."""
        return self.network is not None and bool(self.network.single_view)

    @property
    def reweights(self) -> bool:
        """Whether `predict` uses dynamic masks."""
        return self.network is not None and bool(self.network.reweights)

    @property
    def together(self) -> WithFallback | None:
        """Itself as long as the network processes windows."""
        return None if self.network is None or self.network.together is None else self

    @property
    def window(self) -> Window:
        """Views that the network processes jointly; see `together`."""
        window: Window = self.network.window
        return window

    def encode(self, view: View) -> Encoding:
        """Encode a view on the network's grid, in either way."""
        if self.network is not None:
            try:
                encoding: Encoding = self.network.encode(view)
                return encoding
            except _OUT_OF_MEMORY as error:
                self._give_way(error)
        return _geometric(self._prepared(view))

    def predict(self, groups: Sequence[tuple[Any, ...]], moving: Masks | None = None,
                priors: Priors | None = None) -> list[Prediction]:
        """Predict groups of one and two views; single views have no depth without the network."""
        if self.network is not None:
            try:
                found: list[Prediction] = self.network.predict(groups, moving, priors)
                return found
            except _OUT_OF_MEMORY as error:
                self._give_way(error)
        pairs = [n for n, group in enumerate(groups) if len(group) == _PAIR]
        by_pair = dict(zip(pairs, self._geometric.predict(
            [(self._encoding(groups[n][0]), self._encoding(groups[n][1])) for n in pairs],
            priors=None if priors is None else [priors[n] for n in pairs])))
        return [by_pair[n] if n in by_pair else _nothing(group)
                for n, group in enumerate(groups)]

    def remember(self, view: Any, memory: Sequence[Any]) -> Any:
        """Remember a view, as a `WindowPredictor`."""
        if self.network is not None:
            try:
                return self.network.remember(view, memory)
            except _OUT_OF_MEMORY as error:
                self._give_way(error)
        return view  # not used any more

    def predict_together(self, group: tuple[Any, ...], memory: Sequence[Any] = (),
                         priors: Sequence[MapPrior | None] = ()) -> Prediction:
        """
        Predict a group, as a `WindowPredictor`; views that find no room have no confidence.

        The last view of the group, the new one, has one always. Without the network, no view has
        any confidence: the keyframe is left out, and the next one is predicted in pairs.
        """
        while self.network is not None:
            kept, context = self._fitting(len(group), len(memory))
            try:
                found: Prediction = self.network.predict_together(
                    tuple(group[n] for n in kept), [memory[n] for n in context],
                    [priors[n] for n in (*kept, *(len(group) + n for n in context))]
                    if priors else ())
                return found if len(kept) == len(group) else _completed(found, group, kept)
            except _OUT_OF_MEMORY as error:
                self._shrink(len(kept) + len(context), error)
        return _nothing(group)

    def _fitting(self, group: int, memory: int) -> tuple[list[int], list[int]]:
        """Choose those that fit into a window, by position, of so many views and memories."""
        views, context = list(range(group)), list(range(memory))
        if self._most is None:
            return views, context
        views = [*views[:self._most - 1], views[-1]] if len(views) > self._most else views
        room = self._most - len(views)
        if len(context) > room:
            # The oldest is last: the others' memories may be in its frame
            context = [*context[:room - 1], context[-1]] if room > 0 else []
        return views, context

    def _shrink(self, views: int, error: Exception) -> None:
        if views <= _PAIR:
            self._give_way(error)
            return
        self._most = max(views // 2, _PAIR)
        _log.warning('out of memory with a window of %d views; going on with %d', views,
                     self._most)
        _free()

    def _give_way(self, error: Exception) -> None:
        """Drop the network."""
        _log.warning('out of memory: going on with the geometric model, until it is started again '
                     '(%s)', str(error).split('\n')[0])
        self.network = None
        _free()

    def _encoding(self, view: Any) -> GeometricEncoding:
        """Return a view's encoding of the geometric model."""
        if isinstance(view, GeometricEncoding):
            return view
        if view not in self._of_view:
            self._of_view[view] = _geometric(View(view.image, view.camera), view.keypoints)
        return self._of_view[view]


class WithPeople(WithFallback):
    """The same of a network that is a `PeopleFinder`; the geometric model finds none."""

    def find(self, image: NDArray[np.uint8]
             ) -> tuple[NDArray[np.uint16], dict[int, float]] | None:
        """Find people; None without the network."""
        if self.network is not None:
            try:
                found: tuple[NDArray[np.uint16], dict[int, float]] = self.network.find(image)
                return found
            except _OUT_OF_MEMORY as error:
                self._give_way(error)
        return None


def _free() -> None:
    """Release cached memory of a GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _geometric(view: View, keypoints: NDArray[np.int32] | None = None) -> GeometricEncoding:
    """
    Encode a view on its own grid.

    :param view: on the grid of a network
    :param keypoints: (K, 2); None to detect them
    """
    gray, camera = cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY), view.camera
    fine = cv2.resize(gray, (2 * camera.width, 2 * camera.height), interpolation=cv2.INTER_CUBIC)
    if keypoints is None:
        keypoints = detect_keypoints(gray, camera.width, camera.height, view.excluded)
    return GeometricEncoding(view, Pyramid(fine, gray), camera, view.image, keypoints)


def _nothing(group: Sequence[Any]) -> Prediction:
    """Return the prediction of a group of which nothing is known."""
    cameras = tuple(view.camera for view in group)
    unknown = [np.full((c.height, c.width), NO_CONFIDENCE, np.float32) for c in cameras]
    return Prediction(
        tuple(on_rays(np.ones_like(u), c) for u, c in zip(unknown, cameras)), tuple(unknown),
        T_first_view=tuple(np.eye(4) for _ in group), cameras=cameras)


def _completed(found: Prediction, group: Sequence[Any], kept: Sequence[int]) -> Prediction:
    """Add views of a group that were not predicted to a prediction of the others."""
    assert found.T_first_view is not None and found.cameras is not None
    nothing, of = _nothing(group), {n: k for k, n in enumerate(kept)}
    assert nothing.T_first_view is not None and nothing.cameras is not None

    def fill(values: Sequence[Any], missing: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(values[of[n]] if n in of else m for n, m in enumerate(missing))
    return replace(
        found, pointmaps=fill(found.pointmaps, nothing.pointmaps),
        confidences=fill(found.confidences, nothing.confidences),
        T_first_view=fill(found.T_first_view, nothing.T_first_view),
        cameras=fill(found.cameras, nothing.cameras), moving=None, tracks=None)
