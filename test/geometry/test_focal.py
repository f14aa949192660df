# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Focal length from synthetic pointmaps."""

import numpy as np
import pytest
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.geometry.focal import estimate_focal_weiszfeld

CAMERA = Camera(64, 48, 71.0, 71.0, 30.0, 25.0)


def scene(rng):
    rays = CAMERA.unproject(pixel_grid(48, 64))
    return rays * rng.uniform(1, 6, (48, 64, 1)), np.ones((48, 64)), (CAMERA.cx, CAMERA.cy)


def test_exact_at_any_scale(rng):
    points, confidence, centre = scene(rng)
    for scale in (1e-3, 1.0, 1e3):
        focal = estimate_focal_weiszfeld(scale * points, confidence, centre)
        assert focal == pytest.approx(71.0, rel=1e-9)


def test_fifth_of_outliers(rng):
    points, confidence, centre = scene(rng)
    wrong = rng.random((48, 64)) < 0.2
    points[wrong] = rng.normal(size=(wrong.sum(), 3)) * 3
    assert estimate_focal_weiszfeld(points, confidence, centre) == pytest.approx(71.0, rel=1e-4)


def test_confidence_decides_between_two_cameras(rng):
    points, confidence, centre = scene(rng)
    points[:, ::2, :2] *= 71.0 / 100.0  # every other column was seen with f = 100
    confidence[:, ::2] = 10.0
    focal = estimate_focal_weiszfeld(points, confidence, centre, iterations=100)
    assert focal == pytest.approx(100.0, rel=1e-3)
    focal = estimate_focal_weiszfeld(points, 1 / confidence, centre, iterations=100)
    assert focal == pytest.approx(71.0, rel=1e-3)


def test_it_is_the_minimum(rng):
    points, confidence, centre = scene(rng)
    points += 0.1 * rng.normal(size=points.shape)
    confidence = rng.uniform(0.1, 3.0, (48, 64))
    best = estimate_focal_weiszfeld(points, confidence, centre, iterations=100)

    def cost(focal):
        error = pixel_grid(48, 64) - centre - focal * points[..., :2] / points[..., 2:]
        return np.sum(confidence * np.linalg.norm(error, axis=-1))

    assert cost(best) < min(cost(best - 0.05), cost(best + 0.05))


def test_points_behind_or_not_finite_are_ignored(rng):
    points, confidence, centre = scene(rng)
    points[:10] *= -1
    points[10:15] = np.nan
    points[15:20, :, 2] = 0
    points[20, :, 2] = 1e-9
    confidence[21] = 0
    points[21] = 7
    assert estimate_focal_weiszfeld(points, confidence, centre) == pytest.approx(71.0, rel=1e-6)


def test_useless_input_is_refused(rng):
    points, confidence, centre = scene(rng)
    for bad, conf in ((-points, confidence), (points, 0 * confidence), (0 * points, confidence),
                      (points * np.nan, confidence), (points * [-1, -1, 1], confidence),
                      (points[0], confidence), (points, confidence[1:])):
        with pytest.raises(GeometryError, match='got .*, expected'):
            estimate_focal_weiszfeld(bad, conf, centre)
