# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The whole pipeline behind one method: from a frame to an update.

Used by the command line and by the ROS node alike. Where local mapping runs in a process of its
own (SubprocessExecutor), tracking continues meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import replace
import logging
from time import perf_counter, thread_time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.calibration_checks import contradicted
from recon3r_ros.models.types import PosePrior, Predictor
from recon3r_ros.slam import rig
from recon3r_ros.slam.atlas import Atlas
from recon3r_ros.slam.backend.executor import Executor, InProcessExecutor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.completion import Completion, Stretch, stretches
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.dynamics.motion_smoothing import smoothed
from recon3r_ros.slam.effort import Effort
from recon3r_ros.slam.frame_rendering import as_carried, better, FrameRendering
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.exposure import steadied
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.steps import KeyframeRequest, Placed, Purpose, untracked
from recon3r_ros.slam.frontend.tracking import landmark_covariance
from recon3r_ros.slam.frontend.zoom import Zoom
from recon3r_ros.slam.imu.gravity import Gravity
from recon3r_ros.slam.imu.inertial import Inertial
from recon3r_ros.slam.imu.samples import Turn
from recon3r_ros.slam.keyframe_lag import KeyframeLag
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.pending import Begun, Ordered
from recon3r_ros.slam.rig import Rig, Seen
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.scale import ScaleSources
from recon3r_ros.slam.trajectory import Trajectory
from recon3r_ros.slam.types import (
    Frame,
    Keyframe,
    Map,
    MetricScale,
    TrackedFrame,
    TrackingState,
    Update,
)

