# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pose and depth of every frame by a network, beside landmark tracking: `track_with_model`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.models.types import PosePrior
from recon3r_ros.slam.backend.executor import Executor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.backend.rendering import Rendered
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.observed import Observed, OnRig
from recon3r_ros.slam.frontend.steps import Placed, untracked
from recon3r_ros.slam.types import Map


@dataclass(frozen=True)
class FrameRendering:
    """
    Has each frame rendered by the mapper, and waits for it.

    :param executor: of local mapping
    """

    executor: Executor

    def lost(self, frontend: CameraFrontend, observed: Observed, known: Map) -> Rendered | None:
        """
        Render a frame in which landmark tracking has found no pose.

        :param known: the map
        :return: None where it has one, or the network has none
        """
        lost = observed.track is None or observed.track.pose is None
        if observed.left_alone or frontend.zoomed or not known.started or not lost:
            return None
        return self._render(frontend, observed, known, None)

    def tracked(self, frontend: CameraFrontend, observed: Observed, known: Map, placed: Placed
                ) -> Rendered | None:
        """
        Render a frame that landmark tracking has posed.

        :param known: the map
        """
        return self._render(frontend, observed, known, placed)

    def _render(self, frontend: CameraFrontend, observed: Observed, known: Map,
                placed: Placed | None) -> Rendered | None:
        own = [i for i, k in known.keyframes.items() if k.camera_name == frontend.name]
        reference = frontend.reference if placed is None else placed.frame.keyframe
        if reference not in known.keyframes:
            reference = max(own, default=None)
        if reference is None:
            return None
        view = frontend.requests.view(observed.frame, None if placed is None else placed.mask)
        if placed is not None:
            view = replace(view, pose=PosePrior(
                known.keyframes[reference].T_map_cam @ placed.frame.T_keyframe_cam,
                placed.pose.covariance))
        rendered, _ = self.executor.call(Mapper.render, untracked(observed.frame), view,
                                         observed.gray, reference).result()
        return rendered if rendered is None or rendered.partner in known.keyframes else None


def as_carried(rendered: Rendered, known: Map) -> OnRig:
    """
    State a rendered pose as that of a frame without landmarks.

    :param known: the map
    """
    return OnRig(rendered.view.T_map_cam, rendered.pose.covariance,
                 known.keyframes[rendered.partner])


def better(placed: Placed, rendered: Rendered, known: Map) -> Placed:
    """
    Choose the pose of a frame that has one by landmark tracking and one by a network.

    :param known: the map
    :return: that of smaller uncertainty, by the volume of its covariance
    """
    if _volume(placed.pose.covariance) <= _volume(rendered.pose.covariance):
        return placed
    keyframe = known.keyframes[rendered.partner]
    found = np.zeros(len(keyframe.keypoints), bool)
    return replace(
        placed, pixels=np.zeros((len(found), 2), np.float32), found=found, pose=rendered.pose,
        frame=replace(placed.frame, keyframe=keyframe.id, T_keyframe_cam=se3.normalized(
            se3.inverse(keyframe.T_map_cam) @ rendered.view.T_map_cam)))


def _volume(covariance: NDArray[np.float64]) -> float:
    """Logarithm of the determinant; infinite where it is singular."""
    sign, value = np.linalg.slogdet(covariance)
    return float(value) if sign > 0 else float('inf')
