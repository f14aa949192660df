# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Camera poses from synthetic correspondences."""

import numpy as np
import pytest
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.pnp import refine_pnp, solve_pnp


@pytest.fixture
def camera():
    """Give a pinhole with unequal focal lengths."""
    return Camera(752, 480, 458.0, 440.0, 367.0, 248.0)


def scene(camera, rng, count=300, noise=0.0, outliers=0.0):
    """Give T_cam_world, points_world, pixels and which of them are outliers."""
    T = se3.exp(np.r_[0.5 * rng.normal(size=3), rng.normal(size=3)])
    size = (camera.width, camera.height)
    pixels = rng.uniform((50, 50), np.subtract(size, 50), (count, 2))
    points = se3.transform(se3.inverse(T),
                           camera.unproject(pixels) * rng.uniform(1, 8, (count, 1)))
    pixels = pixels + noise * rng.normal(size=pixels.shape)
    wrong = np.arange(count) < outliers * count
    pixels[wrong] = rng.uniform((0, 0), size, (wrong.sum(), 2))
    return T, points, pixels, wrong


def test_exact_without_an_initial_pose(camera, rng):
    T, points, pixels, _ = scene(camera, rng)
    result = solve_pnp(points, pixels, camera)
    np.testing.assert_allclose(result.T_cam_world, T, atol=1e-8)
    assert result.inliers.all() and result.rms < 1e-6


def test_noise_and_outliers_without_an_initial_pose(camera, rng):
    for _ in range(5):
        T, points, pixels, wrong = scene(camera, rng, noise=0.5, outliers=0.4)
        result = solve_pnp(points, pixels, camera)
        error = se3.log(T @ se3.inverse(result.T_cam_world))
        assert np.abs(error[:3]).max() < 3e-3 and np.abs(error[3:]).max() < 1e-2
        assert result.inliers[~wrong].mean() > 0.98 and result.inliers[wrong].mean() < 0.05
        assert 0.5 < result.rms < 0.9  # two coordinates of 0.5 px


def test_noise_and_outliers_from_an_initial_pose(camera, rng):
    T, points, pixels, wrong = scene(camera, rng, noise=0.5, outliers=0.3)
    guess = se3.exp(0.02 * rng.normal(size=6)) @ T
    result = refine_pnp(points, pixels, camera, guess)
    assert np.abs(se3.log(T @ se3.inverse(result.T_cam_world))).max() < 1e-2
    assert result.inliers[~wrong].mean() > 0.98
    same = solve_pnp(points, pixels, camera, guess)
    np.testing.assert_array_equal(same.T_cam_world, result.T_cam_world)


def test_slowly_moving_points_do_not_bias_the_pose(rng):
    """A quarter of the points drifts together, by less than the threshold."""
    camera = Camera.guess(640, 480)
    moved, still = [], []
    for _ in range(20):
        T, points, pixels, _ = scene(camera, rng, count=90, noise=0.1)
        drifted = pixels + np.where(np.arange(90)[:, None] < 25, [1.3, 0.5], 0)
        for found, errors in ((drifted, moved), (pixels, still)):
            result = solve_pnp(points, found, camera, T)
            assert result.inliers.mean() > 0.95, 'they are within the threshold'
            errors.append(np.linalg.norm(se3.log(T @ se3.inverse(result.T_cam_world))))
    # By least squares alone the ratio is 7
    assert np.median(moved) < 2 * np.median(still)


def test_wrong_initial_pose_falls_back_to_ransac(camera, rng):
    T, points, pixels, _ = scene(camera, rng, noise=0.3, outliers=0.2)
    for guess in (se3.exp([0, 2.0, 1.0, 4, -3, 2]) @ T, se3.exp([0, np.pi, 0, 0, 0, 0]) @ T):
        result = solve_pnp(points, pixels, camera, guess)
        assert np.abs(se3.log(T @ se3.inverse(result.T_cam_world))).max() < 1e-2


