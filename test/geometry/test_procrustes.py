# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Similarities between point sets, exact, noisy and with outliers."""

import numpy as np
import pytest
from recon3r_ros.errors import GeometryError
from recon3r_ros.geometry import se3, sim3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.geometry.procrustes import robust_procrustes, weighted_procrustes
import similarities


def random_similarity(rng, log_scale=0.7):
    return similarities.exp(np.r_[rng.normal(size=6), log_scale])


def pointmap(rng, count):
    """Points seen by a camera, 1 to 8 deep, in its frame."""
    rays = Camera.guess(64, 48).unproject(rng.uniform([0, 0], [63, 47], (count, 2)))
    return rays * rng.uniform(1.0, 8.0, (count, 1))


@pytest.mark.parametrize('solve', [
    weighted_procrustes, lambda *args: robust_procrustes(*args).S_target_source])
@pytest.mark.parametrize('count', [3, 4, 500])
def test_exact_points_give_the_exact_similarity(rng, solve, count):
    S = random_similarity(rng)
    source = rng.normal(size=(count, 3)) + [0, 0, 5]
    np.testing.assert_allclose(solve(source, sim3.transform(S, source), rng.uniform(1, 2, count)),
                               S, atol=1e-9)


def test_plane_and_mirror_image_never_give_a_reflection(rng):
    S = random_similarity(rng)
    plane = rng.normal(size=(50, 3)) * [1, 1, 0]
    got = weighted_procrustes(plane, sim3.transform(S, plane), np.ones(50))
    np.testing.assert_allclose(got, S, atol=1e-12)
    solid = rng.normal(size=(50, 3))
    _, R, _ = sim3.decompose(weighted_procrustes(solid, solid * [1, 1, -1], np.ones(50)))
    assert np.linalg.det(R) == pytest.approx(1.0)


def test_it_is_the_weighted_minimum(rng):
    source, weights = rng.normal(size=(30, 3)), rng.uniform(0, 1, 30)
    target = sim3.transform(random_similarity(rng), source) + 0.3 * rng.normal(size=(30, 3))

    def cost(S):
        return weights @ np.sum((target - sim3.transform(S, source)) ** 2, axis=-1)

    best = weighted_procrustes(source, target, weights)
    rigid = weighted_procrustes(source, target, weights, with_scale=False)
    for step in np.concatenate([1e-4 * np.eye(7), -1e-4 * np.eye(7)]):
        assert cost(similarities.exp(step) @ best) > cost(best)
        if step[6] == 0:
            assert cost(similarities.exp(step) @ rigid) > cost(rigid)
    assert sim3.decompose(rigid)[0] == pytest.approx(1.0)


def test_zero_weight_is_no_point(rng):
    S, source = random_similarity(rng), rng.normal(size=(20, 3))
    target, weights = sim3.transform(S, source), np.ones(20)
    target[:5], weights[:5] = 100.0, 0.0
    np.testing.assert_allclose(weighted_procrustes(source, target, weights), S, atol=1e-9)
    np.testing.assert_allclose(robust_procrustes(source, target, weights).S_target_source, S,
                               atol=1e-9)


def test_scale_has_little_bias_under_noise(rng):
    logs = []
    for _ in range(40):
        truth = pointmap(rng, 400)
        noisy = [truth * (1 + 0.05 * rng.normal(size=(400, 1))) for _ in range(2)]
        S = robust_procrustes(2.0 * noisy[0], noisy[1], np.ones(400)).S_target_source
        logs.append(np.log(2.0 * sim3.decompose(S)[0]))
    # the least-squares scale is 0.011 too small here; the mean's standard deviation is 0.0009
    assert abs(np.mean(logs)) < 3.5e-3


def test_outliers_are_rejected(rng):
    S = random_similarity(rng, 0.2)
    target = pointmap(rng, 1000)
    source = sim3.transform(sim3.inverse(S), target * (1 + 0.01 * rng.normal(size=(1000, 1))))
    outliers = np.arange(1000) < 300
    source[outliers] += [0.8, -0.5, 1.0] + rng.normal(size=(300, 3))
    result = robust_procrustes(source, target, np.ones(1000))
    error = similarities.log(result.S_target_source @ sim3.inverse(S))
    plain = similarities.log(weighted_procrustes(source, target, np.ones(1000)) @ sim3.inverse(S))
    assert np.abs(error).max() < 0.015 < 0.1 < np.abs(plain).max()
    assert 0.008 < result.sigma < 0.025  # true: 0.01 of depth
    assert np.median(result.weights[outliers]) < 0.1 < 0.7 < np.median(result.weights[~outliers])


def test_residuals_count_relative_to_depth(rng):
    # same relative noise near and far: far points must not be taken for outliers
    target = pointmap(rng, 2000)
    source = target * (1 + 0.02 * rng.normal(size=(2000, 1)))
    weights = robust_procrustes(source, target, np.ones(2000)).weights
    near, far = target[:, 2] < 2, target[:, 2] > 6
    assert abs(weights[near].mean() - weights[far].mean()) < 0.05


def test_result_does_not_depend_on_units(rng):
    target = pointmap(rng, 300)
    source = target + 0.05 * rng.normal(size=target.shape)
    one = robust_procrustes(source, target, np.ones(300))
    other = robust_procrustes(1e3 * source, 1e3 * target, np.full(300, 1e-3))
    assert other.sigma == pytest.approx(one.sigma, rel=1e-6)
    np.testing.assert_allclose(other.S_target_source[:3, :3], one.S_target_source[:3, :3],
                               atol=1e-9)


def test_rigid_and_large(rng):
    grid = pixel_grid(150, 200).reshape(-1, 2)
    target = Camera.guess(200, 150).unproject(grid) * rng.uniform(1, 5, (len(grid), 1))
    T = se3.exp([0.1, -0.2, 0.1, 0.3, 0.2, 0.1])
    source = se3.transform(se3.inverse(T), target)
    result = robust_procrustes(source, target, np.ones(len(grid)), with_scale=False)
    np.testing.assert_allclose(result.S_target_source, T, atol=1e-9)


line = np.outer(np.arange(6.0), [1.0, 2.0, 3.0]) + [4.0, 5.0, 6.0]


@pytest.mark.parametrize(('points', 'weights'), [
    (np.eye(3)[:2], [1, 1]), (np.eye(3), [1, 1, 0]), (np.ones((6, 3)), np.ones(6)),
    (line, np.ones(6)), (np.full((4, 3), np.nan), np.ones(4)), (np.eye(3), [1, 1, -1]),
    (np.eye(3), [1, 1, np.inf]), (np.eye(3), [1, 1]), (np.zeros((0, 3)), []),
    (np.zeros((2, 4, 3)), np.ones((2, 4)))])
@pytest.mark.parametrize('solve', [weighted_procrustes, robust_procrustes])
def test_degenerate_input_is_refused(solve, points, weights):
    with pytest.raises(GeometryError, match='got .*, expected'):
        solve(points, points, weights)
