# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Smooth paths of the camera and of dynamic objects, as functions of time.

World frame: z up, origin on the floor below the room's centre. Camera frame: optical. Metres,
seconds, radians.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Callable

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.sim import fast_turn

Array = NDArray[np.float64]

_CALIBRATION_TIMES = np.linspace(0.0, 40.0, 801)
_MEAN_SPEED = (0.36, 0.46)  # m/s
_PEAK_SPEED = 0.6
_SHAKE = math.radians(0.35)  # amplitude of a hand's tremor


@dataclass(frozen=True, eq=False)
class Harmonics:
    """
    A sum of sines, offset + sum_k amplitude_k sin(rate_k t + phase_k).

    :param offset: (d,)
    :param amplitudes: (k, d)
    :param rates: (k,), rad/s
    :param phases: (k, d), radians
    """

    offset: Array
    amplitudes: Array
    rates: Array
    phases: Array

    @classmethod
    def constant(cls, value: Array) -> Harmonics:
        """Make a sum that is `value` (d,) at all times."""
        zero = np.zeros((1, len(value)))
        return cls(np.asarray(value, dtype=np.float64), zero, np.zeros(1), zero)

    def __call__(self, times: Array) -> Array:
        """
        Evaluate.

        :param times: (n,), seconds
        :returns: (n, d)
        """
        angles = times[:, None, None] * self.rates[:, None] + self.phases
        return np.asarray(self.offset + (self.amplitudes * np.sin(angles)).sum(axis=1))


@dataclass(frozen=True, eq=False)
class ObjectPath:
    """
    Pose of an object.

    :param position: of its centre, world frame
    :param R_world_object: orientation (3, 3) at time zero
    :param spin: constant angular velocity (3,), world frame, rad/s
    :param departure: time at which it starts to move, seconds
    :param arrival: time at which it stops, seconds
    """

    position: Harmonics
    R_world_object: Array
    spin: Array
    departure: float = -math.inf
    arrival: float = math.inf

    @classmethod
    def fixed(cls, position: Array, yaw: float = 0.0) -> ObjectPath:
        """
        Path of a static object.

        :param position: of its centre (3,), world frame
        :param yaw: turn about the vertical, radians
        :returns: the path
        """
        return cls(Harmonics.constant(position), se3.so3_exp([0.0, 0.0, yaw]), np.zeros(3))

    def poses(self, times: Array) -> Array:
        """
        Evaluate.

        :param times: (n,), seconds
        :returns: T_world_object (n, 4, 4)
        """
        times = np.clip(times, self.departure, self.arrival)
        turns = se3.so3_exp(times[:, None] * self.spin)
        return se3.from_rt(turns @ self.R_world_object, self.position(times))


@dataclass(frozen=True, eq=False)
class CameraPath:
    """
    Pose of the camera: a position, a point looked at, and the tremor of a hand.

    :param position: times (n,) to world positions (n, 3)
    :param target: times (n,) to the world points (n, 3) looked at
    :param tremor: rotation vectors (n, 3) about the camera's own axes
    :param pace: path seconds per second
    """

    position: Callable[[Array], Array]
    target: Callable[[Array], Array]
    tremor: Harmonics
    pace: float

    def poses(self, times: Array) -> Array:
        """
        Evaluate.

        :param times: (n,), seconds
        :returns: T_world_cam (n, 4, 4)
        """
        position = self.position(times * self.pace)
        rotations = _look(self.target(times * self.pace) - position)
        return se3.from_rt(rotations @ se3.so3_exp(self.tremor(times)), position)


