# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dense matches by flow, and pointmaps triangulated from them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import flow, pinhole, se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models import compiled_pointmaps
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE

Field = NDArray[np.float32]

HEIGHT, WIDTH = 48, 64
OWN = Camera(WIDTH, HEIGHT, 50.0, 52.0, 31.0, 24.5)
OTHER = Camera(80, 60, 60.0, 60.0, 40.5, 29.0)
K_OWN, K_OTHER = (pinhole.parameters(camera, np.float32) for camera in (OWN, OTHER))
PIXELS = flow.pixel_positions(HEIGHT, WIDTH)
RAYS = pinhole.rays(PIXELS, OWN)
DEPTH = (4 + np.sin(PIXELS[..., 0] / 9) + np.cos(PIXELS[..., 1] / 7)).astype(np.float32)
T = se3.from_rt(se3.so3_exp([0.02, 0.05, -0.03]), [-0.95, 0.1, 0.3])
ERROR = np.full((HEIGHT, WIDTH), 0.25, np.float32)


def affine(degrees: float, scale: float, shift: tuple[float, float]) -> NDArray[np.float64]:
    """Rotate and scale about the image's middle, then shift."""
    A = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, scale)
    A[:, 2] += shift
    return A


def exact_targets(depth: Field = DEPTH) -> Field:
    """Project the scene into the other camera: (2, H, W)."""
    points = se3.transform(T, (RAYS * depth[..., None]).reshape(-1, 3))
    return np.ascontiguousarray(
        OTHER.project(points).reshape(HEIGHT, WIDTH, 2).transpose(2, 0, 1), np.float32)


def pointmap(targets: Field, error: Field = ERROR) -> tuple[Field, Field, Field, NDArray[np.int8]]:
    """Triangulate."""
    return compiled_pointmaps.pointmap(
        targets, error, K_OWN, K_OTHER,
        T.astype(np.float32))


def test_matches_of_exact_flows() -> None:
    A = affine(5, 1.1, (4, -7))
    inverse = cv2.invertAffineTransform(A)
    forward = (PIXELS @ A[:, :2].T + A[:, 2] - PIXELS).astype(np.float32)
    backward = (PIXELS @ inverse[:, :2].T + inverse[:, 2] - PIXELS).astype(np.float32)
    texture = np.full((HEIGHT, WIDTH), 1e6, np.float32)
    targets, error = compiled_pointmaps.matched(forward, backward, texture)
    assert np.allclose(targets.transpose(1, 2, 0), PIXELS + forward, atol=1e-4)
    inside = np.all((targets >= 0) & (targets.T <= [HEIGHT - 1, WIDTH - 1][::-1]).T, axis=0)
    assert np.isinf(error[~inside]).all() and 0.5 < inside.mean() < 0.95
    assert np.allclose(error[inside], compiled_pointmaps.FLOW_ERROR, atol=0.01)
    # An error of the backward flow is an error of the round trip, up to the largest valid one
    _, off = compiled_pointmaps.matched(forward, backward + np.float32([0.3, 0.4]), texture)
    assert np.allclose(off[inside], np.hypot(0.5, compiled_pointmaps.FLOW_ERROR), atol=0.01)
    _, off = compiled_pointmaps.matched(forward, backward + np.float32([0.9, 0.8]), texture)
    assert np.isinf(off).all()


def test_an_image_at_rest_matches_to_its_border() -> None:
    still = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    texture = np.zeros((HEIGHT, WIDTH), np.float32)
    _, error = compiled_pointmaps.matched(still, still, texture)
    assert np.allclose(error, np.hypot(compiled_pointmaps.FLOW_ERROR,
                                       compiled_pointmaps.PLAIN_ERROR))


def test_exact_matches_give_the_scene() -> None:
    targets = exact_targets()
    points, confidence, seen, moving = pointmap(targets)
    assert np.allclose(points, RAYS * DEPTH[..., None], rtol=1e-3, atol=1e-4)
    assert np.allclose(seen, se3.transform(T, points.reshape(-1, 3)).reshape(seen.shape),
                       rtol=1e-3, atol=1e-3)
    assert np.allclose(pinhole.project(seen, OTHER).transpose(2, 0, 1), targets, atol=1e-3)
    assert (moving == -1).all()
    # Inverse variance of the relative depth: how far its change moves the match, over its error
    further = exact_targets((1.01 * DEPTH).astype(np.float32))
    shift = np.linalg.norm(further - targets, axis=0) / 0.01 / ERROR
    assert np.allclose(confidence, shift ** 2, rtol=0.05)


def test_matches_off_the_epipolar_line_are_moving_and_without_depth() -> None:
    targets = exact_targets()
    patch = np.s_[10:25, 20:40]
    targets[1][patch] += 6  # the motion is mostly sideways
    points, confidence, seen, moving = pointmap(targets)
    assert (moving[patch] == 1).all() and (np.delete(moving, np.s_[10:25], axis=0) == -1).all()
    assert (confidence[patch] == np.float32(NO_CONFIDENCE)).all()
    known = confidence > NO_CONFIDENCE
    filler = np.median(points[known][:, 2])
    assert np.allclose(points[patch], RAYS[patch] * filler, rtol=1e-4)
    moved = se3.transform(T, points[patch].reshape(-1, 3))
    assert np.allclose(seen[patch].reshape(-1, 3), moved, rtol=1e-4, atol=1e-4)


def test_unmatched_pixels_have_no_depth_and_no_class() -> None:
    error = ERROR.copy()
    error[5:20] = np.inf
    _, confidence, _, moving = pointmap(exact_targets(), error)
    assert (confidence[5:20] == np.float32(MATCHED)).all() and (moving[5:20] == 0).all()
    assert (confidence[20:] > 1).all() and (moving[20:] == -1).all()


def test_points_behind_the_cameras() -> None:
    """With the opposite translation nothing is in front: all is finite and unknown."""
    backwards = T.copy()
    backwards[:3, 3] *= -1
    points, confidence, seen, moving = compiled_pointmaps.pointmap(
        exact_targets(), ERROR, K_OWN, K_OTHER,
        backwards.astype(np.float32))
    assert np.isfinite(points).all() and np.isfinite(seen).all()
    assert np.allclose(points, RAYS)
    assert (confidence == np.float32(NO_CONFIDENCE)).all() and (moving == 0).all()


def test_a_pure_rotation_explains_matches_that_only_turned() -> None:
    R = se3.from_rt(T[:3, :3], np.zeros(3))
    targets = np.ascontiguousarray(OTHER.project(RAYS @ T[:3, :3].T).transpose(2, 0, 1),
                                   np.float32)
    error = ERROR.copy()
    error[:4] = np.inf
    targets[0, 30:] += 3
    turned = compiled_pointmaps.only_turned(
        targets, error, K_OWN, K_OTHER, R.astype(np.float32))
    assert turned[4:30].all() and not turned[:4].any() and not turned[30:].any()


@pytest.mark.parametrize('share', [0.0, 0.25, 0.5, 0.98, 1.0])
@pytest.mark.parametrize('count', [1, 2, 7, 1000])
def test_quantile_is_numpys(share: float, count: int) -> None:
    rng = np.random.default_rng(count)
    for values in (rng.gamma(0.1, 1, count), np.full(count, 3.0), rng.integers(0, 3, count),
                   np.where(rng.random(count) < 0.3, 1e30, 1e-38)):
        values = values.astype(np.float32)
        expected = np.quantile(values.astype(float), share)
        assert compiled_pointmaps.quantile(values, share) == pytest.approx(expected, rel=1e-6)
