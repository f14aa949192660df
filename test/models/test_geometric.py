# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The geometric predictor against the common suite, and its own tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from predictor_suite import AccuratePredictorSuite, vga
import pytest
from recon3r_ros.geometry import se3, two_view
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import MapPrior, MATCHED, View
from simulated import still_scene, TrueView


class TestGeometricPredictor(AccuratePredictorSuite):
    """The common suite."""

    @pytest.fixture
    def predictor(self) -> GeometricPredictor:
        """Return the predictor."""
        return GeometricPredictor()


def test_a_view_and_an_enlarged_one() -> None:
    """The grids differ, the scene does not."""
    small, large = still_scene(3, trajectory='orbit'), vga('orbit', 3)
    suite = TestGeometricPredictor()
    suite.pixel_tolerance = 0.5, 1.5
    suite.check_geometry(GeometricPredictor(), TrueView.of(large, 0), TrueView.of(small, 30))


def test_known_dynamic_objects_are_excluded_from_the_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their matches stay correspondences, but are not used for the relative pose."""
    scene, predictor = still_scene(3, trajectory='orbit'), GeometricPredictor()
    trues = [TrueView.of(scene, i) for i in (0, 30)]
    asked = []

    def estimate(rays_a: np.ndarray, rays_b: np.ndarray, *rest: object) -> None:
        asked.append((rays_a, rays_b))
        return None
    monkeypatch.setattr(two_view, 'estimate_relative_pose', estimate)
    for mask_a, mask_b in ((None, None), (np.s_[:, :100], None), (None, np.s_[:, 220:])):
        group = []
        for true, where in zip(trues, (mask_a, mask_b)):
            moving = np.zeros(true.view.image.shape[:2], bool)
            if where is not None:
                moving[where] = True
            group.append(predictor.encode(replace(true.view, moving=moving)))
        predictor.predict([tuple(group)])
    (all_a, _), (static_a, _), (_, static_b) = asked
    left = scene.camera.unproject(np.array([[100.0, 0]]))[0, 0]
    right = scene.camera.unproject(np.array([[220.0, 0]]))[0, 0]
    slack = 2 / scene.camera.fx  # cells of the grid are two pixels
    assert (all_a[:, 0] < left - slack).mean() > 0.15
    assert not (static_a[:, 0] < left - slack).any() and not (static_b[:, 0] > right + slack).any()
    assert len(static_a) > 0.5 * len(all_a)


def test_poses_in_the_map_are_the_prior_of_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, predictor = still_scene(3, trajectory='orbit'), GeometricPredictor()
    trues = [TrueView.of(scene, i) for i in (0, 30)]
    asked = []

    def estimate(rays_a: np.ndarray, rays_b: np.ndarray, threshold: float, prior: object,
                 exact: bool = True) -> None:
        asked.append(prior)
        return None
    monkeypatch.setattr(two_view, 'estimate_relative_pose', estimate)
    pair = tuple(predictor.encode(t.view) for t in trues)
    known = [MapPrior(t.T_world_cam) for t in trues]
    for prior in ((known[0], known[1]), (known[0], None), (None, known[1])):
        predictor.predict([pair], priors=[prior])
    assert np.allclose(asked[0], se3.inverse(trues[1].T_world_cam) @ trues[0].T_world_cam)
    assert all(prior is None for prior in asked[1:])


@pytest.mark.parametrize('first', [True, False])
def test_depth_of_the_map_seeds_the_matches_of_a_wide_baseline(first: bool) -> None:
    """More pixels are matched than without, whichever view has depth; a wrong map does no harm."""
    scene, predictor = still_scene(3, trajectory='orbit'), GeometricPredictor()
    trues = [TrueView.of(scene, i) for i in (0, 45)]
    pair = tuple(predictor.encode(t.view) for t in trues)
    depths = [(1 / t.points_on(e.camera)[..., 2]).astype(np.float32) for t, e in zip(trues, pair)]
    known = [MapPrior(t.T_world_cam, d if (n == 0) == first else None)
             for n, (t, d) in enumerate(zip(trues, depths))]
    wrong = [replace(k, inverse_depth=None if k.inverse_depth is None else 3 * k.inverse_depth)
             for k in known]
    matched = []
    for priors in (None, [tuple(known)], [tuple(wrong)]):
        prediction, = predictor.predict([pair], priors=priors)
        matched.append(float((prediction.confidences[0] >= MATCHED).mean()))
    assert matched[1] > 0.98 * matched[0] > 0.1
    assert matched[2] > 0.8 * matched[0]


def test_a_mask_of_nearly_everything_is_ignored() -> None:
    scene = still_scene(3, trajectory='orbit')
    predictor = GeometricPredictor()
    trues = [TrueView.of(scene, i) for i in (0, 30)]
    plain, masked = (
        predictor.predict([tuple(predictor.encode(View(t.view.image, t.view.camera, moving=m))
                                 for t in trues)])[0]
        for m in (None, np.ones((10, 10), bool)))
    assert np.allclose(plain.pointmaps[0], masked.pointmaps[0])


def test_small_images_have_depth() -> None:
    """A step of 7 % of the depth moves the image by 18 pixels, mostly like a rotation."""
    scene = still_scene(2, trajectory='sweep')
    suite = TestGeometricPredictor()
    suite.depth_tolerance, suite.pixel_tolerance = (0.03, 0.1), (0.4, 1.5)
    suite.pose_tolerance = 2.0, 20.0
    suite.check_geometry(GeometricPredictor(), TrueView.of(scene, 0), TrueView.of(scene, 30))
