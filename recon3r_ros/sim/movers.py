# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random dynamic objects that are well visible and collide with nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.sim.shapes import Box, Solid, Sphere
from recon3r_ros.sim.trajectories import Harmonics, ObjectPath

Array = NDArray[np.float64]

_CANDIDATES = 250
_SHRINKING = (1.0, 0.7, 0.45, 0.25)  # of the size, tried in turn
_CAMERA_CLEARANCE = 0.4  # metres between the camera and a dynamic object's surface
_WALL_CLEARANCE = 0.15
_NEIGHBOUR_CLEARANCE = 0.05
_DISTANCES = (1.4, 2.5)  # metres from the camera
_SPEEDS = (0.38, 0.62)  # peak, m/s
_SPINS = (12.0, 30.0)  # deg/s
_PROPORTIONS = np.array([0.75, 0.95, 1.25])  # of a box around its nominal size


def place_movers(count: int, fraction: float, camera: Camera, T_world_cam: Array, times: Array,
                 half_room: Array, rng: np.random.Generator) -> list[tuple[Solid, ObjectPath]]:
    """
    Draw dynamic objects that pass through the field of view, boxes and spheres alternately.

    Where space is scarce, the later ones are smaller.

    :param count: how many
    :param fraction: of the image that one covers, on average
    :param camera: the camera
    :param T_world_cam: camera poses (n, 4, 4)
    :param times: of the poses (n,), seconds
    :param half_room: half the room's edges (3,), metres
    :param rng: source of the choice
    :returns: solids and their paths, whose positions never come close to the camera
    :raises InputError: if there is no space for that many, or for that size
    """
    placed: list[tuple[Solid, ObjectPath]] = []
    for number in range(count):
        for shrunk in _SHRINKING:
            drawn = (_draw(number, shrunk * fraction, camera, T_world_cam, times, rng)
                     for _ in range(_CANDIDATES))
            fitting = [(solid, path) for solid, path in drawn
                       if _is_clear(solid, path, times, T_world_cam, half_room, placed)]
            if fitting:
                break
        else:
            raise InputError(f'moving_objects: got {count} of size {fraction}, there is space for '
                             f'{len(placed)}')
        placed.append(max(fitting, key=lambda each: _visibility(
            each[1].position(times), camera, T_world_cam, placed, times)))
    return placed


def _reach(solid: Solid) -> float:
    if isinstance(solid, Sphere):
        return solid.radius
    return float(np.linalg.norm(solid.half_size))


def _draw(number: int, fraction: float, camera: Camera, T_world_cam: Array, times: Array,
          rng: np.random.Generator) -> tuple[Solid, ObjectPath]:
    i = int(rng.integers(len(times)))
    right, down, forward = T_world_cam[i, :3, :3].T
    area = fraction * camera.width * camera.height / (camera.fx * camera.fy)  # at one metre
    distance = max(rng.uniform(*_DISTANCES), 2.2 * math.sqrt(area))
    offset = rng.uniform(-0.4, 0.4) * right + rng.uniform(-0.15, 0.25) * down
    centre = T_world_cam[i, :3, 3] + distance * (forward + offset)
    radius = distance * math.sqrt(area / math.pi)
    # across the view, with a smaller swing up and a little along it, a quarter period apart
    peak = rng.uniform(*_SPEEDS)
    swing = rng.uniform(0.3, 0.6)
    level = np.cross(right, [0.0, 0.0, 1.0])
    minor = swing * rng.uniform(0.4, 0.6) * np.array([0.0, 0.0, 1.0]) \
        + swing * rng.uniform(-0.3, 0.3) * level
    phase = rng.uniform(-math.pi, math.pi)
    rate = peak / swing
    path = Harmonics(centre, np.array([swing * right, minor]), np.full(2, rate),
                     np.array([[phase - rate * times[i]] * 3,
                               [phase - rate * times[i] + math.pi / 2] * 3]))
    axis = rng.normal(0.0, 0.4, 3) + [0.0, 0.0, rng.choice([-1.0, 1.0])]
    spin = axis / np.linalg.norm(axis) * math.radians(rng.uniform(*_SPINS))
    turn = se3.so3_exp(rng.uniform(-1.0, 1.0, 3))
    # a convex body's mean projected area is a quarter of its surface
    edges = rng.permutation(_PROPORTIONS)
    surface = 2.0 * (edges * np.roll(edges, 1)).sum()
    half = edges * radius * math.sqrt(4.0 * math.pi / surface) / 2.0
    solid: Solid = Sphere(radius) if number % 2 else Box(half)
    return solid, ObjectPath(path, turn, spin)


def _is_clear(solid: Solid, path: ObjectPath, times: Array, T_world_cam: Array,
              half_room: Array, placed: list[tuple[Solid, ObjectPath]]) -> bool:
    positions, radius = path.position(times), _reach(solid)
    gaps = np.linalg.norm(positions - T_world_cam[:, :3, 3], axis=1)
    walls = half_room - np.abs(positions - [0.0, 0.0, half_room[2]])
    if gaps.min() < radius + _CAMERA_CLEARANCE or walls.min() < radius + _WALL_CLEARANCE:
        return False
    return all(np.linalg.norm(positions - other.position(times), axis=1).min()
               > radius + _reach(neighbour) + _NEIGHBOUR_CLEARANCE for neighbour, other in placed)


def _visibility(positions: Array, camera: Camera, T_world_cam: Array,
                placed: list[tuple[Solid, ObjectPath]], times: Array) -> float:
    # share of the frames with a visible centre, not occluded by another dynamic object, less a
    # penalty for a varying size in the image
    points = (np.swapaxes(T_world_cam[:, :3, :3], 1, 2)
              @ (positions - T_world_cam[:, :3, 3])[:, :, None])[..., 0]
    pixels = camera.project(points) / [camera.width, camera.height]
    seen = (points[:, 2] > 0) & np.all((pixels > 0.08) & (pixels < 0.92), axis=1)
    for solid, path in placed:
        hidden = blocked(T_world_cam[:, :3, 3], positions, path.position(times), _reach(solid))
        seen &= np.logical_not(hidden)
    distances = np.linalg.norm(points, axis=1)
    return float(seen.mean() - np.log(distances).std())


def blocked(starts: Array, ends: Array, centres: Array, radius: float) -> Array:
    """
    Whether a sphere intersects lines of sight.

    :param starts: (n, 3)
    :param ends: (n, 3)
    :param centres: of the sphere (n, 3) or (3,)
    :param radius: of the sphere
    :returns: (n,), bool
    """
    lines = ends - starts
    nearest = np.clip(((centres - starts) * lines).sum(1) / (lines * lines).sum(1), 0.0, 1.0)
    gaps = np.linalg.norm(starts + nearest[:, None] * lines - centres, axis=1)
    return np.asarray(gaps < radius)
