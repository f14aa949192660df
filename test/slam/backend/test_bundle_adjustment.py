# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bundle adjustment on problems whose solution is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend import bundle_adjustment
from recon3r_ros.slam.backend.adjustment_problem import Observations, Problem, RigLinks
from recon3r_ros.slam.backend.bundle_adjustment import estimate_focal, solve
from simulated import degrees_between

Array = NDArray[np.float64]

FOCAL, WIDTH, HEIGHT = 260.0, 320, 240
INTRINSICS = np.array([FOCAL, 1.02 * FOCAL, 159.0, 121.0])


def truth(rng: np.random.Generator, cameras: int = 5, landmarks: int = 60) -> Problem:
    """Cameras on an arc before a rough wall, each with landmarks that the others observe."""
    T_cam_map, pixels, inverse_depths = [], [], []
    for k in range(cameras):
        angle = 0.12 * (k - cameras / 2)
        T = se3.from_rt(se3.so3_exp([0.05 * np.sin(k), angle, 0.03 * np.cos(2 * k)]),
                        [0.45 * k, 0.1 * np.sin(1.7 * k), 0.08 * k])
        T_cam_map.append(se3.inverse(T))
        pixels.append(rng.uniform([10, 10], [WIDTH - 11, HEIGHT - 11], (landmarks, 2)))
        inverse_depths.append(1 / rng.uniform(2.5, 6, landmarks))
    observations = []
    poses = np.stack(T_cam_map)
    for anchor in range(cameras):
        for observer in range(cameras):
            if observer == anchor:
                continue
            targets = project(poses[observer] @ se3.inverse(poses[anchor]), pixels[anchor],
                              inverse_depths[anchor], INTRINSICS)
            seen = np.flatnonzero(np.all((targets > 0) & (targets < [WIDTH, HEIGHT]), axis=1))
            observations.append(Observations(anchor, observer, seen, targets[seen],
                                             np.ones(len(seen))))
    fixed = np.zeros(cameras, bool)
    fixed[:2] = True
    return Problem(poses, fixed, np.tile(INTRINSICS, (cameras, 1)), tuple(pixels),
                   tuple(inverse_depths), tuple(observations))


def project(T_b_a: Array, pixels: Array, inverse_depth: Array, intrinsics: Array) -> Array:
    """Project landmarks of camera a in camera b, independently of the tested code."""
    fx, fy, cx, cy = intrinsics
    depth = 1 / inverse_depth
    x = np.column_stack([(pixels[:, 0] - cx) / fx * depth, (pixels[:, 1] - cy) / fy * depth,
                         depth, np.ones(len(depth))])
    y = x @ T_b_a.T
    return np.column_stack([fx * y[:, 0] / y[:, 2] + cx, fy * y[:, 1] / y[:, 2] + cy])


def perturbed(rng: np.random.Generator, problem: Problem, amount: float = 1.0) -> Problem:
    """Move poses that are not fixed by a degree and 5 cm, and depths by a tenth."""
    xi = rng.normal(0, 1, (len(problem.fixed), 6)) * np.repeat([0.015, 0.05], 3) * amount
    xi[problem.fixed] = 0
    depths = tuple(d * np.exp(rng.normal(0, 0.1 * amount, len(d)))
                   for d in problem.inverse_depths)
    return replace(problem, T_cam_map=se3.exp(xi) @ problem.T_cam_map, inverse_depths=depths)


def noisy(rng: np.random.Generator, problem: Problem, sigma: float, outliers: float = 0.0
          ) -> tuple[Problem, list[NDArray[np.bool_]]]:
    """Add noise to observations, and replace a share of them by outliers."""
    observations, wrong = [], []
    for o in problem.observations:
        targets = o.targets + rng.normal(0, sigma, o.targets.shape)
        bad = rng.random(len(targets)) < outliers
        targets[bad] = rng.uniform([0, 0], [WIDTH, HEIGHT], (int(bad.sum()), 2))
        observations.append(replace(o, targets=targets))
        wrong.append(bad)
    return replace(problem, observations=tuple(observations)), wrong


