# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SIU3R as a predictor: its inputs, which pairs it believes, and its labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from predictor_suite import PredictorSuite, vga
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.registry import EngineConfig, make_predictor, Model, spec
from recon3r_ros.models.siu3r import (
    normalised_intrinsics,
    same_place,
    Siu3rPredictor,
    view_gaussians,
)
from recon3r_ros.models.siu3r_engine import Encoded, Seen, Siu3rEngine
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE, View
from recon3r_ros.nets.layers.mask2former import MaskConfig, QueryOutput
from recon3r_ros.nets.siu3r import Siu3r, Siu3rConfig
from simulated import TrueView
import torch

TINY = Siu3rConfig(64, 4, 1, 64, 4, 1, 4, 8, MaskConfig(64, 32, 2, 1, 32, 3, 64, 5, 20), 1)


@pytest.fixture(scope='module')
def engine() -> Siu3rEngine:
    """Return an engine with an untrained network."""
    torch.manual_seed(0)
    return Siu3rEngine(Siu3r(TINY).requires_grad_(False), EngineConfig('cpu'))


class TestSiu3rPredictor(PredictorSuite):
    """The common suite, with an untrained network on a small grid."""

    @pytest.fixture
    def predictor(self, engine: Siu3rEngine) -> Siu3rPredictor:
        """Return the predictor."""
        return Siu3rPredictor(engine, 128)

    def test_mixed_sizes(self, predictor: Siu3rPredictor, near: tuple[TrueView, TrueView]) -> None:
        """Grids are square, whatever the images are."""
        for view in (near[0].cropped(120, 0, 360, 480).view, near[1].view):
            assert predictor.encode(view).image.shape == (128, 128, 3)


class Told(Siu3rEngine):
    """An engine that sees what it is told."""

    def __init__(self, engine: Siu3rEngine, seen: Seen) -> None:
        self.network, self._seen = engine.network, seen
        self._encode, self._runner, self.device = engine._encode, engine._runner, engine.device

    def decode(self, pairs: object) -> list[Seen]:
        """See it."""
        return [self._seen]


def truth(a: TrueView, b: TrueView, predictor: Siu3rPredictor) -> tuple[np.ndarray, ...]:
    """Points of both views on the predictor's grid, in the first one's frame."""
    grids = [predictor.prepared(v.view).camera for v in (a, b)]
    T_a_b = se3.inverse(a.T_world_cam) @ b.T_world_cam
    other = b.points_on(grids[1])
    return (a.points_on(grids[0]).astype(np.float32),
            se3.transform(T_a_b, other.reshape(-1, 3)).reshape(other.shape).astype(np.float32))


def told(engine: Siu3rEngine, points: tuple[np.ndarray, ...]) -> Siu3rPredictor:
    """Make a predictor that sees given points, a chair on the left, and a floor on the right."""
    classes = torch.full((3, 21), -9.0)
    classes[0, 4] = classes[1, 1] = classes[2, 20] = 9.0
    masks = torch.full((3, 2, 64, 64), -9.0)
    masks[0, :, :, :32] = masks[1, :, :, 32:] = 9.0
    return Siu3rPredictor(Told(engine, Seen(points, QueryOutput(classes, masks))), 256)


def test_a_pair_is_believed_where_it_looks_alike(engine: Siu3rEngine) -> None:
    scene, stranger = vga('orbit', 3), TrueView.of(vga('handheld', 9), 0)
    a, b = TrueView.of(scene, 0), TrueView.of(scene, 15)
    points = truth(a, b, Siu3rPredictor(engine, 256))
    predictor = told(engine, points)
    first, second, other = (predictor.encode(v.view) for v in (a, b, stranger))
    found, = predictor.predict([(first, second)])
    assert found.learned and not found.metric and found.focal is None
    assert np.mean(found.confidences[1] >= MATCHED) > 0.5
    depth = found.pointmaps[0][..., 2]
    assert np.median(np.abs(depth / points[0][..., 2] - 1)) < 0.02
    assert found.labels is not None
    for view in found.labels:
        assert (view.classes[:, :120] == 5).all() and (view.instances[:, :120] == 1).all()
        assert (view.classes[:, 136:] == 2).all() and not view.instances[:, 136:].any()
    assert spec('siu3r').classes[4] == 'chair' and spec('siu3r').classes[1] == 'floor'
    # Of another place: the same points are wrong, and so may be the labels
    found, = predictor.predict([(first, other)])
    assert found.labels is None
    for confidence in found.confidences:
        assert (confidence == np.float32(NO_CONFIDENCE)).all()


