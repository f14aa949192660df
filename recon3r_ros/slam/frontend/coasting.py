# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Poses by the gyroscope where images are blurred: rotation alone, and for a short time.

Until tracking is found again the position is that of the last tracked frame, with a standard
deviation that grows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.imu.samples import Turn
from recon3r_ros.slam.types import Keyframe, Map

Array = NDArray[np.float64]

#: Seconds without tracking for which there are poses, and the greatest uncertainty of a rotation
MAX_COAST_S, MAX_SIGMA = 1.0, np.deg2rad(3.0)
#: Error of the last tracked frame's rotation beside its covariance, radians
LAST_SIGMA = 2e-3
#: Standard deviation of the position, share of the depth per second
POSITION_DRIFT = 0.3
#: Keyframes tried to find tracking again; their greatest angle to the prediction, and distance
#: as a share of the depth
TRIED, MAX_ANGLE, MAX_DISTANCE = 3, np.deg2rad(40.0), 0.5
#: Rotation of a pose that is found again, and the predicted one: how far apart, beside three
#: standard deviations
MAX_DISAGREEMENT = np.deg2rad(2.0)


@dataclass(frozen=True, eq=False)
class Turned:
    """
    Rotation since the last tracked frame.

    :param R_last_cam: (3, 3)
    :param sigma: standard deviation, radians; errors of the bias add up, as the sum does here
    :param duration_s: seconds
    """

    R_last_cam: Array
    sigma: float
    duration_s: float

    def then(self, turn: Turn) -> Turned:
        """Return the rotation with that to the next frame."""
        return Turned(self.R_last_cam @ turn.R_prev_cam, self.sigma + turn.sigma,
                      self.duration_s + turn.duration_s)

    @property
    def certain(self) -> bool:
        """Whether it gives poses."""
        return self.duration_s <= MAX_COAST_S and self.sigma <= MAX_SIGMA


#: Of a frame that is tracked itself
UNTURNED = Turned(np.eye(3), 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Predicted:
    """
    Pose of a frame by the gyroscope.

    :param T_keyframe_cam: (4, 4)
    :param sigma: standard deviation of its rotation, radians
    :param covariance: (6, 6) of [omega, v], left perturbation in the camera frame, map units
    """

    T_keyframe_cam: Array
    sigma: float
    covariance: Array

    def agrees(self, T_keyframe_cam: Array) -> bool:
        """Whether a pose (4, 4) that was found has its rotation."""
        off = se3.rotation_angle(self.T_keyframe_cam[:3, :3].T @ T_keyframe_cam[:3, :3])
        return bool(off <= MAX_DISAGREEMENT + 3 * self.sigma)


def in_view(known: Map, T_map_cam: Array) -> list[Keyframe]:
    """
    Keyframes that show most of what a camera sees, the best one first.

    :param T_map_cam: (4, 4) predicted pose of the camera
    """
    scored = []
    for keyframe in known.keyframes.values():
        T = keyframe.T_map_cam
        angle = float(np.arccos(np.clip(T[:3, 2] @ T_map_cam[:3, 2], -1, 1)))
        share = float(np.linalg.norm(T[:3, 3] - T_map_cam[:3, 3])) / keyframe.median_depth()
        if angle <= MAX_ANGLE and share <= MAX_DISTANCE:
            scored.append((angle + share, keyframe.id, keyframe))
    return [keyframe for _, _, keyframe in sorted(scored)[:TRIED]]
