# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The front ends of all cameras, by name."""

from __future__ import annotations

from collections.abc import Iterator

from recon3r_ros.geometry.calibration_checks import contradicted
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.effort import Effort
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.rig import Rig
from recon3r_ros.slam.types import Frame, Map, TrackingState


class Cameras:
    """
    One front end for each camera that frames have come from; none at first.

    :param motion: handling of dynamic objects
    :param options: of the front ends
    :param live: whether poses are awaited
    :param mapping: whether to request keyframes
    """

    def __init__(self, motion: MotionConfig, options: FrontendOptions, live: bool, mapping: bool
                 ) -> None:
        self._motion, self._options = motion, options
        self._live, self._mapping = live, mapping
        self._frontends: dict[str, CameraFrontend] = {}
        self._effort = Effort()
        #: What several cameras that are mounted together have in common
        self.rig = Rig()

    def __iter__(self) -> Iterator[CameraFrontend]:
        return iter(self._frontends.values())

    def __getitem__(self, name: str) -> CameraFrontend:
        return self._frontends[name]

    def get(self, name: str) -> CameraFrontend | None:
        """Return a camera's front end; None before its first frame."""
        return self._frontends.get(name)

    def of(self, frame: Frame, known: Map) -> CameraFrontend:
        """
        Return the front end of a frame's camera, a new one for its first frame.

        :param known: the present map
        :raises InputError: for an image whose size differs from its camera's or from the first's
        """
        frontend = self._frontends.get(frame.camera_name)
        if frontend is None:
            frontend = CameraFrontend(
                frame, self._motion, self._options, self._live, self._mapping)
            frontend.refocus(known)
            frontend.effort = self._effort
            self._frontends[frame.camera_name] = frontend
        frontend.rectifier.check(frame)
        return frontend

    @property
    def state(self) -> TrackingState:
        """Best state of all cameras: tracking, lost or initialising."""
        states = {f.state for f in self}
        for state in (TrackingState.TRACKING, TrackingState.LOST):
            if state in states:
                return state
        return TrackingState.INITIALISING

    @property
    def effort(self) -> Effort:
        """Work that the front ends do for an image."""
        return self._effort

    @effort.setter
    def effort(self, effort: Effort) -> None:
        if effort == self._effort:
            return
        self._effort = effort
        for frontend in self:
            frontend.effort = effort

    @property
    def pinholes(self) -> dict[str, Camera]:
        """Pinhole cameras of the tracking images, by name."""
        return {f.name: f.rectifier.tracking_camera for f in self}

    def others_tracked(self, frontend: CameraFrontend) -> bool:
        """Whether any camera but this one is tracked."""
        return any(f.state is TrackingState.TRACKING for f in self if f is not frontend)

    def references(self, without: CameraFrontend | None = None) -> list[int]:
        """Return ids of the reference keyframes of all cameras but one."""
        return [f.reference for f in self if f is not without and f.reference is not None]

    def contradiction(self, known: Map) -> str:
        """Say how the images of a map contradict their intrinsics; '' if they do not."""
        found = known.focal_contradiction
        if found is None:
            return ''
        names = {k.camera_name for k in known.keyframes.values()} & self._frontends.keys()
        focals = [self[name].rectifier.source.fx for name in names]
        return contradicted(focals, found.factor, found.sigma) if focals else ''

    def refocus(self, known: Map) -> None:
        """Set all focal lengths to those of a map."""
        for frontend in self:
            frontend.refocus(known)

    def leave_map(self) -> None:
        """Track no camera in the map of before any more."""
        self.rig.leave_map()
        for frontend in self:
            frontend.leave_map()

    def forget(self, name: str) -> None:
        """Forget what one camera tracks; its next frame is its first one."""
        self._frontends.pop(name, None)

    def clear(self) -> None:
        """Forget all cameras."""
        self.rig.leave_map()
        self._frontends.clear()
