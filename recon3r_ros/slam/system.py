# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The whole pipeline behind one method: from a frame to an update.

Used by the command line and by the ROS node alike. Where local mapping runs in a process of its
own (SubprocessExecutor), tracking continues meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import Recon3rError
from recon3r_ros.models.types import Predictor
from recon3r_ros.slam.atlas import Atlas
from recon3r_ros.slam.backend.executor import Executor, InProcessExecutor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.cameras import Cameras
from recon3r_ros.slam.completion import Completion, Stretch
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.dynamics.motion_smoothing import smoothed
from recon3r_ros.slam.effort import Effort
from recon3r_ros.slam.frame_records import FrameRecords
from recon3r_ros.slam.frame_rendering import FrameRendering
from recon3r_ros.slam.frontend.exposure import steadied
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.imu.gravity import Gravity
from recon3r_ros.slam.imu.inertial import Inertial
from recon3r_ros.slam.instants import Instants
from recon3r_ros.slam.keyframe_lag import KeyframeLag
from recon3r_ros.slam.keyframing import Keyframing
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.scale import ScaleSources
from recon3r_ros.slam.types import (
    Frame,
    Keyframe,
    Map,
    MetricScale,
    TrackedFrame,
    TrackingState,
    Update,
)

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class System:
    """
    Poses, depth and dynamic masks from the frames of one or more cameras.

    :param predictor: what predicts pointmaps, in this process and in step with tracking
    :param executor: runs local mapping instead
    :param motion: how dynamic objects are handled; an executor's mapper has its own
    :param options: of the front ends
    :param lag: counts the frames until a keyframe is taken over; None: as soon as it is finished
    :param mapping: whether to map; else there are dynamic masks alone
    :param camera_height: of the camera above the floor, metres: for the scale; 0 where unknown
    :param track_with_model: whether the model gives each frame depth, and a pose beside that of
        landmark tracking; mapping is waited for then
    """

    def __init__(self, predictor: Predictor | None = None, executor: Executor | None = None,
                 motion: MotionConfig = MotionConfig(),
                 options: FrontendOptions = FrontendOptions(),
                 lag: KeyframeLag | None = None, mapping: bool = True,
                 camera_height: float = 0.0, track_with_model: bool = False) -> None:
        if executor is None:
            if predictor is None:
                raise ValueError('neither a predictor nor an executor was given')
            executor = InProcessExecutor(Mapper(predictor, motion=motion))
        self._executor = executor
        self._rendering = FrameRendering(executor) if track_with_model else None
        self._lag = lag
        self._live = lag is None and not executor.in_step
        self._height = camera_height
        self._cameras = Cameras(motion, options, self._live, mapping)
        self._begin_with(ScaleSources(height=camera_height))

    @property
    def map(self) -> Map:
        """The present map."""
        return self._atlas.map

    @property
    def maps(self) -> list[Map]:
        """All maps with depth, in the order of their beginning."""
        return self._atlas.maps

    @property
    def inertial(self) -> Inertial | None:
        """What the IMU says: rotations, rest, gravity; None before its first samples."""
        return self._instants.inertial

    @property
    def state(self) -> TrackingState:
        """Best state of all cameras: tracking, lost or initialising."""
        return self._cameras.state

    @property
    def effort(self) -> Effort:
        """Work that the front ends do for an image."""
        return self._cameras.effort

    @effort.setter
    def effort(self, effort: Effort) -> None:
        self._cameras.effort = effort

    def add(self, frame: Frame) -> Update:
        """
        Process one frame.

        :raises InputError: for an image whose size differs from its camera's or from the first's
        """
        return self.add_instant((frame,))[0]

    def add_instant(self, frames: Sequence[Frame]) -> list[Update]:
        """
        Process the frames of one instant: one, or several of the cameras of a rig.

        :param frames: of different cameras, with their mounts where there are several
        :return: an update for each, in their order
        :raises InputError: for an image whose size differs from its camera's or from the first's
        """
        return self._instants.add(frames)

    def poll(self) -> Update:
        """
        Take over the pending keyframe: if it is finished, or, with a lag, after that.

        Where mapping runs beside tracking at its own pace, a first pair comes in two updates: the
        poses first, because they are awaited, then the masks and the keyframe.
        """
        return self._keyframing.poll()

    def settle(self) -> Update:
        """Take over all that is pending; waits until it is finished."""
        return self._keyframing.settle()

    def stretches(self) -> dict[str, list[Stretch]]:
        """Frames without a pose, by camera."""
        return {frontend.name: self._records.stretches(frontend.name, frontend.cut_at)
                for frontend in self._cameras}

    def follow_rig(self) -> Update:
        """Pose frames that have no pose by the other cameras of their instants."""
        settled = self.settle()
        return replace(settled, frames=(*settled.frames, *self._records.follow_rig(self.map)))

    def complete(self, frames: Iterable[Frame], camera_name: str = 'camera') -> Update:
        """
        Pose frames of a camera that have no pose, after the last frame.

        :param frames: at least those that its stretches need, in order
        """
        settled = self.settle()
        if not self.map.started:
            return settled
        frontend = self._cameras[camera_name]
        completion = Completion(frontend, self._executor, self.map)
        found = []
        for posed in completion.posed(self.stretches()[frontend.name], frames):
            self._atlas.take(completion.map)
            found.append(
                self._records.add_keyframe(posed, self.map) if isinstance(posed, Keyframe)
                else self._records.add(posed, self.map, frontend.rectifier))
        self._atlas.take(completion.map)
        self._records.mark_late(found)
        return replace(settled, frames=(*settled.frames, *found))

    def finish(self) -> Update:
        """
        Refine all keyframes jointly after the last frame.

        A camera that only rotated has no map, but rotations relative to its first frame.
        """
        settled = self.settle()
        _, known = self._executor.call(Mapper.finish).result()
        self._atlas.take(known)
        self._atlas.scale.add_refined(known)
        self._atlas.refine(self._executor.call(Mapper.others).result()[0])
        found: list[TrackedFrame] = []
        for known in self.maps:
            self._cameras.refocus(known)
            self._records.trajectory.place_anew(known, self._cameras.pinholes)
            self._records.trajectory.drop_outliers(known)
            found += self._records.follow_rig(known)
        self._records.trajectory.settle()
        self._cameras.refocus(self.map)
        if self.map.started:
            return replace(settled, frames=(*settled.frames, *found))
        turned = [replace(frame, scale=self.map.scale_of(frame.keyframe))
                  for frontend in self._cameras for frame in frontend.turned()]
        for frame in turned:
            self._records.trajectory.add(frame)
        return Update(self.state, tuple(turned), None)

    def activate(self, number: int) -> bool:
        """
        Make another map the present one; cameras are lost in it.

        :return: whether it can be changed; an earlier map cannot, whose mapping process has ended
        """
        self.settle()
        _, known = self._executor.call(Mapper.activate, number).result()
        if number != self.map.number:
            self._atlas.activate(number)
            self._cameras.leave_map()
            self._cameras.refocus(self.map)
        if known.number == number:
            self._atlas.take(known)
        return known.number == number

    def forget_earlier(self, most: int) -> list[Map]:
        """
        Forget the smallest of the earlier maps, so that their number is bounded.

        :param most: keyframes that the others have together, unless one map alone has more
        :return: those that are forgotten
        """
        forgotten = self._atlas.forget_smallest(most)
        for known in forgotten:
            self._executor.call(Mapper.forget_map, known.number)
        return forgotten

    def smooth_motion(self, frames: Iterable[Frame], camera_name: str = 'camera'
                      ) -> dict[int, NDArray[np.bool_]]:
        """
        Detect dynamic objects again, with evidence from before and after each frame.

        :param frames: all frames of one camera again, in order
        :param camera_name: which camera
        :return: masks by the frames' index, for `lens`; without those of which nothing is known
        """
        frontend = self._cameras[camera_name]
        lens = frontend.rectifier
        # Poses found afterwards are no evidence for masks: tracking had lost the map
        posed = [(f, T) for f, T in self.trajectory() if not self._records.is_late(f)]
        return smoothed((frame for frame, _ in steadied(frames, lens)), lens, self.map,
                        posed if self.map.started else [], frontend.cut_at)

    def fixed(self, camera_name: str) -> Mask:
        """Mask what is fixed to a camera that frames have come from, as far as it is known."""
        return self._cameras[camera_name].masks.fixed

    def leave_out(self, masks: Mapping[int, Mask]) -> None:
        """
        Exclude dynamic objects from the map.

        :param masks: by keyframe, of any size
        """
        self._keyframing.leave_out(masks)

    def trajectory(self, limit: int | None = None, known: Map | None = None
                   ) -> list[tuple[TrackedFrame, Array]]:
        """
        Frames tracked in a map, with their present poses T_map_cam (4, 4).

        :param limit: how many frames at most, evenly thinned out; None takes all
        :param known: the map; None for the present one
        """
        return self._records.trajectory.poses(self.map if known is None else known, limit)

    def tracked(self, camera_name: str, stamp_ns: int) -> TrackedFrame | None:
        """Return a frame that is tracked in the present map, newest first; None without a pose."""
        found = self._records.trajectory.at(camera_name, stamp_ns)
        return found if found is not None and found.keyframe in self.map else None

    def pose_of(self, frame: TrackedFrame) -> Array:
        """Present pose T_map_cam (4, 4) of a frame, by that of its keyframe."""
        return self.map.pose_in_map(frame.keyframe, frame.T_keyframe_cam, frame.scale)

    def gravity(self, limit: int | None = None) -> Gravity | None:
        """
        Direction of gravity in the present map, by an IMU.

        :param limit: frames that it is taken from at most; None takes all
        :return: None where it is not known
        """
        if self.inertial is None:
            return None
        return self.inertial.gravity((f.camera_name, f.stamp_ns, T[:3, :3])
                                     for f, T in self.trajectory(limit))

    def saved(self, metric: MetricScale | None = None) -> SavedMap:
        """
        Return the map to be saved, with all that relocalisation in it needs.

        :param metric: scale to keep with it
        """
        self.settle()
        saved, known = self._executor.call(Mapper.saved, metric).result()
        if known.number != self.map.number:
            raise Recon3rError(f'map {self.map.number} cannot be saved to be continued: its '
                               'mapping process has ended')
        self._atlas.take(known)
        return saved

    def saved_earlier(self, source: str = 'auto') -> list[SavedMap]:
        """
        Return the earlier maps to be saved.

        :param source: of the scale to keep with each, see `metric`
        """
        self.settle()
        return self._executor.call(
            Mapper.saved_earlier, self._atlas.earlier_metrics(source)).result()[0]

    def restore(self, saved: SavedMap) -> None:
        """Continue mapping in a saved map: cameras are lost in it until they are relocalised."""
        self._restart(ScaleSources(saved.metric, self._height))
        self._atlas.take(self._executor.call(Mapper.restore, saved).result()[1])

    def reset(self) -> None:
        """Forget everything and begin again with the next frame."""
        self._restart(ScaleSources(height=self._height))
        self._atlas.take(self._executor.call(Mapper.clear).result()[1])

    def forget(self, camera_name: str) -> None:
        """
        Forget what one camera tracks, because its images or its lens have changed.

        The map stays; the camera is relocalised in it.
        """
        self._keyframing.forget(camera_name)
        self._cameras.forget(camera_name)
        self._records.forget(camera_name)
        if not self.map.started and not self.maps:
            self.reset()

    def metric(self, source: str = 'auto') -> MetricScale | None:
        """
        Metres per map unit, where known.

        :param source: see `ScaleSources.metric`
        """
        return self._atlas.scale.metric(source, self.map.metric, self.map.rig_metric)

    @property
    def mapping(self) -> bool:
        """Whether a keyframe or a first pair is processed, or waits to be."""
        return self._keyframing.busy or self._keyframing.begun is not None

    @property
    def requested_ns(self) -> int | None:
        """Stamp of the pending keyframe; None where there is none."""
        ordered = self._keyframing.ordered
        return None if ordered is None else ordered.request.frame.stamp_ns

    @property
    def unmasked(self) -> int | None:
        """Id of a first pair's second keyframe until it has masks, in the map but no update."""
        begun = self._keyframing.begun
        return None if begun is None else begun.made

    @property
    def zoomed(self) -> frozenset[int]:
        """Indices of the frames whose focal length is not that of the map."""
        return self._records.zoomed

    @property
    def calibration_notice(self) -> str:
        """Say how the images of the present map contradict their intrinsics; '' if they do not."""
        return self._cameras.contradiction(self.map)

    def state_of(self, camera_name: str) -> TrackingState | None:
        """State of one camera's tracking; None before its first frame."""
        frontend = self._cameras.get(camera_name)
        return None if frontend is None else frontend.state

    def cause_of(self, camera_name: str) -> str:
        """Tell why a camera's newest frame has no pose; '' where it has one."""
        frontend = self._cameras.get(camera_name)
        return '' if frontend is None or frontend.cause is None else frontend.cause.value

    def lens(self, camera_name: str) -> Rectifier | None:
        """Return a camera's rectifier; None before its first frame."""
        frontend = self._cameras.get(camera_name)
        return None if frontend is None else frontend.rectifier

    def _restart(self, scale: ScaleSources) -> None:
        self._keyframing.abandon()
        self._cameras.clear()
        self._begin_with(scale, self.inertial)
        if self.inertial is not None:
            self.inertial.leave_map()

    def _begin_with(self, scale: ScaleSources, inertial: Inertial | None = None) -> None:
        """Begin without maps and posed frames."""
        self._records = FrameRecords(completed=not self._live)
        self._atlas = Atlas(scale)
        self._keyframing = Keyframing(self._executor, self._atlas, self._cameras, self._records,
                                      self._lag, self._live)
        self._instants = Instants(self._executor, self._atlas, self._cameras, self._records,
                                  self._keyframing, self._rendering, inertial)
