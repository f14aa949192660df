# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""True optical flow between simulated frames, by depth and the motion of camera and objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.sim.render import SimulatedFrame, SimulatedSequence

Array = NDArray[np.float64]

_SAME_DEPTH = 1.03  # factor within which the depth found at a target is that of the point


@dataclass(frozen=True, eq=False)
class TrueFlow:
    """
    Where the pixels of frame a are in frame b.

    :param targets: (H, W, 2) pixels of b; NaN behind its camera
    :param visible: (H, W) whether the same surface point is seen in b, neither outside its image
        nor occluded
    """

    targets: Array
    visible: NDArray[np.bool_]

    def warped(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """
        Bring a mask of b to the pixels of a, by nearest neighbour.

        :param mask: (H, W) of b
        :returns: (H, W); False where it is not visible
        """
        u, v = _nearest(self.targets, self.visible)
        return np.asarray(mask[v, u] & self.visible)


def true_flow(sequence: SimulatedSequence, a: SimulatedFrame, b: SimulatedFrame) -> TrueFlow:
    """
    Compute the flow of all pixels from a to b; each moves with the object it shows.

    :param sequence: of the frames
    :param a: where the flow is defined
    :param b: where it leads to, before or after a
    """
    camera, times = sequence.camera, sequence.config.times[[a.index, b.index]]
    height, width = a.depth.shape
    points = camera.unproject(pixel_grid(height, width)) * a.depth[..., None]
    T_b_world = se3.inverse(b.T_world_cam)
    there = se3.transform(T_b_world @ a.T_world_cam, points)
    for index, item in enumerate(sequence.scene.objects):
        if item.moving:
            own = a.object_index == index
            T_world_a, T_world_b = item.path.poses(times)  # of the object
            there[own] = se3.transform(
                T_b_world @ T_world_b @ se3.inverse(T_world_a) @ a.T_world_cam, points[own])
    targets = camera.project(there)
    with np.errstate(invalid='ignore'):
        inside = np.all((targets > -0.5) & (targets < [width - 0.5, height - 0.5]), axis=-1)
    u, v = _nearest(targets, inside)
    ratio = there[..., 2] / b.depth[v, u]
    visible = (inside & (b.object_index[v, u] == a.object_index)
               & (ratio < _SAME_DEPTH) & (ratio > 1 / _SAME_DEPTH))
    return TrueFlow(targets, visible)


def _nearest(targets: Array, use: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """Return columns and rows (H, W) of the nearest pixels, 0 where they are of no use."""
    return tuple(np.moveaxis(np.rint(np.where(use[..., None], targets, 0)).astype(np.int64),
                             -1, 0))
