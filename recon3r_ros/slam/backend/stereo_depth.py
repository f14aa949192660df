# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth by stereo rigs, measured where and when it is needed: it takes longer than a frame may."""

from __future__ import annotations

from dataclasses import dataclass, replace
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.depth_noise import MeasuredDepth
from recon3r_ros.geometry.stereo import StereoMatcher
from recon3r_ros.geometry.stereo_pair import StereoPair
from recon3r_ros.models.types import View

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Rig:
    """Calibration of a rig, see `StereoPair`, and its matcher; None where it cannot measure."""

    camera: Camera
    other_camera: Camera
    T_cam_other: NDArray[np.float64]
    matcher: StereoMatcher | None

    def took(self, pair: StereoPair) -> bool:
        """Whether a pair comes from cameras with this calibration."""
        return (self.camera == pair.camera and self.other_camera == pair.other_camera
                and np.array_equal(self.T_cam_other, pair.T_cam_other))


class StereoDepth:
    """Measures depth by stereo; the owner of the geometry of all rigs, which it keeps."""

    def __init__(self) -> None:
        self._rigs: dict[str, _Rig] = {}
        self._said: dict[str, str] = {}

    def measured(self, camera_name: str, view: View) -> View:
        """
        Replace the stereo pair of a view by the depth that it gives, if any.

        :param camera_name: of the rig's first camera
        """
        if view.stereo is None:
            return view
        found = self.of(camera_name, view.stereo)
        if found is None:
            return replace(view, stereo=None)
        return replace(view, stereo=None, depth=found.depth, depth_noise=found.noise)

    def of(self, camera_name: str, pair: StereoPair) -> MeasuredDepth | None:
        """
        Measure the depth of the first camera's undistorted view.

        :param camera_name: of the rig's first camera
        :return: None where the rig cannot measure; a warning says why, once for each reason
        """
        height, width = pair.other.shape[:2]
        camera = pair.other_camera
        if (width, height) != (camera.width, camera.height):
            self._warn(camera_name, f"the second camera's image is {width}x{height}, its "
                       f'calibration is for {camera.width}x{camera.height}: give intrinsics of '
                       'the same size')
            return None
        matcher = self._matcher(camera_name, pair)
        return None if matcher is None else matcher.depth(pair.image, pair.other)

    def _matcher(self, camera_name: str, pair: StereoPair) -> StereoMatcher | None:
        rig = self._rigs.get(camera_name)
        if rig is None or not rig.took(pair):
            matcher = None
            try:
                matcher = StereoMatcher(pair.camera, pair.other_camera, pair.T_cam_other)
            except InputError as error:
                self._warn(camera_name, str(error))
            rig = self._rigs[camera_name] = _Rig(
                pair.camera, pair.other_camera, pair.T_cam_other, matcher)
        return rig.matcher

    def _warn(self, camera_name: str, reason: str) -> None:
        """Say why there is no depth; once, while the reason is the same."""
        if reason != self._said.get(camera_name):
            self._said[camera_name] = reason
            _log.warning('%s: no stereo depth: %s', camera_name, reason)
