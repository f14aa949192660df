# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A human body of capsules, its rest pose, and its pose while it walks or stands.

Body frame: x forward, y left, z up, origin on the floor below the hips, metres. Sizes are those
of a body 1.75 m tall; a person is the same body scaled. Angles are radians.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Callable

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.sim.shapes import Capsule

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limb:
    """
    A rigid part of the body.

    :param name: of it
    :param part: index of its surface, from 1; 0 for what is not of the body: hair
    :param radius: metres
    :param length: between the centres of its ends, metres
    :param clothes: what covers it: 'skin', 'hair', 'shirt', 'trousers' or 'shoes'
    """

    name: str
    part: int
    radius: float
    length: float
    clothes: str


_Sizes = tuple[str, float, float, str]
_TRUNK: tuple[_Sizes, ...] = (
    ('pelvis', 0.115, 0.12, 'trousers'), ('belly', 0.125, 0.30, 'shirt'),
    ('chest', 0.12, 0.18, 'shirt'), ('neck', 0.055, 0.10, 'skin'), ('head', 0.10, 0.07, 'skin'))
_SIDE: tuple[_Sizes, ...] = (
    ('upper arm', 0.05, 0.27, 'shirt'), ('forearm', 0.042, 0.24, 'skin'),
    ('hand', 0.04, 0.08, 'skin'), ('thigh', 0.078, 0.42, 'trousers'),
    ('shin', 0.056, 0.42, 'trousers'), ('foot', 0.045, 0.15, 'shoes'))
_BODY = (*_TRUNK, *((f'{side} {name}', radius, length, clothes) for side in ('left', 'right')
                    for name, radius, length, clothes in _SIDE))
LIMBS = (*(Limb(name, number, radius, length, clothes)
           for number, (name, radius, length, clothes) in enumerate(_BODY, 1)),
         Limb('hair', 0, 0.104, 0.04, 'hair'))
#: Surfaces of the body: every limb but hair
PARTS = len(LIMBS) - 1
_INDEX = {limb.name: n for n, limb in enumerate(LIMBS)}
_HIP_SIDE, _SHOULDER = 0.095, np.array([0.0, 0.19, 0.50])  # from between the hips
_ANKLE = 0.065  # height above the sole
_LEG = 0.42 + 0.42
#: Thigh's angle at the ends of a step, and the way of two steps at that angle, metres
SWING = 0.42
STRIDE = 4 * _LEG * math.sin(SWING)


@dataclass(frozen=True)
class Posture:
    """
    How a body holds its arms, each for the left and the right.

    :param raised: angle of the upper arms from hanging, sideways
    :param forward: angle of the upper arms from hanging, forwards
    :param bent: of the elbows
    """

    raised: tuple[float, float] = (0.12, 0.12)
    forward: tuple[float, float] = (0.0, 0.0)
    bent: tuple[float, float] = (0.3, 0.3)


#: Arms half raised and straight: all surfaces are apart
REST = Posture((0.8, 0.8), (0.0, 0.0), (0.0, 0.0))


def capsule(limb: Limb, scale: float = 1.0) -> Capsule:
    """
    Make the solid of a limb.

    :param limb: of the body
    :param scale: of the body
    """
    return Capsule(scale * limb.radius, scale * limb.length / 2)


def limb_poses(posture: Posture, swing: float, phases: Array) -> Array:
    """
    Poses of all limbs in the body's frame, for a body of scale 1.

    The lower foot touches the floor.

    :param posture: of the arms
    :param swing: angle of the thighs at the ends of a step; 0 for a body that stands
    :param phases: (n,) of the walking cycle: the left thigh is in front at pi / 2
    :returns: T_body_limb (n, limbs, 4, 4), z along the limb's axis
    """
    poses = np.tile(np.eye(4), (len(phases), len(LIMBS), 1, 1))
    lifted, legs = [], []
    for own in (phases, phases + math.pi):
        # Half a cycle on the floor, where the foot stays in place while the body goes on
        cycle = np.mod(own - math.pi / 2, 2 * math.pi) / math.pi
        back = np.where(cycle < 1, 1 - 2 * cycle, -np.cos(math.pi * (cycle - 1)))
        angle = np.arcsin(math.sin(swing) * back)
        # Bent while the leg swings forwards, straight before it lands
        lift = np.sin(np.clip((cycle - 1) / 0.85, 0, 1) * math.pi) ** 2
        knee = 2.6 * swing * lift
        legs.append((angle, knee))
        lifted.append(0.42 * np.cos(angle) + 0.42 * np.cos(angle - knee) + _ANKLE)
    hips = np.stack([np.zeros_like(phases), np.zeros_like(phases),
                     np.maximum(*lifted)], axis=-1)

    def place(name: str, centre: Array, turn: Array) -> None:
        poses[:, _INDEX[name]] = se3.from_rt(turn, centre)

    upright = np.broadcast_to(np.eye(3), (len(phases), 3, 3))
    across = np.broadcast_to(se3.so3_exp([-math.pi / 2, 0.0, 0.0]), (len(phases), 3, 3))
    for name, offset, turn in (
            ('pelvis', [0, 0, 0.03], across), ('belly', [0, 0, 0.25], upright),
            ('chest', [0.01, 0, 0.45], across), ('neck', [0, 0, 0.58], upright),
            ('head', [0.02, 0, 0.715], upright), ('hair', [-0.012, 0, 0.745], upright)):
        place(name, hips + np.array(offset, dtype=np.float64), turn)
    for side, sign, (angle, knee), at in (('left', 1, legs[0], 0), ('right', -1, legs[1], 1)):
        start = hips + [0.0, sign * _HIP_SIDE, 0.0]
        thigh = _pitch(-angle)
        start = _chain(place, f'{side} thigh', start, thigh)
        start = _chain(place, f'{side} shin', start, thigh @ _pitch(knee))
        along = np.broadcast_to(_pitch(np.array([math.pi / 2])), thigh.shape)
        # Its axis is lower than the ankle, and begins behind it
        place(f'{side} foot', start + [0.05, 0.0, 0.045 - _ANKLE], along)
        arm = _pitch(-(posture.forward[at] - 0.7 * angle)) @ _roll(
            np.full_like(phases, sign * posture.raised[at]))
        start = hips + _SHOULDER * [1.0, sign, 1.0]
        start = _chain(place, f'{side} upper arm', start, arm)
        fore = arm @ _pitch(np.full_like(phases, -posture.bent[at]))
        start = _chain(place, f'{side} forearm', start, fore)
        _chain(place, f'{side} hand', start - 0.02 * fore[:, :, 2], fore)
    return poses


