# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A camera that pans slowly, and then turns back fast.

What the fast turn ends at has been seen before: lost tracking can be found again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Seconds and rate (rad/s) of the slow pan, and the rest after it
PAN_S, PAN_RATE, REST_S = 3.0, 0.45, 0.5
#: Rate of the fast turn, rad/s, and the time in which it is reached, seconds
TURN_RATE, RAMP_S = 3.0, 0.08


def heading(times: Array) -> Array:
    """
    Angle (n,) from the first direction, radians.

    :param times: (n,), seconds
    """
    angle = PAN_S * PAN_RATE
    pan = _eased(times, PAN_S, angle, RAMP_S)
    begin, end = turn_times()
    return pan - _eased(times - begin, end - begin, angle, RAMP_S)


def turn_times() -> tuple[float, float]:
    """Begin and end of the fast turn, seconds."""
    begin = PAN_S + RAMP_S + REST_S
    return begin, begin + PAN_S * PAN_RATE / TURN_RATE + RAMP_S


def _eased(times: Array, duration: float, angle: float, ramp: float) -> Array:
    """Angle (n,) of a turn whose rate grows, is constant, and falls; radians."""
    rate = angle / (duration - ramp)
    t = np.clip(times, 0.0, duration)
    return np.select(
        [t < ramp, t <= duration - ramp],
        [rate * t ** 2 / (2 * ramp), rate * (t - ramp / 2)],
        angle - rate * (duration - t) ** 2 / (2 * ramp))
