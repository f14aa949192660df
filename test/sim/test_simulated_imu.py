# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated IMU and motion blur against the path that they follow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.sim import BlurredSequence, SceneConfig, SimulatedSequence
from recon3r_ros.sim.fast_turn import heading, turn_times
from recon3r_ros.sim.imu import ImuModel, simulated_imu
from recon3r_ros.sim.trajectories import camera_path

EXACT = ImuModel(gyroscope_noise=0, gyroscope_walk=0, gyroscope_bias=0, accelerometer_noise=0,
                 accelerometer_walk=0, accelerometer_bias=0)


def path(kind: str):
    return camera_path(kind, np.random.default_rng(2), np.array([3.5, 3.5, 1.4]))


def contrast(image, axis: int) -> float:
    """Mean difference of neighbouring pixels along an axis."""
    return float(np.abs(np.diff(image.astype(float), axis=axis)).mean())


def test_samples_integrate_to_the_path():
    """Rotation exactly, and velocity: the integral of force less gravity."""
    camera = path('fast turn')
    made = simulated_imu(camera, 5.0, np.random.default_rng(0), EXACT)
    times = made.stamps_ns * 1e-9
    T_world_imu = camera.poses(times) @ made.T_cam_imu
    R, velocity = T_world_imu[0, :3, :3], np.zeros(3)
    for i in range(len(times) - 1):
        dt = times[i + 1] - times[i]
        force = (T_world_imu[i, :3, :3] @ made.accelerometer[i]
                 + T_world_imu[i + 1, :3, :3] @ made.accelerometer[i + 1]) / 2
        velocity = velocity + (force - [0, 0, 9.80665]) * dt
        R = R @ se3.so3_exp((made.gyroscope[i] + made.gyroscope[i + 1]) / 2 * dt)
    assert se3.rotation_angle(R.T @ T_world_imu[-1, :3, :3]) < 2e-3

    def speed(t: float):
        step = (camera.poses(np.array([t - 1e-4, t + 1e-4])) @ made.T_cam_imu)[:, :3, 3]
        return (step[1] - step[0]) / 2e-4
    assert np.abs(velocity - (speed(times[-1]) - speed(times[0]))).max() < 0.02


def test_errors_are_those_of_the_model():
    camera = path('rest')
    true = simulated_imu(camera, 50.0, np.random.default_rng(1), EXACT)
    made = simulated_imu(camera, 50.0, np.random.default_rng(1), replace(
        EXACT, gyroscope_noise=1e-3, accelerometer_bias=0.1))
    noise = made.gyroscope - true.gyroscope
    assert noise.std() == pytest.approx(1e-3 * np.sqrt(200), rel=0.03)
    bias = made.accelerometer - true.accelerometer
    assert bias.std(axis=0).max() < 1e-9 and 0 < np.abs(bias[0]).max() < 0.4
    assert np.linalg.norm(true.accelerometer[0]) == pytest.approx(9.80665, rel=1e-5)


def test_the_fast_turn_is_fast_and_ends_where_it_began():
    begin, end = turn_times()
    times = np.arange(0, end + 0.5, 1e-3)
    rates = np.diff(heading(times)) / 1e-3
    assert rates.min() == pytest.approx(-3.0, rel=1e-3) and rates.max() < 0.5
    assert heading(np.array([end + 0.1]))[0] == pytest.approx(0.0, abs=1e-9)
    assert np.abs(rates[times[:-1] > end + 2e-3]).max() == 0


def test_blur_is_along_the_motion_and_nowhere_at_rest():
    small = SceneConfig(seed=1, frames=2, width=64, height=48, moving_objects=0, noise=0.0,
                        exposure=0.03, trajectory='rest')
    sharp, blurred = (kind(config).render(1).image for kind, config in (
        (SimulatedSequence, replace(small, exposure=0.0)), (BlurredSequence, small)))
    assert np.array_equal(sharp, blurred)
    begin, _ = turn_times()
    index = round((begin + 0.25) * 30)
    turning = replace(small, trajectory='fast turn', frames=index + 2)
    frame = BlurredSequence(turning).render(index)
    still = SimulatedSequence(replace(turning, exposure=0.0)).render(index)
    assert np.allclose(frame.T_world_cam, still.T_world_cam)
    across, down = (contrast(frame.image, axis) / contrast(still.image, axis) for axis in (1, 0))
    assert across < 0.7 * down  # a pan blurs along the rows
    with pytest.raises(InputError, match='exposure'):
        replace(small, exposure=0.05)
