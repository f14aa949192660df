# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a camera's front end knows of a frame before anything follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.frontend.tracking import Reference, Track
from recon3r_ros.slam.types import Frame, Keyframe

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Observed:
    """
    A frame, and its landmarks.

    :param frame: with its usual brightness
    :param gray: (H, W) uint8 tracking image
    :param begin: when its processing began (time.perf_counter)
    :param begin_cpu: the same in CPU time of the thread
    :param left_alone: whether it may be the first of another scene, and is passed over
    :param keyframe: that it was tracked against; None where there is none with depth
    :param before: reference when it came
    :param track: against the reference; None where there is none
    """

    frame: Frame
    gray: NDArray[np.uint8]
    begin: float
    begin_cpu: float
    left_alone: bool = False
    keyframe: Keyframe | None = None
    before: Reference | None = None
    track: Track | None = None


@dataclass(frozen=True, eq=False)
class OnRig:
    """
    What the other cameras of a rig say of one camera's pose.

    :param T_map_cam: (4, 4); None where the other cameras have no pose, or their distances to this
        one are not known in map units
    :param covariance: (6, 6) of [omega, v], left perturbation in the camera frame
    :param keyframe: of the camera that is tracked best, to which the pose is stated relative
    """

    T_map_cam: Array | None = None
    covariance: Array | None = None
    keyframe: Keyframe | None = None
