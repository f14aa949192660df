# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a system has requested and not yet taken over."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.steps import KeyframeRequest, Placed
from recon3r_ros.slam.types import Map, TrackedFrame


@dataclass(frozen=True, eq=False)
class Ordered:
    """
    A pending keyframe.

    :param frontend: that requested it
    :param request: of the keyframe
    :param made: its id, None where it is rejected, and the map
    """

    frontend: CameraFrontend
    request: KeyframeRequest
    made: Future[tuple[int | None, Map]]


@dataclass(frozen=True, eq=False)
class Begun:
    """
    A first pair whose pending frames have poses, but no dynamic masks yet.

    :param frontend: that requested it
    :param request: of its second keyframe
    :param made: id of its second keyframe
    :param placed: the pending frames
    :param posed: the same, as recorded in the trajectory
    """

    frontend: CameraFrontend
    request: KeyframeRequest
    made: int
    placed: list[Placed]
    posed: tuple[TrackedFrame, ...]
