# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframes of one instant of a rig, for bundle adjustment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend.adjustment_problem import RigLinks
from recon3r_ros.slam.types import Keyframe


def links_of(keyframes: Sequence[Keyframe], metre: float | None) -> RigLinks | None:
    """
    Return how some keyframes are linked.

    :param metre: its length in map units; None where it is not known: then nothing is linked
    :return: None where no two of them are of one instant
    """
    if metre is None:
        return None
    first: dict[int, int] = {}
    leader = np.arange(len(keyframes))
    T_cam_leader = np.tile(np.eye(4), (len(keyframes), 1, 1))
    for n, keyframe in enumerate(keyframes):
        if keyframe.mount is None:
            continue
        leader[n] = m = first.setdefault(keyframe.mount.instant_ns, n)
        other = keyframes[m].mount
        assert other is not None
        if m != n:
            T_cam_leader[n] = se3.stretched(
                se3.inverse(keyframe.mount.T_rig_cam) @ other.T_rig_cam, metre)
    if np.array_equal(leader, np.arange(len(keyframes))):
        return None
    return RigLinks(leader, T_cam_leader)