def seen_landmarks(problem: Problem) -> list[NDArray[np.bool_]]:
    """Per keyframe, which landmarks are observed."""
    seen = [np.zeros(len(d), bool) for d in problem.inverse_depths]
    for o in problem.observations:
        seen[o.anchor][o.landmarks] = True
    return seen


@pytest.fixture
def rng() -> np.random.Generator:
    """Give each test the same random numbers."""
    return np.random.default_rng(5)


def residuals(problem: Problem, T_cam_map: Array, depths: Array, log_focal: float) -> Array:
    """Reprojection errors (M, 2) of all observations, of inverse depths (K, L)."""
    intrinsics = problem.intrinsics[0] * [np.exp(log_focal), np.exp(log_focal), 1, 1]
    return np.concatenate([
        project(T_cam_map[o.observer] @ se3.inverse(T_cam_map[o.anchor]),
                problem.pixels[o.anchor][o.landmarks], depths[o.anchor, o.landmarks], intrinsics)
        - o.targets for o in problem.observations])


def one_step(problem: Problem) -> tuple[Array, Array, float]:
    """
    First step of Levenberg-Marquardt, with a dense Jacobian by finite differences.

    :return: poses (K, 4, 4), inverse depths (K, L), and the focal factor
    """
    depths = np.stack(problem.inverse_depths)
    moving = np.flatnonzero(~problem.fixed)
    poses = 6 * len(moving)

    def at(x: Array) -> tuple[Array, Array, float]:
        xi = np.zeros((len(problem.fixed), 6))
        xi[moving] = x[:poses].reshape(-1, 6)
        return (se3.exp(xi) @ problem.T_cam_map, depths + x[poses + 1:].reshape(depths.shape),
                float(x[poses]))

    size = poses + 1 + depths.size
    jacobian = np.stack([
        (residuals(problem, *at(h)) - residuals(problem, *at(-h))).ravel() / 2e-6
        for h in 1e-6 * np.eye(size)], axis=1)
    residual = residuals(problem, *at(np.zeros(size)))
    squared = np.sum(residual ** 2, axis=1)
    # The kernel is four times as wide as later, the damping 1e-4, the finest noise 0.1 pixels
    scale = 4 * 2.5 * np.clip(np.sqrt(np.median(squared)) / 1.1774, 0.1, 0.5)
    weights = np.repeat(np.concatenate([o.weights for o in problem.observations])
                        / (1 + squared / scale ** 2), 2)
    hessian = jacobian.T @ (jacobian * weights[:, None])
    gradient = jacobian.T @ (weights * residual.ravel())
    assert problem.focal_prior is not None and problem.depth_priors is not None
    mean, sigma = problem.focal_prior
    hessian[poses, poses] += (0.1 / sigma) ** 2
    gradient[poses] -= (0.1 / sigma) ** 2 * mean
    prior, information = (np.concatenate(values) for values in zip(*problem.depth_priors))
    off = depths.ravel() - prior
    trust = 0.1 ** 2 * information / prior ** 2 / (
        1 + information * (off / prior) ** 2 / 2.5 ** 2)
    gradient[poses + 1:] += trust * off
    by_depth = np.diag(hessian)[poses + 1:] + trust
    inverse = 1 / (by_depth * (1 + 1e-4) + (0.1 / depths.ravel()) ** 2)
    mixed = hessian[:poses + 1, poses + 1:]
    reduced = hessian[:poses + 1, :poses + 1] - (mixed * inverse) @ mixed.T
    reduced += np.diag(1e-4 * np.diag(reduced) + 1e-9)
    step = np.linalg.solve(
        reduced, mixed @ (inverse * gradient[poses + 1:]) - gradient[:poses + 1])
    T_cam_map, moved, log_focal = at(np.append(
        step, -inverse * (gradient[poses + 1:] + mixed.T @ step)))
    return T_cam_map, moved, float(np.exp(log_focal))