def _look(forward: Array) -> Array:
    z = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _orbit(rng: np.random.Generator, half_room: Array) -> tuple[Harmonics, Harmonics]:
    # in polar coordinates: angle, radius, height
    radius = min(2.1, 0.62 * float(half_room[:2].min()))
    centre = np.array([rng.uniform(-np.pi, np.pi), radius, rng.uniform(1.25, 1.5)])
    arc = Harmonics(centre, np.array([[1.1, 0.0, 0.0], [0.0, 0.12, 0.1]]), np.array([0.3, 0.71]),
                    np.array([[rng.uniform(-0.9, -0.5)] * 3, rng.uniform(-3, 3, 3)]))
    target = Harmonics(np.array([0.0, 0.0, rng.uniform(0.85, 1.0)]),
                       np.full((1, 3), 0.08), np.array([0.5]), rng.uniform(-3, 3, (1, 3)))
    return arc, target


def _facing(rng: np.random.Generator, half_room: Array) -> tuple[Array, Array]:
    # towards one wall of the room, a little off its normal
    yaw = rng.integers(4) * np.pi / 2 + rng.uniform(-0.3, 0.3)
    forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    return forward, np.array([forward[1], -forward[0], 0.0])


def _sweep(rng: np.random.Generator, half_room: Array) -> tuple[Harmonics, Harmonics]:
    forward, right = _facing(rng, half_room)
    start = np.array([0.0, 0.0, rng.uniform(1.2, 1.5)]) - rng.uniform(0.5, 0.9) * forward
    amplitudes = np.array([1.0 * right, 0.15 * forward + [0.0, 0.0, 0.08]])
    phases = np.array([[rng.uniform(-1.2, -0.8)] * 3, rng.uniform(-3, 3, 3)])
    rates = np.array([0.5, 0.83])
    # the target follows, so that the camera hardly rotates
    target = Harmonics(start + 3.0 * forward - [0.0, 0.0, 0.5], amplitudes * [[0.93], [0.4]],
                       rates, phases)
    return Harmonics(start, amplitudes, rates, phases), target


def _forward(rng: np.random.Generator, half_room: Array) -> tuple[Harmonics, Harmonics]:
    forward, right = _facing(rng, half_room)
    start = np.array([0.0, 0.0, rng.uniform(1.2, 1.5)]) - 0.6 * forward
    amplitudes = np.array([1.3 * forward, 0.07 * right + [0.0, 0.0, 0.03]])
    phases = np.array([[rng.uniform(-1.25, -0.95)] * 3, rng.uniform(-3, 3, 3)])
    target = Harmonics(start + 8.0 * forward - [0.0, 0.0, 1.2],
                       0.3 * right + rng.normal(0.0, 0.05, (1, 3)), np.array([0.6]),
                       rng.uniform(-3, 3, (1, 3)))
    return Harmonics(start, amplitudes, np.array([0.4, 1.1]), phases), target


def _handheld(rng: np.random.Generator, half_room: Array) -> tuple[Harmonics, Harmonics]:
    forward, right = _facing(rng, half_room)
    start = np.array([0.0, 0.0, rng.uniform(1.25, 1.5)]) - rng.uniform(0.4, 0.8) * forward
    up = np.array([0.0, 0.0, 1.0])
    amplitudes = np.array([0.75 * right + 0.1 * up, 0.6 * forward + 0.08 * up, 0.15 * right])
    phases = rng.uniform(-np.pi, np.pi, (3, 1)) + rng.uniform(-0.4, 0.4, (3, 3))
    rates = np.array([0.55, 0.43, 1.27]) * rng.uniform(0.9, 1.1, 3)
    target = Harmonics(start + 3.0 * forward - [0.0, 0.0, 0.45],
                       np.array([1.1 * right, 0.5 * right + 0.15 * up]),
                       np.array([0.37, 0.83]) * rng.uniform(0.9, 1.1, 2),
                       rng.uniform(-np.pi, np.pi, (2, 1)) + rng.uniform(-0.4, 0.4, (2, 3)))
    return Harmonics(start, amplitudes, rates, phases), target


