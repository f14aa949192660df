# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tests of every predictor: inherit a suite and override its fixture `predictor`."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.geometry.procrustes import robust_procrustes
from recon3r_ros.models.types import Encoding, MATCHED, Prediction, Predictor, View
from recon3r_ros.sim import SimulatedSequence
from simulated import degrees_between, still_scene, TrueView


def vga(trajectory: str, seed: int) -> SimulatedSequence:
    """Make a static scene at the size the tolerances are stated for."""
    return still_scene(seed, frames=100, trajectory=trajectory, width=640, height=480)


class PredictorSuite:
    """The interface; untrained networks pass it, too."""

    @pytest.fixture
    def predictor(self) -> Predictor:
        """Return the predictor; override this."""
        raise NotImplementedError

    @pytest.fixture
    def near(self) -> tuple[TrueView, TrueView]:
        """Return two views that overlap."""
        scene = vga('orbit', 3)
        return TrueView.of(scene, 0), TrueView.of(scene, 15)

    @pytest.fixture
    def pair(self, predictor: Predictor, near: tuple[TrueView, TrueView]
             ) -> tuple[Encoding, Encoding]:
        """Return the two views' encodings."""
        return predictor.encode(near[0].view), predictor.encode(near[1].view)

    def test_encoding_describes_its_grid(self, pair: tuple[Encoding, Encoding]) -> None:
        for encoding in pair:
            height, width = encoding.image.shape[:2]
            assert (encoding.camera.width, encoding.camera.height) == (width, height)
            assert encoding.image.shape == (height, width, 3)
            assert encoding.image.dtype == np.uint8
            assert encoding.descriptor.ndim == 1 and encoding.descriptor.dtype == np.float32
            assert np.linalg.norm(encoding.descriptor) == pytest.approx(1.0, abs=1e-4)

    def test_grid_shows_the_view(self, pair: tuple[Encoding, Encoding],
                                 near: tuple[TrueView, TrueView]) -> None:
        """The image on the grid and the grid's camera belong to the same pixels."""
        for encoding, true in zip(pair, near):
            camera = encoding.camera
            pixels = true.view.camera.project(
                camera.unproject(pixel_grid(camera.height, camera.width))).astype(np.float32)
            blurred = cv2.GaussianBlur(true.view.image, (0, 0), 1.5)
            expected = cv2.remap(blurred, pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR)
            got = cv2.GaussianBlur(encoding.image, (0, 0), 1.5).astype(float)
            shift, response = cv2.phaseCorrelate(
                got[..., 1].copy(), expected[..., 1].astype(float))
            assert response > 0.3
            assert np.abs(shift).max() < 0.2

    def test_prediction_is_well_formed(self, predictor: Predictor,
                                       pair: tuple[Encoding, Encoding]) -> None:
        check_well_formed(predictor.predict([pair])[0], pair)

    def test_no_groups_no_predictions(self, predictor: Predictor) -> None:
        assert predictor.predict([]) == []

    @pytest.mark.parametrize('size', [0, 1, 3])
    def test_a_group_of_the_wrong_size_is_an_error(
            self, predictor: Predictor, pair: tuple[Encoding, Encoding], size: int) -> None:
        if size == 1 and predictor.single_view:
            check_well_formed(predictor.predict([pair[:1]])[0], pair[:1])
            return
        with pytest.raises(ValueError):
            predictor.predict([(pair * 2)[:size]])

    def test_batch_equals_single(self, predictor: Predictor,
                                 pair: tuple[Encoding, Encoding]) -> None:
        a, b = pair
        third = predictor.encode(TrueView.of(vga('orbit', 3), 30).view)
        groups = [(a, b), (b, third), (b, a), (a, third)]
        for together, group in zip(predictor.predict(groups), groups):
            check_same(together, predictor.predict([group])[0])

    def test_deterministic(self, predictor: Predictor, near: tuple[TrueView, TrueView]) -> None:
        first, second = (predictor.predict([(predictor.encode(near[0].view),
                                             predictor.encode(near[1].view))])[0]
                         for _ in range(2))
        check_same(first, second, exact=True)

    def test_mixed_sizes(self, predictor: Predictor, near: tuple[TrueView, TrueView]) -> None:
        portrait, landscape = near[0].cropped(120, 0, 360, 480), near[1]
        group = predictor.encode(portrait.view), predictor.encode(landscape.view)
        assert group[0].image.shape != group[1].image.shape
        check_well_formed(predictor.predict([group])[0], group)
        check_well_formed(predictor.predict([group[::-1]])[0], group[::-1])

    def test_odd_sizes(self, predictor: Predictor, near: tuple[TrueView, TrueView]) -> None:
        group = tuple(predictor.encode(v.cropped(3, 5, 631, 471).view) for v in near)
        check_well_formed(predictor.predict([group])[0], group)

    def test_blank_images(self, predictor: Predictor, near: tuple[TrueView, TrueView]) -> None:
        for level in (0, 255):
            blank = predictor.encode(View(np.full_like(near[0].view.image, level),
                                          near[0].view.camera))
            seen = predictor.encode(near[1].view)
            for group in ((blank, seen), (seen, blank), (blank, blank)):
                check_well_formed(predictor.predict([group])[0], group)


