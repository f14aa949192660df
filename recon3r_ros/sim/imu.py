# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Samples of an IMU along a camera's path.

Model (as of Kalibr): what is true, plus a constant bias, plus a random walk of it, plus white
noise. The derivatives of the path are central differences.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.sim.trajectories import CameraPath

Array = NDArray[np.float64]

GRAVITY = 9.80665
#: Step of the differences, seconds
_STEP = 1e-3


@dataclass(frozen=True)
class ImuModel:
    """
    Errors of an IMU: of a MEMS sensor as in cameras for robots.

    :param rate: samples per second
    :param gyroscope_noise: density of the white noise, rad/s/sqrt(Hz)
    :param gyroscope_walk: random walk of the bias, rad/s^2/sqrt(Hz)
    :param gyroscope_bias: standard deviation of the constant bias, rad/s
    :param accelerometer_noise: m/s^2/sqrt(Hz)
    :param accelerometer_walk: m/s^3/sqrt(Hz)
    :param accelerometer_bias: standard deviation of the constant bias, m/s^2
    """

    rate: float = 200.0
    gyroscope_noise: float = 5e-4
    gyroscope_walk: float = 5e-5
    gyroscope_bias: float = 0.02
    accelerometer_noise: float = 3e-3
    accelerometer_walk: float = 1e-3
    accelerometer_bias: float = 0.04


@dataclass(frozen=True, eq=False)
class SimulatedImu:
    """
    Samples of a sequence.

    :param stamps_ns: (N,) integer nanoseconds
    :param gyroscope: (N, 3) rad/s in the IMU's frame
    :param accelerometer: (N, 3) specific force in the IMU's frame, m/s^2
    :param T_cam_imu: (4, 4) pose of the IMU in the camera's optical frame, metres
    :param model: the errors
    """

    stamps_ns: NDArray[np.int64]
    gyroscope: Array
    accelerometer: Array
    T_cam_imu: Array
    model: ImuModel


def simulated_imu(path: CameraPath, duration: float, rng: np.random.Generator,
                  model: ImuModel = ImuModel()) -> SimulatedImu:
    """
    Measure along a path, from its begin on.

    :param path: of the camera; world z is up
    :param duration: seconds
    :param rng: source of the mounting and of all errors
    """
    count = int(duration * model.rate) + 2
    times = np.arange(count) / model.rate
    T_cam_imu = se3.from_rt(se3.so3_exp(rng.uniform(-1.5, 1.5, 3)), rng.uniform(-0.03, 0.03, 3))
    before, now, after = (path.poses(t) @ T_cam_imu for t in (times - _STEP, times, times + _STEP))
    turn = np.swapaxes(before[:, :3, :3], 1, 2) @ after[:, :3, :3]
    gyroscope = se3.so3_log(turn) / (2 * _STEP)
    acceleration = (before[:, :3, 3] - 2 * now[:, :3, 3] + after[:, :3, 3]) / _STEP ** 2
    force = acceleration + [0.0, 0.0, GRAVITY]
    accelerometer = (np.swapaxes(now[:, :3, :3], 1, 2) @ force[..., None])[..., 0]
    return SimulatedImu(
        np.rint(times * 1e9).astype(np.int64),
        gyroscope + _errors(rng, count, model.rate, model.gyroscope_bias, model.gyroscope_walk,
                            model.gyroscope_noise),
        accelerometer + _errors(rng, count, model.rate, model.accelerometer_bias,
                                model.accelerometer_walk, model.accelerometer_noise),
        T_cam_imu, model)


def _errors(rng: np.random.Generator, count: int, rate: float, bias: float, walk: float,
            noise: float) -> Array:
    steps = rng.standard_normal((count, 3)) * walk / np.sqrt(rate)
    return np.asarray(rng.standard_normal(3) * bias + np.cumsum(steps, axis=0)
                      + rng.standard_normal((count, 3)) * noise * np.sqrt(rate))