def everything(rng: np.random.Generator) -> Problem:
    """Make a small problem with noise, weights, priors of depths, and unknown focal length."""
    problem, _ = noisy(rng, perturbed(rng, truth(rng, 4, 12), 0.3), 2.0)
    depths = problem.inverse_depths
    priors = tuple((d * np.exp(rng.normal(0, 0.1, len(d))), rng.choice([0, 30.0, 300.0], len(d)))
                   for d in depths)
    observations = tuple(replace(o, weights=rng.uniform(0.1, 1, len(o.weights)))
                         for o in problem.observations[:-2])
    assert sum(len(o.landmarks) for o in observations) % 2 == 0, 'no residual is the median'
    observations = tuple(observations[n] for n in rng.permutation(len(observations)))
    return replace(problem, observations=observations, depth_priors=priors,
                   focal_prior=(0.02, 0.3))


@pytest.mark.parametrize('fixed', [(0, 1), (1, 3), (0, 1, 2, 3)])
def test_the_step_is_that_of_a_dense_jacobian(rng: np.random.Generator, fixed: tuple[int, ...]
                                              ) -> None:
    problem = replace(everything(rng), fixed=np.isin(np.arange(4), fixed))
    poses, depths, factor = one_step(problem)
    solution = solve(problem, 1)
    moves = np.abs(depths / np.stack(problem.inverse_depths) - 1)
    assert 1e-3 < moves.max() < 0.5 and abs(factor - 1) > 1e-4
    assert np.allclose(solution.T_cam_map, poses, rtol=0, atol=1e-8)
    assert np.allclose(np.stack(solution.inverse_depths), depths, rtol=1e-7, atol=0)
    assert solution.focal_factor == pytest.approx(factor, rel=1e-8)


def test_information_and_inliers_are_those_of_the_residuals(rng: np.random.Generator) -> None:
    """Without an iteration: the sum of the inliers' squared derivatives, and the priors' share."""
    problem = everything(rng)
    depths = np.stack(problem.inverse_depths)
    assert problem.depth_priors is not None
    unseen = np.flatnonzero(~seen_landmarks(problem)[3])[0]
    depths[3, unseen], problem.depth_priors[3][1][unseen] = 0, 30.0
    solution = solve(replace(problem, inverse_depths=tuple(depths)), 0)
    squared = np.sum(residuals(problem, problem.T_cam_map, depths, 0.0) ** 2, axis=1)
    assert solution.sigma == pytest.approx(np.sqrt(np.median(squared)) / 1.1774, rel=1e-9)
    noise = np.clip(solution.sigma, 0.1, 0.5)
    good = squared < (4 * noise) ** 2
    assert 0.2 < good.mean() < 0.8
    assert np.array_equal(np.concatenate(solution.inliers), good)
    steep = np.sum((residuals(problem, problem.T_cam_map, depths * (1 + 1e-6), 0.0)
                    - residuals(problem, problem.T_cam_map, depths * (1 - 1e-6), 0.0)) ** 2,
                   axis=1) / 2e-6 ** 2
    expected = np.zeros(depths.shape)
    ends = np.cumsum([len(o.landmarks) for o in problem.observations])
    for o, share in zip(problem.observations, np.split(good * steep / noise ** 2, ends)):
        expected[o.anchor, o.landmarks] += share
    for k, (prior, information) in enumerate(problem.depth_priors):
        off = information * (depths[k] > 0) * (depths[k] / prior - 1) ** 2
        expected[k] += information / (1 + off / 2.5 ** 2)
    assert np.allclose(np.stack(solution.information), expected, rtol=1e-6)


def test_a_point_behind_the_observer_is_no_inlier(rng: np.random.Generator) -> None:
    """Although its mirror image is where it was observed."""
    exact = truth(rng, 2, 5)
    behind = se3.from_rt(np.eye(3), [0, 0, -8.0]) @ exact.T_cam_map[0]
    poses = np.stack([exact.T_cam_map[0], behind])
    targets = project(behind @ se3.inverse(poses[0]), exact.pixels[0], exact.inverse_depths[0],
                      INTRINSICS)
    seen = Observations(0, 1, np.arange(5), targets, np.ones(5))
    solution = solve(replace(exact, T_cam_map=poses, observations=(seen,)), 0)
    assert not solution.inliers[0].any()


