# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Depth of a depth camera, seen from the colour camera beside it.

Each measured pixel is a small patch of surface, which is projected into the colour camera and
covers the pixels that are nearer to it than to its neighbours' projections. A z-buffer (Catmull
1974) keeps the nearest surface, so that background does not show through the foreground; where two
patches of one surface meet, their depths are averaged. What the depth camera did not measure, or
the colour camera sees beyond the edge of a surface, stays unknown.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, dense, f4
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.geometry.camera import Camera, pixel_grid

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

#: Ratio of depths above which neighbours are different surfaces
STEP = 1.05
#: Greatest side of a patch, in pixels of the result: beyond, it is too near to the colour camera
LARGEST_PATCH = 16.0
#: Relative difference of intrinsics, and displacement (m) or rotation (rad), that are none
SAME_INTRINSICS, SAME_POSE = 2e-3, 1e-4


class DepthRegistration:
    """
    Warps depth images of one camera into the view of another.

    :param depth: camera of the depth images, with its distortion
    :param colour: camera of the colour images, with its distortion
    :param T_colour_depth: (4, 4) pose of the depth camera in the colour camera's frame, metres
    :raises InputError: where the pose is no rigid motion
    """

    def __init__(self, depth: Camera, colour: Camera, T_colour_depth: Array) -> None:
        T = np.asarray(T_colour_depth, np.float64)
        if (T.shape != (4, 4) or not np.isfinite(T).all()
                or not np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-3)
                or np.linalg.det(T[:3, :3]) < 0):
            raise InputError(f'pose of the depth camera in the colour camera: got {T.tolist()}, '
                             'expected a rotation and a translation in metres, (4, 4)')
        self._depth = depth
        # No finer than was measured: a patch covers a pixel or so
        view = colour if colour.is_pinhole else colour.rectified()
        factor = min(1.0, depth.fx / view.fx)
        self._view = view.resized(max(1, round(view.width * factor)),
                                  max(1, round(view.height * factor)))
        rays = depth.unproject(pixel_grid(depth.height, depth.width))
        self._directions = dense(rays @ T[:3, :3].T, np.float32)
        self._offset = dense(T[:3, 3], np.float32)
        self._lens_maps: tuple[Floats, Floats] | None = None
        if not colour.is_pinhole:
            size = (self._view.width, self._view.height)
            scale = (size[0] / colour.width, size[1] / colour.height)
            maps = (cv2.resize(m, size, interpolation=cv2.INTER_LINEAR)
                    for m in colour.distortion_maps())
            x, y = ((m + 0.5) * s - 0.5 for m, s in zip(maps, scale))
            self._lens_maps = np.asarray(x, np.float32), np.asarray(y, np.float32)

    def __call__(self, depth: Floats) -> Floats:
        """
        Register a depth image.

        :param depth: (H, W) float32 metres along the depth camera's axis, NaN or 0 where unknown
        :return: (h, w) float32 metres along the colour camera's axis, NaN where unknown: the
            colour camera's view, as small as the depth image's resolution asks
        :raises InputError: where the image has not the size of the depth camera
        """
        size = (self._depth.height, self._depth.width)
        if depth.shape != size:
            raise InputError(f'depth image has {depth.shape[1]}x{depth.shape[0]} pixels, its '
                             f'camera is calibrated for {size[1]}x{size[0]}: give intrinsics of '
                             'the same size')
        pixels, z = _projected(dense(depth, np.float32), self._directions, self._offset,
                               pinhole.parameters(self._view, np.float32))
        out = _splatted(pixels, z, self._view.height, self._view.width)
        if self._lens_maps is None:
            return out
        return np.asarray(cv2.remap(out, *self._lens_maps, cv2.INTER_NEAREST,
                                    borderValue=float('nan')), np.float32)


