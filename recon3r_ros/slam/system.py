# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
The whole pipeline behind one method: a frame goes in, what it changed comes out.

Used by the command line and by the ROS node alike. Where keyframes are made by a process of their
own (mapping_host), tracking goes on against the last one in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.models.types import Predictor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.backend.mapping_host import MapperAtOnce, MapperHost
from recon3r_ros.slam.dynamics.motion import MotionConfig, MotionDetector
from recon3r_ros.slam.dynamics.motion_smoothing import PlacedFrame, smooth
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.camera_stream import CameraStream, Lost, Pending, Placed, untracked
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.tracking import landmark_covariance, Track
from recon3r_ros.slam.saved_map import SavedMap
from recon3r_ros.slam.scale import choose, DepthScale, OdometryScale
from recon3r_ros.slam.trajectory import PLAUSIBLE_SHARE, Trajectory
from recon3r_ros.slam.types import (
    Frame,
    Keyframe,
    Map,
    MetricScale,
    StageTimes,
    TrackedFrame,
    TrackingState,
    Update,
)

Array = NDArray[np.float64]

#: A first pair that had too little depth is tried again when its shift has grown by this
RETRY_GROWTH = 1.3
#: Share of keypoints found again below which initialisation starts afresh
RESTART_OVERLAP = 0.25
#: Newest frames before the first depth whose motion is looked for where keyframes are not made at
#: once
LIVE_MASKS = 8
#: Measured depths that are kept until the map's own are settled
MAX_MEASURED = 4
#: A lost camera is not looked for again before this many times the time that it took has passed,
#: while another one is tracked and needs keyframes
PATIENCE = 3.0


@dataclass(frozen=True, eq=False)
class _Request:
    """
    A frame that is becoming a keyframe.

    :param T_reference_cam: (4, 4) in the stream's reference; None where that is not known
    :param shift: that the first pair has, pixels; None where the map has been started
    """

    stream: CameraStream
    frame: Frame
    T_reference_cam: Array | None
    shift: float | None
    begin: float
    made: Future[tuple[int | None, Map]]