def test_both_solvers_of_the_reduced_system_agree(rng: np.random.Generator,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a number of unknowns, LAPACK takes over."""
    problem = everything(rng)
    small = solve(problem)
    monkeypatch.setattr(bundle_adjustment, '_LARGE', 0)
    large = solve(problem)
    assert not np.array_equal(small.T_cam_map, large.T_cam_map)
    assert np.allclose(small.T_cam_map, large.T_cam_map, rtol=0, atol=1e-9)
    assert small.focal_factor == pytest.approx(large.focal_factor, rel=1e-9)


def test_exact_data_give_the_exact_solution(rng: np.random.Generator) -> None:
    exact = truth(rng)
    solution = solve(perturbed(rng, exact), 60)
    assert np.abs(solution.T_cam_map - exact.T_cam_map).max() < 1e-6
    for found, true, seen in zip(solution.inverse_depths, exact.inverse_depths,
                                 seen_landmarks(exact)):
        assert np.abs(found / true - 1)[seen].max() < 1e-6
    assert solution.sigma < 1e-5
    assert all(good.all() for good in solution.inliers)
    assert solution.focal_factor == 1.0


def test_the_usual_number_of_iterations_is_enough(rng: np.random.Generator) -> None:
    exact = truth(rng)
    solution = solve(perturbed(rng, exact))
    assert np.abs(solution.T_cam_map - exact.T_cam_map).max() < 2e-3
    assert solution.sigma < 0.05


def test_a_start_at_the_solution_stays_there(rng: np.random.Generator) -> None:
    exact = truth(rng)
    solution = solve(exact)
    assert np.abs(solution.T_cam_map - exact.T_cam_map).max() < 1e-9


def test_fixed_poses_do_not_move(rng: np.random.Generator) -> None:
    problem, _ = noisy(rng, perturbed(rng, truth(rng)), 0.5, 0.1)
    fixed = np.array([False, True, False, True, True])
    solution = solve(replace(problem, fixed=fixed))
    assert np.allclose(solution.T_cam_map[fixed], problem.T_cam_map[fixed], rtol=0, atol=1e-12)
    assert np.abs(solution.T_cam_map - problem.T_cam_map)[~fixed].max() > 1e-3


@pytest.mark.parametrize('sigma', [0.15, 0.3, 0.45])
def test_residuals_have_the_noise_of_the_matches(rng: np.random.Generator, sigma: float) -> None:
    exact = truth(rng, 6, 150)
    problem, _ = noisy(rng, perturbed(rng, exact), sigma)
    solution = solve(problem, 30)
    seen = sum(int(s.sum()) for s in seen_landmarks(exact))
    count = 2 * sum(len(o.landmarks) for o in problem.observations)
    freedom = 1 - (seen + 6 * int((~problem.fixed).sum())) / count
    assert solution.sigma == pytest.approx(sigma * np.sqrt(freedom), rel=0.06)
    assert np.mean(np.concatenate(solution.inliers)) > 0.99


def test_information_is_the_inverse_variance_of_relative_depth(rng: np.random.Generator) -> None:
    """With known poses each depth stands alone, and the prediction of its error is exact."""
    exact = truth(rng, 5, 150)
    exact = replace(exact, fixed=np.ones(5, bool))
    problem, _ = noisy(rng, exact, 0.3)
    solution = solve(problem, 30)
    normalised = np.concatenate([
        ((found / true - 1) * np.sqrt(info))[seen] for found, true, info, seen in zip(
            solution.inverse_depths, exact.inverse_depths, solution.information,
            seen_landmarks(exact))])
    assert np.std(normalised) == pytest.approx(1.0, rel=0.2)


def test_outliers_are_rejected(rng: np.random.Generator) -> None:
    exact = truth(rng)
    problem, wrong = noisy(rng, perturbed(rng, exact, 0.5), 0.2, 0.2)
    solution = solve(problem, 30)
    inliers, outliers = np.concatenate(solution.inliers), np.concatenate(wrong)
    assert inliers[~outliers].mean() > 0.97
    assert inliers[outliers].mean() < 0.05
    clean, _ = noisy(rng, perturbed(rng, exact, 0.5), 0.2)
    reference = solve(clean, 30)
    for k in (2, 3, 4):
        error, expected = (np.linalg.norm((s.T_cam_map[k] - exact.T_cam_map[k])[:3, 3])
                           for s in (solution, reference))
        assert error < 3 * expected + 0.01
        assert degrees_between(solution.T_cam_map[k, :3, :3], exact.T_cam_map[k, :3, :3]) < 0.1


@pytest.mark.parametrize('factor', [0.8, 1.25])
def test_unknown_focal_length_is_found(rng: np.random.Generator, factor: float) -> None:
    """Started from a wrong focal length, with the poses and depths that fit it."""
    exact = truth(rng, 6, 80)
    wrong = exact.intrinsics / [factor, factor, 1, 1]
    fixed = np.zeros(6, bool)
    fixed[0] = True
    start = perturbed(rng, replace(exact, fixed=fixed, intrinsics=wrong, focal_prior=(0.0, 0.3)))
    solution = solve(start, 80)
    assert solution.focal_factor == pytest.approx(factor, rel=2e-3)
    assert solution.sigma < 0.02


def test_focal_length_without_information_stays_at_its_prior(rng: np.random.Generator) -> None:
    exact = truth(rng)
    none = replace(exact, observations=tuple(
        replace(o, landmarks=o.landmarks[:1], targets=o.targets[:1], weights=o.weights[:1])
        for o in exact.observations[:2]), focal_prior=(0.0, 0.3))
    assert solve(none).focal_factor == pytest.approx(1.0, abs=0.05)


def test_unknown_landmarks_stay_unknown(rng: np.random.Generator) -> None:
    exact = truth(rng)
    depths = list(exact.inverse_depths)
    unknown = rng.random(len(depths[1])) < 0.5
    depths[1] = np.where(unknown, 0.0, depths[1])
    observations = []
    for o in exact.observations:
        keep = ~unknown[o.landmarks] if o.anchor == 1 else np.ones(len(o.landmarks), bool)
        observations.append(Observations(o.anchor, o.observer, o.landmarks[keep],
                                         o.targets[keep], o.weights[keep]))
    exact = replace(exact, inverse_depths=tuple(depths), observations=tuple(observations))
    start = perturbed(rng, exact)
    solution = solve(start, 60)
    assert (solution.inverse_depths[1][unknown] == 0).all()
    assert (solution.information[1][unknown] == 0).all()
    assert (solution.inverse_depths[1][~unknown] > 0).all()
    assert np.abs(solution.T_cam_map - exact.T_cam_map).max() < 1e-6


def test_a_keyframe_without_any_landmark(rng: np.random.Generator) -> None:
    exact = truth(rng)
    depths = (*exact.inverse_depths[:4], np.zeros(len(exact.inverse_depths[4])))
    exact = replace(exact, inverse_depths=depths, observations=tuple(
        o for o in exact.observations if o.anchor != 4))
    solution = solve(perturbed(rng, exact), 60)
    assert np.abs(solution.T_cam_map - exact.T_cam_map).max() < 1e-6
    assert (solution.inverse_depths[4] == 0).all()


@pytest.mark.parametrize('noise', [0.0, 0.3])
def test_one_fixed_pose_keeps_the_scale(rng: np.random.Generator, noise: float) -> None:
    exact = truth(rng)
    fixed = np.zeros(5, bool)
    fixed[1] = True
    start, _ = noisy(rng, perturbed(rng, replace(exact, fixed=fixed)), noise)
    solution = solve(start, 60)
    seen = np.concatenate(seen_landmarks(start))
    before, after = (np.concatenate(d)[seen]
                     for d in (start.inverse_depths, solution.inverse_depths))
    assert np.median(after / before) == pytest.approx(1.0, abs=1e-6)
    assert np.allclose(solution.T_cam_map[1], exact.T_cam_map[1], atol=1e-12)
    # up to that scale the solution is the true one
    to_fixed = exact.T_cam_map @ se3.inverse(exact.T_cam_map[1])
    found = solution.T_cam_map @ se3.inverse(solution.T_cam_map[1])
    scales = np.linalg.norm(found[[0, 2, 3, 4], :3, 3], axis=1) / np.linalg.norm(
        to_fixed[[0, 2, 3, 4], :3, 3], axis=1)
    assert np.ptp(scales) < (1e-5 if noise == 0 else 0.02)


def test_scale_is_kept_although_some_landmarks_are_seen_by_nobody(rng: np.random.Generator
                                                                  ) -> None:
    """Depths without observations must move with the rest, or with nothing."""
    exact = truth(rng)
    lonely = tuple(np.concatenate([d, np.full(200, 0.25)]) for d in exact.inverse_depths)
    pixels = tuple(np.vstack([p, np.full((200, 2), 50.0)]) for p in exact.pixels)
    fixed = np.zeros(5, bool)
    fixed[0] = True
    start = perturbed(rng, replace(exact, fixed=fixed, inverse_depths=lonely, pixels=pixels))
    start = replace(start, inverse_depths=tuple(1.1 * d for d in start.inverse_depths))
    solution = solve(start, 60)
    seen = [np.flatnonzero(s) for s in seen_landmarks(start)]
    ratio = [np.concatenate([d[s] for d, s in zip(depths, seen)])
             for depths in (solution.inverse_depths, start.inverse_depths)]
    assert np.median(ratio[0] / ratio[1]) == pytest.approx(1.0, abs=1e-3)


def test_landmarks_far_away_do_no_harm(rng: np.random.Generator) -> None:
    """Points at 10 km, observed by all, have no depth; poses and finite numbers come out."""
    exact = truth(rng, 4, 60)
    depths = tuple(np.where(np.arange(60) < 20, 1e-4, d) for d in exact.inverse_depths)
    observations = []
    for o in exact.observations:
        targets = project(exact.T_cam_map[o.observer] @ se3.inverse(exact.T_cam_map[o.anchor]),
                          exact.pixels[o.anchor], depths[o.anchor], INTRINSICS)
        seen = np.flatnonzero(np.all((targets > 0) & (targets < [WIDTH, HEIGHT]), axis=1))
        observations.append(Observations(o.anchor, o.observer, seen, targets[seen],
                                         np.ones(len(seen))))
    exact = replace(exact, inverse_depths=depths, observations=tuple(observations))
    start, _ = noisy(rng, perturbed(rng, exact), 0.2)
    solution = solve(start, 40)
    assert np.isfinite(solution.T_cam_map).all()
    assert all(np.isfinite(d).all() for d in solution.inverse_depths)
    assert np.concatenate(solution.inverse_depths).min() > 0.9e-3 * np.median(depths)
    assert np.abs(solution.T_cam_map - exact.T_cam_map).max() < 0.03


@pytest.mark.parametrize('known', [False, True])
def test_depths_in_map_units_give_the_scale(known: bool) -> None:
    """Without them the first depths decide on it, as everything may be scaled."""
    true = truth(np.random.default_rng(5))
    fixed = np.zeros(len(true.fixed), bool)
    fixed[0] = True
    poses = true.T_cam_map @ se3.inverse(true.T_cam_map[0])
    wrong = poses.copy()
    wrong[:, :3, 3] *= 1.1
    solution = solve(replace(
        true, T_cam_map=wrong, fixed=fixed, scale_known=known,
        inverse_depths=tuple(d / 1.1 for d in true.inverse_depths),
        depth_priors=tuple((d, np.full(len(d), 1e4)) for d in true.inverse_depths)), 15)
    length = np.linalg.norm(solution.T_cam_map[-1, :3, 3]) / np.linalg.norm(poses[-1, :3, 3])
    assert length == pytest.approx(1.0 if known else 1.1, rel=1e-3)


def test_an_estimated_focal_length_is_off_by_its_standard_deviation(rng) -> None:
    """Over many draws of the noise, and whatever focal length was given."""
    problem = replace(truth(rng), focal_prior=(0.0, 1.0))
    given = replace(problem, intrinsics=problem.intrinsics * [0.9, 0.9, 1, 1])
    found = [estimate_focal(noisy(rng, given, 0.3)[0], 15) for _ in range(20)]
    errors = np.array([np.log(0.9 * f.factor) for f in found])
    sigmas = np.array([f.sigma for f in found])
    assert 0.7 < np.sqrt(np.mean((errors / sigmas) ** 2)) < 1.4
    assert np.ptp(sigmas) < 0.3 * sigmas.mean() and sigmas.max() < 0.02


def sliding_along_a_plane(rng: np.random.Generator) -> Problem:
    """Cameras that look straight at a plane and slide along it: any focal length explains that."""
    problem = truth(rng)
    poses = np.stack([se3.from_rt(np.eye(3), [-0.4 * k, 0.0, 0.0])
                      for k in range(len(problem.fixed))])
    depths = tuple(np.full(len(d), 1 / 4.0) for d in problem.inverse_depths)
    observations = []
    for o in problem.observations:
        targets = project(poses[o.observer] @ se3.inverse(poses[o.anchor]),
                          problem.pixels[o.anchor], depths[o.anchor], INTRINSICS)
        seen = np.flatnonzero(np.all((targets > 0) & (targets < [WIDTH, HEIGHT]), axis=1))
        observations.append(replace(o, landmarks=seen, targets=targets[seen],
                                    weights=np.ones(len(seen))))
    return replace(problem, T_cam_map=poses, inverse_depths=depths,
                   observations=tuple(observations))


def test_the_standard_deviation_says_where_a_focal_length_is_not_observable(rng) -> None:
    seen = [estimate_focal(replace(noisy(rng, problem, 0.3)[0], focal_prior=(0.0, 1.0)))
            for problem in (truth(rng), sliding_along_a_plane(rng))]
    assert seen[0].sigma < 0.02
    assert seen[1].sigma > 10 * seen[0].sigma
    assert abs(np.log(seen[1].factor)) < 3 * seen[1].sigma


def on_a_rig(problem: Problem) -> Problem:
    """Let the cameras be pairs on a rig, the second of each turned by 40 degrees, 0.3 m aside."""
    T_cam_leader = se3.from_rt(se3.so3_exp([0.0, 0.7, 0.0]), [0.3, 0.0, 0.1])
    leader = np.arange(len(problem.fixed)) // 2 * 2
    follows = leader != np.arange(len(leader))
    relative = np.where(follows[:, None, None], T_cam_leader, np.eye(4))
    links = RigLinks(leader, relative)
    return replace(problem, T_cam_map=links.linked(problem.T_cam_map), links=links,
                   fixed=problem.fixed[leader], scale_known=True)


def test_cameras_of_a_rig_move_together_and_the_distance_between_them_gives_the_scale():
    rng = np.random.default_rng(7)
    rig = on_a_rig(truth(rng, cameras=6))
    observations = []
    for o in rig.observations:
        if (o.anchor + o.observer) % 2:
            continue  # what cameras of different directions see is not shared
        targets = project(rig.T_cam_map[o.observer] @ se3.inverse(rig.T_cam_map[o.anchor]),
                          rig.pixels[o.anchor], rig.inverse_depths[o.anchor], INTRINSICS)
        seen = np.flatnonzero(np.all((targets > 0) & (targets < [WIDTH, HEIGHT]), axis=1))
        if o.observer != 5:  # the last camera sees nothing
            observations.append(replace(o, landmarks=seen, targets=targets[seen],
                                        weights=np.ones(len(seen))))
    rig = replace(rig, observations=tuple(observations))
    found = solve(perturbed(rng, rig), 12)
    assert rig.links is not None
    for k, leader in enumerate(rig.links.leader):
        T = found.T_cam_map[k] @ se3.inverse(found.T_cam_map[leader])
        np.testing.assert_allclose(T, rig.links.T_cam_leader[k], atol=1e-9)
    np.testing.assert_allclose(found.T_cam_map, rig.T_cam_map, atol=1e-6)
