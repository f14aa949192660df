# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Classes of the map's points, in a simulated room whose label images err."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from recon3r_ros.slam.products import labels
from recon3r_ros.slam.products.cloud import fuse, LiveCloud
from recon3r_ros.slam.products.labels import (
    labelled,
    labelled_keyframe,
    LabelledCloud,
    LabelledView,
    Objects,
    observation,
    voted_classes,
)
from recon3r_ros.slam.semantics import Labels
from recon3r_ros.slam.types import Keyframe, Map
from scipy.spatial import cKDTree
from simulated import render, still_scene

#: Classes of the room's objects; the room itself is class 1
CLASSES = 6
#: Share of the blocks of a label image that are wrong, and their size, pixels
WRONG, BLOCK = 0.2, 8


def true_classes(object_index: np.ndarray) -> np.ndarray:
    """Classes (H, W) of what is visible."""
    return np.where(object_index == 0, 1, 2 + object_index % (CLASSES - 1)).astype(np.uint8)


@lru_cache(maxsize=1)
def room() -> tuple[list[Keyframe], list[np.ndarray]]:
    """Keyframes with exact depth, along an orbit, and the true classes of their pixels."""
    keyframes, objects = objects_in_room()
    return keyframes, [true_classes(o) for o in objects]


@lru_cache(maxsize=1)
def objects_in_room() -> tuple[list[Keyframe], list[np.ndarray]]:
    """Keyframes of the room, and the true objects of their pixels."""
    scene = still_scene(3, 120, 'orbit', 160, 120, 10.0)
    keyframes, truths = [], []
    for n, index in enumerate(range(0, 120, 8)):
        frame = render(scene, index)
        shape = frame.depth.shape
        keyframes.append(Keyframe(
            n, f'{n}', n, n, scene.camera, frame.image, np.zeros(shape, np.uint8),
            np.ones(1, np.float32), np.zeros((0, 2), np.int32), frame.T_world_cam, np.zeros(0),
            np.zeros(0), 1 / frame.depth, np.full(shape, 1e4, np.float32),
            np.zeros(shape, bool)))
        truths.append(frame.object_index)
    return keyframes, truths