def test_covariance_is_that_of_the_errors():
    rng = np.random.default_rng(3)
    camera = Camera(752, 480, 458.0, 457.0, 367.0, 248.0)
    normalised, xis = [], []
    for _ in range(200):
        T, points, pixels, _ = scene(camera, rng, count=80, noise=0.4)
        result = refine_pnp(points, pixels, camera, se3.exp(0.005 * rng.normal(size=6)) @ T)
        xi = se3.log(T @ se3.inverse(result.T_cam_world))
        normalised.append(xi @ np.linalg.solve(result.covariance, xi))
        xis.append(xi / np.sqrt(np.diagonal(result.covariance)))
        np.testing.assert_array_equal(result.covariance, result.covariance.T)
    # chi^2 with 6 degrees of freedom: the mean of 200 is 6 with standard deviation 0.25
    assert 5.2 < np.mean(normalised) < 6.8
    np.testing.assert_allclose(np.std(xis, axis=0), 1.0, atol=0.2)


def test_weights_are_inverse_variances(rng):
    camera = Camera.guess(640, 480)
    better = 0
    for _ in range(30):
        T, points, pixels, _ = scene(camera, rng, count=60)
        sigma = np.where(np.arange(60) < 30, 0.1, 2.0)
        pixels = pixels + sigma[:, None] * rng.normal(size=pixels.shape)
        guess = se3.exp(0.005 * rng.normal(size=6)) @ T
        errors = [np.linalg.norm(se3.log(T @ se3.inverse(
            refine_pnp(points, pixels, camera, guess, 10.0, weights).T_cam_world)))
            for weights in (1 / sigma**2, None)]
        better += errors[0] < errors[1]
    assert better > 25


def test_deterministic(rng):
    camera = Camera.guess(640, 480)
    _, points, pixels, _ = scene(camera, rng, noise=1.0, outliers=0.4)
    first = solve_pnp(points, pixels, camera)
    np.random.rand(3)
    second = solve_pnp(points, pixels, camera)
    np.testing.assert_array_equal(first.T_cam_world, second.T_cam_world)


def test_rows_that_are_not_finite_are_outliers(rng):
    camera = Camera.guess(640, 480)
    T, points, pixels, _ = scene(camera, rng, count=50)
    points[0], pixels[1] = np.nan, np.inf
    for guess in (None, T):
        result = solve_pnp(points, pixels, camera, guess)
        assert not result.inliers[:2].any() and result.inliers[2:].all()
        np.testing.assert_allclose(result.T_cam_world, T, atol=1e-8)


def test_too_few_inliers_give_none(rng):
    camera = Camera.guess(640, 480)
    T, points, pixels, _ = scene(camera, rng, count=5)
    assert solve_pnp(points, pixels, camera) is None
    assert solve_pnp(points, pixels, camera, T) is None
    assert solve_pnp(np.zeros((0, 3)), np.zeros((0, 2)), camera) is None
    T, points, pixels, _ = scene(camera, rng, count=20)
    same = np.zeros(20, dtype=int)
    assert refine_pnp(points[same], pixels[same], camera, T) is None
    assert solve_pnp(points * np.nan, pixels, camera, T) is None


def test_bad_arguments_are_quoted(rng):
    camera = Camera.guess(640, 480)
    bent = Camera(752, 480, 458.0, 457.0, 367.0, 248.0, (-0.283, 0.074, 2e-4, 2e-5))
    for args in ((np.zeros((9, 2)), np.zeros((9, 2)), camera),
                 (np.zeros((9, 3)), np.zeros((9, 2)), bent),
                 (np.zeros((9, 3)), np.zeros((8, 2)), camera),
                 (np.zeros((9, 3)), np.zeros((9, 2)), camera, np.eye(3)),
                 (np.zeros((9, 3)), np.zeros((9, 2)), camera, None, 0.0),
                 (np.zeros((9, 3)), np.zeros((9, 2)), camera, None, 2.0, np.ones(3))):
        with pytest.raises(GeometryError, match='got .*, expected'):
            solve_pnp(*args)
