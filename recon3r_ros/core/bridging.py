# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Points to track in a frame that is not a keyframe yet, with depth borrowed from one that is."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.core.types import Keyframe
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera

Array = NDArray[np.float64]

#: Corners that are tracked, how far apart they are (pixels), and how good relative to the best
CORNERS, DISTANCE, QUALITY = 240, 14.0, 0.01
#: A cell of the depth that is borrowed has this many pixels of the tracking image a side
CELL = 4
#: Inverse variance of the relative depth that a point needs: a relative error of a tenth
MIN_CONFIDENCE = 100.0
#: Depths around a corner must agree to this share: at an edge it may lie on either side
MAX_STEP = 0.1
#: Depth of cells without any
NOWHERE = 1e9


def corners(gray: NDArray[np.uint8], moving: NDArray[np.bool_], taken: NDArray[np.float32]
            ) -> NDArray[np.float32]:
    """
    Find points worth tracking (Shi and Tomasi, CVPR 1994) where nothing moves.

    :param gray: (H, W) image
    :param moving: of any size
    :param taken: (K, 2) pixels of points that are there already
    :return: (N, 2) pixels, as many as are missing
    """
    free = cv2.resize((~moving).astype(np.uint8), (gray.shape[1], gray.shape[0]),
                      interpolation=cv2.INTER_NEAREST)
    for u, v in np.rint(taken).astype(int).tolist():
        cv2.circle(free, (u, v), int(DISTANCE), 0, cv2.FILLED)
    missing = CORNERS - len(taken)
    found = None if missing <= 0 else cv2.goodFeaturesToTrack(
        gray, missing, QUALITY, DISTANCE, mask=free)
    if found is None:
        return np.zeros((0, 2), np.float32)
    return np.asarray(found, np.float32).reshape(-1, 2)


def surface_depth(keyframe: Keyframe, T_cam_keyframe: Array, pixels: NDArray[np.float32],
                  camera: Camera) -> Array:
    """
    Depth of the surface that a keyframe knows, as another camera sees it.

    :param T_cam_keyframe: (4, 4)
    :param pixels: (N, 2) of the camera
    :return: (N,) along its optical axis; NaN where nothing is known, or a step is
    """
    known = (keyframe.inverse_depth > 0) & (keyframe.confidence > MIN_CONFIDENCE) & ~keyframe.mask
    rows, cols = np.nonzero(known)
    rays = keyframe.camera.unproject(np.stack([cols, rows], axis=1))
    points = se3.transform(T_cam_keyframe, rays / keyframe.inverse_depth[rows, cols, None])
    points = points[points[:, 2] > 1e-6]
    width, height = -(-camera.width // CELL), -(-camera.height // CELL)
    cells = (camera.project(points) + 0.5) / CELL
    inside = np.all((cells >= 0) & (cells < [width, height]), axis=1)
    u, v = cells[inside].astype(np.int64).T
    z = points[inside, 2].astype(np.float32)
    near = np.full(width * height, NOWHERE, np.float32)
    far = np.zeros(width * height, np.float32)
    np.minimum.at(near, v * width + u, z)
    np.maximum.at(far, v * width + u, z)
    kernel = np.ones((3, 3), np.uint8)
    near = cv2.erode(near.reshape(height, width), kernel)
    far = cv2.dilate(far.reshape(height, width), kernel)
    smooth = np.where((far > 0) & (far < (1 + MAX_STEP) * near), 0.5 * (near + far), np.nan)
    u, v = np.minimum(((pixels + 0.5) / CELL).astype(np.int64), [width - 1, height - 1]).T
    return smooth[v, u].astype(np.float64)
