# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The geometric predictor against the common suite and what is its own."""

from __future__ import annotations

from predictor_suite import AccuratePredictorSuite, vga
import pytest
from recon3r_ros.inference.geometric import GeometricPredictor
from simulated import still_scene, TrueView


class TestGeometricPredictor(AccuratePredictorSuite):
    """All that is common."""

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


def test_small_images_have_depth() -> None:
    """A step of 7 % of the depth moves the picture by 18 pixels, though mostly like a turn."""
    scene = still_scene(2, trajectory='sweep')
    suite = TestGeometricPredictor()
    suite.depth_tolerance, suite.pixel_tolerance = (0.03, 0.1), (0.4, 1.5)
    suite.pose_tolerance = 2.0, 20.0
    suite.check_geometry(GeometricPredictor(), TrueView.of(scene, 0), TrueView.of(scene, 30))