def erring(truth: np.ndarray, view: int) -> np.ndarray:
    """Add independent errors of blocks, and take class 2 for class 3 in every third view."""
    rng = np.random.default_rng(view)
    rows, columns = -(-truth.shape[0] // BLOCK), -(-truth.shape[1] // BLOCK)
    wrong = np.kron(rng.random((rows, columns)) < WRONG, np.ones((BLOCK, BLOCK), bool))
    other = np.kron(rng.integers(1, CLASSES + 1, (rows, columns)), np.ones((BLOCK, BLOCK), int))
    seen = np.where(truth == 2, 3, truth) if view % 3 == 0 else truth
    crop = np.s_[:truth.shape[0], :truth.shape[1]]
    return np.where(wrong[crop], other[crop], seen).astype(np.uint8)


def mean_iou(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes that there are of intersection over union; 0 is no class."""
    return float(np.mean([
        ((found == c) & (truth == c)).sum() / ((found == c) | (truth == c)).sum()
        for c in np.unique(truth)]))


def erring_views() -> list[LabelledView]:
    keyframes, truths = room()
    return [LabelledView(k, Labels(erring(t, n)))
            for n, (k, t) in enumerate(zip(keyframes, truths))]


def truth_of(points: np.ndarray, truths: list[np.ndarray] | None = None) -> np.ndarray:
    """Return the true classes of points, or other truths: those of the nearest pixels' points."""
    keyframes, truths = room()[0], truths or room()[1]
    world = np.concatenate([
        k.pointmap().reshape(-1, 3) @ k.T_map_cam[:3, :3].T + k.T_map_cam[:3, 3]
        for k in keyframes])
    return np.concatenate([t.ravel() for t in truths])[cKDTree(world).query(points)[1]]


def test_votes_correct_the_images():
    views = erring_views()
    single = [mean_iou(view.labels.classes, truth) for view, truth in zip(views, room()[1])]
    cloud = labelled(fuse([v.keyframe for v in views], 0.04), views)
    found = mean_iou(cloud.labels, truth_of(cloud.points))
    assert found >= 0.85
    assert found > max(single) + 0.1


def test_a_growing_map_has_them_as_well():
    views = {v.keyframe.id: v for v in erring_views()}
    product = LabelledCloud(LiveCloud(0.04), lambda known: {
        i: v for i, v in views.items() if i in known.keyframes}, lambda _: Objects())
    for count in (5, len(views)):
        cloud = product.update(Map({i: views[i].keyframe for i in range(count)}))
    assert cloud.labels.shape == (len(cloud),)
    assert mean_iou(cloud.labels, truth_of(cloud.points)) >= 0.85


def test_views_that_are_not_asked_would_see_nothing(monkeypatch):
    """Votes do not depend on the parts that a cloud is divided into."""
    monkeypatch.setattr(labels, 'CHUNK', 5000)
    views = erring_views()
    points = fuse(v.keyframe for v in views).points
    asked = []
    monkeypatch.setattr(labels, 'observation', lambda part, view: asked.append(len(part)) or
                        observation(part, view))
    few = voted_classes(points, views)
    with_parts = sum(asked)
    monkeypatch.setattr(labels, '_may_see', lambda view, centres, radii: np.ones(len(radii), bool))
    asked.clear()
    assert np.array_equal(few, voted_classes(points, views)) and few.any()
    assert with_parts < 0.8 * sum(asked)


def test_what_is_occluded_has_no_vote():
    keyframes, truths = room()
    view = LabelledView(keyframes[0], Labels(truths[0]))
    in_camera = keyframes[0].pointmap()[20:100:10, 20:140:10].reshape(-1, 3)
    T = keyframes[0].T_map_cam

    def classes(points: np.ndarray) -> np.ndarray:
        return voted_classes((points @ T[:3, :3].T + T[:3, 3]).astype(np.float32), [view])
    assert (classes(in_camera) == truths[0][20:100:10, 20:140:10].ravel()).all()
    for factor in (0.8, 1.25, -1.0):
        assert not classes(factor * in_camera).any()


def test_an_unsure_view_is_outvoted_and_a_tie_is_unknown():
    keyframe, truth = room()[0][0], room()[1][0]
    points = (keyframe.pointmap().reshape(-1, 3)[::97] @ keyframe.T_map_cam[:3, :3].T
              + keyframe.T_map_cam[:3, 3]).astype(np.float32)

    def view(label: int, confidence: float) -> LabelledView:
        return LabelledView(keyframe, Labels(
            np.full_like(truth, label), np.full(truth.shape, confidence, np.float32)))
    assert set(voted_classes(points, [view(4, 0.3), view(7, 0.9), view(4, 0.3)])) == {7}
    assert set(voted_classes(points, [view(n, 0.5) for n in (4, 7, 9)])) == {0}
    assert not voted_classes(points, [view(4, 0.0)]).any()
    assert not voted_classes(points, []).any()


def test_a_keyframe_without_labels_takes_those_of_others():
    views = {v.keyframe.id: v for v in erring_views()}
    own = fuse([views[1].keyframe], 0.04)
    T = views[1].keyframe.T_map_cam
    in_camera = replace(own, points=((own.points - T[:3, 3]) @ T[:3, :3]).astype(np.float32))
    assert labelled_keyframe(in_camera, views[1].keyframe, {}) is in_camera
    del views[1]
    cloud = labelled_keyframe(in_camera, room()[0][1], views)
    assert cloud.points is in_camera.points
    known = cloud.labels > 0
    assert known.mean() > 0.8
    assert (cloud.labels == truth_of(own.points))[known].mean() > 0.9


@pytest.mark.parametrize('field', [np.zeros((3, 4), np.int32), np.zeros(4, np.uint8)])
def test_fields_of_another_kind_are_refused(field):
    with pytest.raises(ValueError, match='classes'):
        Labels(field)
