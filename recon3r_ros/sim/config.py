# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of a simulated sequence. Importing this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.sim.trajectories import TRAJECTORIES

Array = NDArray[np.float64]

_PURPOSES = ('room', 'camera', 'movers', 'furniture', 'materials', 'textures', 'sensor',
             'post', 'imu', 'second sensor', 'people')


@dataclass(frozen=True)
class SceneConfig:
    """
    Configuration of a simulated sequence.

    :param seed: of all random numbers, >= 0
    :param frames: how many
    :param fps: frames per second
    :param width: columns, pixels
    :param height: rows, pixels
    :param horizontal_fov_deg: horizontal field of view, degrees; the default is fx = 525 at VGA
    :param trajectory: 'orbit', 'sweep', 'forward', 'handheld', or 'fast turn', which ends a slow
        pan; the camera stays in place in 'turn', where it rotates, and in 'rest'
    :param moving_objects: number of dynamic objects
    :param moving_size: share of the image that one dynamic object should cover, on average; it
        may be less where space is scarce
    :param people: number of people, who walk and stand by turns
    :param post: whether a static post from floor to ceiling, 0.1 m thick, stands 0.6 to 0.8 m in
        front of the camera's place in the middle of the sequence; without dynamic objects only
    :param departure: time at which the dynamic objects, and people, start to move, seconds
    :param arrival: time at which they stop, seconds
    :param noise: standard deviation of the sensor noise, grey levels of 255
    :param supersampling: colour samples per pixel along each axis
    :param exposure: time over which light is averaged, seconds; 0: no motion blur
    :param imu: whether there is an IMU, by the model of `sim.imu`
    :raises InputError: with the invalid value
    """

    seed: int = 0
    frames: int = 120
    fps: float = 30.0
    width: int = 640
    height: int = 480
    horizontal_fov_deg: float = 62.7
    trajectory: str = 'handheld'
    moving_objects: int = 1
    moving_size: float = 0.07
    people: int = 0
    post: bool = False
    departure: float = 0.0
    arrival: float = math.inf
    noise: float = 1.5
    supersampling: int = 1
    exposure: float = 0.0
    imu: bool = False

    def __post_init__(self) -> None:
        least = {'seed': 0, 'frames': 1, 'width': 8, 'height': 8, 'moving_objects': 0,
                 'people': 0, 'supersampling': 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < minimum:
                raise InputError(f'{name}: got {value!r}, expected an integer >= {minimum}')
        ranges = {'fps': (0.0, 1000.0), 'horizontal_fov_deg': (10.0, 130.0),
                  'moving_size': (0.0, 0.4), 'noise': (-1e-9, 64.0)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low < value <= high:
                raise InputError(f'{name}: got {value!r}, expected above {max(low, 0.0)} and at '
                                 f'most {high}')
        if self.post and (self.moving_objects or self.people):
            raise InputError(f'post: got True with moving_objects={self.moving_objects} and '
                             f'people={self.people}, which might collide with it; expected 0 '
                             'of both')
        if not 0 <= self.exposure * self.fps <= 1:
            raise InputError(f'exposure: got {self.exposure!r} s at {self.fps} Hz, expected 0 to '
                             'the time between two frames')
        if not 0 <= self.departure <= self.arrival:
            raise InputError(f'departure, arrival: got {self.departure} and {self.arrival}, '
                             'expected seconds, the first not after the second')
        if self.trajectory not in TRAJECTORIES:
            raise InputError(f'trajectory: got {self.trajectory!r}, expected one of '
                             + ', '.join(TRAJECTORIES))

    @property
    def camera(self) -> Camera:
        """The pinhole camera, its principal point at the image's centre."""
        focal = self.width / 2 / math.tan(math.radians(self.horizontal_fov_deg) / 2)
        return Camera(self.width, self.height, focal, focal, (self.width - 1) / 2,
                      (self.height - 1) / 2)

    @property
    def times(self) -> Array:
        """Seconds of the frames (frames,), from 0."""
        return np.arange(self.frames) / self.fps

    def generator(self, purpose: str, index: int = 0) -> np.random.Generator:
        """
        Make the random generator of one purpose, independent of all others.

        :param purpose: one of the module's purposes
        :param index: of the frame, where each frame has its own
        :returns: a fresh generator
        """
        return np.random.default_rng([self.seed, _PURPOSES.index(purpose), index])
