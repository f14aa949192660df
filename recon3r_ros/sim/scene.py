# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Scenes: a furnished room, a camera's path through it, dynamic objects and people.

World frame: z up, origin on the floor below the room's centre, metres. Everything is drawn from
the configuration's seed, with one generator per purpose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Protocol

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.sim import materials
from recon3r_ros.sim.body import capsule, LimbPath, LIMBS, Person
from recon3r_ros.sim.config import SceneConfig
from recon3r_ros.sim.materials import Material
from recon3r_ros.sim.movers import blocked, place_movers
from recon3r_ros.sim.people import COVER_HEIGHTS, COVER_RADIUS, dress, place_people
from recon3r_ros.sim.shapes import Box, Room, Solid, Sphere
from recon3r_ros.sim.trajectories import camera_path, CameraPath, ObjectPath

Array = NDArray[np.float64]

_CAMERA_CLEARANCE = 0.45  # metres between the camera and furniture
_POST_DISTANCES = (0.6, 0.8)  # metres between the camera and the axis of a post
_POST_THICKNESS = 0.1
_HIDDEN = 0.1  # largest share of the frames in which one piece may occlude a dynamic object
_UPHOLSTERY = (materials.painted, materials.painted, materials.planks, materials.tiles)


class Path(Protocol):
    """Pose of an object over time."""

    def poses(self, times: Array) -> Array:
        """Evaluate T_world_object (n, 4, 4) at times (n,), seconds."""


@dataclass(frozen=True, eq=False)
class SceneObject:
    """
    A solid in the world.

    :param solid: its shape
    :param path: its pose over time
    :param materials: of its six faces
    :param moving: whether it is dynamic
    """

    solid: Solid
    path: Path
    materials: tuple[Material, ...]
    moving: bool = False


@dataclass(frozen=True, eq=False)
class Scene:
    """
    The objects and the camera path to render.

    :param objects: the room first
    :param camera_path: pose of the camera over time
    """

    objects: tuple[SceneObject, ...]
    camera_path: CameraPath


def build_scene(config: SceneConfig) -> Scene:
    """
    Draw a scene.

    :param config: of the scene
    :returns: the scene; neither the camera, a dynamic object nor a person collides with anything
    :raises InputError: if there is no space for the dynamic objects or the people
    """
    rng = config.generator('room')
    half_room = np.array([*rng.uniform(3.2, 3.8, 2), rng.uniform(1.3, 1.45)])
    path = camera_path(config.trajectory, config.generator('camera'), half_room)
    T_world_cam = path.poses(config.times)
    movers = place_movers(config.moving_objects, config.moving_size, config.camera, T_world_cam,
                          config.times, half_room, config.generator('movers'))
    clothes = config.generator('people')
    people = place_people(
        config.people, config.camera, T_world_cam, config.times, half_room,
        [(motion.position(config.times), float(np.linalg.norm(solid.half_size)))
         for solid, motion in movers], (config.departure, config.arrival), clothes)
    rng = config.generator('materials')
    walls = [(materials.wallpaper, materials.bricks)[int(rng.integers(2))](rng) for _ in range(4)]
    ground = (materials.planks, materials.planks, materials.tiles)[int(rng.integers(3))](rng)
    room = SceneObject(Room(half_room), ObjectPath.fixed(np.array([0.0, 0.0, half_room[2]])),
                       (*walls, ground, materials.plaster(rng)))
    fitter = _Fitter(config, half_room, T_world_cam, movers, people)
    if config.post:
        fitter.stand_post(config.generator('post'))
    moving = [SceneObject(solid, replace(motion, departure=config.departure,
                                         arrival=config.arrival),
                          _dress(materials.mosaic, solid, rng), moving=True)
              for solid, motion in movers]
    limbs = [limb for person in people for limb in _limbs(person, clothes)]
    return Scene((room, *fitter.furnish(config.generator('furniture')), *moving, *limbs), path)


