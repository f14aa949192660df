# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Keyframes of a room whose geometry is known in closed form, for the tests of single modules.

The room is convex: from inside, each point of its walls is seen by every camera that looks there.
Depths, correspondences and images are exact to rounding; lengths are metres, or map units where a
keyframe is given a scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.types import NO_CONFIDENCE, Prediction
from recon3r_ros.slam.types import Correspondence, Keyframe

Array = NDArray[np.float64]

CAMERA = Camera(64, 48, 56.0, 57.0, 31.0, 24.0)
#: The tracking image has this many pixels in one of the grid, along each axis
FINER = 4
TRACKING = CAMERA.resized(FINER * CAMERA.width, FINER * CAMERA.height)
#: Grid pixels between keypoints
STEP = 6
#: Walls n . x = d, of which the camera at the origin sees the first three
WALLS = np.array([[0.25, 0.1, 1.0, 4.0], [-0.1, 1.0, 0.1, 1.3], [-1.0, 0.0, 0.2, 2.2],
                  [0.0, -1.0, 0.0, 2.0], [1.0, 0.0, 0.0, 6.0], [0.0, 0.0, -1.0, 3.0]])
#: Information of keypoints, and confidence of pixels
SURE, CONFIDENT = 1e3, 400.0

_WAVES = np.random.default_rng(5).normal(0.0, 1.0, (40, 3))
_WAVES *= np.geomspace(8.0, 55.0, 40)[:, None] / np.linalg.norm(_WAVES, axis=1, keepdims=True)
_PHASES = np.random.default_rng(6).uniform(0, 2 * np.pi, 40)


def at_x(x: float, y: float = 0.0, z: float = 0.0, yaw: float = 0.0) -> Array:
    """
    Pose T_map_cam (4, 4) of a camera that stands somewhere, and looks along z.

    :param yaw: radians to the right
    """
    return se3.from_rt(se3.so3_exp([0.0, yaw, 0.0]), [x, y, z])


def room_depth(T_map_cam: Array, rays: ArrayLike) -> Array:
    """
    Depth (...) of the walls along a camera's rays (..., 3) with z = 1.

    :param T_map_cam: (4, 4) inside the room, metres
    """
    normals, offsets = WALLS[:, :3], WALLS[:, 3]
    heights = offsets - normals @ T_map_cam[:3, 3]
    assert (heights > 0).all(), 'the camera is outside of the room'
    slopes = np.asarray(rays) @ (normals @ T_map_cam[:3, :3]).T
    with np.errstate(divide='ignore'):
        return np.where(slopes > 0, heights / slopes, np.inf).min(axis=-1)


def points_in_map(T_map_cam: Array, camera: Camera, pixels: ArrayLike) -> Array:
    """Points (..., 3) of the room that a camera sees at pixels (..., 2), metres."""
    rays = camera.unproject(pixels)
    points = rays * room_depth(T_map_cam, rays)[..., None]
    return points @ T_map_cam[:3, :3].T + T_map_cam[:3, 3]


