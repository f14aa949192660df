# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Rectification of two calibrated cameras of a rig: one turned frame, in which rows correspond.

The x axis of the rectified frame points from the first camera to the second, whichever way they
lie: a vertical rig, and a second camera on the left, are turned, so that disparity
u_first - u_second = f b / z is never negative. Both images have one focal length and one size.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera, pixel_grid

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Maps = tuple[NDArray[np.float32], NDArray[np.float32]]

#: Baselines that are plausible in metres; a longer one was given in another unit
LONGEST_BASELINE = 20.0
SHORTEST_BASELINE = 1e-4
#: Share of the first view's width that disparities reach: nearer points leave most of the view
REACH = 0.25
#: Share of the first view that the second camera must see
LEAST_OVERLAP = 0.1
#: Pixels of a rectified image: larger ones are made smaller, finer depth would not be used
MOST_PIXELS = 640_000
#: Rectified images may be so many times as large as the view, and its rays this far off the axis
_MOST_STRETCH, _LEAST_FORWARD = 3.0, 0.25
_OUTSIDE = -16.0


@dataclass(frozen=True, eq=False)
class StereoRectification:
    """
    Rectified geometry of a rig.

    :param view: pinhole camera of the first one's undistorted view, which depth is wanted for
    :param R_rect_cam: (3, 3) from the first camera's frame to the rectified one
    :param baseline: metres
    :param first: pinhole camera of the first rectified image
    :param offset: column of the first image minus that of the second, of a point at infinity
    :param maps: for `cv2.remap`, from the first source image to its rectified one
    :param other_maps: likewise, of the second
    :param seen: (H, W) where the first camera sees anything
    :param other_seen: (H, W) where the second does
    :param disparities: number of disparities to search, a multiple of 16
    """

    view: Camera
    R_rect_cam: Array
    baseline: float
    first: Camera
    offset: float
    maps: Maps
    other_maps: Maps
    seen: NDArray[np.bool_]
    other_seen: NDArray[np.bool_]
    disparities: int

    @property
    def nearest(self) -> float:
        """Depth of the largest disparity, metres."""
        return self.first.fx * self.baseline / (self.disparities - 1)

    @classmethod
    def of(cls, camera: Camera, other: Camera, T_cam_other: Array, nearest: float | None = None
           ) -> StereoRectification:
        """
        Rectify a rig.

        :param camera: the first one
        :param other: the second one
        :param T_cam_other: (4, 4) pose of the second in the first one's frame, metres
        :param nearest: depth, metres, to be measured; None: where views overlap well
        :raises InputError: where no depth can be measured: no baseline, views that do not
            overlap, or one camera in front of the other
        """
        T_cam_other = np.asarray(T_cam_other, np.float64)
        baseline = _checked_baseline(T_cam_other)
        R_rect_cam = _rectifying_rotation(T_cam_other, baseline)
        view = camera if camera.is_pinhole else camera.rectified()
        first, offset, disparities = _canvas(
            view, other, R_rect_cam, T_cam_other, baseline, nearest)
        grid = first.unproject(pixel_grid(first.height, first.width))
        second = first.unproject(pixel_grid(first.height, first.width) + (offset, 0.0))
        maps = _maps(camera, grid @ R_rect_cam)
        other_maps = _maps(other, second @ (R_rect_cam @ T_cam_other[:3, :3]))
        seen, other_seen = (_inside(m, c) for m, c in ((maps, camera), (other_maps, other)))
        _check_overlap(seen, other_seen, disparities)
        return cls(view, R_rect_cam, baseline, first, offset, maps, other_maps, seen, other_seen,
                   disparities)

    def depth_in_view(self, disparity: Floats) -> Floats:
        """
        Bring disparities back to the first camera's view.

        Both have one centre, so that pixels correspond whatever their depth.

        :param disparity: (h, w) u_first - u_second of the first rectified image, NaN where unknown
        :return: (H, W) depth along the view's optical axis, metres, NaN where unknown
        """
        rays = self.view.unproject(pixel_grid(self.view.height, self.view.width))
        turned = rays @ self.R_rect_cam.T
        pixels = self.first.project(turned).astype(np.float32)
        near = cv2.remap(disparity, pixels, None, cv2.INTER_NEAREST, borderValue=float('nan'))
        smooth = cv2.remap(disparity, pixels, None, cv2.INTER_LINEAR, borderValue=float('nan'))
        # Between the two sides of a step is no surface
        with np.errstate(invalid='ignore'):
            sampled = np.where(np.abs(smooth - near) < 0.5, smooth, near) - self.offset
            z = self.first.fx * self.baseline / np.where(sampled > 0, sampled, np.nan)
        return (z / turned[..., 2]).astype(np.float32)


def _checked_baseline(T_cam_other: Array) -> float:
    if T_cam_other.shape != (4, 4) or not np.isfinite(T_cam_other).all():
        raise InputError(f'T_cam_other: got {T_cam_other!r}, expected a finite (4, 4) pose')
    baseline = float(np.linalg.norm(T_cam_other[:3, 3]))
    if not SHORTEST_BASELINE < baseline < LONGEST_BASELINE:
        raise InputError(
            f'the baseline of the stereo rig is {baseline:.6g} m: give the pose of its second '
            f"camera in the first one's frame, in metres, of between {SHORTEST_BASELINE:g} and "
            f'{LONGEST_BASELINE:g} m')
    return baseline