_KINDS = {'orbit': _orbit, 'sweep': _sweep, 'forward': _forward, 'handheld': _handheld}
#: Paths along which the camera moves
PATHS = tuple(_KINDS)
#: All kinds; in the last two the camera stays in place: it turns, or is at rest
TRAJECTORIES = (*PATHS, 'fast turn', 'turn', 'rest')


def camera_path(kind: str, rng: np.random.Generator, half_room: Array) -> CameraPath:
    """
    Draw a camera path that keeps to the middle of the room.

    :param kind: one of TRAJECTORIES
    :param rng: source of its shape
    :param half_room: half the room's edges (3,), metres
    :returns: the path; about 0.4 m/s on average where the camera moves along it
    """
    if kind == 'fast turn':
        return _fast_turn(rng, half_room)
    if kind not in PATHS:
        return _in_place(rng, half_room, turning=kind == 'turn')
    course, target = _KINDS[kind](rng, half_room)
    shiver = _tremor(rng, 0.004, np.zeros(3))  # metres
    steady = _polar_to_world(course) if kind == 'orbit' else course
    steps = np.diff(steady(_CALIBRATION_TIMES), axis=0) / _CALIBRATION_TIMES[1]
    speeds = np.linalg.norm(steps, axis=1)
    pace = float(min(rng.uniform(*_MEAN_SPEED) / speeds.mean(), _PEAK_SPEED / speeds.max()))
    return CameraPath(lambda times: np.asarray(steady(times) + shiver(times)), target,
                      _rotational_tremor(rng, _SHAKE), pace)


def _in_place(rng: np.random.Generator, half_room: Array, turning: bool) -> CameraPath:
    """Draw the view of a hand-held camera whose position is constant, as its target may be."""
    course, target = _handheld(rng, half_room)
    if not turning:
        target = Harmonics.constant(target(np.zeros(1))[0])
    return CameraPath(Harmonics.constant(course(np.zeros(1))[0]), target,
                      _rotational_tremor(rng, _SHAKE if turning else 0.0), 1.0)


def _fast_turn(rng: np.random.Generator, half_room: Array) -> CameraPath:
    """Draw a hand that sways while the camera pans slowly and turns back fast."""
    forward, right = _facing(rng, half_room)
    up = np.array([0.0, 0.0, 1.0])
    sway = Harmonics(up * rng.uniform(1.25, 1.5) - 0.3 * forward,
                     np.array([0.35 * right, 0.25 * forward + 0.08 * up]), np.array([1.1, 1.7]),
                     rng.uniform(-np.pi, np.pi, (2, 1)) + rng.uniform(-0.4, 0.4, (2, 3)))
    side = float(rng.choice([-1.0, 1.0]))

    def target(times: Array) -> Array:
        angle = (fast_turn.heading(times)[:, None] - 0.6) * side
        ahead = np.cos(angle) * forward + np.sin(angle) * right
        return np.asarray(sway(times) + 3.0 * ahead - [0.0, 0.0, 0.4])

    return CameraPath(sway, target, _rotational_tremor(rng, _SHAKE), 1.0)


def _polar_to_world(course: Harmonics) -> Callable[[Array], Array]:
    def position(times: Array) -> Array:
        angle, radius, height = course(times).T
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=-1)
    return position


def _rotational_tremor(rng: np.random.Generator, amplitude: float) -> Harmonics:
    tilt = rng.normal(0.0, np.radians(1.5), 3) * [1.0, 0.3, 1.0]
    return _tremor(rng, amplitude, tilt)


def _tremor(rng: np.random.Generator, amplitude: float, offset: Array) -> Harmonics:
    rates = 2 * np.pi * np.array([0.45, 0.8, 1.4]) * rng.uniform(0.85, 1.15, 3)
    scales = amplitude * np.array([[1.0], [0.6], [0.35]]) * rng.uniform(0.6, 1.0, (3, 3))
    return Harmonics(offset, scales, rates, rng.uniform(-np.pi, np.pi, (3, 3)))
