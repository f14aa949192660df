# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bias of a gyroscope: a Kalman filter on standstill and on rotations of tracked frames."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Standard deviation (rad/s) of an unknown bias, its random walk (rad/s/sqrt(s)), and what is
#: left of it at best: scale and misalignment of the axes are not modelled
PRIOR, WALK, FLOOR = 0.1, 3e-4, 1e-3
#: Standard deviations from which on a measurement counts less (Huber 1964), and from which on
#: gyroscope and images contradict each other
HUBER, CONTRADICTION = 2.0, 6.0
#: Recent measurements, how many are needed for a verdict, and the share of contradictions
RECENT, NEEDED, MAX_CONTRADICTIONS = 12, 5, 0.5


class BiasFilter:
    """
    Estimates the bias; a value and its covariance.

    The bias is the same for all cameras of the IMU.
    """

    def __init__(self) -> None:
        self.mean: Array = np.zeros(3)
        self.covariance: Array = np.eye(3) * PRIOR ** 2
        self._contradicted: deque[bool] = deque(maxlen=RECENT)

    @property
    def sigma(self) -> float:
        """Greatest standard deviation, rad/s."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance)[-1] + FLOOR ** 2))

    @property
    def contradicted(self) -> bool:
        """Whether most rotations of tracked frames are not those of the gyroscope."""
        found = self._contradicted
        return len(found) >= NEEDED and sum(found) > MAX_CONTRADICTIONS * len(found)

    def predict(self, duration_s: float) -> None:
        """Let time pass."""
        self.covariance = self.covariance + np.eye(3) * WALK ** 2 * max(duration_s, 0.0)

    def observe_still(self, rate: Array, sigma: float) -> None:
        """
        Take the mean rate (3,) of a camera that stands still, rad/s.

        :param sigma: standard deviation of the mean
        """
        self._update(rate - self.mean, np.eye(3), np.eye(3) * sigma ** 2)

    def observe_turn(self, residual: Array, J: Array, covariance: Array) -> None:
        """
        Take the rotation of tracked frames.

        :param residual: (3,) Log(R_gyroscope^T R_images), radians
        :param J: (3, 3) see `Integrated`
        :param covariance: (3, 3) of the residual, without that of the bias
        """
        self._contradicted.append(self._update(residual, J, covariance) > CONTRADICTION)

    def _update(self, residual: Array, J: Array, R: Array) -> float:
        """Update by residual = J (bias - mean); return the residual in standard deviations."""
        P = self.covariance
        off = float(np.sqrt(residual @ np.linalg.solve(J @ P @ J.T + R, residual)))
        if off > HUBER:
            R = R * (off / HUBER) ** 2 + J @ P @ J.T * ((off / HUBER) ** 2 - 1)
        K = P @ J.T @ np.linalg.inv(J @ P @ J.T + R)
        self.mean = self.mean + K @ residual
        A = np.eye(3) - K @ J
        self.covariance = A @ P @ A.T + K @ R @ K.T
        return off