def _rectifying_rotation(T_cam_other: Array, baseline: float) -> Array:
    """
    Return the rotation of the rectified frame: x along the baseline, z between the optical axes.

    :raises InputError: where the axes and the baseline are nearly parallel, or axes are opposite
    """
    x = T_cam_other[:3, 3] / baseline
    axis = T_cam_other[:3, 2] + [0.0, 0.0, 1.0]
    z = axis - x * (x @ axis)
    length = float(np.linalg.norm(z))
    if length < _LEAST_FORWARD * 2:
        angle = math.degrees(math.acos(float(np.clip(abs(x[2]), 0.0, 1.0))))
        raise InputError(
            f'the baseline of the stereo rig is {angle:.0f} degrees off the optical axis, or its '
            'cameras look apart: depth cannot be measured; check the pose of its second camera')
    z /= length
    return np.stack([x, np.cross(z, x), z])


def _canvas(view: Camera, other: Camera, R_rect_cam: Array, T_cam_other: Array, baseline: float,
            nearest: float | None) -> tuple[Camera, float, int]:
    """Return the camera of the first rectified image, its offset, and the disparities."""
    focal = (view.fx + view.fy) / 2
    corners = np.array([[-0.5, -0.5], [view.width - 0.5, -0.5], [-0.5, view.height - 0.5],
                        [view.width - 0.5, view.height - 0.5]])
    rays = view.unproject(corners) @ R_rect_cam.T
    if (rays[:, 2] < _LEAST_FORWARD * np.linalg.norm(rays, axis=1)).any():
        raise InputError('the rectified images of the stereo rig would be useless: its baseline '
                         "is too near the first camera's optical axis; check the pose of its "
                         'second camera')
    plane = rays[:, :2] / rays[:, 2:]
    extent = np.ptp(plane, axis=0) * focal
    if extent.prod() > _MOST_STRETCH * view.width * view.height:
        raise InputError('the rectified images of the stereo rig would be useless: its cameras '
                         'are turned too far from each other; check the pose of its second camera')
    focal *= min(1.0, math.sqrt(MOST_PIXELS / float(extent.prod())))
    low, high = plane.min(axis=0) * focal, plane.max(axis=0) * focal
    reach = REACH * (high[0] - low[0]) if nearest is None else focal * baseline / nearest
    disparities = 16 * math.ceil(min(max(reach, 16.0), high[0] - low[0]) / 16)
    # Columns on the left, too, where the second camera sees what is at the first one's border
    low[0] -= disparities
    # Sampled where the sources have pixels, where the rig is rectified already
    centre = _axis(R_rect_cam, view, focal)
    shift = -np.floor(low + centre)
    cx, cy = shift + centre
    size = np.ceil(high - low).astype(int) + 1
    first = Camera(int(size[0]), int(size[1]), focal, focal, float(cx), float(cy))
    there = _axis(R_rect_cam @ T_cam_other[:3, :3], other, focal)
    part = float(cx - there[0])
    return first, part - round(part), disparities


def _axis(R_rect_cam: Array, camera: Camera, focal: float) -> Array:
    """Return the fraction of a pixel (2,) at which a camera's pixels lie in a rectified image."""
    pixel = np.rint([camera.cx, camera.cy])
    ray = R_rect_cam @ camera.unproject(pixel)
    if ray[2] <= 0:
        return np.zeros(2)
    position = -focal * ray[:2] / ray[2]
    return np.asarray(position - np.rint(position))


def _maps(camera: Camera, rays: Array) -> Maps:
    pixels = camera.project(rays)
    forward = rays[..., 2] > 0
    pixels = np.where(forward[..., None] & np.isfinite(pixels), pixels, _OUTSIDE)
    pixels = np.clip(pixels, _OUTSIDE, 1e5)
    inside = (pixels >= -0.5) & (pixels <= (camera.width - 0.5, camera.height - 0.5))
    # A lens distortion beyond its range folds back into the image
    back = camera.unproject(pixels[inside.all(axis=-1)])
    ray = rays[inside.all(axis=-1)]
    folded = np.abs(back[..., :2] - ray[..., :2] / ray[..., 2:]).max(axis=-1) > 1e-3
    rows, columns = np.nonzero(inside.all(axis=-1))
    pixels[rows[folded], columns[folded]] = _OUTSIDE
    return pixels[..., 0].astype(np.float32), pixels[..., 1].astype(np.float32)


def _inside(maps: Maps, camera: Camera) -> NDArray[np.bool_]:
    x, y = maps
    return (x >= 0) & (x <= camera.width - 1) & (y >= 0) & (y <= camera.height - 1)


def _check_overlap(seen: NDArray[np.bool_], other_seen: NDArray[np.bool_], disparities: int
                   ) -> None:
    """
    Check that the second camera sees enough of the first one's view at some depth.

    :raises InputError: where it does not
    """
    counts = np.cumsum(np.pad(other_seen.astype(np.int32), ((0, 0), (disparities, 0))), axis=1)
    reached = counts[:, disparities:] - counts[:, :-disparities] > 0
    overlap = float((reached & seen).sum() / max(seen.sum(), 1))
    if overlap < LEAST_OVERLAP:
        raise InputError(f'the second camera of the stereo rig sees {100 * overlap:.0f} % of the '
                         "first one's view: check the pose of its second camera")
