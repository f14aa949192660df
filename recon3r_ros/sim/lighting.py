# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Light: two lamps under the ceiling and an even ambient part, the same from every viewpoint.

The room's faces get soft shadows and ambient occlusion of all static objects, baked once; solids
are shaded by Lambert's law alone and darken towards the floor.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.sim.shapes import face_half_sizes, FACE_NORMALS, face_points, Hit, Solid
import torch
from torch import Tensor

Array = NDArray[np.float64]

_AMBIENT = 0.5
_LAMP_POWERS = (0.75, 0.5)
_LAMP_RADIUS = 0.4  # metres
_REACH = 3.5  # distance, metres, at which a lamp's light is halved
_TEXELS = 40  # along each edge of a face
_LAMP_SAMPLES = 4
_SKY_SAMPLES = 8
_SKY_DISTANCE = 0.8  # largest distance, metres, at which objects occlude ambient light
_CORNER = 0.22  # metres over which the room's corners darken
_FLOOR_SHADE = (0.62, 0.7)  # light at the floor, and the height, metres, of full light


class Lamp(NamedTuple):
    """
    A lamp.

    :param position: world frame (3,), metres
    :param power: light on a nearby surface that faces it
    """

    position: Array
    power: float


def lamps(half_room: Array, rng: np.random.Generator) -> list[Lamp]:
    """
    Hang two lamps on opposite sides of the room.

    :param half_room: half the room's edges (3,), metres
    :param rng: source of their positions
    :returns: the lamps
    """
    angle = rng.uniform(-math.pi, math.pi)
    places = [angle, angle + math.pi + rng.uniform(-0.6, 0.6)]
    return [Lamp(np.array([*(0.45 * half_room[:2] * [math.cos(a), math.sin(a)]),
                           2 * half_room[2] - 0.2]), power)
            for a, power in zip(places, _LAMP_POWERS)]


def light_on_solid(lights: Sequence[Lamp], T_world_solid: Array, hit: Hit,
                   height: Tensor) -> Tensor:
    """
    Light on a solid; each lamp shines in one direction on all of it.

    :param lights: the lamps
    :param T_world_solid: pose of the solid (4, 4)
    :param hit: its visible points
    :param height: of those points above the floor (h, w), metres; overwritten
    :returns: (h, w)
    """
    low, full = _FLOOR_SHADE
    shade = height.mul_((1.0 - low) / full).clamp_(0.0, 1.0 - low).add_(low)
    beams = []
    for lamp in lights:
        line = lamp.position - T_world_solid[:3, 3]
        distance = float(np.linalg.norm(line))
        beams.append(line @ T_world_solid[:3, :3] * (_strength(lamp.power, distance) / distance))
    if hit.normal is None:
        assert isinstance(hit.face, int)
        lit = sum(max(float(FACE_NORMALS[hit.face] @ beam), 0.0) for beam in beams)
        return shade.mul_(_AMBIENT + lit)
    x, y, z = hit.normal
    light = torch.full_like(shade, _AMBIENT)
    for beam in beams:
        light += (x * float(beam[0]) + y * float(beam[1]) + z * float(beam[2])).clamp_(min=0.0)
    return light.mul_(shade)


def _strength(power: float, distance: float) -> float:
    return power / (1.0 + (distance / _REACH) ** 2)


class LightMap:
    """
    Light on the faces of the room.

    :param room: its solid
    :param T_world_room: its pose (4, 4)
    :param lights: the lamps
    :param occluders: static objects in the room, with their poses T_world_solid
    :param rng: source of the sample directions
    :param device: where to evaluate
    """

    def __init__(self, room: Solid, T_world_room: Array, lights: Sequence[Lamp],
                 occluders: Sequence[tuple[Solid, Array]], rng: np.random.Generator,
                 device: torch.device) -> None:
        half_sizes = face_half_sizes(room)
        ticks = torch.linspace(-1.0, 1.0, _TEXELS, dtype=torch.float64)
        faces = []
        for face in range(6):
            half_u, half_v = half_sizes[face]
            v, u = torch.meshgrid(ticks * half_v, ticks * half_u, indexing='ij')
            points = face_points(room, face, u, v) + torch.from_numpy(T_world_room[:3, 3])
            corner = torch.minimum(half_u - u.abs(), half_v - v.abs())
            light = _bake(points, torch.from_numpy(-FACE_NORMALS[face]), lights, occluders, rng)
            faces.append(light * (1.0 - 0.3 * torch.exp(-corner / _CORNER)))
        baked = torch.nn.functional.avg_pool2d(torch.stack(faces), 3, 1, 1,
                                               count_include_pad=False)
        self._map = baked.float().to(device)
        self._scale = 1.0 / half_sizes

    def sample(self, hit: Hit) -> Tensor:
        """
        Interpolate.

        :param hit: visible points of a face of the room
        :returns: (h, w)
        """
        assert isinstance(hit.face, int)
        scale_u, scale_v = self._scale[hit.face]
        grid = torch.stack([hit.u * float(scale_u), hit.v * float(scale_v)], dim=-1)
        return torch.nn.functional.grid_sample(self._map[hit.face][None, None], grid[None],
                                               padding_mode='border', align_corners=True)[0, 0]


def _bake(points: Tensor, normal: Tensor, lights: Sequence[Lamp],
          occluders: Sequence[tuple[Solid, Array]], rng: np.random.Generator) -> Tensor:
    # points (h, w, 3) in the world, on a plane with this normal; returns (h, w)
    rays, weights = [], []
    for lamp in lights:
        for _ in range(_LAMP_SAMPLES):
            spread = torch.from_numpy(rng.normal(0.0, _LAMP_RADIUS / 2, points.shape))
            ray = torch.from_numpy(lamp.position) + spread * torch.tensor([1.0, 1.0, 0.0]) - points
            distance = ray.norm(dim=-1)
            cosine = ((ray * normal).sum(-1) / distance).clamp(min=0.0)
            rays.append(ray)
            weights.append(lamp.power / (1.0 + (distance / _REACH) ** 2) * cosine / _LAMP_SAMPLES)
    for _ in range(_SKY_SAMPLES):
        # a point of the unit sphere around the normal's tip is a cosine-weighted direction
        ball = torch.from_numpy(rng.normal(0.0, 1.0, points.shape))
        ray = ball / ball.norm(dim=-1, keepdim=True) * 0.98 + normal
        rays.append(ray / ray.norm(dim=-1, keepdim=True) * _SKY_DISTANCE)
        weights.append(torch.full(points.shape[:2], _AMBIENT / _SKY_SAMPLES))
    directions = torch.stack(rays)
    dark = torch.zeros(directions.shape[:-1], dtype=torch.bool)
    for solid, T_world_solid in occluders:
        R = torch.from_numpy(T_world_solid[:3, :3])
        origins = _rotate(points - torch.from_numpy(T_world_solid[:3, 3]), R)
        dark |= solid.occludes(origins, _rotate(directions, R))
    return (torch.stack([w.double() for w in weights]) * ~dark).sum(0)


def _rotate(vectors: Tensor, R: Tensor) -> Tensor:
    # vectors (..., 3) @ R without a matrix product, whose rounding may depend on the threads
    return vectors[..., :1] * R[0] + vectors[..., 1:2] * R[1] + vectors[..., 2:] * R[2]
