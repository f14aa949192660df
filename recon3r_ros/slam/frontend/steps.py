# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Output of a camera's front end: posed frames and keyframe requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.models.types import View
from recon3r_ros.slam.frontend.causes import Cause
from recon3r_ros.slam.frontend.zoom import Zoom
from recon3r_ros.slam.types import Frame, StageTimes, TrackedFrame


@dataclass(frozen=True, eq=False)
class Placed:
    """
    A frame with a pose.

    :param frame: with its keyframe, and the pose relative to it
    :param pixels: (K, 2) observations of the keyframe's landmarks
    :param found: (K,) which landmarks are observed
    :param pose: of the keyframe, or of a temporary reference, in the frame's camera
    :param mask: dynamic mask, in mask pixels; None where nothing is known
    :param objects: see `TrackedFrame`
    """

    frame: TrackedFrame
    pixels: NDArray[np.float32]
    found: NDArray[np.bool_]
    pose: PnPResult
    mask: NDArray[np.bool_] | None = None
    objects: NDArray[np.int32] | None = None


class Purpose(Enum):
    """Purpose of a keyframe request."""

    START = 'start'
    FIRST_PAIR = 'first pair'
    MAPPING = 'mapping'
    RELOCALISATION = 'relocalisation'
    RECALL = 'recall of an earlier map'
    CARRIED = 'landmarks of a camera that its rig carries'


@dataclass(frozen=True, eq=False)
class KeyframeRequest:
    """
    A frame that should become a keyframe.

    :param view: its rectified image; `moving` is excluded from the map
    :param gray: its tracking image (H, W) uint8
    :param begin: when it was requested (time.perf_counter)
    :param T_reference_cam: (4, 4) its pose in a reference keyframe, for MAPPING
    :param reference: id of that keyframe
    :param covariance: (6, 6) of that pose, see `TrackedFrame`
    :param shift: parallax of a first pair, pixels; of a recall, where a first pair is worth trying
        if it fails, else 0
    :param overlap: share of the first keyframe's keypoints that it observes, of these two
    :param zoomed: whether the camera was zoomed, so that the focal length is to be verified
    """

    purpose: Purpose
    frame: Frame
    view: View
    gray: NDArray[np.uint8]
    begin: float
    T_reference_cam: NDArray[np.float64] | None = None
    reference: int | None = None
    covariance: NDArray[np.float64] = field(default_factory=lambda: np.zeros((6, 6)))
    shift: float = 0.0
    overlap: float = 1.0
    zoomed: bool = False


@dataclass(frozen=True, eq=False)
class FrontendStep:
    """
    Result of one frame.

    :param placed: the frame, where it was tracked
    :param request: where it should become a keyframe
    :param times: run times of tracking and dynamic mask
    :param unposed: the frame with its dynamic mask, where it has no pose
    :param zoom: that this frame establishes: it and others since have no pose any more
    :param cause: why it has no pose; None where it has one, or that is not known
    """

    placed: Placed | None = None
    request: KeyframeRequest | None = None
    times: StageTimes = StageTimes()
    unposed: TrackedFrame | None = None
    zoom: Zoom | None = None
    cause: Cause | None = None


def untracked(frame: Frame) -> TrackedFrame:
    """Make the record of a frame that has no pose yet."""
    return TrackedFrame(
        frame.name, frame.stamp_ns, frame.index, camera_name=frame.camera_name, mount=frame.mount)
