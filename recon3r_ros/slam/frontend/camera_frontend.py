# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Front end of one camera: rectification, tracking, initialisation, relocalisation, masks.

    INITIALISING --first pair, or one view with depth--> TRACKING <--relocalised-- LOST
                                                         TRACKING --no pose, or a cut--> LOST

`MapBeginning` takes frames until there is depth; afterwards `WithLandmarks` takes those that are
tracked, and `WithoutLandmarks` the others. They make a `FrontendStep` of each, state follows here.
Keyframes are requested from the back end; its answer comes by `start`, `begin`, `take_over` or
`reject`.
"""

from __future__ import annotations

from dataclasses import replace
import logging
from time import perf_counter, thread_time

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.effort import Effort
from recon3r_ros.slam.frontend.causes import Cause, NOTHING_SEEN
from recon3r_ros.slam.frontend.cuts import CutDetector, Scene
from recon3r_ros.slam.frontend.exposure import Exposure
from recon3r_ros.slam.frontend.frame_masks import FrameMasks
from recon3r_ros.slam.frontend.keyframe_requests import KeyframeRequests
from recon3r_ros.slam.frontend.keyframe_selection import KeyframeSelection
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.map_beginning import MapBeginning
from recon3r_ros.slam.frontend.observed import Observed, OnRig
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.relocalizer import Relocalizer
from recon3r_ros.slam.frontend.steps import FrontendStep, KeyframeRequest, Placed, Purpose
from recon3r_ros.slam.frontend.tracking import Track
from recon3r_ros.slam.frontend.with_landmarks import WithLandmarks
from recon3r_ros.slam.frontend.without_landmarks import FoundAgain, WithoutLandmarks
from recon3r_ros.slam.frontend.zoom import Zoom, ZoomDetector
from recon3r_ros.slam.imu.samples import Turn
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.types import Frame, Keyframe, Map, TrackedFrame, TrackingState

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]

_log = logging.getLogger(__name__)

#: Seconds without images after which another camera of a rig begins the map
AWAITED_S = 1.0


class CameraFrontend:
    """
    Tracks one camera in the map; the only writer of its state.

    :param frame: its first one
    :param motion: handling of dynamic objects
    :param live: whether poses are awaited
    :param mapping: whether to request keyframes
    :raises InputError: where the camera's size is not the image's
    """

    def __init__(self, frame: Frame, motion: MotionConfig = MotionConfig(),
                 options: FrontendOptions = FrontendOptions(), live: bool = False,
                 mapping: bool = True) -> None:
        self._full = self._options = options
        self._effort = Effort()
        self.name = frame.camera_name
        self.rectifier = Rectifier.of(frame)
        self._tracker = KeyframeTracker(self.rectifier.tracking_camera, options.tracked_landmarks)
        #: Dynamic masks of its frames
        self.masks = FrameMasks(self.rectifier, motion)
        #: Its requests and views
        self.requests = KeyframeRequests(self.rectifier, self.masks)
        self._selection = KeyframeSelection()
        self._relocalizer = Relocalizer()
        self._beginning = MapBeginning(self.name, self.rectifier, self._tracker, self.masks,
                                       self._selection, self.requests, live, mapping)
        self._with_landmarks = WithLandmarks(
            self._tracker, self.masks, self._selection, self.requests)
        self._without_landmarks = WithoutLandmarks(
            self.name, self._tracker, self.masks, self._selection, self.requests,
            self._relocalizer)
        self._cuts = CutDetector()
        self._exposure = Exposure()
        self._cut_at: list[int] = []
        #: Why the newest frame has no pose; None where it has one
        self.cause: Cause | None = None
        self._state = TrackingState.INITIALISING
        self._zooms = ZoomDetector()
        #: Whether the reference has been changed since a pending keyframe was requested
        self._switched = False
        self._newest_ns = frame.stamp_ns

    @property
    def state(self) -> TrackingState:
        """State of tracking."""
        return self._state

    @property
    def reference(self) -> int | None:
        """Id of the reference keyframe; None before the first."""
        return self._tracker.keyframe

    @property
    def options(self) -> FrontendOptions:
        """Return the options with which frames are tracked."""
        return self._options

    @property
    def cut_at(self) -> list[int]:
        """Indices of the frames that began a new scene, ascending; without the very first."""
        return self._cut_at

    @property
    def effort(self) -> Effort:
        """Work for a frame; fewer landmarks are tracked from the next keyframe on."""
        return self._effort

    @effort.setter
    def effort(self, effort: Effort) -> None:
        self._effort = effort
        self._options = effort.options(self._full)
        self._tracker.max_landmarks = self._options.tracked_landmarks
        self.masks.period = effort.mask_period

    def add(self, frame: Frame, known: Map, busy: bool, others_tracked: bool,
            turn: Turn | None = None) -> FrontendStep:
        """Track a frame by itself: see `observe` and `conclude`."""
        return self.conclude(self.observe(frame, known, turn), known, busy, others_tracked)

    def observe(self, frame: Frame, known: Map, turn: Turn | None = None) -> Observed:
        """
        Find the landmarks of the reference in a frame.

        :param frame: that `rectifier.check` accepts
        :param known: the map
        :param turn: rotation since the frame before, by a gyroscope
        """
        begin, begin_cpu = perf_counter(), thread_time()
        self._newest_ns = frame.stamp_ns
        gray = self.rectifier.tracking_image(frame)
        scene = self._cuts.add(gray)
        if turn is not None or frame.mount is not None:
            scene = Scene.SAME  # neither an IMU nor a rig belongs to a video that was edited
        if scene is Scene.UNCERTAIN:
            return Observed(frame, gray, begin, begin_cpu, left_alone=True)
        if scene is Scene.NEW:
            self._cut()
        frame, gray = self._exposure.steadied(frame, gray, self._cuts.found)
        self._tracker.turn(turn)
        observed = Observed(frame, gray, begin, begin_cpu)
        if not known.started or self.reference is None:
            return observed
        return self._tracked(observed, known.keyframes[self.reference])

    def is_due(self, observed: Observed) -> bool:
        """Whether a frame with landmarks should become a keyframe; to be asked once."""
        track = observed.track
        return track is not None and track.pose is not None and (
            self._with_landmarks.is_due(observed, self._options))

    def conclude(self, observed: Observed, known: Map, busy: bool, others_tracked: bool,
                 rig: OnRig | None = None, due: bool | None = None) -> FrontendStep:
        """
        Pose a frame, or keep it until its pose can be estimated.

        :param known: the map
        :param busy: whether a keyframe is pending, so that none can be requested
        :param others_tracked: whether other cameras need keyframes
        :param rig: what the other cameras of its rig say, where they are tracked
        :param due: whether it should become a keyframe; None to decide by itself
        """
        frame, gray = observed.frame, observed.gray
        keyframe, track = observed.keyframe, observed.track
        if observed.left_alone:
            return self._enter(self._state, self._without_landmarks.left_alone(frame, gray))
        if not known.started:
            return self._enter(self._state, self._beginning.add(frame, gray, known, busy))
        if rig is not None and (track is None or track.pose is None):
            step = self._without_landmarks.carried(observed, rig, busy, bool(due))
            return self._enter(
                self._state if step.placed is None else TrackingState.TRACKING, step)
        if keyframe is None or track is None:
            return self._lose(frame, gray, busy, others_tracked)
        predicted = self._tracker.predicted() if track.pose is None else None
        if predicted is not None:
            found = self._without_landmarks.found_again(gray, known, keyframe, predicted)
            if found is None:
                return self._enter(TrackingState.TRACKING, self._without_landmarks.coasted(
                    frame, gray, keyframe, predicted))
            self._turn_to(found, keyframe)
            observed = self._tracked(observed, found.keyframe)
        if observed.track is None or observed.track.pose is None:
            return self._lose(frame, gray, busy, others_tracked)
        zoom = self._zoom_of(frame, observed.track, observed.track.pose)
        if zoom is not None:
            return replace(self._without_landmarks.without_pose(frame, gray), zoom=zoom)
        self._state, self.cause = TrackingState.TRACKING, None
        self._selection.end_carried()
        self._relocalizer.clear()
        step = self._with_landmarks.placed(observed, self._options, due, busy)
        if step.request is not None:
            self._switched = False
        return step

    def correct(self, observed: Observed) -> None:
        """Take the pose that a frame has got by the rig: see `Observed.with_pose`."""
        assert observed.track is not None and observed.track.pose is not None
        self._tracker.correct(observed.track.pose.T_cam_world)

    def lose_to_zoom(self, zoom: Zoom, name: str) -> None:
        """
        Lose tracking: the camera has been zooming for some frames.

        :param name: of the first of them
        """
        _log.warning('%s: the lens zooms from frame %s on: the focal length has changed by a '
                     'factor of %.2f; frames are left without a pose until it is the old one '
                     'again', self.name, name, zoom.factor)
        self._tracker.forget()
        self._relocalizer.clear()
        self._zooms.clear(zoomed=True)
        self._selection.recall_at_once()
        self._state, self.cause = TrackingState.LOST, Cause.ZOOMED

    @property
    def zoomed(self) -> bool:
        """Whether the focal length is not that of the map."""
        return self._zooms.zoomed

    def start(self, keyframe: Keyframe, frame: Frame, known: Map) -> None:
        """
        Start with a first keyframe.

        :param frame: of the keyframe
        :param known: the map, which has depth if one view gives any
        """
        self._beginning.leave_first()
        self._tracker.follow(keyframe, None)
        if not known.started:
            self._beginning.start(keyframe, frame)
            return
        self._beginning.clear()
        self.refocus(known)
        self._follow(keyframe, np.eye(4))
        self._state = TrackingState.TRACKING

    def leave_map(self) -> None:
        """Begin anew: another map is to be begun."""
        self._tracker.forget()
        self._beginning.clear()
        self._relocalizer.clear()
        self._zooms.clear()
        self.masks.restart()
        self._selection.recall_at_once()
        self._state = TrackingState.INITIALISING

    def place_waiting(self, first: Keyframe) -> list[Placed] | None:
        """Pose the frames that were pending until a first pair: see `MapBeginning.placed`."""
        return self._beginning.placed(first)

    def mask_waiting(self, placed: list[Placed], first: Keyframe) -> list[Placed]:
        """Detect dynamic objects in some of them: see `MapBeginning.masked`."""
        return self._beginning.masked(placed, first)

    def begin(self, first: Keyframe, second: Keyframe, placed: list[Placed]) -> None:
        """
        Take the second keyframe of a first pair as reference.

        :param placed: the frames that were pending
        """
        T_cam_first = {p.frame.index: p.pose.T_cam_world for p in placed}
        newest = self._beginning.end()
        if self.reference is None:
            return  # a cut since
        self._state = TrackingState.TRACKING
        self._follow(second, T_cam_first.get(second.index))
        # The newest frame came after the second keyframe, while the pair was predicted
        T_first_second = se3.inverse(first.T_map_cam) @ second.T_map_cam
        self._tracker.resume(se3.normalized(T_cam_first[newest] @ T_first_second)
                             if newest in T_cam_first else np.eye(4))

    def take_over(self, request: KeyframeRequest, keyframe: Keyframe, before: Map) -> list[Placed]:
        """
        Take a new keyframe as reference.

        :param request: of the keyframe
        :param before: the map until now
        :return: lost frames that have a pose now
        """
        if self._cut_at and request.frame.index < self._cut_at[-1]:
            return []
        if request.purpose is Purpose.CARRIED:
            if self._selection.carried:
                self._follow(keyframe, None)
                self._selection.end_carried()
            return []
        if self._switched and request.T_reference_cam is not None:
            self._switched = False  # it is another part of the map by now
            return []
        T_cam_ref = None
        if request.T_reference_cam is not None:
            T_cam_ref = se3.inverse(request.T_reference_cam)
        elif self._state is TrackingState.TRACKING and self.reference is not None:
            # Tracking recovered in the meantime
            T_cam_ref = (se3.inverse(keyframe.T_map_cam)
                         @ before.keyframes[self.reference].T_map_cam)
        if self._zooms.zoomed:
            self._relocalizer.clear()  # what it has of before is zoomed
        self._follow(keyframe, T_cam_ref)
        if self._state is TrackingState.TRACKING:
            return []
        self._state = TrackingState.TRACKING
        self._beginning.clear()
        return self._relocalizer.placed(keyframe, self._tracker)

    def reject(self, request: KeyframeRequest, known: Map) -> KeyframeRequest | None:
        """
        Take note that a requested keyframe was rejected.

        :param known: the map
        :return: what to request instead, see `MapBeginning.reject`
        """
        if request.purpose is Purpose.RELOCALISATION:
            self._relocalizer.reject(request.begin)
        if request.purpose is Purpose.CARRIED:
            self._selection.end_carried()
        if request.purpose is Purpose.MAPPING and self._state is TrackingState.TRACKING:
            # Against a temporary reference the next one is not due at once
            assert self.reference is not None
            self._tracker.follow_newest(known.keyframes[self.reference])
        return self._beginning.reject(request)

    def rescale(self, before: Map, known: Map) -> None:
        """
        Follow the scale of the reference, which a loop of another camera has changed.

        :param before: the map until now
        """
        if self.reference is None or self.reference not in known.keyframes:
            return
        factor = known.scale_of(self.reference) / before.scale_of(self.reference)
        if factor == 1.0:
            return
        self._tracker.rescale(factor)
        self.masks.rescale(known.keyframes[self.reference], factor)

    def refocus(self, known: Map) -> None:
        """Set the focal length to that of a map."""
        self.rectifier.refocus(known.focal_factor, known.focal_refined)
        self._tracker.camera = self.rectifier.tracking_camera
        self.masks.refocus(self.rectifier.tracking_camera)

    def begins_instead_of(self, other: CameraFrontend) -> bool:
        """
        Whether to begin the map with the newest frame: the camera that has begun sees nothing.

        :param other: of the first keyframe, or this one
        """
        blind = other.cause in NOTHING_SEEN or (
            self._newest_ns - other._newest_ns > AWAITED_S * 1e9)
        return other is not self and blind and self.cause is None

    def leave_first(self) -> None:
        """Forget the first keyframe: another camera begins the map."""
        self._tracker.forget()
        self._beginning.clear()

    def turned(self) -> list[TrackedFrame]:
        """Pose the frames of a camera that only rotated, and so has no map."""
        return self._beginning.turned()

    def _enter(self, state: TrackingState, step: FrontendStep) -> FrontendStep:
        """Take over what a step without landmarks says of the camera."""
        self._state, self.cause = state, step.cause
        return step

    def _tracked(self, observed: Observed, keyframe: Keyframe) -> Observed:
        """Track a frame against the reference, which is of a keyframe."""
        before = self._tracker.reference
        track = self._tracker.track(observed.gray, keyframe)
        return replace(observed, keyframe=keyframe, before=before, track=track,
                       reference=self._tracker.reference,
                       T_keyframe_reference=self._tracker.T_keyframe_reference)

    def _turn_to(self, found: FoundAgain, keyframe: Keyframe) -> None:
        """
        Track against another keyframe, which the camera has turned to without landmarks.

        :param keyframe: the reference so far
        """
        self._follow(found.keyframe, found.T_keyframe_before)
        self._tracker.resume(found.T_cam_keyframe)
        self._switched |= found.keyframe.id != keyframe.id

    def _lose(self, frame: Frame, gray: Gray, busy: bool, others_tracked: bool) -> FrontendStep:
        return self._enter(TrackingState.LOST, self._without_landmarks.lost(
            frame, gray, busy, others_tracked, self._zooms.zoomed))

    def _zoom_of(self, frame: Frame, track: Track, pose: PnPResult) -> Zoom | None:
        """Return a zoom that a tracked frame establishes; an unknown focal length says nothing."""
        reference = self._tracker.reference
        if not self.rectifier.calibrated or reference is None:
            return None
        return self._zooms.add(
            frame.index, reference, track, pose, self.rectifier.tracking_camera)

    def _cut(self) -> None:
        """Forget what was seen before the frame that was left alone: a new scene began there."""
        first = self._relocalizer.restart()
        _log.warning('cut in the video at frame %s: nothing is tracked across it', first.name)
        self._cut_at.append(first.index)
        self._tracker.forget()
        self.masks.reset()
        self._exposure = Exposure()
        self._selection.leave_scene()
        self._zooms.clear()

    def _follow(self, keyframe: Keyframe, T_cam_old: Array | None) -> None:
        self._tracker.follow(keyframe, T_cam_old)
        self.masks.follow(keyframe, T_cam_old)
        assert self._tracker.reference is not None
        self._zooms.follow(self._tracker.reference, keyframe.index)
