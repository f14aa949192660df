# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Two-view geometry on exact, noisy and contaminated correspondences."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3, two_view
from simulated import degrees_between

Array = NDArray[np.float64]

FOCAL = 500.0
PIXEL = 1 / FOCAL
MOTIONS = {
    'sideways': se3.from_rt(se3.so3_exp([0.02, -0.1, 0.03]), [-0.4, 0.05, 0.02]),
    'forward': se3.from_rt(se3.so3_exp([0.01, 0.02, -0.02]), [0.03, -0.02, -0.5]),
    'backward': se3.from_rt(se3.so3_exp([0.01, 0.02, -0.02]), [0.03, 0.05, 0.6]),
    'turning': se3.from_rt(se3.so3_exp([0.0, 0.0, 1.2]), [0.5, 0.3, 0.1]),
}


def scene(rng: np.random.Generator, T_b_a: Array, count: int = 400) -> tuple[Array, Array, Array]:
    """Points in both fields of view: (N, 3) in a, and the rays of both."""
    points = rng.uniform([-0.6, -0.45, 1], [0.6, 0.45, 1], (8 * count, 3))
    points *= rng.uniform(2, 8, (8 * count, 1))
    there = se3.transform(T_b_a, points)
    seen = (there[:, 2] > 0.3) & (np.abs(there[:, :2] / there[:, 2:]).max(1) < 0.8)
    points, there = points[seen][:count], there[seen][:count]
    assert len(points) == count
    return points, points / points[:, 2:], there / there[:, 2:]


def noisy(rng: np.random.Generator, rays: Array, sigma: float) -> Array:
    """Move rays by `sigma` pixels along each axis."""
    return rays + np.pad(rng.normal(0, sigma * PIXEL, (len(rays), 2)), ((0, 0), (0, 1)))


def direction_error(t_a: Array, t_b: Array) -> float:
    """Angle between two translations, degrees."""
    cosine = t_a @ t_b / np.linalg.norm(t_a) / np.linalg.norm(t_b)
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))


@pytest.fixture
def rng() -> np.random.Generator:
    """Give each test the same random numbers."""
    return np.random.default_rng(11)


@pytest.mark.parametrize('motion', MOTIONS)
def test_pose_of_exact_matches(rng: np.random.Generator, motion: str) -> None:
    T_b_a = MOTIONS[motion]
    _, rays_a, rays_b = scene(rng, T_b_a)
    pose = two_view.estimate_relative_pose(rays_a, rays_b, PIXEL)
    assert pose is not None
    assert degrees_between(pose.T_b_a[:3, :3], T_b_a[:3, :3]) < 1e-4
    assert direction_error(pose.T_b_a[:3, 3], T_b_a[:3, 3]) < 1e-3
    assert np.linalg.norm(pose.T_b_a[:3, 3]) == pytest.approx(1.0)
    assert pose.inliers.all()
    assert pose.sigma < 1e-6


@pytest.mark.parametrize('motion', MOTIONS)
def test_pose_with_noise_and_outliers(rng: np.random.Generator, motion: str) -> None:
    T_b_a = MOTIONS[motion]
    _, rays_a, rays_b = scene(rng, T_b_a)
    rays_a, rays_b = noisy(rng, rays_a, 0.3), noisy(rng, rays_b, 0.3)
    wrong = rng.random(len(rays_a)) < 0.4
    rays_b[wrong, :2] = rng.uniform(-0.8, 0.8, (int(wrong.sum()), 2))
    pose = two_view.estimate_relative_pose(rays_a, rays_b, PIXEL)
    assert pose is not None
    assert degrees_between(pose.T_b_a[:3, :3], T_b_a[:3, :3]) < 0.1
    assert direction_error(pose.T_b_a[:3, 3], T_b_a[:3, 3]) < 0.6
    assert pose.inliers[~wrong].mean() > 0.95
    # a random match lies on its epipolar line now and then, but hardly ever
    assert pose.inliers[wrong].mean() < 0.08
    # the Sampson distance of matches with noise on both sides
    assert pose.sigma == pytest.approx(0.3 * PIXEL, rel=0.25)


