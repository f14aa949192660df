# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Orientation of the published map by gravity: decided once, before anything is published.

Where there is an IMU, outputs wait until gravity is certain; not for long, though, and what has
been published never turns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.imu.gravity import levelled
from recon3r_ros.slam.system import System

Array = NDArray[np.float64]

#: How long a map waits for gravity, by the stamps of the images
PATIENCE_NS = 10_000_000_000
#: Time between two estimates, and poses that one is made of
_PERIOD_NS, _POSES = 200_000_000, 400


class Upright:
    """
    Turns a map so that its z axis is up.

    :param wanted: whether there is an IMU
    """

    def __init__(self, wanted: bool, system: System) -> None:
        self._wanted = wanted
        self._system = system
        self.forget()

    def forget(self) -> None:
        """Begin anew: the map was reset or replaced."""
        self._since_ns: int | None = None
        self._due_ns = 0
        #: What is known of gravity, in words
        self.status = 'unknown: outputs wait for it' if self._wanted else ''

    def placed(self, T_rosmap_map: Array, stamp_ns: int) -> Array | None:
        """
        Turn the pose of a map.

        :param T_rosmap_map: (4, 4) without gravity
        :param stamp_ns: of the newest image; 0 before the first
        :return: (4, 4), or None while gravity is waited for
        """
        if not self._wanted:
            return T_rosmap_map
        if stamp_ns == 0:
            return None  # a map was loaded, and there is no image yet
        if self._since_ns is None:
            self._since_ns = stamp_ns
        if stamp_ns >= self._due_ns:
            self._due_ns = stamp_ns + _PERIOD_NS
            found = self._system.gravity(_POSES)
            if found is not None and found.certain:
                self.status = (f'in use, within {np.rad2deg(found.sigma):.1f} degrees, from '
                               f'{found.source}')
                return levelled(T_rosmap_map, found.up)
        if stamp_ns - self._since_ns < PATIENCE_NS:
            return None
        self.status = (f'not in use: unknown {PATIENCE_NS * 1e-9:.0f} s after the map was begun; '
                       'z of the map is not up until the map is reset')
        return T_rosmap_map
