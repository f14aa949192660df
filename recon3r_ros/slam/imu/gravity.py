# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Direction of gravity in a map, from specific force and the poses of frames.

At rest the accelerometer measures what holds the camera up. In motion, the mean over a time T is
off by the change of velocity over T; so it is the more certain the longer that lasts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3

Array = NDArray[np.float64]

STANDARD_GRAVITY = 9.80665
#: Length of a mean specific force that can be gravity: m/s^2 off
MAX_OFF = 0.7
#: Standard deviation of the accelerometer's bias, m/s^2, and of a camera's velocity, m/s: that of
#: a hand, a robot or a drone indoors
BIAS_SIGMA, VELOCITY_SIGMA = 0.06, 0.7
#: Uncertainty with which a map is levelled, radians
CERTAIN = np.deg2rad(1.5)
#: Turns optical axes (x right, y down, z forward) into those of a body (x forward, y left, z up)
T_BODY_OPTICAL = np.array([
    [0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
T_BODY_OPTICAL.setflags(write=False)


@dataclass(frozen=True, eq=False)
class FrameForce:
    """
    What the IMU says of one frame.

    :param force: (3,) mean specific force since the frame before, in the camera frame of this
        one, m/s^2; NaN where it is not known
    :param duration_s: seconds since the frame before
    :param up: (3,) unit vector up in the camera frame, by the last standstill; NaN without one
    :param sigma: of `up`, radians
    """

    force: Array
    duration_s: float
    up: Array
    sigma: float


@dataclass(frozen=True, eq=False)
class Gravity:
    """
    Direction against gravity.

    :param up: (3,) unit vector in the map
    :param sigma: standard deviation, radians
    :param source: 'standstill' or 'motion'
    """

    up: Array
    sigma: float
    source: str

    @property
    def certain(self) -> bool:
        """Whether a map can be levelled by it."""
        return self.sigma <= CERTAIN


def gravity(posed: Iterable[tuple[FrameForce, Array]]) -> Gravity | None:
    """
    Estimate the direction of gravity in a map.

    :param posed: frames with their rotations R_map_cam (3, 3)
    :return: None where nothing, or something contradictory, is known
    """
    frames = list(posed)
    candidates = [g for g in (_by_standstill(frames), _by_motion(frames)) if g is not None]
    best = min(candidates, key=lambda g: g.sigma, default=None)
    for other in candidates:
        if best is not None and _angle(best.up, other.up) > 4 * np.hypot(best.sigma, other.sigma):
            return None
    return best


def up_of(force: Array) -> Array | None:
    """Return the unit vector (3,) of a mean specific force, if that can be gravity alone."""
    length = float(np.linalg.norm(force))
    return force / length if abs(length - STANDARD_GRAVITY) < MAX_OFF else None


def levelled(T_out_map: Array, up: Array) -> Array:
    """
    Turn the frame of results so that its z axis points up, and its x axis where it did.

    :param T_out_map: (4, 4) pose of the map in it
    :param up: (3,) in the map
    """
    z = T_out_map[:3, :3] @ (up / np.linalg.norm(up))
    # Along x as far as that is level; along the former z axis, to which x tilts, where it is not
    x = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.95 else np.array([0.0, 0.0, -np.sign(z[0])])
    x = x - z * (x @ z)
    x /= np.linalg.norm(x)
    return se3.from_rt(np.stack([x, np.cross(z, x), z]), np.zeros(3)) @ T_out_map


def _by_standstill(frames: list[tuple[FrameForce, Array]]) -> Gravity | None:
    known = [(R @ f.up, f.sigma) for f, R in frames if np.isfinite(f.sigma)]
    if not known:
        return None
    sigma = min(s for _, s in known)
    # The frames nearest to standstill: others have drifted since, and are not independent
    mean = np.mean([up for up, s in known if s <= 1.2 * sigma], axis=0)
    length = float(np.linalg.norm(mean))
    return None if length < 0.9 else Gravity(mean / length, sigma, 'standstill')


def _by_motion(frames: list[tuple[FrameForce, Array]]) -> Gravity | None:
    known = [(R @ f.force, f.duration_s) for f, R in frames if np.isfinite(f.force).all()]
    duration = sum(s for _, s in known)
    if duration <= 0:
        return None
    mean = np.sum([force * s for force, s in known], axis=0) / duration
    up = up_of(mean)
    if up is None:
        return None
    sigma = float(np.hypot(np.sqrt(2) * VELOCITY_SIGMA / duration, BIAS_SIGMA)) / STANDARD_GRAVITY
    return Gravity(up, sigma, 'motion')


def _angle(a: Array, b: Array) -> float:
    return float(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))