class AccuratePredictorSuite(PredictorSuite):
    """The geometry, for predictors that are trained or need no training."""

    #: Confidence of a confident point: a relative error of a tenth
    confident = 100.0
    #: Median and 90th percentile of the confident points' relative depth errors
    depth_tolerance = (0.02, 0.06)
    #: Median and 90th percentile of the correspondences' errors, grid pixels
    pixel_tolerance = (0.3, 1.0)
    #: Share of visible pixels that must be confident where there is parallax
    covered = 0.6
    #: Errors of the relative pose, degrees: rotation, and direction of the translation
    pose_tolerance = (0.5, 9.0)

    @pytest.mark.parametrize('trajectory, seed, step', [
        ('handheld', 2, 15), ('sweep', 3, 15), ('orbit', 3, 15), ('forward', 3, 30),
        ('orbit', 3, 60), ('handheld', 2, 60)])
    def test_depth_is_true_up_to_scale(self, predictor: Predictor, trajectory: str, seed: int,
                                       step: int) -> None:
        scene = vga(trajectory, seed)
        a, b = TrueView.of(scene, 0), TrueView.of(scene, step)
        self.check_geometry(predictor, a, b)
        self.check_geometry(predictor, b, a)

    def test_grey_images(self, predictor: Predictor, near: tuple[TrueView, TrueView]) -> None:
        self.check_geometry(predictor, near[0].grey(), near[1].grey())

    def test_portrait_with_portrait(self, predictor: Predictor,
                                    near: tuple[TrueView, TrueView]) -> None:
        self.check_geometry(predictor, near[0].cropped(140, 0, 360, 480),
                            near[1].cropped(140, 0, 360, 480))

    def test_portrait_with_landscape(self, predictor: Predictor,
                                     near: tuple[TrueView, TrueView]) -> None:
        portrait, landscape = near[0].cropped(140, 0, 360, 480), near[1]
        self.check_geometry(predictor, portrait, landscape)
        self.check_geometry(predictor, landscape, portrait)

    def test_reverse_agrees(self, predictor: Predictor, near: tuple[TrueView, TrueView],
                            pair: tuple[Encoding, Encoding]) -> None:
        """The same points in both frames: the relative pose maps them."""
        forward, backward = predictor.predict([pair, pair[::-1]])
        T_b_a = se3.inverse(near[1].T_world_cam) @ near[0].T_world_cam
        self.check_pose(backward.pointmaps[1], forward.pointmaps[0],
                        np.minimum(backward.confidences[1], forward.confidences[0]), T_b_a)
        self.check_pose(forward.pointmaps[1], backward.pointmaps[0],
                        np.minimum(forward.confidences[1], backward.confidences[0]),
                        se3.inverse(T_b_a))

    def test_confidence_tells_good_from_bad(
            self, predictor: Predictor, near: tuple[TrueView, TrueView],
            pair: tuple[Encoding, Encoding]) -> None:
        prediction = predictor.predict([pair])[0]
        error, confidence = self.depth_errors(prediction, pair[0], near[0])
        order = np.argsort(confidence)
        quarter = len(order) // 4
        unsure, sure = order[:quarter], order[-quarter:]
        assert np.mean(error[sure]) < 0.8 * np.mean(error[unsure])
        # The inverse variance of the relative depth, and so 1 for the median of |error| / sigma
        assert 0.1 < np.median(error * np.sqrt(confidence)) < 2.0

    def test_identical_images_have_no_depth(self, predictor: Predictor,
                                            near: tuple[TrueView, TrueView]) -> None:
        group = predictor.encode(near[0].view), predictor.encode(near[0].view)
        prediction = predictor.predict([group])[0]
        check_well_formed(prediction, group)
        for confidence in prediction.confidences:
            assert confidence.max() < self.confident / 10

    @pytest.mark.parametrize('degrees', [1.0, 4.0])
    def test_pure_rotation_has_matches_but_no_depth(self, predictor: Predictor, degrees: float
                                                    ) -> None:
        wide = TrueView.of(vga('orbit', 3), 0)
        turn = se3.so3_exp(np.deg2rad(degrees) * np.array([0.3, 0.9, 0.2]))
        a, b = wide.turned(np.eye(3), 400, 300), wide.turned(turn, 400, 300)
        group = predictor.encode(a.view), predictor.encode(b.view)
        for order, (own, other) in ((1, (b, a)), (-1, (a, b))):
            first, second = group[::order]
            prediction = predictor.predict([(first, second)])[0]
            check_well_formed(prediction, (first, second))
            for confidence in prediction.confidences:
                assert np.mean(confidence >= self.confident / 10) < 0.02
                assert np.mean(confidence >= MATCHED) > 0.5
            error = self.pixel_errors(prediction, second, first, own, other, MATCHED)
            assert np.median(error) < self.pixel_tolerance[0]

    def test_unrelated_images_have_no_depth(self, predictor: Predictor,
                                            near: tuple[TrueView, TrueView]) -> None:
        stranger = TrueView.of(vga('handheld', 9), 0)
        group = predictor.encode(near[0].view), predictor.encode(stranger.view)
        for confidence in predictor.predict([group])[0].confidences:
            assert np.mean(confidence > self.confident) < 0.1

    def check_geometry(self, predictor: Predictor, a: TrueView, b: TrueView) -> None:
        """Compare a prediction for (a, b) with ground truth: depths, scale, correspondences."""
        group = predictor.encode(a.view), predictor.encode(b.view)
        prediction = predictor.predict([group])[0]
        check_well_formed(prediction, group)
        _, visible = a.seen_in(group[0].camera, b, group[1].camera)
        assert np.mean(prediction.confidences[0][visible] > self.confident) > self.covered
        error, _ = self.depth_errors(prediction, group[0], a)
        assert np.median(error) < self.depth_tolerance[0]
        assert np.quantile(error, 0.9) < self.depth_tolerance[1]
        pixels = self.pixel_errors(prediction, group[1], group[0], b, a, self.confident)
        assert np.median(pixels) < self.pixel_tolerance[0]
        assert np.quantile(pixels, 0.9) < self.pixel_tolerance[1]
        self.check_pose(prediction.pointmaps[1], b.points_on(group[1].camera),
                        prediction.confidences[1],
                        se3.inverse(a.T_world_cam) @ b.T_world_cam)
        # Both pointmaps of one prediction have one scale
        scales = []
        for k, (true, encoding) in enumerate(zip((a, b), group)):
            T_a_own = se3.inverse(a.T_world_cam) @ true.T_world_cam
            points = se3.transform(T_a_own, true.points_on(encoding.camera).reshape(-1, 3))
            use = prediction.confidences[k].ravel() > self.confident
            scales.append(np.median(
                prediction.pointmaps[k].reshape(-1, 3)[use, 2] / points[use, 2]))
        assert scales[0] == pytest.approx(scales[1], rel=0.03)

    def depth_errors(self, prediction: Prediction, encoding: Encoding, true: TrueView
                     ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Relative errors of the first view's confident depths, and their confidences."""
        depth, smooth = true.depth_on(encoding.camera)
        use = smooth & (prediction.confidences[0] > self.confident)
        ratio = prediction.pointmaps[0][..., 2][use] / depth[use]
        return np.abs(ratio / np.median(ratio) - 1), prediction.confidences[0][use]

    @staticmethod
    def pixel_errors(prediction: Prediction, own_encoding: Encoding, other_encoding: Encoding,
                     own: TrueView, other: TrueView, least: float) -> NDArray[np.float64]:
        """Distances of the second view's pointmap, projected, from the true correspondences."""
        expected, visible = own.seen_in(own_encoding.camera, other, other_encoding.camera)
        use = visible & (prediction.confidences[1] >= least)
        assert use.mean() > 0.2
        got = other_encoding.camera.project(prediction.pointmaps[1][use])
        return np.linalg.norm(got - expected[use], axis=1)

    def check_pose(self, target: NDArray[np.float32], source: NDArray[np.float32],
                   confidence: NDArray[np.float32], T_target_source: NDArray[np.float64]) -> None:
        """Compare the similarity between two pointmaps with the true motion."""
        use = confidence > self.confident
        fit = robust_procrustes(source[use], target[use], np.ones(int(use.sum())))
        _, rotation, translation = sim3.decompose(fit.S_target_source)
        assert degrees_between(rotation, T_target_source[:3, :3]) < self.pose_tolerance[0]
        true = T_target_source[:3, 3]
        cosine = translation @ true / (np.linalg.norm(translation) * np.linalg.norm(true))
        assert np.rad2deg(np.arccos(np.clip(cosine, -1, 1))) < self.pose_tolerance[1]


def check_well_formed(prediction: Prediction, group: tuple[Encoding, ...]) -> None:
    """Check shapes, types and ranges of a prediction."""
    assert len(prediction.pointmaps) == len(prediction.confidences) == len(group)
    for points, confidence, encoding in zip(
            prediction.pointmaps, prediction.confidences, group):
        shape = (encoding.camera.height, encoding.camera.width)
        assert points.shape == (*shape, 3) and points.dtype == np.float32
        assert confidence.shape == shape and confidence.dtype == np.float32
        assert np.isfinite(points).all()
        assert np.isfinite(confidence).all() and (confidence > 0).all()
    own = prediction.pointmaps[0]
    assert (own[..., 2] > 0).all(), 'a camera sees only what is in front of it'


def check_same(first: Prediction, second: Prediction, exact: bool = False) -> None:
    """Compare two predictions."""
    # Vector instructions round differently as memory happens to be aligned
    tolerance = 1e-5 if exact else 1e-4
    for a, b in zip(first.pointmaps + first.confidences, second.pointmaps + second.confidences):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
