# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pose of a rig by all its cameras' observations."""

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.rig_pnp import CameraObservations, refine_rig_pose

CAMERA = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
BACK = se3.from_rt(se3.so3_exp([0.0, np.pi, 0.0]), [0.1, 0.02, -0.2])


def _observed(rng, T_world_rig, T_rig_cam, count, noise=0.5, outliers=0.0):
    depths = rng.uniform(1.0, 6.0, count)
    pixels = rng.uniform([0, 0], [639, 479], (count, 2))
    points = se3.transform(T_world_rig @ T_rig_cam,
                           CAMERA.unproject(pixels) * depths[:, None])
    pixels = pixels + rng.normal(scale=noise, size=pixels.shape)
    wrong = rng.random(count) < outliers
    pixels[wrong] += rng.uniform(20, 60, (int(wrong.sum()), 2))
    return CameraObservations(points, pixels, CAMERA, T_rig_cam), ~wrong


def test_few_landmarks_of_each_of_two_cameras_give_one_pose():
    rng = np.random.default_rng(1)
    T_world_rig = se3.exp([0.2, -0.3, 0.1, 1.0, 2.0, 3.0])
    front, good = _observed(rng, T_world_rig, np.eye(4), 8, outliers=0.2)
    back, _ = _observed(rng, T_world_rig, BACK, 8)
    found = refine_rig_pose([front, back], se3.inverse(
        T_world_rig @ se3.exp([0.02, -0.01, 0.01, 0.03, 0.02, -0.03])))
    assert found is not None
    error = se3.log(found.T_rig_world @ T_world_rig)
    assert np.abs(error[:3]).max() < 0.003 and np.abs(error[3:]).max() < 0.01
    assert (found.inliers[0] <= good).all()


def test_its_covariance_fits_the_errors():
    rng = np.random.default_rng(2)
    T_world_rig = se3.exp([0.2, -0.3, 0.1, 1.0, 2.0, 3.0])
    squared = []
    for _ in range(60):
        both = [_observed(rng, T_world_rig, T, 40)[0] for T in (np.eye(4), BACK)]
        found = refine_rig_pose(both, se3.inverse(T_world_rig))
        error = se3.log(se3.inverse(T_world_rig) @ se3.inverse(found.T_rig_world))
        squared.append(error @ np.linalg.solve(found.covariance, error))
    assert np.mean(squared) == pytest.approx(6.0, abs=1.5)


def test_the_covariance_of_a_camera_is_that_of_its_own_pose():
    rng = np.random.default_rng(3)
    both = [_observed(rng, np.eye(4), T, 40)[0] for T in (np.eye(4), BACK)]
    found = refine_rig_pose(both, np.eye(4))
    own = found.covariance_of(BACK)
    step = np.linalg.cholesky(found.covariance)[:, 0]
    T_cam = se3.inverse(BACK) @ found.T_rig_world
    moved = se3.inverse(BACK) @ se3.exp(1e-6 * step) @ found.T_rig_world
    xi = se3.log(moved @ se3.inverse(T_cam)) / 1e-6
    # A standard deviation of the rig is one of the camera
    assert xi @ np.linalg.solve(own, xi) == pytest.approx(1.0, rel=1e-4)


def test_too_few_observations_give_no_pose():
    rng = np.random.default_rng(4)
    both = [_observed(rng, np.eye(4), T, 2)[0] for T in (np.eye(4), BACK)]
    assert refine_rig_pose(both, np.eye(4)) is None