def test_a_blank_image_proves_nothing(engine: Siu3rEngine) -> None:
    a = TrueView.of(vga('orbit', 3), 0)
    predictor = Siu3rPredictor(engine, 256)
    view = predictor.encode(a.view)
    blank = replace(view, image=np.full_like(view.image, 99))
    points = truth(a, a, predictor)[1]
    seen = np.ones(points.shape[:2], bool)
    assert same_place(view, view, points, seen)
    assert not same_place(blank, blank, points, seen)
    assert not same_place(view, view, points, ~seen)


def test_gaussians_are_those_of_the_first_view(engine: Siu3rEngine) -> None:
    """By the network's modules, each called by itself, on the points of a pair's prediction."""
    scene = vga('orbit', 3)
    views = [TrueView.of(scene, n).view for n in (0, 15)]
    camera, found = view_gaussians(engine, *views, 96)
    predictor = Siu3rPredictor(engine, 96)
    a, b = (predictor.encode(v) for v in views)
    assert camera == a.camera and camera.width == camera.height == 96
    seen, = engine.decode([(a.tokens, b.tokens)])
    np.testing.assert_allclose(found.points, seen.points[0], atol=1e-4)
    tokens = [a.tokens.tokens, b.tokens.tokens]
    with torch.inference_mode():
        image = torch.from_numpy(a.image).permute(2, 0, 1)[None] / 255
        own = engine.network.gaussians(tokens, engine.network.decode(tokens), [image, image])[0]
    np.testing.assert_allclose(found.scales, own.scales[0], rtol=1e-4)
    np.testing.assert_allclose(found.quats_xyzw, own.quats_xyzw[0], atol=1e-4)
    drawn = found.opacities > 0
    np.testing.assert_allclose(found.opacities[drawn], own.opacities[0].numpy()[drawn].clip(
        1 / 255, 0.99), rtol=1e-4)
    constant = 0.5 + own.harmonics[0, ..., 0].numpy() / (2 * np.sqrt(np.pi))
    np.testing.assert_allclose(found.colors, constant.clip(0, 1), atol=1e-4)


def test_intrinsics_are_shares_of_the_image() -> None:
    """With pixel centres at halves: the centre of the image is (0.5, 0.5)."""
    camera = Camera(256, 128, 320.0, 320.0, 127.5, 63.5)
    assert np.allclose(normalised_intrinsics(camera, True),
                       [[1.25, 0, 0.5], [0, 2.5, 0.5], [0, 0, 1]])
    square = Camera(256, 256, 200.0, 210.0, 120.0, 130.0)
    assert np.allclose(normalised_intrinsics(square, False),
                       [[1.2421875, 0, 0.5], [0, 1.2421875, 0.5], [0, 0, 1]])


def test_it_is_told_the_intrinsics_of_its_grid(engine: Siu3rEngine,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def encode(image: np.ndarray, intrinsics: np.ndarray) -> Encoded:
        given.append(intrinsics)
        return Siu3rEngine.encode(engine, image, intrinsics)
    monkeypatch.setattr(engine, 'encode', encode)
    image = np.zeros((480, 640, 3), np.uint8)
    predictor = Siu3rPredictor(engine, 96)
    for calibrated in (True, False):
        predictor.encode(View(image, Camera(640, 480, 600.0, 600.0, 319.5, 239.5), calibrated))
    assert np.allclose(given[0], [[1.25, 0, 0.5], [0, 1.25, 0.5], [0, 0, 1]], atol=1e-6)
    assert np.allclose(given[1][0, 0], 1.2421875)


def test_a_file_of_other_classes_has_no_names(tmp_path) -> None:
    other = replace(TINY, masks=replace(TINY.masks, classes=3))
    torch.save({k: torch.zeros(1).expand(v.shape) for k, v in Siu3r(other).state_dict().items()},
               tmp_path / 'w.pth')
    with pytest.raises(InputError, match='3 classes, expected the 20'):
        make_predictor(Model('siu3r', str(tmp_path / 'w.pth'), EngineConfig('cpu')))
