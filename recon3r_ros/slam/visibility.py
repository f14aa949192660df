# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Visibility of a keyframe in another camera: its landmarks, and its depth map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, dense
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.compiled_se3 import transform
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


def visible(anchor: Keyframe, observer: Keyframe, max_angle: float = MAX_ANGLE,
            max_zoom: float = MAX_ZOOM) -> tuple[NDArray[np.int64], Array]:
    """
    Landmarks of one keyframe that should be visible in another.

    :param max_angle: greatest angle between the two viewing rays of a landmark, radians
    :param max_zoom: greatest ratio of its two distances
    :return: (n,) indices of landmarks, and (n, 2) their projections, pixels of the observer's grid
    """
    indices = np.empty(len(anchor.keypoints), np.int64)
    pixels = np.empty((len(indices), 2))
    other = observer.camera
    count = _find_visible(
        dense(anchor.keypoints, np.int32),
        dense(anchor.landmarks, np.float64),
        pinhole.parameters(anchor.camera, np.float64),
        se3.inverse(observer.T_map_cam) @ anchor.T_map_cam,
        pinhole.parameters(other, np.float64), other.width, other.height,
        float(np.cos(max_angle)), max_zoom, indices, pixels)
    return indices[:count], pixels[:count]


@compiled('i8(i4[:,::1], f8[::1], f8[::1], f8[:,::1], f8[::1], i8, i8, f8, f8, i8[::1], '
          'f8[:,::1])')
def _find_visible(keypoints: NDArray[np.int32], inverse_depths: Array, K: Array, T: Array,
                  K_observer: Array, width: int, height: int, min_cosine: float, max_zoom: float,
                  indices: NDArray[np.int64], pixels: Array) -> int:
    """
    Find visible landmarks.

    :param keypoints: (N, 2) pixels of the anchor
    :param inverse_depths: (N,) 0 where unknown
    :param K: (fx, fy, cx, cy) of the anchor
    :param T: (4, 4) from the anchor to the observer
    :param K_observer: (fx, fy, cx, cy)
    :param min_cosine: of the angle between the two viewing rays of a landmark
    :param max_zoom: greatest ratio of its two distances
    :param indices: (N,) takes the visible ones'
    :param pixels: (N, 2) takes their projections
    :return: how many there are
    """
    # The observer's centre in the anchor's frame
    centre_x = -(T[0, 0] * T[0, 3] + T[1, 0] * T[1, 3] + T[2, 0] * T[2, 3])
    centre_y = -(T[0, 1] * T[0, 3] + T[1, 1] * T[1, 3] + T[2, 1] * T[2, 3])
    centre_z = -(T[0, 2] * T[0, 3] + T[1, 2] * T[1, 3] + T[2, 2] * T[2, 3])
    count = 0
    for n in range(len(keypoints)):
        if not inverse_depths[n] > 0:
            continue
        z = 1 / inverse_depths[n]
        x, y = (keypoints[n, 0] - K[2]) / K[0] * z, (keypoints[n, 1] - K[3]) / K[1] * z
        a, b, c = transform(T, x, y, z)
        if not c > 0:
            continue
        u = a / c * K_observer[0] + K_observer[2]
        v = b / c * K_observer[1] + K_observer[3]
        if not (u >= 0 and v >= 0 and u <= width - 1 and v <= height - 1):
            continue
        dx, dy, dz = x - centre_x, y - centre_y, z - centre_z
        near, far = np.sqrt(x * x + y * y + z * z), np.sqrt(dx * dx + dy * dy + dz * dz)
        cosine = (x * dx + y * dy + z * dz) / max(near * far, 1e-12)
        if cosine > min_cosine and max(far / near, near / max(far, 1e-12)) < max_zoom:
            indices[count], pixels[count, 0], pixels[count, 1] = n, u, v
            count += 1
    return count


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