class Reconstruction:
    """
    Poses, depth and motion from the frames of one or more cameras.

    :param predictor: what predicts pointmaps, in this process and at once
    :param host: where keyframes are made instead
    :param motion: how dynamic objects are handled; a host's mapper is told by itself
    """

    def __init__(self, predictor: Predictor | None = None, host: MapperHost | None = None,
                 motion: MotionConfig = MotionConfig()) -> None:
        if host is None:
            if predictor is None:
                raise ValueError('neither a predictor nor a host of a mapper was given')
            host = MapperAtOnce(Mapper(predictor, motion=motion))
        self._motion = motion
        self.map = Map()
        self.odometry_scale = OdometryScale()
        self.depth_scale = DepthScale()
        self._host = host
        self._at_once = host.at_once
        self._streams: dict[str, CameraStream] = {}
        self._trajectory = Trajectory()
        self._measured: dict[int, NDArray[np.float32]] = {}
        self._request: _Request | None = None
        self._not_before = 0.0

    @property
    def state(self) -> TrackingState:
        """State of the camera that is best off."""
        states = {s.state for s in self._streams.values()}
        for state in (TrackingState.TRACKING, TrackingState.LOST):
            if state in states:
                return state
        return TrackingState.INITIALISING

    def add(self, frame: Frame) -> Update:
        """
        Process one frame.

        :raises InputError: for an image whose size differs from its camera's or from the first's
        """
        stream = self._streams.get(frame.camera_name)
        if stream is None:
            stream = CameraStream(frame, self._motion)
            stream.refocus(self.map.focal_factor)
            self._streams[frame.camera_name] = stream
        stream.rectifier.check(frame)
        settled = self.poll()
        begin = perf_counter()
        gray = stream.rectifier.tracking_image(frame)
        if self.map.started:
            own = self._follow(stream, frame, gray, begin)
        else:
            own = self._initialise(stream, frame, gray)
        return _joined(settled, own, stream.state)

    def poll(self) -> Update:
        """Take over a keyframe that has been finished since the last frame, if one has."""
        request = self._request
        if request is None or not request.made.done():
            return Update(self.state, (), None)
        return self._settle(request)

    def finish(self) -> Update:
        """
        Refine everything together once no frame will follow.

        A camera that never moved has no map, but it has a pose: that of the first frame, turned.
        """
        settled = Update(self.state, (), None)
        if self._request is not None:
            settled = self._settle(self._request)
        _, self.map = self._host.call(Mapper.finish).result()
        self._trajectory.place_anew(
            self.map, {n: s.rectifier.tracking_camera for n, s in self._streams.items()})
        if self.map.started:
            return settled
        turned = [self._record(stream, replace(frame, T_keyframe_cam=T, keyframe=stream.reference))
                  for stream in self._streams.values() if stream.reference is not None
                  for frame, T in stream.pending_turned()]
        return Update(self.state, tuple(turned), None)

    def smooth_motion(self, frames: Iterable[Frame]) -> dict[int, NDArray[np.bool_]]:
        """
        Find dynamic objects anew, from before and after each frame, with all that is known now.

        :param frames: all frames of one camera again, in order
        :return: masks by the frames' index, for `lens`; without those that have no pose
        """
        placed = {f.index: (self.map.present(f.keyframe), T) for f, T in self.trajectory()}

        def again() -> Iterator[PlacedFrame]:
            for frame in frames:
                gray = self._streams[frame.camera_name].rectifier.tracking_image(frame)
                reference, T_map_cam = placed.get(frame.index, (None, np.eye(4)))
                T = np.eye(4) if reference is None else se3.normalized(
                    se3.inverse(reference.T_map_cam) @ T_map_cam)
                yield PlacedFrame(frame.index, gray, reference, T, frame.stamp_ns)

        if not self.map.started:
            return {}
        lens, = (stream.rectifier for stream in self._streams.values())
        masks = smooth(again(), MotionDetector(lens.tracking_camera),
                       lambda: MotionDetector(lens.tracking_camera))
        return {index: mask for index, mask in masks if mask is not None}

    def leave_out(self, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        """
        Take dynamic objects out of the map.

        :param masks: by keyframe, of any size
        """
        if masks:
            _, self.map = self._host.call(Mapper.leave_out, masks).result()

    def trajectory(self, limit: int | None = None) -> list[tuple[TrackedFrame, Array]]:
        """
        Tracked frames with their poses T_map_cam (4, 4) as they are known now.

        :param limit: how many frames at most, evenly thinned out; None takes all
        """
        return self._trajectory.poses(self.map, limit)

    def pose_of(self, frame: TrackedFrame) -> Array:
        """Pose T_map_cam (4, 4) of a frame as its keyframe's pose is known now."""
        return self.map.pose_in_map(frame.keyframe, frame.T_keyframe_cam, frame.scale)

    def saved(self, metric: MetricScale | None = None) -> SavedMap:
        """
        Return the map with all that relocalisation in it needs, to be saved.

        :param metric: scale to keep with it
        """
        if self._request is not None:
            self._settle(self._request)
        saved, self.map = self._host.call(Mapper.saved, metric).result()
        return saved

    def restore(self, saved: SavedMap) -> None:
        """Go on in a saved map: the cameras are lost in it until they see something they know."""
        self._restart()
        _, self.map = self._host.call(Mapper.restore, saved).result()

    def reset(self) -> None:
        """Forget everything and begin again with the next frame."""
        self._restart()
        _, self.map = self._host.call(Mapper.clear).result()

    def forget(self, camera_name: str) -> None:
        """
        Forget what one camera tracks, because its images or its lens have changed.

        The map stays; the camera looks for its place in it.
        """
        request = self._request
        if request is not None and request.stream.name == camera_name:
            self._settle(request)
        self._streams.pop(camera_name, None)
        if not self.map.started:
            self.reset()

    def metric(self, source: str = 'auto') -> MetricScale | None:
        """
        Metres per map unit, where known.

        :param source: 'odometry', 'depth', 'model', 'none', or 'auto' for the most certain one
        """
        return choose(source, self.odometry_scale.estimate, self.depth_scale.estimate,
                      self.map.metric)

    @property
    def requested_ns(self) -> int | None:
        """Stamp of the frame that is becoming a keyframe; None where there is none."""
        return None if self._request is None else self._request.frame.stamp_ns

    def state_of(self, camera_name: str) -> TrackingState | None:
        """State of one camera's tracker; None before its first frame."""
        stream = self._streams.get(camera_name)
        return None if stream is None else stream.state

    def lens(self, camera_name: str) -> Rectifier | None:
        """Return what a camera's images pass through; None before its first frame."""
        stream = self._streams.get(camera_name)
        return None if stream is None else stream.rectifier

    def _restart(self) -> None:
        if self._request is not None:
            self._request.made.exception()  # wait for it, whatever becomes of it
            self._request = None
        self._streams.clear()
        self._measured.clear()
        self._trajectory = Trajectory()
        self.odometry_scale, self.depth_scale = OdometryScale(), DepthScale()

    def _initialise(self, stream: CameraStream, frame: Frame, gray: NDArray[np.uint8]) -> Update:
        nothing = Update(stream.state, (), None)
        if not self.map.keyframes:
            return self._start(stream, frame, gray)
        reference = stream.tracker.reference
        if reference is None:
            return nothing  # another camera begins the map
        track = stream.tracker.track(gray)
        stream.wait(Pending(untracked(frame), gray, track))
        if self._request is not None:
            return nothing
        overlap = float(track.found.mean()) if len(track.found) else 0.0
        shift = keyframes.first_shift(track, reference, stream.tracker.camera)
        least = keyframes.FIRST_SHIFT
        if len(stream.pending) < keyframes.PATIENT_FRAMES:
            least = max(least, keyframes.FIRST_SHIFT_SHARE * stream.tracker.camera.width)
        worth = shift > max(least, RETRY_GROWTH * stream.tried_shift)
        if not worth and overlap > keyframes.FIRST_OVERLAP:
            return nothing
        made = self._make(stream, frame, gray, track, shift)
        if not self.map.started and self._request is None and overlap < RESTART_OVERLAP:
            return self._start(stream, frame, gray)
        return made

    def _start(self, stream: CameraStream, frame: Frame, gray: NDArray[np.uint8]) -> Update:
        moving = None
        if frame.mask is not None:
            moving = stream.rectifier.mask_from_source(frame.mask, gray.shape)
        made, self.map = self._host.call(
            Mapper.start, untracked(frame), stream.rectifier.view(frame), gray, moving).result()
        keyframe = self.map.keyframes[made]
        stream.start(keyframe, frame)
        if not self.map.started:
            return Update(stream.state, (), None)
        # One view was enough
        stream.pending.clear()
        stream.refocus(self.map.focal_factor)
        stream.follow(keyframe, np.eye(4))
        stream.state = TrackingState.TRACKING
        return Update(stream.state, (self._record_keyframe(stream, keyframe),), keyframe)

    def _follow(self, stream: CameraStream, frame: Frame, gray: NDArray[np.uint8], begin: float
                ) -> Update:
        if stream.reference is None:
            return self._seek(stream, frame, gray)
        reference = self.map.keyframes[stream.reference]
        before = stream.tracker.reference
        track = stream.track(gray, reference)
        tracked_at = perf_counter()
        if track.pose is None:
            return self._seek(stream, frame, gray)
        stream.state = TrackingState.TRACKING
        stream.lost.clear()
        T_ref_cam = stream.T_reference_cam(track.pose)
        mask = stream.moving(frame, gray, T_ref_cam, reference)
        masked_at = perf_counter()
        tracked = self._record_tracked(stream, frame, track, mask)
        stream.remember(gray, track, mask)
        assert stream.tracker.reference is not None
        blurred = stream.is_blurred(gray)
        due = (stream.tracker.reference is not before
               or keyframes.is_due(track, stream.tracker.reference, blurred))
        made = Update(stream.state, (), None)
        if due and self._request is None:
            made = self._make(stream, frame, gray, track, None, stream.unfit(frame, mask))
        if due and self._request is not None:
            stream.bridge(reference)
        return replace(made, frames=(tracked, *made.frames), times=StageTimes(
            tracked_at - begin, masked_at - tracked_at, perf_counter() - masked_at))

    def _seek(self, stream: CameraStream, frame: Frame, gray: NDArray[np.uint8]) -> Update:
        """Look for a frame's place in the whole map."""
        stream.state = TrackingState.LOST
        stream.detector.reset()
        self.odometry_scale.interrupt()
        stream.lost.append(Lost(untracked(frame), gray))
        others = any(s.state is TrackingState.TRACKING for s in self._streams.values())
        if self._request is not None or (others and perf_counter() < self._not_before):
            return Update(stream.state, (), None)
        return self._make(stream, frame, gray, None, None)

    def _make(self, stream: CameraStream, frame: Frame, gray: NDArray[np.uint8],
              track: Track | None, shift: float | None,
              moving: NDArray[np.bool_] | None = None) -> Update:
        """Have a keyframe made of a frame; what comes of it, where that is known at once."""
        T_map_cam, T_reference_cam = None, None
        if track is not None and track.pose is not None and stream.reference is not None:
            T_reference_cam = stream.T_reference_cam(track.pose)
            T_map_cam = self.map.keyframes[stream.reference].T_map_cam @ T_reference_cam
        if moving is None and frame.mask is not None:
            moving = stream.rectifier.mask_from_source(frame.mask, gray.shape)
        in_use = [s.reference for s in self._streams.values() if s.reference is not None]
        made = self._host.call(Mapper.add, untracked(frame), stream.rectifier.view(frame), gray,
                               T_map_cam, moving, in_use)
        self._request = _Request(stream, frame, T_reference_cam, shift, perf_counter(), made)
        return self.poll()

    def _settle(self, request: _Request) -> Update:
        """Take over what became of a request; waits until it is done."""
        self._request = None
        made, known = request.made.result()
        stream = request.stream
        if made is None:
            if request.shift is not None:
                stream.tried_shift = max(stream.tried_shift, request.shift)
            elif request.T_reference_cam is None:
                self._not_before = (perf_counter()
                                    + PATIENCE * (perf_counter() - request.begin))
            return Update(stream.state, (), None)
        before, self.map = self.map, known
        for other in self._streams.values():
            if other is not stream:
                other.take_over_scale(before, known)
        keyframe = known.keyframes[made]
        stream.refocus(known.focal_factor)
        if request.shift is not None:
            return self._begin(request, keyframe)
        self._compare_depth(request, made)
        if known.scales != {**before.scales, made: known.scale_of(made)}:
            self.odometry_scale.interrupt()  # a loop has been closed
        found = self._take_over(request, keyframe, before)
        return Update(stream.state, tuple(found), keyframe)

    def _compare_depth(self, request: _Request, made: int) -> None:
        """Compare measured depths with the map's, which come with the next keyframes or change."""
        depth = request.stream.rectifier.depth(request.frame)
        if depth is not None:
            self._measured[made] = depth
        while len(self._measured) > MAX_MEASURED:
            del self._measured[next(iter(self._measured))]
        for i, measured in self._measured.items():
            if i in self.map.keyframes:
                self.depth_scale.add(measured, self.map.keyframes[i])

    def _begin(self, request: _Request, keyframe: Keyframe) -> Update:
        """Place the frames that waited for a first pair, unless they contradict it."""
        stream = request.stream
        first = next(iter(self.map.keyframes.values()))
        placed, share = stream.pending_placed(first)
        if share < PLAUSIBLE_SHARE:
            reference = stream.tracker.reference
            assert reference is not None and request.shift is not None
            _, self.map = self._host.call(Mapper.take_back_first_pair).result()
            stream.refocus(self.map.focal_factor)
            stream.tracker.follow(reference)
            stream.tried_shift = max(stream.tried_shift, request.shift)
            return Update(stream.state, (), None)
        # Live, what moved long ago is of no use to anybody, and takes time
        recent = 0 if self._at_once else max(len(placed) - LIVE_MASKS, 0)
        self._compare_depth(request, keyframe.id)
        masked = stream.with_masks(placed[recent:], first)
        posed = [self._place(stream, p, first.id) for p in placed[:recent] + masked]
        ids = {first.index: first.id, keyframe.index: keyframe.id}
        self.leave_out({ids[p.frame.index]: p.mask for p in masked
                        if p.frame.index in ids and p.mask is not None and p.mask.any()})
        first, keyframe = self.map.keyframes[first.id], self.map.keyframes[keyframe.id]
        T_cam_first = {p.frame.index: p.pose.T_cam_world for p in placed}
        newest = stream.pending[-1].frame.index
        stream.pending.clear()
        stream.state = TrackingState.TRACKING
        stream.follow(keyframe, T_cam_first.get(keyframe.index))
        # Frames that came while the pair was predicted have moved on
        T_first_new = se3.inverse(first.T_map_cam) @ keyframe.T_map_cam
        stream.tracker.resume(se3.normalized(T_cam_first[newest] @ T_first_new)
                              if newest in T_cam_first else np.eye(4))
        if not any(p.index == keyframe.index for p in posed):
            posed.append(self._record_keyframe(stream, keyframe))
        return Update(stream.state, tuple(posed), keyframe)

    def _take_over(self, request: _Request, keyframe: Keyframe, before: Map
                   ) -> list[TrackedFrame]:
        """Track against a new keyframe from now on."""
        stream = request.stream
        T_cam_ref = None
        if request.T_reference_cam is not None:
            T_cam_ref = se3.inverse(request.T_reference_cam)
        elif stream.state is TrackingState.TRACKING and stream.reference is not None:
            # It was found again by itself in the meantime
            T_cam_ref = (se3.inverse(keyframe.T_map_cam)
                         @ before.keyframes[stream.reference].T_map_cam)
        stream.follow(keyframe, T_cam_ref)
        if stream.state is TrackingState.TRACKING:
            return []
        found = []
        if request.T_reference_cam is None:
            found.append(self._record_keyframe(stream, keyframe))
        found += [self._place(stream, p, keyframe.id) for p in stream.lost_placed(keyframe)]
        stream.state = TrackingState.TRACKING
        return found

    def _record_keyframe(self, stream: CameraStream, keyframe: Keyframe) -> TrackedFrame:
        return self._record(stream, TrackedFrame(
            keyframe.name, keyframe.stamp_ns, keyframe.index, keyframe.id,
            covariance=landmark_covariance(keyframe), camera_name=keyframe.camera_name))

    def _record_tracked(self, stream: CameraStream, frame: Frame, track: Track,
                        mask: NDArray[np.bool_]) -> TrackedFrame:
        assert track.pose is not None and stream.reference is not None
        bare = replace(untracked(frame), keyframe=stream.reference,
                       T_keyframe_cam=stream.T_reference_cam(track.pose))
        tracked = self._record(stream, bare, Placed(
            bare, *stream.sighting(track), track.pose, mask))
        if frame.T_odom_cam is not None:
            self.odometry_scale.add(
                frame.stamp_ns, frame.T_odom_cam[:3, 3], self.pose_of(tracked)[:3, 3])
        return tracked

    def _place(self, stream: CameraStream, placed: Placed, keyframe: int) -> TrackedFrame:
        """Record a frame whose pose relative to a keyframe has been found."""
        return self._record(stream, replace(
            placed.frame, keyframe=keyframe, T_keyframe_cam=se3.inverse(placed.pose.T_cam_world)),
            placed)

    def _record(self, stream: CameraStream, frame: TrackedFrame, placed: Placed | None = None
                ) -> TrackedFrame:
        frame = replace(frame, scale=self.map.scale_of(frame.keyframe))
        if placed is None:
            self._trajectory.add(frame)
            return frame
        frame = replace(frame, covariance=placed.pose.covariance)
        self._trajectory.add(frame, placed.pixels, placed.found)
        if placed.mask is None:
            return frame
        return replace(frame, mask=stream.rectifier.mask_to_source(placed.mask))


def _joined(settled: Update, own: Update, state: TrackingState) -> Update:
    """One update of what an earlier frame and the present one changed."""
    keyframe = settled.keyframe if own.keyframe is None else own.keyframe
    return Update(state, settled.frames + own.frames, keyframe, own.times)
