# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Random people who are well visible and collide with nothing."""

from __future__ import annotations

import colorsys
import math
from typing import Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.sim.body import LIMBS, Person, Posture
from recon3r_ros.sim.materials import Material, PALETTE_SIZE
from recon3r_ros.sim.movers import blocked

Array = NDArray[np.float64]

_CANDIDATES = 400
_DISTANCES = (1.7, 3.3)  # metres from the camera
_CAMERA_CLEARANCE = 1.1  # metres between the camera and the body's axis
_REACH = 0.42  # of the body around its axis, metres
_SPEEDS = (0.6, 1.1)  # m/s
_RADII = (0.4, 0.9)  # of the circles, metres
_SCALES = (0.88, 1.06)
_SKINS = ((0.95, 0.79, 0.66), (0.83, 0.62, 0.47), (0.62, 0.43, 0.30), (0.38, 0.25, 0.18))
_HAIRS = ((0.12, 0.09, 0.07), (0.35, 0.22, 0.12), (0.78, 0.62, 0.35), (0.62, 0.60, 0.58))
#: Heights of spheres that cover a body, metres, and their radius
COVER_HEIGHTS, COVER_RADIUS = (0.35, 0.95, 1.5), 0.45


def place_people(count: int, camera: Camera, T_world_cam: Array, times: Array, half_room: Array,
                 obstacles: Sequence[tuple[Array, float]], span: tuple[float, float],
                 rng: np.random.Generator) -> list[Person]:
    """
    Draw people in the field of view, who walk along a circle and stand, by turns.

    :param count: how many
    :param camera: the camera
    :param T_world_cam: camera poses (n, 4, 4)
    :param times: of the poses (n,), seconds
    :param half_room: half the room's edges (3,), metres
    :param obstacles: positions (n, 3) at these times, and radii, metres
    :param span: times at which they start and stop to walk, seconds
    :param rng: source of the choice
    :raises InputError: if there is no space for that many
    """
    placed: list[Person] = []
    for number in range(count):
        drawn = (_draw(number, T_world_cam, times, span, rng) for _ in range(_CANDIDATES))
        fitting = [p for p in drawn
                   if _is_clear(p, times, T_world_cam, half_room, obstacles, placed)]
        if not fitting:
            raise InputError(f'people: got {count}, there is space for {len(placed)}')
        placed.append(max(fitting, key=lambda p: _visibility(
            p, camera, T_world_cam, placed, times)))
    return placed


def _draw(number: int, T_world_cam: Array, times: Array, span: tuple[float, float],
          rng: np.random.Generator) -> Person:
    i = int(rng.integers(len(times)))
    ahead = T_world_cam[i, :2, 2] / np.linalg.norm(T_world_cam[i, :2, 2])
    right = np.array([ahead[1], -ahead[0]])
    here = T_world_cam[i, :2, 3] + rng.uniform(*_DISTANCES) * (
        ahead + rng.uniform(-0.4, 0.4) * right)
    walks = number % 2 == 0
    radius, angle = rng.uniform(*_RADII), rng.uniform(-math.pi, math.pi)
    rate = float(rng.choice([-1.0, 1.0])) * rng.uniform(*_SPEEDS) / radius if walks else 0.0
    centre = here - radius * np.array([math.cos(angle), math.sin(angle)])
    # Who walks swings the arms; who stands may hold them anywhere
    high = 0.2 if walks else 2.4
    raised, bent = rng.uniform(0.1, high, 2), rng.uniform(0.1, 0.5 if walks else 1.8, 2)
    forward = rng.uniform(-0.1, 0.1 if walks else 1.0, 2)
    posture = Posture((raised[0], raised[1]), (forward[0], forward[1]), (bent[0], bent[1]))
    return Person(number + 1, rng.uniform(*_SCALES), posture, centre, radius,
                  angle - rate * float(np.clip(times[i], *span)), rate,
                  0.0 if walks else rng.uniform(-math.pi, math.pi), *span)


def _is_clear(person: Person, times: Array, T_world_cam: Array, half_room: Array,
              obstacles: Sequence[tuple[Array, float]], placed: Sequence[Person]) -> bool:
    own = person.positions(times)[:, :2]

    def gap(positions: Array) -> float:
        return float(np.linalg.norm(own - positions[:, :2], axis=1).min())
    return (float((half_room[:2] - np.abs(own)).min()) > _REACH
            and gap(T_world_cam[:, :3, 3]) > _CAMERA_CLEARANCE
            and all(gap(positions) > radius + _REACH for positions, radius in obstacles)
            and all(gap(p.positions(times)) > 2 * _REACH for p in placed))


def _visibility(person: Person, camera: Camera, T_world_cam: Array, placed: Sequence[Person],
                times: Array) -> float:
    """Share of the frames that show the body's middle, not occluded by another person."""
    middle = person.positions(times) + [0.0, 0.0, 0.95]
    points = (np.swapaxes(T_world_cam[:, :3, :3], 1, 2)
              @ (middle - T_world_cam[:, :3, 3])[:, :, None])[..., 0]
    with np.errstate(divide='ignore', invalid='ignore'):
        pixels = camera.project(points) / [camera.width, camera.height]
    seen = (points[:, 2] > 0) & np.all((pixels > 0.08) & (pixels < 0.92), axis=1)
    for other in placed:
        centres = other.positions(times) + [0.0, 0.0, 0.95]
        seen &= ~np.asarray(blocked(T_world_cam[:, :3, 3], middle, centres, 0.25), bool)
    return float(seen.mean())


def dress(rng: np.random.Generator) -> tuple[Material, ...]:
    """
    Draw the materials of a person's limbs.

    :param rng: source of the colours
    :returns: one for each of `LIMBS`
    """
    def colour() -> tuple[float, float, float]:
        return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.2, 0.9), rng.uniform(0.2, 0.95))
    worn = {'skin': _plain(_SKINS[int(rng.integers(len(_SKINS)))], 0.12),
            'hair': _plain(_HAIRS[int(rng.integers(len(_HAIRS)))], 0.6),
            'shirt': _plain(colour(), 0.45, colour(), rng.uniform(0.04, 0.1)),
            'trousers': _plain(colour(), 0.4), 'shoes': _plain(colour(), 0.3)}
    return tuple(worn[limb.clothes] for limb in LIMBS)


def _plain(color: tuple[float, float, float], noise: float,
           stripe: tuple[float, float, float] | None = None, width: float = 0.2) -> Material:
    """Make cloth or skin: one colour, or stripes of two around a limb."""
    palette = (color,) * PALETTE_SIZE if stripe is None else (color, stripe) * (PALETTE_SIZE // 2)
    return Material(palette, color, color, color, (9.0, width), seam=0.0, noise=noise)
