# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Rotation by a gyroscope.

The rotation part of preintegration (Forster et al., TRO 2017, section VI): increments at a bias,
the Jacobian of their product with respect to the bias, and the covariance by white noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.imu.samples import ImuSamples

Array = NDArray[np.float64]

#: Longest time without samples that is integrated over
MAX_GAP_NS = 60_000_000
#: Samples in a row with one value, at this rate or faster (rad/s), with which a sensor is at the
#: end of its range; and a rate that no usual sensor measures
SATURATED_SAMPLES, SATURATED_RATE, IMPOSSIBLE_RATE = 3, 1.0, 80.0


@dataclass(frozen=True, eq=False)
class Integrated:
    """
    Rotation of the IMU from one time to another.

    :param R_begin_end: (3, 3)
    :param J: (3, 3) derivative of its right perturbation with respect to the bias, s
    :param duration_s: seconds
    """

    R_begin_end: Array
    J: Array
    duration_s: float


def integrated(samples: ImuSamples, bias: Array, begin_ns: int, end_ns: int
               ) -> Integrated | None:
    """
    Integrate angular velocity, linear between samples.

    :param samples: in the order of their stamps, all finite
    :param bias: (3,) of the gyroscope, rad/s
    :return: None where samples are missing for longer than MAX_GAP_NS
    """
    if end_ns <= begin_ns or not len(samples):
        return None
    stamps_ns = samples.stamps_ns
    first = max(int(np.searchsorted(stamps_ns, begin_ns, 'right')) - 1, 0)
    last = min(int(np.searchsorted(stamps_ns, end_ns, 'left')), len(stamps_ns) - 1)
    used = stamps_ns[first:last + 1]
    inside = used[(used > begin_ns) & (used < end_ns)]
    knots = np.concatenate([[begin_ns], inside, [end_ns]])
    around = np.concatenate([[min(begin_ns, used[0])], used, [max(end_ns, used[-1])]])
    if np.diff(around).max() > MAX_GAP_NS or used[0] > end_ns or used[-1] < begin_ns - MAX_GAP_NS:
        return None
    times, at = (knots - begin_ns) * 1e-9, (used - begin_ns) * 1e-9
    rates = np.stack([np.interp(times, at, samples.gyroscope[first:last + 1, axis])
                      for axis in range(3)], axis=1) - bias
    steps = np.diff(times)
    turns = (rates[1:] + rates[:-1]) / 2 * steps[:, None]
    R, J = np.eye(3), np.zeros((3, 3))
    # The right Jacobian of a step, to first order: a step is small
    for dR, Jr in zip(se3.so3_exp(turns), (np.eye(3) - se3.hat(turns) / 2) * steps[:, None, None]):
        R, J = R @ dR, dR.T @ J - Jr
    return Integrated(R, J, float(times[-1]))


def problem_of(samples: ImuSamples) -> str:
    """
    Say why the gyroscope's samples of a short time cannot be used; '' where they can.

    :param samples: in the order of their stamps, all finite
    """
    rates = samples.gyroscope
    if len(rates) and np.abs(rates).max() > IMPOSSIBLE_RATE:
        return (f'it measures {np.abs(rates).max():.0f} rad/s, more than sensors can: rad/s are '
                'expected, not degrees')
    equal = np.diff(rates, axis=0) == 0
    run = np.zeros(3, int)
    for same, rate in zip(equal, rates[1:]):
        run = np.where(same & (np.abs(rate) > SATURATED_RATE), run + 1, 0)
        if run.max() >= SATURATED_SAMPLES - 1:
            return f'it is saturated at {np.abs(rate[np.argmax(run)]):.1f} rad/s'
    return ''
