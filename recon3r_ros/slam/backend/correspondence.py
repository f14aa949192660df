# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Correspondences of two keyframes, from predicted pointmaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry import pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.types import MATCHED
from recon3r_ros.slam.backend.compiled_depth import projected
from recon3r_ros.slam.types import Correspondence


def correspond(seen: NDArray[np.float32], confidence: NDArray[np.float32], camera: Camera
               ) -> Correspondence:
    """
    Project an anchor's pointmap into the camera whose frame it is given in.

    :param seen: (H, W, 3) the anchor's pointmap in the observer's frame
    :param confidence: (H, W)
    :param camera: pinhole camera of the observer's grid
    """
    targets, sure = projected(
        dense(seen).reshape(-1, 3), dense(confidence).ravel(),
        pinhole.parameters(camera, np.float32), np.float32(camera.width),
        np.float32(camera.height), np.float32(MATCHED))
    return Correspondence(targets.reshape(*confidence.shape, 2), sure.reshape(confidence.shape))
