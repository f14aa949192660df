# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Gaussians of a map, without any optimisation.

Each point of the fused cloud is a disk on the plane of its neighbours, as wide as they are far
apart. Its opacity is its confidence.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.se3 import quat_xyzw_from_matrix
from recon3r_ros.slam.products.cloud import fuse, MIN_CONFIDENCE
from recon3r_ros.slam.types import Gaussians, Keyframe, PointCloud

Array = NDArray[np.float64]

#: Neighbours that a plane is fitted to, and those of them whose mean distance is the width
PLANE, NEAREST = 12, 4
#: Standard deviation of a disk over the distance of its neighbours: wider ones blur, narrower ones
#: leave gaps
WIDTH = 0.5
#: Least thickness of a disk over its width
THINNEST = 0.1
#: Share of the widths that is kept; wider ones, of isolated points, get the width at this share
USUAL = 0.98
#: Opacity of certain points, at most
OPAQUE = 0.99


def gaussians_of(keyframes: Iterable[Keyframe], voxel_size: float | None = None) -> Gaussians:
    """
    Make Gaussians from the confident static points of keyframes.

    :param voxel_size: distance between them, see `fuse`
    :returns: in the frame of the keyframes' poses; none where there are no such points
    """
    return gaussians_of_cloud(fuse(keyframes, voxel_size))


def gaussians_of_cloud(cloud: PointCloud) -> Gaussians:
    """
    Make a Gaussian from each point.

    :param cloud: with the inverse variances of the relative depth as confidences
    :returns: in the cloud's frame; none of fewer than four points, which are no surface
    """
    if len(cloud) < NEAREST:
        cloud = PointCloud.empty()
    axes, deviations = _disks(cloud.points.astype(np.float64))
    opacities = np.minimum(cloud.confidences / (cloud.confidences + MIN_CONFIDENCE), OPAQUE)
    return Gaussians(
        cloud.points.astype(np.float32),
        quat_xyzw_from_matrix(axes)[:, [3, 0, 1, 2]].astype(np.float32),
        deviations.astype(np.float32), opacities.astype(np.float32),
        (cloud.colors / 255).astype(np.float32))


def _disks(points: Array) -> tuple[Array, Array]:
    """Return axes (N, 3, 3), in columns, the normal last, and standard deviations (N, 3)."""
    count = min(PLANE, len(points))
    if count == 0:
        return np.zeros((0, 3, 3)), np.zeros((0, 3))
    from scipy.spatial import cKDTree  # takes a third of a second, of exports alone
    distances, neighbours = cKDTree(points).query(points, count)
    width = WIDTH * distances[:, 1:NEAREST + 1].mean(1)
    width = np.clip(width, 1e-9, max(float(np.quantile(width, USUAL)), 1e-9))
    near = points[neighbours] - points[neighbours].mean(1, keepdims=True)
    variances, axes = np.linalg.eigh(near.transpose(0, 2, 1) @ near / count)
    axes = axes[..., ::-1]
    axes[np.linalg.det(axes) < 0, :, 2] *= -1
    thickness = np.clip(np.sqrt(np.maximum(variances[:, 0], 0)), THINNEST * width, width)
    return axes, np.stack([width, width, thickness], axis=1)