def is_registered(depth: Camera, colour: Camera, T_colour_depth: Array) -> bool:
    """
    Whether depth images are in the colour camera's view already, in any size.

    :param T_colour_depth: (4, 4)
    """
    turn = se3.rotation_angle(T_colour_depth[:3, :3])
    if max(float(np.linalg.norm(T_colour_depth[:3, 3])), float(turn)) > SAME_POSE:
        return False
    scaled = depth.scaled_to(colour.width, colour.height)
    if scaled is None or scaled.model != colour.model:
        return False
    own, other = (np.array([c.fx, c.fy, c.cx, c.cy]) for c in (scaled, colour))
    lens, other_lens = (np.array([*c.distortion, *(0.0,) * (14 - len(c.distortion))])
                        for c in (scaled, colour))
    return bool(np.abs(own - other).max() < SAME_INTRINSICS * colour.fx
                and np.abs(lens - other_lens).max() < SAME_INTRINSICS)


@compiled('Tuple((f4[:,:,::1], f4[:,::1]))(f4[:,::1], f4[:,:,::1], f4[::1], f4[::1])')
def _projected(depth: Floats, directions: Floats, offset: Floats, K: Floats
               ) -> tuple[Floats, Floats]:
    """
    Project measured pixels.

    :param depth: (H, W), NaN or 0 where unknown
    :param directions: (H, W, 3) of the pixels' rays, in the other camera's frame
    :param offset: (3,) of their origin
    :param K: fx fy cx cy of the other camera
    :return: pixels (H, W, 2), and depths (H, W), 0 where unknown
    """
    height, width = depth.shape
    pixels = np.empty((height, width, 2), np.float32)
    z = np.zeros((height, width), np.float32)
    for i in range(height):
        for j in range(width):
            d = depth[i, j]
            if not (d > 0 and d < np.inf):
                continue
            to = d * directions[i, j, 2] + offset[2]
            if to > 0:
                z[i, j] = to
                pixels[i, j, 0] = (d * directions[i, j, 0] + offset[0]) / to * K[0] + K[2]
                pixels[i, j, 1] = (d * directions[i, j, 1] + offset[1]) / to * K[1] + K[3]
    return pixels, z


@compiled()
def _reach(pixels: Floats, z: Floats, i: int, j: int) -> tuple[float, float]:
    """Half the distance to the neighbours on one surface, in both axes of the image."""
    height, width = z.shape
    x, y, own = pixels[i, j, 0], pixels[i, j, 1], z[i, j]
    far_x, far_y = f4(1), f4(1)
    for step in range(4):
        m, n = i + (step == 0) - (step == 1), j + (step == 2) - (step == 3)
        if 0 <= m < height and 0 <= n < width:
            other = z[m, n]
            if other < f4(STEP) * own and own < f4(STEP) * other:
                far_x = max(far_x, abs(pixels[m, n, 0] - x))
                far_y = max(far_y, abs(pixels[m, n, 1] - y))
    return f4(0.5) * far_x, f4(0.5) * far_y


@compiled('f4[:,::1](f4[:,:,::1], f4[:,::1], i8, i8)')
def _splatted(pixels: Floats, z: Floats, height: int, width: int) -> Floats:
    """
    Fill the z-buffer with the patches of measured pixels.

    :param pixels: (H, W, 2)
    :param z: (H, W), 0 where unknown
    :return: (height, width), NaN where nothing was projected
    """
    total = np.zeros((height, width), np.float32)
    count = np.zeros((height, width), np.float32)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            own = z[i, j]
            if own == 0:
                continue
            x, y = pixels[i, j, 0], pixels[i, j, 1]
            if not (x > -1 and x < width and y > -1 and y < height):
                continue
            half_x, half_y = _reach(pixels, z, i, j)
            if max(half_x, half_y) > f4(LARGEST_PATCH / 2):
                continue
            for v in range(max(0, int(np.ceil(y - half_y))),
                           min(height, int(np.floor(y + half_y)) + 1)):
                for u in range(max(0, int(np.ceil(x - half_x))),
                               min(width, int(np.floor(x + half_x)) + 1)):
                    mean = total[v, u] / max(count[v, u], f4(1))
                    if count[v, u] == 0 or own * f4(STEP) < mean:
                        total[v, u], count[v, u] = own, f4(1)
                    elif own < f4(STEP) * mean:
                        total[v, u] += own
                        count[v, u] += f4(1)
    for v in range(height):
        for u in range(width):
            total[v, u] = total[v, u] / count[v, u] if count[v, u] > 0 else f4(np.nan)
    return total
