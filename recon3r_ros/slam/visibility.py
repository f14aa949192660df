# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Visibility of a keyframe in another camera: its landmarks, and its depth map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]

#: A landmark is recognised from no more than this angle apart and this ratio of distances
MAX_ANGLE = np.deg2rad(30.0)
MAX_ZOOM = 1.6
#: A cell of a surface has this many pixels of the tracking image a side
CELL = 4
#: Inverse variance of the relative depth that a point needs: a relative error of a tenth
MIN_CONFIDENCE = 100.0
#: Depths around a pixel must agree to this share: at an edge it may lie on either side
MAX_STEP = 0.1
#: Depth of cells without any
NOWHERE = 1e9


def visible(anchor: Keyframe, observer: Keyframe) -> tuple[NDArray[np.int64], Array]:
    """
    Landmarks of one keyframe that should be visible in another.

    :return: (n,) indices of landmarks, and (n, 2) their projections, pixels of the observer's grid
    """
    points = anchor.landmark_points()
    known = np.flatnonzero(np.isfinite(points[:, 0]))
    own = points[known]
    T_observer_anchor = se3.inverse(observer.T_map_cam) @ anchor.T_map_cam
    seen = se3.transform(T_observer_anchor, own)
    camera = observer.camera
    pixels = camera.project(seen)
    with np.errstate(invalid='ignore'):
        inside = np.all((pixels >= 0) & (pixels <= [camera.width - 1, camera.height - 1]), axis=1)
    centre = se3.inverse(T_observer_anchor)[:3, 3]
    near, far = np.linalg.norm(own, axis=1), np.linalg.norm(own - centre, axis=1)
    cosine = np.sum(own * (own - centre), axis=1) / np.maximum(near * far, 1e-12)
    zoom = np.maximum(far / near, near / np.maximum(far, 1e-12))
    keep = inside & (cosine > np.cos(MAX_ANGLE)) & (zoom < MAX_ZOOM)
    return known[keep], pixels[keep]


@dataclass(frozen=True, eq=False)
class Surface:
    """
    A keyframe's depth map, rendered in another camera.

    :param depths: (ceil(H / CELL), ceil(W / CELL)) along the optical axis, of each cell of the
        image; NaN where unknown, or at a depth step
    """

    depths: NDArray[np.float32]

    @classmethod
    def seen(cls, keyframe: Keyframe, T_cam_keyframe: Array, camera: Camera) -> Surface:
        """
        Render a keyframe's depth map in another camera.

        :param T_cam_keyframe: (4, 4)
        :param camera: the other one
        """
        known = ((keyframe.inverse_depth > 0) & (keyframe.confidence > MIN_CONFIDENCE)
                 & ~keyframe.mask)
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
        step = (far <= 0) | (far >= (1 + MAX_STEP) * near)
        return cls(np.where(step, np.float32(np.nan), np.float32(0.5) * (near + far)))

    def depth(self, pixels: NDArray[np.float32]) -> Array:
        """
        Depth at pixels of the camera.

        :param pixels: (N, 2)
        :return: (N,) along its optical axis; NaN where unknown, or at a depth step, and
            outside the image
        """
        height, width = self.depths.shape
        cells = (pixels + 0.5) / CELL
        inside = np.all((cells >= 0) & (cells <= [width, height]), axis=1)
        cells = np.where(inside[:, None], cells, 0).astype(np.int64)
        u, v = np.minimum(cells, [width - 1, height - 1]).T
        return np.where(inside, self.depths[v, u].astype(np.float64), np.nan)
