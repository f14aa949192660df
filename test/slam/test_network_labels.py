# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Classes by a network reach the map's points, through the whole pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import Encoding, Prediction, ViewLabels
from recon3r_ros.sim import SimulatedSequence
from recon3r_ros.slam.keyframe_labels import KeyframeLabels
from recon3r_ros.slam.products.cloud import fuse
from recon3r_ros.slam.products.labels import labelled, voted_classes
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Keyframe
from simulated import as_frame, render, still_scene

CLASSES = 4


def classes_of(scene: SimulatedSequence, view: Encoding | Keyframe, index: int) -> np.ndarray:
    """Return the true classes (H, W) of a grid."""
    truth = render(scene, index).object_index
    camera = view.camera
    pixels = np.rint(scene.camera.project(camera.unproject(
        pixel_grid(camera.height, camera.width)))).astype(int)
    column, row = (np.clip(pixels[..., k], 0, truth.shape[1 - k] - 1) for k in range(2))
    return (1 + truth[row, column] % CLASSES).astype(np.uint8)


class Recognising(GeometricPredictor):
    """A predictor that knows the classes of all objects, as a network would."""

    def __init__(self, scene: SimulatedSequence) -> None:
        super().__init__()
        self._scene = scene
        self._indices = {render(scene, n).image.tobytes(): n for n in range(45)}
        self._of: dict[int, np.ndarray] = {}
        self._kept: list[Encoding] = []

    def encode(self, view: Any) -> Any:
        """Encode a view."""
        encoding = super().encode(view)
        index = self._indices[view.image.tobytes()]
        self._of[id(encoding)] = classes_of(self._scene, encoding, index)
        self._kept.append(encoding)  # so that no other object takes its identity
        return encoding

    def predict(self, groups: Any, moving: Any = None, priors: Any = None) -> list[Prediction]:
        """Predict pairs."""
        return [replace(p, labels=tuple(ViewLabels(
            self._of[id(view)], np.ones(self._of[id(view)].shape, np.float32),
            np.zeros(self._of[id(view)].shape, np.uint16)) for view in group))
            for p, group in zip(super().predict(groups, moving, priors), groups)]


@pytest.fixture(scope='module')
def walk() -> tuple[SimulatedSequence, System]:
    """Return a walk that was mapped with labels."""
    scene = still_scene(1, frames=45)
    system = System(Recognising(scene))
    for index in range(45):
        system.add(as_frame(scene, index))
    system.finish()
    return scene, system


def test_every_keyframe_is_labelled_and_the_map_is(walk: tuple[SimulatedSequence, System]
                                                    ) -> None:
    scene, system = walk
    store = KeyframeLabels()
    store.update([system.map])
    views = store.views(system.map)
    assert len(views) >= 3 and views.keys() == system.map.keyframes.keys(), 'the first one, too'
    cloud = labelled(fuse(list(system.map.keyframes.values()), None), list(views.values()))
    assert cloud.labels is not None
    assert np.mean(cloud.labels > 0) > 0.9
    # Points of a keyframe have the classes of its pixels, up to the edges of objects
    keyframe = max(system.map.keyframes.values(), key=lambda k: int((k.inverse_depth > 0).sum()))
    known = keyframe.inverse_depth > 0
    points = se3.transform(keyframe.T_map_cam, keyframe.pointmap()[known]).astype(np.float32)
    found, truth = voted_classes(points, list(views.values())), classes_of(
        scene, keyframe, keyframe.index)[known]
    for kind in np.unique(truth):
        assert np.mean(found[truth == kind] == kind) > 0.9
    assert len(np.unique(truth)) > 2


def test_classes_of_two_sources_are_not_mixed(walk: tuple[SimulatedSequence, System]) -> None:
    scene, system = walk
    store = KeyframeLabels()
    store.update([system.map])
    assert len(store.views(system.map)) > 1 and not store.given
    frame = as_frame(scene, system.map.keyframes[0].index)
    given = Labels(np.full(frame.image.shape[:2], 9, np.uint8))
    store.note(replace(frame, labels=given), system.lens(frame.camera_name))
    store.update([system.map])
    views = store.views(system.map)
    assert store.given and list(views) == [0]
    assert (views[0].labels.classes == 9).all()
