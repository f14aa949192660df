# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What stereo needs of one instant, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera


@dataclass(frozen=True, eq=False)
class StereoPair:
    """
    The images that the two cameras of a rig take at one instant, as they come from the cameras.

    :param image: (H, W, 3) RGB or (H, W) grey, uint8, of the first camera
    :param camera: intrinsics and distortion of `image`
    :param other: the same of the second camera
    :param other_camera: intrinsics and distortion of `other`
    :param T_cam_other: (4, 4) pose of the second camera in the first one's frame, metres
    """

    image: NDArray[np.uint8]
    camera: Camera
    other: NDArray[np.uint8]
    other_camera: Camera
    T_cam_other: NDArray[np.float64]