def project(T_map_cam: Array, camera: Camera, points: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Pixels (..., 2) of points (..., 3), and whether (...) they lie in front and in the image."""
    x, y, z = np.moveaxis((points - T_map_cam[:3, 3]) @ T_map_cam[:3, :3], -1, 0)
    front = np.where(z > 0, z, np.nan)
    pixels = np.stack([camera.fx * x / front + camera.cx, camera.fy * y / front + camera.cy], -1)
    with np.errstate(invalid='ignore'):
        seen = ((pixels >= 0) & (pixels <= [camera.width - 1, camera.height - 1])).all(-1)
    return pixels, seen


def texture(points: Array) -> NDArray[np.uint8]:
    """Grey values (...) of points (..., 3) of the walls: smooth, and nowhere alike."""
    angles = np.float32(points) @ np.float32(_WAVES.T) + np.float32(_PHASES)
    value = np.sin(angles).sum(-1) / np.sqrt(len(_WAVES) / 2)
    return np.clip(np.rint(128 + 45 * value), 0, 255).astype(np.uint8)


def keypoints(camera: Camera = CAMERA, step: int = STEP) -> NDArray[np.int32]:
    """Grid pixels (K, 2) at equal distances."""
    columns, rows = np.meshgrid(np.arange(step // 2, camera.width, step),
                                np.arange(step // 2, camera.height, step))
    return np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.int32)


def keyframe(i: int, T_map_cam: Array | None = None, scale: float = 1.0,
             camera: Camera = CAMERA, step: int = STEP, textured: bool = False,
             camera_name: str = 'camera') -> Keyframe:
    """
    Make a keyframe that knows the room exactly.

    :param T_map_cam: (4, 4) where it stands, metres; at the origin if None
    :param scale: map units a metre
    :param step: grid pixels between keypoints
    :param textured: whether it has an image
    """
    T = np.eye(4) if T_map_cam is None else T_map_cam
    shape = (camera.height, camera.width)
    rays = camera.unproject(pixel_grid(*shape))
    depth = scale * room_depth(T, rays)
    pixels = keypoints(camera, step)
    image, gray = np.zeros(shape, np.uint8), np.zeros((FINER * shape[0], FINER * shape[1]),
                                                      np.uint8)
    if textured:
        image = texture(points_in_map(T, camera, pixel_grid(*shape)))
        finer = camera.resized(FINER * camera.width, FINER * camera.height)
        gray = texture(points_in_map(T, finer, pixel_grid(*gray.shape)))
    return Keyframe(
        i, f'{i:03}', i * 10 ** 9, 10 * i, camera, np.repeat(image[..., None], 3, axis=2), gray,
        np.ones(1, np.float32), pixels, se3.stretched(T, scale),
        1 / depth[pixels[:, 1], pixels[:, 0]], np.full(len(pixels), SURE),
        (1 / depth).astype(np.float32), np.full(shape, CONFIDENT, np.float32),
        np.zeros(shape, bool), camera_name)


@lru_cache(maxsize=None)
def anchor() -> Keyframe:
    """Make a keyframe with an image, at the origin."""
    return keyframe(0, textured=True)


def correspondence(anchor: Keyframe, observer: Keyframe) -> Correspondence:
    """Say exactly where an anchor's pixels are seen; both have their true poses in metres."""
    grid = pixel_grid(anchor.camera.height, anchor.camera.width)
    pixels, seen = project(observer.T_map_cam, observer.camera,
                           points_in_map(anchor.T_map_cam, anchor.camera, grid))
    return Correspondence(np.where(seen[..., None], pixels, 0).astype(np.float32),
                          np.where(seen, CONFIDENT, 0).astype(np.float32))


@dataclass(frozen=True, eq=False)
class TrueViewpoint:
    """
    A camera that stands in the room.

    :param T_map_cam: (4, 4) metres
    """

    T_map_cam: Array
    camera: Camera = CAMERA

    def pointmap_in(self, other: TrueViewpoint) -> Array:
        """Points (H, W, 3) of this view in another one's frame, metres."""
        grid = pixel_grid(self.camera.height, self.camera.width)
        points = points_in_map(self.T_map_cam, self.camera, grid)
        return (points - other.T_map_cam[:3, 3]) @ other.T_map_cam[:3, :3]


def predicted(first: TrueViewpoint, second: TrueViewpoint | None = None, unit: float = 1.0,
              learned: bool = False) -> Prediction:
    """
    Make the exact prediction of a pair, or of one view alone.

    :param unit: metres in the prediction's unit of length
    """
    pointmaps = [first.pointmap_in(first)]
    confidences = [np.full(pointmaps[0].shape[:2], CONFIDENT)]
    if second is not None:
        pointmaps.append(second.pointmap_in(first))
        grid = pixel_grid(second.camera.height, second.camera.width)
        _, seen = project(first.T_map_cam, first.camera,
                          points_in_map(second.T_map_cam, second.camera, grid))
        confidences.append(np.where(seen, CONFIDENT, NO_CONFIDENCE))
    return Prediction(tuple((p / unit).astype(np.float32) for p in pointmaps),
                      tuple(c.astype(np.float32) for c in confidences), learned=learned)


@lru_cache(maxsize=64)
def _rendered(pose: bytes, camera: Camera) -> NDArray[np.uint8]:
    T = np.frombuffer(pose).reshape(4, 4)
    image = texture(points_in_map(T, camera, pixel_grid(camera.height, camera.width)))
    image.flags.writeable = False
    return image


def tracking_image(T_map_cam: Array, camera: Camera | None = None) -> NDArray[np.uint8]:
    """
    Grey image (H, W) of the room, made once; it cannot be written to.

    :param T_map_cam: (4, 4) metres
    :param camera: `TRACKING` if None
    """
    return _rendered(np.ascontiguousarray(T_map_cam, float).tobytes(), camera or TRACKING)
