# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How dynamic objects are handled; loads no compiled code."""

from __future__ import annotations

from dataclasses import dataclass

from recon3r_ros.slam.dynamics.mask_refinement import grabcut, MaskRefiner


@dataclass(frozen=True)
class MotionConfig:
    """
    Handling of dynamic objects.

    :param detect: whether to detect them; masks that come with frames are used in any case
    :param refiner: refines masks to image edges; None leaves them coarse
    :param rest_s: seconds that an object must rest before it may enter the map
    :param offline: whether masks are computed again at the end, from earlier and later frames
    """

    detect: bool = True
    refiner: MaskRefiner | None = grabcut
    rest_s: float = 2.0
    offline: bool = False