def _chain(place: Callable[[str, Array, Array], None], name: str, start: Array, turn: Array
           ) -> Array:
    """Place a limb that hangs from a joint (n, 3), and return the joint at its other end."""
    down = -turn[:, :, 2] * LIMBS[_INDEX[name]].length
    place(name, start + down / 2, turn)
    return np.asarray(start + down)


def _pitch(angles: Array) -> Array:
    """Rotations (n, 3, 3) about y: a positive angle turns what hangs backwards."""
    return se3.so3_exp(angles[:, None] * [0.0, 1.0, 0.0])


def _roll(angles: Array) -> Array:
    """Rotations (n, 3, 3) about x: a positive angle turns what hangs to the left."""
    return se3.so3_exp(angles[:, None] * [1.0, 0.0, 0.0])


#: T_body_limb (limbs, 4, 4) of the body at rest, whose surface is the template
REST_POSES: Array = limb_poses(REST, 0.0, np.zeros(1))[0]


def _bounds() -> tuple[Array, Array]:
    ends = []
    for limb, T in zip(LIMBS[:PARTS], REST_POSES):
        for sign in (-1, 1):
            centre = T[:3, 3] + sign * limb.length / 2 * T[:3, 2]
            ends += [centre - limb.radius, centre + limb.radius]
    return np.min(ends, axis=0), np.max(ends, axis=0)


#: Corners (3,) of the template's bounding box, metres
REST_LOW, REST_HIGH = _bounds()


@dataclass(frozen=True, eq=False)
class Person:
    """
    A person who walks along a circle, or stands.

    :param number: of the person, from 1
    :param scale: of the body
    :param posture: of the arms
    :param centre: of the circle on the floor (2,), world frame, metres
    :param radius: of the circle, metres
    :param start: direction from the centre to the person at time zero
    :param rate: angular velocity along the circle, rad/s; 0 for who stands
    :param heading: of the body against the circle's tangent
    :param departure: time at which the person starts to walk, seconds
    :param arrival: time at which the person stops, seconds
    """

    number: int
    scale: float
    posture: Posture
    centre: Array
    radius: float
    start: float
    rate: float
    heading: float = 0.0
    departure: float = -math.inf
    arrival: float = math.inf

    @property
    def walks(self) -> bool:
        """Whether the person ever moves."""
        return self.rate != 0

    def positions(self, times: Array) -> Array:
        """
        Where the person stands.

        :param times: (n,), seconds
        :returns: (n, 3) on the floor, world frame
        """
        angle = self._angle(times)
        return np.stack([self.centre[0] + self.radius * np.cos(angle),
                         self.centre[1] + self.radius * np.sin(angle),
                         np.zeros_like(angle)], axis=-1)

    def limb_poses(self, times: Array) -> Array:
        """
        Poses of all limbs.

        :param times: (n,), seconds
        :returns: T_world_limb (n, limbs, 4, 4)
        """
        angle = self._angle(times)
        way = np.abs(angle - self.start) * self.radius
        poses = limb_poses(self.posture, SWING if self.walks else 0.0,
                           2 * math.pi * way / (STRIDE * self.scale))
        poses[..., :3, 3] *= self.scale
        yaw = angle + math.copysign(math.pi / 2, self.rate) + self.heading
        body = se3.from_rt(se3.so3_exp(yaw[:, None] * [0.0, 0.0, 1.0]), self.positions(times))
        return np.asarray(body[:, None] @ poses)

    def _angle(self, times: Array) -> Array:
        clipped = np.clip(times, self.departure, self.arrival) if self.walks else 0.0 * times
        return np.asarray(self.start + self.rate * clipped)


@dataclass(frozen=True, eq=False)
class LimbPath:
    """
    Pose of a person's limb.

    :param person: whose
    :param limb: index in `LIMBS`
    """

    person: Person
    limb: int

    def poses(self, times: Array) -> Array:
        """
        Evaluate.

        :param times: (n,), seconds
        :returns: T_world_limb (n, 4, 4)
        """
        return self.person.limb_poses(times)[:, self.limb]