def _limbs(person: Person, rng: np.random.Generator) -> list[SceneObject]:
    return [SceneObject(capsule(limb, person.scale), LimbPath(person, number), (worn,) * 6,
                        moving=person.walks)
            for number, (limb, worn) in enumerate(zip(LIMBS, dress(rng)))]


def _dress(draw: Callable[[np.random.Generator], Material], solid: Solid,
           rng: np.random.Generator) -> tuple[Material, ...]:
    # a ball has one material, the faces of a box up to three
    if isinstance(solid, Sphere):
        return (draw(rng),) * 6
    sides = [draw(rng) for _ in range(3 if draw is materials.mosaic else 1)]
    return tuple(sides[axis % len(sides)] for axis in (0, 0, 1, 1, 2, 2))


class _Fitter:
    """Places furniture free of collisions and occlusions of dynamic objects and people."""

    def __init__(self, config: SceneConfig, half_room: Array, T_world_cam: Array,
                 movers: list[tuple[Solid, ObjectPath]], people: list[Person]) -> None:
        self._half_room = half_room
        self._T_world_cam = T_world_cam
        self._eyes = T_world_cam[:, :3, 3]
        self._movers = [(path.position(config.times), float(np.linalg.norm(solid.half_size)))
                        for solid, path in movers]
        self._movers += [(person.positions(config.times) + [0.0, 0.0, height], COVER_RADIUS)
                         for person in people for height in COVER_HEIGHTS]
        self._objects: list[SceneObject] = []
        self._discs: list[Array] = []  # x, y, radius on the floor

    def stand_post(self, rng: np.random.Generator) -> None:
        # straight ahead of the camera in the middle of the sequence
        T_world_cam = self._T_world_cam[len(self._T_world_cam) // 2]
        ahead = T_world_cam[:2, 2] / np.linalg.norm(T_world_cam[:2, 2])
        x, y = T_world_cam[:2, 3] + rng.uniform(*_POST_DISTANCES) * ahead
        half = np.array([_POST_THICKNESS / 2, _POST_THICKNESS / 2, self._half_room[2]])
        self._objects.append(SceneObject(
            Box(half), ObjectPath.fixed(np.array([x, y, half[2]]), rng.uniform(0, np.pi)),
            _dress(materials.painted, Box(half), rng)))
        self._discs.append(np.array([x, y, _POST_THICKNESS]))

    def furnish(self, rng: np.random.Generator) -> list[SceneObject]:
        self._carpet(rng)
        self._try(8, 90, lambda: self._cabinet(rng))
        self._try(4, 50, lambda: self._crate(rng))
        self._try(3, 40, lambda: self._ball(rng))
        self._try(9, 60, lambda: self._picture(rng))
        return self._objects

    def _try(self, wanted: int, attempts: int, place: Callable[[], bool]) -> None:
        for _ in range(attempts):
            wanted -= place()
            if wanted == 0:
                return

    def _fits(self, solid: Solid, path: ObjectPath, hides: bool = True) -> bool:
        T_solid_world = se3.inverse(path.poses(np.zeros(1))[0])
        if solid.distance(se3.transform(T_solid_world, self._eyes)).min() < _CAMERA_CLEARANCE:
            return False
        centre, reach = path.position(np.zeros(1))[0], float(np.linalg.norm(solid.half_size))
        for positions, radius in self._movers:
            if solid.distance(se3.transform(T_solid_world, positions)).min() < radius + 0.08:
                return False
            if hides and blocked(self._eyes, positions, centre, reach).mean() > _HIDDEN:
                return False
        return True

    def _stand(self, solid: Solid, x: float, y: float, yaw: float,
               rng: np.random.Generator, draw: Callable[[np.random.Generator], Material],
               base: float = 0.0) -> bool:
        # on the floor, or on something of height `base`
        width, depth, height = solid.half_size
        path = ObjectPath.fixed(np.array([x, y, base + height]), yaw)
        radius = float(np.hypot(width, depth)) if isinstance(solid, Box) else float(width)
        disc = np.array([x, y, radius])
        taken = base == 0.0 and any(np.hypot(*(disc - other)[:2]) < 0.8 * (radius + other[2])
                                    for other in self._discs)
        if taken or not self._fits(solid, path):
            return False
        if base == 0.0:
            self._discs.append(disc)
        self._objects.append(SceneObject(solid, path, _dress(draw, solid, rng)))
        return True

    def _wall_spot(self, rng: np.random.Generator, inset: float,
                   margin: float) -> tuple[float, float, float]:
        # x, y and the yaw that turns an object's y axis to the wall
        axis, sign = int(rng.integers(2)), float(rng.choice([-1.0, 1.0]))
        spot = np.empty(2)
        spot[axis] = sign * (self._half_room[axis] - inset)
        along = float(self._half_room[1 - axis]) - margin
        spot[1 - axis] = rng.uniform(-along, along)
        return float(spot[0]), float(spot[1]), np.pi / 2 if axis == 0 else 0.0

    def _carpet(self, rng: np.random.Generator) -> None:
        half = np.array([*rng.uniform(0.8, 1.3, 2), 0.006])
        path = ObjectPath.fixed(np.array([*rng.uniform(-0.5, 0.5, 2), 0.006]), rng.uniform(0, 3))
        self._objects.append(SceneObject(Box(half), path, (materials.carpet(rng),) * 6))

    def _cabinet(self, rng: np.random.Generator) -> bool:
        half = np.array([rng.uniform(0.25, 0.65), rng.uniform(0.17, 0.28),
                         rng.choice([0.22, 0.4, 0.55, 0.9]) * rng.uniform(0.85, 1.15)])
        x, y, yaw = self._wall_spot(rng, half[1] + 0.02, half[0] + 0.05)
        draw = _UPHOLSTERY[int(rng.integers(len(_UPHOLSTERY)))]
        if not self._stand(Box(half), x, y, yaw, rng, draw):
            return False
        if half[2] < 0.6:  # something stands on it
            small: Solid = Sphere(rng.uniform(0.1, half[1] * 0.8)) if rng.random() < 0.5 else \
                Box(rng.uniform(0.07, half[1] * 0.6, 3) * [1.0, 1.0, 1.7])
            self._stand(small, x, y, rng.uniform(0, 3), rng, materials.mosaic, 2 * half[2])
        return True

    def _crate(self, rng: np.random.Generator) -> bool:
        half = rng.uniform(0.14, 0.32, 3)
        x, y = rng.uniform(-0.8, 0.8, 2) * self._half_room[:2]
        draw = _UPHOLSTERY[int(rng.integers(len(_UPHOLSTERY)))]
        return self._stand(Box(half), x, y, rng.uniform(0, 3), rng, draw)

    def _ball(self, rng: np.random.Generator) -> bool:
        x, y = rng.uniform(-0.85, 0.85, 2) * self._half_room[:2]
        return self._stand(Sphere(rng.uniform(0.13, 0.28)), x, y, 0.0, rng, materials.mosaic)

    def _picture(self, rng: np.random.Generator) -> bool:
        half = np.array([rng.uniform(0.25, 0.55), 0.02, rng.uniform(0.2, 0.38)])
        x, y, yaw = self._wall_spot(rng, half[1], half[0] + 0.15)
        path = ObjectPath.fixed(np.array([x, y, rng.uniform(1.5, 1.75)]), yaw)
        solid = Box(half)
        for other in self._objects:
            gap = np.abs(path.position(np.zeros(1))[0] - other.path.poses(np.zeros(1))[0, :3, 3])
            flat = (gap[:2].max() if gap[:2].min() < 0.5 else 9.0), gap[2]
            if flat[0] < half[0] + other.solid.half_size[0] + 0.08 \
                    and flat[1] < half[2] + other.solid.half_size[2] + 0.05:
                return False
        if not self._fits(solid, path, hides=False):
            return False
        self._objects.append(SceneObject(solid, path, (materials.picture(rng),) * 6))
        return True