def test_refinement_is_the_best_fit(rng: np.random.Generator) -> None:
    """With Gaussian noise the error falls with the square root of the number of matches."""
    errors = {}
    for count in (100, 1600):
        runs = []
        for _ in range(8):
            T_b_a = MOTIONS['sideways']
            _, rays_a, rays_b = scene(rng, T_b_a, count)
            pose = two_view.estimate_relative_pose(
                noisy(rng, rays_a, 0.3), noisy(rng, rays_b, 0.3), PIXEL)
            assert pose is not None
            runs.append(degrees_between(pose.T_b_a[:3, :3], T_b_a[:3, :3]))
        errors[count] = np.sqrt(np.mean(np.square(runs)))
    assert errors[1600] < 0.5 * errors[100]


def test_refinement_from_a_coarse_start(rng: np.random.Generator) -> None:
    T_b_a = MOTIONS['sideways']
    _, rays_a, rays_b = scene(rng, T_b_a)
    start = se3.exp([0.01, -0.02, 0.01, 0.03, 0.02, -0.04]) @ T_b_a
    start[:3, 3] /= np.linalg.norm(start[:3, 3])
    # the kernel is as wide as the start is wrong
    pose = two_view.refine_relative_pose(rays_a, rays_b, start, 20 * PIXEL)
    assert pose is not None
    assert degrees_between(pose.T_b_a[:3, :3], T_b_a[:3, :3]) < 1e-5
    assert direction_error(pose.T_b_a[:3, 3], T_b_a[:3, 3]) < 1e-4


