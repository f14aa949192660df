# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
What is known of views before they are predicted, as MapAnything takes it (section 3.1).

Depth goes along unit rays, poses are relative to the window's first view, and lengths are divided
by their mean, which is given apart, in metres where it is known in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

#: Least mean distance of cameras from the first one: without any, their directions are noise
TINY = 1e-8


@dataclass(frozen=True, eq=False)
class KnownPose:
    """
    A camera's pose in any frame that all views of a window share.

    :param quat_xyzw: (4,) of its rotation; the network tells its sign
    :param position: (3,)
    :param metric: whether positions are in metres
    """

    quat_xyzw: Array
    position: Array
    metric: bool

    @classmethod
    def of(cls, T_world_cam: Array, metric: bool) -> KnownPose:
        """Take the pose (4, 4), with the quaternion whose w is not negative."""
        return cls(se3.quat_xyzw_from_matrix(T_world_cam[:3, :3]), T_world_cam[:3, 3], metric)


@dataclass(frozen=True, eq=False)
class GivenPoses:
    """
    Poses of a window's views in the first one's frame.

    :param numbers: (S, 9) quaternion xyzw and translation over the mean length, of T_first_view;
        1 where the pose is known, 1 where in metres; else 0
    :param log_length: logarithm of that mean length
    """

    numbers: Floats
    log_length: float


def nothing_given(views: int) -> GivenPoses:
    """Return what is given where no pose is known."""
    return GivenPoses(np.zeros((views, 9), np.float32), 0.0)


def given_poses(poses: Sequence[KnownPose | None]) -> GivenPoses:
    """
    Express poses relative to the first view.

    Nothing is given where the first one's is unknown, one is not finite, or no camera is apart
    from the first one, so that there is no length to divide by.

    :param poses: one for each view of a window, None where unknown
    """
    first, *rest = poses
    known = [p for p in poses if p is not None]
    if first is None or not any(p is not None for p in rest) or not all(
            np.isfinite(p.position).all() and np.isfinite(p.quat_xyzw).all()
            and np.linalg.norm(p.quat_xyzw) > 0 for p in known):
        return nothing_given(len(poses))
    numbers = np.zeros((len(poses), 9))
    R = se3.matrix_from_quat_xyzw(first.quat_xyzw)
    for row, pose in zip(numbers, poses):
        if pose is not None:
            row[:4] = _relative(first.quat_xyzw, pose.quat_xyzw)
            row[4:7] = R.T @ (pose.position - first.position)
            row[7:] = 1, pose.metric
    lengths = np.linalg.norm(numbers[:, 4:7], axis=1)
    if not (lengths > TINY).any():
        return nothing_given(len(poses))
    length = float(lengths[lengths > 0].mean())
    numbers[:, 4:7] /= length
    return GivenPoses(numbers.astype(np.float32), float(np.log(length + TINY)))


def _relative(first: Array, other: Array) -> Array:
    """Return conj(first) * other (Hamilton), xyzw of any length, with the sign that it has."""
    units = [v / np.linalg.norm(v) for v in (first, other)]
    (a, p), (b, q) = ((v[:3], v[3]) for v in units)
    return np.append(p * b - q * a - np.cross(a, b), p * q + a @ b)


def rays_of(camera: Camera) -> Floats:
    """
    Return the unit rays (H, W, 3) of a camera's pixels, in its frame; zero where it has none.

    :param camera: of any model
    """
    rays = camera.unproject(pixel_grid(camera.height, camera.width))
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    return np.where(np.isfinite(rays), rays, 0).astype(np.float32)


def along_rays(depth: Floats, rays: Floats) -> Floats:
    """
    Depth along the rays (H, W), 0 where it is unknown.

    :param depth: (H, W) along the optical axis; not finite or not positive where it is unknown
    :param rays: (H, W, 3) of unit length
    """
    known = np.isfinite(depth) & (depth > 0) & (rays[..., 2] > 0)
    out = np.where(known, depth, 0) / np.where(known, rays[..., 2], 1)
    return out.astype(np.float32)
