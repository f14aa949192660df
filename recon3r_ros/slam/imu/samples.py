# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What an IMU measures, and what it says of a camera between two of its frames."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError

Array = NDArray[np.float64]

#: White noise where none is given, that of a cheap MEMS sensor: rad/s/sqrt(Hz), m/s^2/sqrt(Hz)
GYROSCOPE_NOISE, ACCELEROMETER_NOISE = 1e-3, 1e-2


@dataclass(frozen=True, eq=False)
class ImuSamples:
    """
    Samples of an IMU that is fixed to a camera.

    :param stamps_ns: (N,) integer nanoseconds, in any order
    :param gyroscope: (N, 3) angular velocity in the IMU's frame, rad/s
    :param accelerometer: (N, 3) specific force in the IMU's frame, m/s^2: at rest it points up
    :param R_cam_imu: (3, 3) turns the IMU's axes into those of the camera's optical frame
    :param gyroscope_noise: density of its white noise, rad/s/sqrt(Hz)
    :param accelerometer_noise: density of its white noise, m/s^2/sqrt(Hz)
    :raises GeometryError: where shapes do not fit together, or for a matrix that is no rotation
    """

    stamps_ns: NDArray[np.int64]
    gyroscope: Array
    accelerometer: Array
    R_cam_imu: Array = field(default_factory=lambda: np.eye(3))
    gyroscope_noise: float = GYROSCOPE_NOISE
    accelerometer_noise: float = ACCELEROMETER_NOISE

    def __post_init__(self) -> None:
        n = len(self.stamps_ns)
        for name, shape in (('gyroscope', (n, 3)), ('accelerometer', (n, 3)),
                            ('R_cam_imu', (3, 3))):
            if getattr(self, name).shape != shape:
                raise GeometryError(f'{name}: got shape {getattr(self, name).shape}, expected '
                                    f'{shape}')
        R = self.R_cam_imu
        if not (np.abs(R @ R.T - np.eye(3)).max() < 1e-3 and np.linalg.det(R) > 0):
            raise GeometryError(f'R_cam_imu: got {R.round(4).tolist()}, expected a rotation')

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.stamps_ns)

    def between(self, begin_ns: int, end_ns: int) -> ImuSamples:
        """Return the samples from one time to another, both included."""
        return self.chosen((self.stamps_ns >= begin_ns) & (self.stamps_ns <= end_ns))

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> ImuSamples:
        """Return some of the samples, by a mask (N,), by indices or by a slice."""
        return replace(self, stamps_ns=self.stamps_ns[which], gyroscope=self.gyroscope[which],
                       accelerometer=self.accelerometer[which])

    def joined(self, later: ImuSamples) -> ImuSamples:
        """Return these samples and others, in the order of their stamps; of two at once one."""
        stamps_ns, first = np.unique(
            np.concatenate([self.stamps_ns, later.stamps_ns]), return_index=True)
        return replace(
            later, stamps_ns=stamps_ns,
            gyroscope=np.concatenate([self.gyroscope, later.gyroscope])[first],
            accelerometer=np.concatenate([self.accelerometer, later.accelerometer])[first])


@dataclass(frozen=True, eq=False)
class Turn:
    """
    Rotation of a camera from its frame before to this one, by the gyroscope.

    :param R_prev_cam: (3, 3)
    :param covariance: (3, 3) of its right perturbation, rad^2
    :param duration_s: seconds between the frames
    :param still: whether the camera stood still
    """

    R_prev_cam: Array
    covariance: Array
    duration_s: float
    still: bool = False

    @property
    def sigma(self) -> float:
        """Greatest standard deviation about any axis, radians."""
        return float(np.sqrt(np.linalg.eigvalsh(self.covariance)[-1]))