def turned_about(axis: tuple[float, float, float], degrees: float) -> Array:
    """Rotate about an axis."""
    return se3.from_rt(se3.so3_exp(np.deg2rad(degrees) * np.array(axis)), np.zeros(3))


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the thresholds that RANSAC is run with."""
    thresholds, sampling = [], two_view._sampling

    def record(threshold: float, samples: int) -> object:
        thresholds.append(threshold)
        return sampling(threshold, samples)
    monkeypatch.setattr(two_view, '_sampling', record)
    return thresholds


@pytest.mark.parametrize('motion', MOTIONS)
def test_a_good_prior_needs_no_ransac(rng: np.random.Generator, sampled: list[float], motion: str
                                      ) -> None:
    """Its translation may have any length."""
    T_b_a = MOTIONS[motion]
    _, rays_a, rays_b = scene(rng, T_b_a)
    rays_a, rays_b = noisy(rng, rays_a, 0.05), noisy(rng, rays_b, 0.05)
    prior = turned_about((0.6, 0.8, 0.0), 0.2) @ T_b_a
    prior[:3, 3] *= 3
    pose = two_view.estimate_relative_pose(rays_a, rays_b, PIXEL, prior)
    assert pose is not None and sampled == []
    without = two_view.estimate_relative_pose(rays_a, rays_b, PIXEL)
    assert without is not None and sampled != []
    assert np.allclose(pose.T_b_a, without.T_b_a, atol=1e-5)


WRONG = {
    'opposite': lambda T: se3.from_rt(T[:3, :3], -T[:3, 3]),
    'sideways': lambda T: se3.from_rt(T[:3, :3], np.cross(T[:3, 3], (0.3, 0.9, 0.1))),
    'turned': lambda T: turned_about((0.0, 1.0, 0.0), 8.0) @ T,
    'without baseline': lambda T: se3.from_rt(T[:3, :3], np.zeros(3)),
}


@pytest.mark.parametrize('wrong', WRONG)
@pytest.mark.parametrize('motion', MOTIONS)
def test_a_wrong_prior_does_no_harm(rng: np.random.Generator, motion: str, wrong: str) -> None:
    T_b_a = MOTIONS[motion]
    _, rays_a, rays_b = scene(rng, T_b_a)
    rays_a, rays_b = noisy(rng, rays_a, 0.2), noisy(rng, rays_b, 0.2)
    outliers = rng.random(len(rays_a)) < 0.3
    rays_b[outliers, :2] = rng.uniform(-0.8, 0.8, (int(outliers.sum()), 2))
    pose = two_view.estimate_relative_pose(rays_a, rays_b, PIXEL, WRONG[wrong](T_b_a))
    assert pose is not None
    assert degrees_between(pose.T_b_a[:3, :3], T_b_a[:3, :3]) < 0.1
    assert direction_error(pose.T_b_a[:3, 3], T_b_a[:3, 3]) < 0.6


@pytest.mark.parametrize('with_prior', [False, True])
def test_slowly_moving_points_do_not_bias_the_pose(rng: np.random.Generator, with_prior: bool
                                                   ) -> None:
    """Three tenths of the image move by 2.8 pixels."""
    errors = []
    for _ in range(6):
        T_b_a = MOTIONS['sideways']
        _, rays_a, rays_b = scene(rng, T_b_a)
        rays_a, rays_b = noisy(rng, rays_a, 0.1), noisy(rng, rays_b, 0.1)
        moving = np.argsort(rays_a[:, 0])[:3 * len(rays_a) // 10]
        rays_b[moving, :2] += 2.0 * PIXEL
        # Tracking may have been biased as well
        prior = turned_about((1.0, 0.0, 0.0), 0.1) @ T_b_a
        pose = two_view.estimate_relative_pose(
            rays_a, rays_b, PIXEL, prior if with_prior else None)
        assert pose is not None
        errors.append(direction_error(pose.T_b_a[:3, 3], T_b_a[:3, 3]))
    assert max(errors) < 0.3


def test_the_cost_is_the_share_of_matches_that_do_not_fit(rng: np.random.Generator) -> None:
    _, rays_a, rays_b = scene(rng, MOTIONS['sideways'])
    rays_b[:100, 1] += 30 * PIXEL
    pose = two_view.estimate_relative_pose(rays_a, rays_b, PIXEL)
    assert pose is not None
    assert pose.cost == pytest.approx(0.25, abs=0.01)


def test_too_few_matches(rng: np.random.Generator) -> None:
    _, rays_a, rays_b = scene(rng, MOTIONS['sideways'], 11)
    assert two_view.estimate_relative_pose(rays_a, rays_b, PIXEL) is None
    assert two_view.estimate_relative_pose(rays_a[:0], rays_b[:0], PIXEL) is None


def test_random_matches_have_few_inliers(rng: np.random.Generator) -> None:
    rays_a, rays_b = (np.column_stack([rng.uniform(-0.8, 0.8, (300, 2)), np.ones(300)])
                      for _ in range(2))
    pose = two_view.estimate_relative_pose(rays_a, rays_b, PIXEL)
    assert pose is None or pose.inliers.mean() < 0.15


@pytest.mark.parametrize('degrees', [0.5, 20.0, 120.0])
def test_rotation_fit(rng: np.random.Generator, degrees: float) -> None:
    axis = np.array([0.5, -0.6, 0.62])
    R_b_a = se3.so3_exp(np.deg2rad(degrees) * axis / np.linalg.norm(axis))
    rays_a = rng.normal(size=(300, 3)) * [0.5, 0.5, 0] + [0, 0, 1]
    rays_b = rays_a @ R_b_a.T
    found = two_view.fit_rotation(rays_a, rays_b, 2 * PIXEL)
    assert np.allclose(found, R_b_a, atol=1e-9)
    assert two_view.parallax(rays_a, rays_b, found).max() < 1e-6
    rays_b[:90] += rng.normal(0, 0.05, (90, 3))
    found = two_view.fit_rotation(rays_a, rays_b, 2 * PIXEL)
    assert degrees_between(found, R_b_a) < 0.05
    assert np.linalg.det(found) == pytest.approx(1.0)


def test_rotation_fit_is_never_a_reflection(rng: np.random.Generator) -> None:
    """Rays in one plane leave the sign of the third singular vector open."""
    R_b_a = se3.so3_exp([0.1, 0.2, -0.3])
    rays_a = np.column_stack([rng.uniform(-1, 1, 50), np.zeros(50), np.ones(50)])
    found = two_view.fit_rotation(rays_a, rays_a @ R_b_a.T, 2 * PIXEL)
    assert np.allclose(found, R_b_a, atol=1e-7)


def test_parallax_is_the_angle_at_the_point(rng: np.random.Generator) -> None:
    T_b_a = MOTIONS['sideways']
    points, rays_a, rays_b = scene(rng, T_b_a)
    to_a, to_b = -points, se3.inverse(T_b_a)[:3, 3] - points
    cosine = np.sum(to_a * to_b, 1) / np.linalg.norm(to_a, axis=1) / np.linalg.norm(to_b, axis=1)
    assert np.allclose(two_view.parallax(rays_a, rays_b, T_b_a[:3, :3]), np.arccos(cosine),
                       atol=1e-7)


@pytest.mark.parametrize('motion', MOTIONS)
def test_triangulation_of_exact_matches(rng: np.random.Generator, motion: str) -> None:
    T_b_a = MOTIONS[motion]
    points, rays_a, rays_b = scene(rng, T_b_a)
    inverse_depth, sensitivity, in_front = two_view.triangulate(rays_a, rays_b, T_b_a)
    assert in_front.all()
    # At the epipole of a forward motion depth is unobservable: compare elsewhere
    sees = sensitivity > 1e-3
    assert sees.mean() > 0.9
    assert np.allclose(inverse_depth[sees] * points[sees, 2], 1.0, atol=1e-8)
    # A relative change of the depth moves the projection by the sensitivity
    step = 1e-6
    moved = se3.transform(T_b_a, points * (1 + step))
    shift = np.linalg.norm(moved[:, :2] / moved[:, 2:] - rays_b[:, :2], axis=1) / step
    assert np.allclose(sensitivity, shift, rtol=1e-4, atol=1e-8)


def test_triangulation_against_the_linear_method(rng: np.random.Generator) -> None:
    T_b_a = MOTIONS['sideways']
    _, rays_a, rays_b = scene(rng, T_b_a)
    rays_b = noisy(rng, rays_b, 0.3)
    inverse_depth, sensitivity, _ = two_view.triangulate(rays_a, rays_b, T_b_a)
    homogeneous = cv2.triangulatePoints(
        np.eye(4)[:3], T_b_a[:3], rays_a[:, :2].T.copy(), rays_b[:, :2].T.copy())
    other = homogeneous[3] / homogeneous[2]
    # both are within the noise of the same point
    relative = np.abs(inverse_depth / other - 1) * sensitivity
    assert np.quantile(relative, 0.95) < 2 * PIXEL


@pytest.mark.parametrize('motion', MOTIONS)
def test_cheirality(rng: np.random.Generator, motion: str) -> None:
    """With the opposite translation, all points lie behind a camera."""
    T_b_a = MOTIONS[motion].copy()
    _, rays_a, rays_b = scene(rng, T_b_a)
    T_b_a[:3, 3] *= -1
    _, sensitivity, in_front = two_view.triangulate(rays_a, rays_b, T_b_a)
    assert not in_front[sensitivity > 1e-3].any()


def test_triangulation_without_baseline_is_finite(rng: np.random.Generator) -> None:
    T_b_a = se3.from_rt(se3.so3_exp([0, 0.1, 0]), np.zeros(3))
    rays = np.column_stack([rng.uniform(-0.5, 0.5, (50, 2)), np.ones(50)])
    inverse_depth, sensitivity, in_front = two_view.triangulate(
        rays, rays @ T_b_a[:3, :3].T, T_b_a)
    assert not np.isnan(inverse_depth).any() and not np.isnan(sensitivity).any()
    assert not (in_front & (sensitivity > 1e-3)).any()
