# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
True people of a simulated frame: who a pixel shows, and where on the body it is.

Places on a body are given twice: as part and coordinates on it (as DensePose does: Guler et al.,
CVPR 2018), and as the point of the template, the body at rest, in its bounding box.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.sim.body import LimbPath, LIMBS, REST_HIGH, REST_LOW, REST_POSES
from recon3r_ros.sim.render import SimulatedFrame, SimulatedSequence


@dataclass(frozen=True, eq=False)
class PeopleTruth:
    """
    People of a frame.

    :param instances: (H, W) uint16, 0 nobody, else the number of the person
    :param part: (H, W) uint8, the body's part; 0 where there is none: nobody, or hair
    :param uv: (H, W, 2) float32 in [0, 1] on the part: around it, and along it; 0 where part is 0
    :param surface: (H, W, 3) float32 in [0, 1], the point of the template: x forward, y left, z
        up in its bounding box; 0 where part is 0
    """

    instances: NDArray[np.uint16]
    part: NDArray[np.uint8]
    uv: NDArray[np.float32]
    surface: NDArray[np.float32]


def people_truth(sequence: SimulatedSequence, frame: SimulatedFrame) -> PeopleTruth:
    """
    Compute the true people of a frame.

    :param sequence: of the frame
    :param frame: rendered
    """
    height, width = frame.depth.shape
    camera = sequence.camera
    rays = camera.unproject(pixel_grid(height, width))
    truth = PeopleTruth(np.zeros((height, width), np.uint16), np.zeros((height, width), np.uint8),
                        np.zeros((height, width, 2), np.float32),
                        np.zeros((height, width, 3), np.float32))
    time = sequence.config.times[[frame.index]]
    for index, item in enumerate(sequence.scene.objects):
        if not isinstance(item.path, LimbPath):
            continue
        own = frame.object_index == index
        if not own.any():
            continue
        person, limb = item.path.person, LIMBS[item.path.limb]
        truth.instances[own] = person.number
        truth.part[own] = limb.part
        if not limb.part:
            continue
        T_limb_cam = se3.inverse(item.path.poses(time)[0]) @ frame.T_world_cam
        points = se3.transform(T_limb_cam, rays[own] * frame.depth[own][:, None]) / person.scale
        truth.uv[own] = _around_and_along(points, limb.radius, limb.length / 2)
        rest = se3.transform(REST_POSES[item.path.limb], points)
        truth.surface[own] = np.clip((rest - REST_LOW) / (REST_HIGH - REST_LOW), 0.0, 1.0)
    return truth


def _around_and_along(points: NDArray[np.float64], radius: float, half_length: float
                      ) -> NDArray[np.float64]:
    """
    Coordinates (n, 2) in [0, 1] on a capsule.

    :param points: (n, 3) on it, in its frame
    """
    x, y, z = points.T
    end = np.clip(z, -half_length, half_length)
    along = end + radius * np.arcsin(np.clip((z - end) / radius, -1.0, 1.0))
    reach = half_length + radius * np.pi / 2
    return np.stack([np.arctan2(y, x) / (2 * np.pi) + 0.5, (along / reach + 1) / 2], axis=-1)
