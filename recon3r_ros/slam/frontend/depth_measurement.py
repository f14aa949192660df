# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measured depth of a camera's frames, where it is needed: by a depth camera, or by stereo."""

from __future__ import annotations

import logging

import numpy as np
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.depth_noise import MeasuredDepth, STRUCTURED_LIGHT
from recon3r_ros.geometry.stereo import StereoMatcher
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.types import Frame, StereoView

_log = logging.getLogger(__name__)


class DepthMeasurement:
    """
    Measures the depth of one camera's frames; owns the geometry of its rig, which it keeps.

    :param rectifier: of the camera
    """

    def __init__(self, rectifier: Rectifier) -> None:
        self._rectifier = rectifier
        self._rig: StereoView | None = None
        self._matcher: StereoMatcher | None = None
        self._said = ''

    def of(self, frame: Frame) -> MeasuredDepth | None:
        """
        Measure the depth of a frame's full-size view, if anything was measured.

        A depth camera's comes first. Stereo needs the first camera's intrinsics.
        """
        depth = self._rectifier.depth(frame)
        if depth is not None:
            return MeasuredDepth(depth, STRUCTURED_LIGHT)
        if frame.stereo is None or not self._rectifier.calibrated:
            return None
        height, width = frame.stereo.image.shape[:2]
        camera = frame.stereo.camera
        if (width, height) != (camera.width, camera.height):
            self._warn(f"the second camera's image is {width}x{height}, its calibration is for "
                       f'{camera.width}x{camera.height}: give intrinsics of the same size')
            return None
        if self._rig is None or not _same_rig(self._rig, frame.stereo):
            self._rig, self._matcher = frame.stereo, None
            try:
                self._matcher = StereoMatcher(
                    self._rectifier.source, camera, frame.stereo.T_cam_other)
            except InputError as error:
                self._warn(str(error))
        if self._matcher is None:
            return None
        return self._matcher.depth(frame.image, frame.stereo.image)

    def _warn(self, reason: str) -> None:
        """Say why there is no depth; once, while the reason is the same."""
        if reason != self._said:
            self._said = reason
            _log.warning('no stereo depth: %s', reason)


def _same_rig(a: StereoView, b: StereoView) -> bool:
    return a.camera == b.camera and np.array_equal(a.T_cam_other, b.T_cam_other)
