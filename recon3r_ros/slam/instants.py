# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Frames of one instant: posed, recorded, and what follows from them.

    `CameraFrontend.observe` -> rig.place -> `CameraFrontend.conclude` -> records, scale, IMU
    -> keyframing
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import logging
from time import perf_counter, thread_time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam import rig
from recon3r_ros.slam.atlas import Atlas
from recon3r_ros.slam.backend.executor import Executor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.cameras import Cameras
from recon3r_ros.slam.frame_records import FrameRecords
from recon3r_ros.slam.frame_rendering import as_carried, better, FrameRendering
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.steps import Purpose, untracked
from recon3r_ros.slam.frontend.zoom import Zoom
from recon3r_ros.slam.imu.inertial import Inertial
from recon3r_ros.slam.imu.samples import Turn
from recon3r_ros.slam.keyframing import Keyframing
from recon3r_ros.slam.rig import Seen
from recon3r_ros.slam.types import Frame, Map, TrackedFrame, TrackingState, Update

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]


class Instants:
    """
    Processes the frames of all cameras, one instant after the other; owns what the IMU says.

    :param executor: runs local mapping
    :param atlas: has the present map
    :param cameras: their front ends
    :param records: of the frames
    :param keyframing: takes the front ends' requests
    :param rendering: gives each frame depth by the model; None where that is not wanted
    :param inertial: what the IMU has said before; None before its first samples
    """

    def __init__(self, executor: Executor, atlas: Atlas, cameras: Cameras, records: FrameRecords,
                 keyframing: Keyframing, rendering: FrameRendering | None,
                 inertial: Inertial | None = None) -> None:
        self._executor = executor
        self._atlas = atlas
        self._cameras = cameras
        self._records = records
        self._keyframing = keyframing
        self._rendering = rendering
        self._inertial = inertial

    @property
    def inertial(self) -> Inertial | None:
        """What the IMU says: rotations, rest, gravity; None before its first samples."""
        return self._inertial

    @property
    def _map(self) -> Map:
        return self._atlas.map

    def add(self, frames: Sequence[Frame]) -> list[Update]:
        """
        Process the frames of one instant: one, or several of the cameras of a rig.

        :param frames: of different cameras, with their mounts where there are several
        :return: an update for each, in their order
        :raises InputError: for an image whose size differs from its camera's or from the first's
        """
        frontends = [self._cameras.of(frame, self._map) for frame in frames]
        for frame in frames:
            self._records.expect(frame.camera_name, frame.index)
        self._keyframing.count_frame()
        settled = self._keyframing.poll_all()
        seen = rig.place([Seen(frontend, frontend.observe(frame, self._map, self._turn(frame)))
                          for frontend, frame in zip(frontends, frames)], self._map)
        if len(seen) > 1 and self._map.started and self._map.metre is None:
            self._learn_metre(seen)
        # All cameras of a rig get a keyframe at the same instant
        due = None if len(seen) == 1 else bool(sum(s.frontend.is_due(s.observed) for s in seen))
        busy = self._keyframing.busy
        updates = []
        for frame, camera in zip(frames, seen):
            updates.append(self._conclude(frame, camera, busy, due, settled))
            settled = Update(self._cameras.state, (), None)
        if not self._map.started and not busy:
            self._begin_elsewhere(seen)
        return updates

    def _begin_elsewhere(self, seen: Sequence[Seen]) -> None:
        """Let another camera of a rig begin the map, where that of the first keyframe is blind."""
        first = next(iter(self._map.keyframes.values()), None)
        owner = None if first is None else self._cameras.get(first.camera_name)
        for camera in seen:
            if owner is not None and camera.observed.frame.mount is not None and (
                    camera.frontend.begins_instead_of(owner)):
                owner.leave_first()
                self._keyframing.start(camera.frontend, camera.frontend.requests.of(
                    Purpose.START, camera.observed.frame, camera.observed.gray))
                return

    def _learn_metre(self, seen: Sequence[Seen]) -> None:
        """Let other cameras of a rig join a map, as soon as their distances are known in it."""
        metre = self._cameras.rig.metre(seen)
        if metre is not None and self._keyframing.ordered is None:
            _log.info('a metre is %.3f map units, by the cameras of the rig; standard deviation '
                      '%.0f %%', metre.value, 100 * metre.sigma)
            self._atlas.take(self._executor.call(Mapper.set_metre, metre.value).result()[1])
            self._cameras.rig.leave_map()

    def _turn(self, frame: Frame) -> Turn | None:
        """Rotation of a camera since its frame before, by an IMU."""
        if self._inertial is None and frame.imu is not None:
            self._inertial = Inertial()
        return None if self._inertial is None else self._inertial.add(
            frame.camera_name, frame.stamp_ns, frame.imu, frame.image)

    def _conclude(self, frame: Frame, seen: Seen, busy: bool, due: bool | None, settled: Update
                  ) -> Update:
        """
        Pose a frame, and take all that follows from it.

        :param busy: whether a keyframe is pending
        :param due: see `CameraFrontend.conclude`
        :param settled: update that its own is added to
        """
        frontend, rig, rendered = seen.frontend, seen.rig, None
        if self._rendering is not None and rig is None:
            rendered = self._rendering.lost(frontend, seen.observed, self._map)
            rig = None if rendered is None else as_carried(rendered, self._map)
        step = frontend.conclude(seen.observed, self._map, busy,
                                 self._cameras.others_tracked(frontend), rig, due)
        if self._rendering is not None and rendered is None and step.placed is not None:
            rendered = self._rendering.tracked(frontend, seen.observed, self._map, step.placed)
            if rendered is not None:
                step = replace(step, placed=better(step.placed, rendered, self._map))
        tracked_at = perf_counter()
        if step.zoom is not None:
            settled = replace(settled, frames=(
                *settled.frames, *self._withdraw(frontend, step.zoom)))
        if frontend.zoomed:
            self._records.leave_unposed(frontend.name, frame.index)
        own: tuple[TrackedFrame, ...] = ()
        if step.placed is not None:
            own = (self._records.add(step.placed, self._map, frontend.rectifier),)
            if own[0].landmarks:  # else it is by other sensors, and measures no motion
                self._atlas.scale.add_pose(frame, self._pose_of(own[0]))
            self._measure_bias(own[0])
        elif frame.mount is not None:
            self._records.trajectory.leave_open(untracked(frame))
        if step.placed is None and frontend.state is TrackingState.LOST:
            self._atlas.scale.interrupt()
            if self._inertial is not None:
                self._inertial.lost(frontend.name)
        view = None if rendered is None or not own else replace(
            rendered.view, T_map_cam=self._pose_of(own[0]))
        made = self._keyframing.order(frontend, step.request)
        end = perf_counter()
        return Update(
            frontend.state, (*settled.frames, *own, *made.frames),
            made.keyframe or settled.keyframe,
            replace(step.times, keyframe=end - tracked_at if own else 0.0,
                    total=end - seen.observed.begin,
                    total_cpu=thread_time() - seen.observed.begin_cpu),
            (*settled.masked, *made.masked), step.unposed,
            '' if frontend.cause is None else frontend.cause.value, view)

    def _withdraw(self, frontend: CameraFrontend, zoom: Zoom) -> tuple[TrackedFrame, ...]:
        """
        Take back the poses and keyframes of a camera since it zooms.

        :return: of a keyframe that was pending, frames of other cameras
        """
        settled = self._keyframing.settle()
        dropped = self._records.withdraw(frontend.name, zoom.first)
        self._atlas.take(self._executor.call(
            Mapper.withdraw, frontend.name, zoom.first,
            self._cameras.references(without=frontend)).result()[1])
        frontend.lose_to_zoom(zoom, dropped[0].name if dropped else str(zoom.first))
        return tuple(f for f in settled.frames if f.camera_name != frontend.name)

    def _measure_bias(self, frame: TrackedFrame) -> None:
        """Measure the bias of a gyroscope by the rotation of a frame."""
        if self._inertial is None:
            return
        if not frame.landmarks:
            self._inertial.lost(frame.camera_name)
        else:
            self._inertial.tracked(frame.camera_name, frame.stamp_ns,
                                  self._pose_of(frame)[:3, :3], frame.covariance[:3, :3])

    def _pose_of(self, frame: TrackedFrame) -> Array:
        """Present pose T_map_cam (4, 4) of a frame, by that of its keyframe."""
        return self._map.pose_in_map(frame.keyframe, frame.T_keyframe_cam, frame.scale)