_log = logging.getLogger(__name__)
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Of the frames that waited for a first pair, those that get a dynamic mask where mapping runs
#: beside tracking: its second keyframe, and as many after it. Images wait meanwhile
LIVE_MASKS = 4
#: Seconds that tracking waits for a first pair where mapping runs beside it: no image has a pose
#: until then, and each one that is tracked meanwhile takes a core from mapping
FIRST_PAIR_S = 0.15
#: Newest keyframes of a camera that leave out what is found to be fixed to it
RECENT = 10


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
        self._motion = motion
        self._options = options
        self._executor = executor
        self._rendering = FrameRendering(executor) if track_with_model else None
        self._lag = lag
        self._mapping = mapping
        self._live = lag is None and not executor.in_step
        self._effort = Effort()
        self._frontends: dict[str, CameraFrontend] = {}
        self._trajectory = Trajectory()
        #: Indices of each camera's frames without a pose, in order; none where poses are awaited:
        #: nothing is completed then
        self._unposed: dict[str, dict[int, None]] = {}
        #: Indices of frames whose focal length is not that of the map, under the same condition
        self._zoomed: set[int] = set()
        #: Cameras and indices of frames posed after the last one
        self._late: set[tuple[str, int]] = set()
        self._height = camera_height
        self._atlas = Atlas(ScaleSources(height=camera_height))
        self._ordered: Ordered | None = None
        self._rig = Rig()
        #: Keyframes of the same instant, requested while another one is pending
        self._queue: deque[tuple[CameraFrontend, KeyframeRequest]] = deque()
        self._begun: Begun | None = None
        #: What the IMU says: rotations, rest, gravity; None before its first samples
        self.inertial: Inertial | None = None

    @property
    def map(self) -> Map:
        """The present map."""
        return self._atlas.map

    @property
    def maps(self) -> list[Map]:
        """All maps with depth, in the order of their beginning."""
        return self._atlas.maps

    @property
    def state(self) -> TrackingState:
        """Best state of all cameras: tracking, lost or initialising."""
        states = {f.state for f in self._frontends.values()}
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
        for frontend in self._frontends.values():
            frontend.effort = effort

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
        frontends = [self._frontend_of(frame) for frame in frames]
        for frontend, frame in zip(frontends, frames):
            if not self._live:
                self._unposed.setdefault(frontend.name, {})[frame.index] = None
        if self._lag is not None:
            self._lag.count_frame()
        settled = self._completed(self.poll())
        seen = rig.place([Seen(frontend, frontend.observe(frame, self.map, self._turn(frame)))
                          for frontend, frame in zip(frontends, frames)], self.map)
        if len(seen) > 1 and self.map.started and self.map.metre is None:
            self._learn_metre(seen)
        # All cameras of a rig get a keyframe at the same instant
        due = None if len(seen) == 1 else bool(sum(s.frontend.is_due(s.observed) for s in seen))
        busy = self._ordered is not None or bool(self._queue)
        updates = []
        for frame, camera in zip(frames, seen):
            updates.append(self._conclude(frame, camera, busy, due, settled))
            settled = Update(self.state, (), None)
        if not self.map.started and not busy:
            self._begin_elsewhere(seen)
        return updates

    def _begin_elsewhere(self, seen: Sequence[Seen]) -> None:
        """Let another camera of a rig begin the map, where that of the first keyframe is blind."""
        first = next(iter(self.map.keyframes.values()), None)
        owner = None if first is None else self._frontends.get(first.camera_name)
        for camera in seen:
            if owner is not None and camera.observed.frame.mount is not None and (
                    camera.frontend.begins_instead_of(owner)):
                owner.leave_first()
                self._start(camera.frontend, camera.frontend.start_request(camera.observed))
                return

    def _learn_metre(self, seen: Sequence[Seen]) -> None:
        """Let other cameras of a rig join a map, as soon as their distances are known in it."""
        metre = self._rig.metre(seen)
        if metre is not None and self._ordered is None:
            _log.info('a metre is %.3f map units, by the cameras of the rig; standard deviation '
                      '%.0f %%', metre.value, 100 * metre.sigma)
            self._atlas.take(self._executor.call(Mapper.set_metre, metre.value).result()[1])
            self._rig.leave_map()

    def _turn(self, frame: Frame) -> Turn | None:
        """Rotation of a camera since its frame before, by an IMU."""
        if self.inertial is None and frame.imu is not None:
            self.inertial = Inertial()
        return None if self.inertial is None else self.inertial.add(
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
            rendered = self._rendering.lost(frontend, seen.observed, self.map)
            rig = None if rendered is None else as_carried(rendered, self.map)
        step = frontend.conclude(seen.observed, self.map, busy, any(
            f.state is TrackingState.TRACKING for f in self._frontends.values()
            if f is not frontend), rig, due)
        if self._rendering is not None and rendered is None and step.placed is not None:
            rendered = self._rendering.tracked(frontend, seen.observed, self.map, step.placed)
            if rendered is not None:
                step = replace(step, placed=better(step.placed, rendered, self.map))
        tracked_at = perf_counter()
        if step.zoom is not None:
            settled = replace(settled, frames=(
                *settled.frames, *self._withdraw(frontend, step.zoom)))
        if frontend.zoomed:
            self._leave_unposed(frontend.name, frame.index)
        own: tuple[TrackedFrame, ...] = ()
        if step.placed is not None:
            own = (self._record(frontend, step.placed),)
            if own[0].landmarks:  # else it is by other sensors, and measures no motion
                self._atlas.scale.add_pose(frame, self.pose_of(own[0]))
            self._measure_bias(own[0])
        elif frame.mount is not None:
            self._trajectory.leave_open(untracked(frame))
        if step.placed is None and frontend.state is TrackingState.LOST:
            self._atlas.scale.interrupt()
            if self.inertial is not None:
                self.inertial.lost(frontend.name)
        view = None if rendered is None or not own else replace(
            rendered.view, T_map_cam=self.pose_of(own[0]))
        made = self._order(frontend, step.request)
        end = perf_counter()
        return Update(
            frontend.state, (*settled.frames, *own, *made.frames),
            made.keyframe or settled.keyframe,
            replace(step.times, keyframe=end - tracked_at if own else 0.0,
                    total=end - seen.observed.begin,
                    total_cpu=thread_time() - seen.observed.begin_cpu),
            (*settled.masked, *made.masked), step.unposed, self.cause_of(frontend.name), view)

    def poll(self) -> Update:
        """
        Take over the pending keyframe: if it is finished, or, with a lag, after that.

        Where mapping runs beside tracking at its own pace, a first pair comes in two updates: the
        poses first, because they are awaited, then the masks and the keyframe.
        """
        if self._begun is not None:
            return self._complete()
        if self._ordered is None and self._queue:
            return self._order(*self._queue.popleft())
        if self._ordered is None:
            return Update(self.state, (), None)
        if self._lag is None:
            due = self._ordered.made.done()
        else:
            lost = self._ordered.frontend.state is TrackingState.LOST
            due = self._lag.is_over or lost
        return self._settle() if due else Update(self.state, (), None)

    def stretches(self) -> dict[str, list[Stretch]]:
        """Frames without a pose, by camera."""
        return {name: stretches(self._unposed.get(name, ()), self._trajectory.posed(name),
                                frontend.cut_at)
                for name, frontend in self._frontends.items()}

    def follow_rig(self) -> Update:
        """Pose frames that have no pose by the other cameras of their instants."""
        settled = self.settle()
        return replace(settled, frames=(*settled.frames, *self._follow_rig(self.map)))

    def complete(self, frames: Iterable[Frame], camera_name: str = 'camera') -> Update:
        """
        Pose frames of a camera that have no pose, after the last frame.

        :param frames: at least those that its stretches need, in order
        """
        settled = self.settle()
        if not self.map.started:
            return settled
        frontend = self._frontends[camera_name]
        completion = Completion(frontend, self._executor, self.map)
        found = []
        for posed in completion.posed(self.stretches()[frontend.name], frames):
            self._atlas.take(completion.map)
            found.append(self._record_keyframe(posed) if isinstance(posed, Keyframe)
                         else self._record(frontend, posed))
        self._atlas.take(completion.map)
        self._late |= {(f.camera_name, f.index) for f in found}
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
            self._refocus(known)
            self._trajectory.place_anew(
                known, {n: f.rectifier.tracking_camera for n, f in self._frontends.items()})
            self._trajectory.drop_outliers(known)
            found += self._follow_rig(known)
        self._trajectory.settle()
        self._refocus(self.map)
        if self.map.started:
            return replace(settled, frames=(*settled.frames, *found))
        turned = [replace(frame, scale=self.map.scale_of(frame.keyframe))
                  for frontend in self._frontends.values() for frame in frontend.turned()]
        for frame in turned:
            self._trajectory.add(frame)
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
            self._leave_map()
            self._refocus(self.map)
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
        frontend = self._frontends[camera_name]
        lens = frontend.rectifier
        # Poses found afterwards are no evidence for masks: tracking had lost the map
        posed = [(f, T) for f, T in self.trajectory()
                 if (f.camera_name, f.index) not in self._late]
        return smoothed((frame for frame, _ in steadied(frames, lens)), lens, self.map,
                        posed if self.map.started else [], frontend.cut_at)

    def fixed(self, camera_name: str) -> Mask:
        """Mask what is fixed to a camera that frames have come from, as far as it is known."""
        return self._frontends[camera_name].masks.fixed

    def leave_out(self, masks: Mapping[int, Mask]) -> None:
        """
        Exclude dynamic objects from the map.

        :param masks: by keyframe, of any size
        """
        if masks:
            self._atlas.take(self._executor.call(Mapper.leave_out, masks).result()[1])

    def trajectory(self, limit: int | None = None, known: Map | None = None
                   ) -> list[tuple[TrackedFrame, Array]]:
        """
        Frames tracked in a map, with their present poses T_map_cam (4, 4).

        :param limit: how many frames at most, evenly thinned out; None takes all
        :param known: the map; None for the present one
        """
        return self._trajectory.poses(self.map if known is None else known, limit)

    def tracked(self, camera_name: str, stamp_ns: int) -> TrackedFrame | None:
        """Return a frame that is tracked in the present map, newest first; None without a pose."""
        found = self._trajectory.at(camera_name, stamp_ns)
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
        self._queue = deque(q for q in self._queue if q[0].name != camera_name)
        pending = self._begun or self._ordered
        if pending is not None and pending.frontend.name == camera_name:
            self.settle()
        self._frontends.pop(camera_name, None)
        self._unposed.pop(camera_name, None)
        if not self.map.started and not self.maps:
            self.reset()

    def metric(self, source: str = 'auto') -> MetricScale | None:
        """
        Metres per map unit, where known.

        :param source: see `ScaleSources.metric`
        """
        return self._atlas.scale.metric(source, self.map.metric, self.map.rig_metric)

    @property
    def requested_ns(self) -> int | None:
        """Stamp of the pending keyframe; None where there is none."""
        return None if self._ordered is None else self._ordered.request.frame.stamp_ns

    @property
    def unmasked(self) -> int | None:
        """Id of a first pair's second keyframe until it has masks, in the map but no update."""
        return None if self._begun is None else self._begun.made

    @property
    def zoomed(self) -> frozenset[int]:
        """Indices of the frames whose focal length is not that of the map."""
        return frozenset(self._zoomed)

    @property
    def calibration_notice(self) -> str:
        """Say how the images of the present map contradict their intrinsics; '' if they do not."""
        found = self.map.focal_contradiction
        if found is None:
            return ''
        names = {k.camera_name for k in self.map.keyframes.values()} & self._frontends.keys()
        focals = [self._frontends[name].rectifier.source.fx for name in names]
        return contradicted(focals, found.factor, found.sigma) if focals else ''

    def state_of(self, camera_name: str) -> TrackingState | None:
        """State of one camera's tracking; None before its first frame."""
        frontend = self._frontends.get(camera_name)
        return None if frontend is None else frontend.state

    def cause_of(self, camera_name: str) -> str:
        """Tell why a camera's newest frame has no pose; '' where it has one."""
        frontend = self._frontends.get(camera_name)
        return '' if frontend is None or frontend.cause is None else frontend.cause.value

    def lens(self, camera_name: str) -> Rectifier | None:
        """Return a camera's rectifier; None before its first frame."""
        frontend = self._frontends.get(camera_name)
        return None if frontend is None else frontend.rectifier

    def _frontend_of(self, frame: Frame) -> CameraFrontend:
        frontend = self._frontends.get(frame.camera_name)
        if frontend is None:
            frontend = CameraFrontend(
                frame, self._motion, self._options, self._live, self._mapping)
            frontend.refocus(self.map)
            frontend.effort = self._effort
            self._frontends[frame.camera_name] = frontend
        frontend.rectifier.check(frame)
        return frontend

    def _restart(self, scale: ScaleSources) -> None:
        if self._ordered is not None:
            self._ordered.made.exception()  # wait for it; its result is dropped
            self._ordered = None
        self._begun = None
        self._queue.clear()
        self._rig.leave_map()
        self._frontends.clear()
        self._trajectory = Trajectory()
        self._unposed.clear()
        self._zoomed.clear()
        self._late.clear()
        self._atlas = Atlas(scale)
        if self.inertial is not None:
            self.inertial.leave_map()

    def _order(self, frontend: CameraFrontend, request: KeyframeRequest | None) -> Update:
        """Request a keyframe; its result, where that is known at once."""
        if request is None:
            return Update(frontend.state, (), None)
        if request.purpose is Purpose.START:
            return self._start(frontend, request)
        if self._ordered is not None:
            self._queue.append((frontend, request))
            return Update(frontend.state, (), None)
        view = request.view
        if request.T_reference_cam is not None and request.reference is not None:
            view = replace(view, pose=PosePrior(
                self.map.keyframes[request.reference].T_map_cam @ request.T_reference_cam,
                request.covariance))
        if self._lag is not None:
            self._lag.request(request.purpose)
        fixed = frontend.masks.news_of_fixed()
        if fixed is not None:
            recent = [k.id for k in self.map.keyframes.values() if k.camera_name == frontend.name]
            self._executor.call(Mapper.leave_out, dict.fromkeys(recent[-RECENT:], fixed))
        frame, gray = untracked(request.frame), request.gray
        if request.purpose is Purpose.RECALL:
            made = self._executor.call(Mapper.recall, frame, view, gray)
        else:
            in_use = [f.reference for f in self._frontends.values() if f.reference is not None]
            made = self._executor.call(
                Mapper.add, frame, view, gray, in_use, request.overlap, request.zoomed)
        self._ordered = Ordered(frontend, request, made)
        if self._live and request.purpose is Purpose.FIRST_PAIR:
            wait((made,), FIRST_PAIR_S)
        return self.poll()

    def _start(self, frontend: CameraFrontend, request: KeyframeRequest) -> Update:
        if self.map.started:
            self._atlas.set_aside()
            self._leave_map()
        made, known = self._executor.call(
            Mapper.start, untracked(request.frame), request.view, request.gray).result()
        self._atlas.take(known)
        self._atlas.scale.add_depth(
            made, request.view.depth, known, request.view.depth_noise)
        keyframe = self.map.keyframes[made]
        frontend.start(keyframe, request.frame, self.map)
        if not self.map.started:
            return Update(frontend.state, (), None)
        return Update(frontend.state, (self._record_keyframe(keyframe),), keyframe)

    def settle(self) -> Update:
        """Take over all that is pending; waits until it is finished."""
        self._queue.clear()
        return self._completed(
            Update(self.state, (), None) if self._ordered is None else self._settle())

    def _completed(self, settled: Update) -> Update:
        """Add what is left of a first pair."""
        return settled if self._begun is None else replace(
            self._complete(), frames=settled.frames)

    def _settle(self) -> Update:
        """Take over the result of the pending keyframe; waits until it is finished."""
        ordered, self._ordered = self._ordered, None
        assert ordered is not None
        made, known = ordered.made.result()
        frontend, request = ordered.frontend, ordered.request
        if made is None:
            return self._reject(frontend, request)
        before = self.map
        self._atlas.take(known)
        self._trajectory.add_keyframe(made)
        for each in self._frontends.values():
            # Its own keyframe is in the units of before, but for a map that was joined
            if each is not frontend or known.number != before.number:
                each.rescale(before, known)
        if (known.number != before.number and request.T_reference_cam is not None
                and request.reference is not None):
            request = replace(request, T_reference_cam=se3.stretched(
                request.T_reference_cam, known.scale_of(request.reference)
                / before.scale_of(request.reference)))
        frontend.refocus(known)
        if request.purpose is Purpose.FIRST_PAIR:
            return self._begin(frontend, request, made)
        self._atlas.scale.add_depth(
            made, request.view.depth, known, request.view.depth_noise)
        if known.scales != {**before.scales, made: known.scale_of(made)}:
            self._atlas.scale.interrupt()  # a loop has been closed
        keyframe, found = known.keyframes[made], []
        if (request.purpose in (Purpose.RELOCALISATION, Purpose.RECALL)
                and frontend.state is not TrackingState.TRACKING):
            found.append(self._record_keyframe(keyframe))
        found += [self._record(frontend, p)
                  for p in frontend.take_over(
                      request, keyframe, before if known.number == before.number else known)]
        return Update(frontend.state, tuple(found), keyframe)

    def _withdraw(self, frontend: CameraFrontend, zoom: Zoom) -> tuple[TrackedFrame, ...]:
        """
        Take back the poses and keyframes of a camera since it zooms.

        :return: of a keyframe that was pending, frames of other cameras
        """
        settled = self.settle()
        dropped = self._trajectory.withdraw(frontend.name, zoom.first)
        in_use = [f.reference for f in self._frontends.values()
                  if f is not frontend and f.reference is not None]
        self._atlas.take(self._executor.call(
            Mapper.withdraw, frontend.name, zoom.first, in_use).result()[1])
        frontend.lose_to_zoom(zoom, dropped[0].name if dropped else str(zoom.first))
        for frame in dropped:
            self._leave_unposed(frontend.name, frame.index)
        return tuple(f for f in settled.frames if f.camera_name != frontend.name)

    def _follow_rig(self, known: Map) -> list[TrackedFrame]:
        """Pose frames in a map by the other cameras of their instants; return the new ones."""
        found = self._trajectory.follow_rig(known)
        for frame in found:
            self._unposed.get(frame.camera_name, {}).pop(frame.index, None)
        return found

    def _leave_unposed(self, camera_name: str, index: int) -> None:
        """Note that a frame is zoomed, and has no place in the map."""
        if not self._live:
            self._unposed[camera_name].pop(index, None)
            self._zoomed.add(index)

    def _leave_map(self) -> None:
        """Track no camera in the map of before any more."""
        self._rig.leave_map()
        for frontend in self._frontends.values():
            frontend.leave_map()

    def _refocus(self, known: Map) -> None:
        for frontend in self._frontends.values():
            frontend.refocus(known)

    def _reject(self, frontend: CameraFrontend, request: KeyframeRequest) -> Update:
        return self._order(frontend, frontend.reject(request, self.map))

    def _begin(self, frontend: CameraFrontend, request: KeyframeRequest, made: int) -> Update:
        """Estimate the poses of the waiting frames; reject the first pair if they disagree."""
        first = next(iter(self.map.keyframes.values()))
        placed = frontend.place_waiting(first)
        if placed is None:
            self._atlas.take(self._executor.call(Mapper.take_back_first_pair).result()[1])
            frontend.refocus(self.map)
            return self._reject(frontend, request)
        self._atlas.scale.add_depth(
            made, request.view.depth, self.map, request.view.depth_noise)
        posed = [self._record(frontend, p) for p in placed]
        if not any(p.index == request.frame.index for p in posed):
            posed.append(self._record_keyframe(self.map.keyframes[made]))
        self._begun = Begun(frontend, request, made, placed, tuple(posed))
        if self._live:
            return Update(frontend.state, tuple(posed), None)
        completed = self._complete()
        masked = {frame.index: frame for frame in completed.masked}
        return replace(completed, frames=tuple(masked.get(p.index, p) for p in posed), masked=())

    def _complete(self) -> Update:
        """Detect dynamic objects in the frames that waited for a first pair; track from it on."""
        begun, self._begun = self._begun, None
        assert begun is not None
        frontend, made = begun.frontend, begun.made
        first = next(iter(self.map.keyframes.values()))
        waiting = begun.from_second()[:LIVE_MASKS] if self._live else begun.placed
        masked = [p for p in frontend.mask_waiting(waiting, first) if p.mask is not None]
        self.leave_out(begun.of_keyframes(masked, first))
        first, keyframe = self.map.keyframes[first.id], self.map.keyframes[made]
        frontend.begin(first, keyframe, begun.placed)
        frames = {frame.index: frame for frame in begun.posed}
        return Update(frontend.state, (), keyframe, masked=tuple(
            replace(frames[p.frame.index], mask=frontend.rectifier.mask_to_source(p.mask))
            for p in masked if p.mask is not None))

    def _measure_bias(self, frame: TrackedFrame) -> None:
        """Measure the bias of a gyroscope by the rotation of a frame."""
        if self.inertial is None:
            return
        if not frame.landmarks:
            self.inertial.lost(frame.camera_name)
        else:
            self.inertial.tracked(frame.camera_name, frame.stamp_ns,
                                  self.pose_of(frame)[:3, :3], frame.covariance[:3, :3])

    def _record_keyframe(self, keyframe: Keyframe) -> TrackedFrame:
        frame = TrackedFrame(
            keyframe.name, keyframe.stamp_ns, keyframe.index, keyframe.id,
            covariance=landmark_covariance(keyframe), scale=self.map.scale_of(keyframe.id),
            camera_name=keyframe.camera_name, mount=keyframe.mount)
        self._add(frame)
        return frame

    def _add(self, frame: TrackedFrame, pixels: NDArray[np.float32] | None = None,
             found: Mask | None = None) -> None:
        self._trajectory.add(frame, pixels, found)
        self._unposed.get(frame.camera_name, {}).pop(frame.index, None)
        self._zoomed.discard(frame.index)

    def _record(self, frontend: CameraFrontend, placed: Placed) -> TrackedFrame:
        frame = replace(placed.frame, scale=self.map.scale_of(placed.frame.keyframe),
                        covariance=placed.pose.covariance,
                        landmarks=int(placed.pose.inliers.sum()))
        self._add(frame, placed.pixels, placed.found)
        if placed.mask is None:
            return frame
        return replace(frame, mask=frontend.rectifier.mask_to_source(placed.mask),
                       objects=placed.objects)
