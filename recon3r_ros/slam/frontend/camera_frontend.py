# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Front end of one camera: rectification, tracking, initialisation, relocalisation, masks.

    INITIALISING --first pair, or one view with depth--> TRACKING <--relocalised-- LOST
                                                         TRACKING --no pose, or a cut--> LOST

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
from recon3r_ros.models.types import View
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.effort import Effort
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.causes import (
    Cause,
    NOTHING_SEEN,
    of_image,
    of_initialisation,
)
from recon3r_ros.slam.frontend.coasting import in_view, Predicted
from recon3r_ros.slam.frontend.cuts import CutDetector, Scene
from recon3r_ros.slam.frontend.exposure import Exposure
from recon3r_ros.slam.frontend.frame_masks import FrameMask, FrameMasks
from recon3r_ros.slam.frontend.initializer import Initializer
from recon3r_ros.slam.frontend.keyframe_selection import KeyframeSelection
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.observed import Observed, OnRig
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.relocalizer import Relocalizer
from recon3r_ros.slam.frontend.steps import (
    FrontendStep,
    KeyframeRequest,
    Placed,
    Purpose,
    untracked,
)
from recon3r_ros.slam.frontend.tracking import masked, SURE_INLIERS, Track
from recon3r_ros.slam.frontend.zoom import Zoom, ZoomDetector
from recon3r_ros.slam.imu.samples import Turn
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.types import (
    at,
    Frame,
    Keyframe,
    Map,
    StageTimes,
    TrackedFrame,
    TrackingState,
)

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_log = logging.getLogger(__name__)

#: Share of the first keyframe's keypoints still tracked below which initialisation restarts
RESTART_OVERLAP = 0.25
#: How much sharper a frame must be to replace the first keyframe, where no pair was accepted
SHARPER = 3.0
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
        self._motion = motion
        self._maps = mapping
        self._tracker = self._new_tracker()
        #: Dynamic masks of its frames
        self.masks = FrameMasks(self.rectifier, motion)
        self._initializer = Initializer(live, self.rectifier.calibrated)
        self._relocalizer = Relocalizer()
        self._cuts = CutDetector()
        self._exposure = Exposure()
        self._cut_at: list[int] = []
        self._selection = KeyframeSelection()
        #: Why the newest frame has no pose; None where it has one
        self.cause: Cause | None = None
        self._state = TrackingState.INITIALISING
        self._zooms = ZoomDetector()
        self._zoomed = False
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
        if not known.started or self.reference is None:
            return Observed(frame, gray, begin, begin_cpu)
        keyframe, before = known.keyframes[self.reference], self._tracker.reference
        return Observed(frame, gray, begin, begin_cpu, False, keyframe, before,
                        self._tracker.track(gray, keyframe))

    def is_due(self, observed: Observed) -> bool:
        """Whether a frame with landmarks should become a keyframe; to be asked once."""
        track = observed.track
        return track is not None and track.pose is not None and self._keyframe_is_due(
            observed.frame, observed.gray, track, observed.before)

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
        frame, gray, begin = observed.frame, observed.gray, observed.begin
        keyframe, before, track = observed.keyframe, observed.before, observed.track
        if observed.left_alone:
            return self._leave_alone(frame, gray)
        if not known.started:
            return self._initialise(frame, gray, known, busy)
        if rig is not None and (track is None or track.pose is None):
            return self._carry(observed, rig, busy, bool(due))
        if keyframe is None or track is None:
            return self._lose(frame, gray, busy, others_tracked)
        predicted = self._tracker.predicted() if track.pose is None else None
        if predicted is not None:
            other = self._found_again(gray, known, keyframe, predicted)
            if other is None:
                return self._coast(frame, gray, keyframe, predicted)
            keyframe, before = other, self._tracker.reference
            track = self._tracker.track(gray, keyframe)
        zoom = self._zoom_of(frame, track)
        tracked_at, track_cpu = perf_counter(), thread_time() - observed.begin_cpu
        if track.pose is None:
            return self._lose(frame, gray, busy, others_tracked)
        if zoom is not None:
            return replace(self._without_pose(frame, self.masks.seen(frame, gray))[1], zoom=zoom)
        self._state, self.cause = TrackingState.TRACKING, None
        self._selection.end_carried()
        self._relocalizer.clear()
        T_keyframe_cam = self._tracker.T_keyframe_cam(track.pose)
        if due is None:
            due = self._keyframe_is_due(frame, gray, track, before)
        mask = self.masks.of(self.masks.seen(frame, gray, keyframe, T_keyframe_cam),
                             1 if due else self._effort.mask_period)
        times = StageTimes(tracked_at - begin, perf_counter() - tracked_at, track_cpu=track_cpu,
                           motion_cpu=thread_time() - observed.begin_cpu - track_cpu)
        self._tracker.remember(gray, track, self.masks.untracked(mask))
        placed = Placed(
            replace(untracked(frame), keyframe=keyframe.id, T_keyframe_cam=T_keyframe_cam,
                    propagated=mask.propagated),
            *self._tracker.observations(track), track.pose, mask.known, mask.objects)
        request = self._mapping(frame, gray, track, mask, keyframe, busy) if due else None
        return FrontendStep(placed, request, times)

    def T_keyframe_cam(self, pose: PnPResult) -> Array:
        """Pose (4, 4) of a frame relative to its keyframe, from that in the reference."""
        return self._tracker.T_keyframe_cam(pose)

    def landmarks(self, observed: Observed) -> tuple[Array, NDArray[np.float32], Mask]:
        """
        Return the observed landmarks of a frame.

        :return: their points (n, 3) in the map, their pixels (n, 2) in the frame, and which (N,)
            of the reference's keypoints they are
        """
        reference = self._tracker.reference
        if observed.track is None or observed.keyframe is None or reference is None:
            return np.zeros((0, 3)), np.zeros((0, 2), np.float32), np.zeros(0, bool)
        use = observed.track.found & np.isfinite(reference.points[:, 0])
        T_map_reference = observed.keyframe.T_map_cam @ self._tracker.T_keyframe_reference
        return (se3.transform(T_map_reference, reference.points[use]),
                observed.track.pixels[use], use)

    def with_pose(self, observed: Observed, T_map_cam: Array, inliers: Mask, covariance: Array,
                  rms: float) -> Observed:
        """
        Give a frame the pose that all cameras of a rig have together.

        :param inliers: (N,) which of the reference's keypoints agree with it
        """
        assert observed.track is not None and observed.keyframe is not None
        T_cam_reference = se3.normalized(
            se3.inverse(T_map_cam) @ observed.keyframe.T_map_cam
            @ self._tracker.T_keyframe_reference)
        self._tracker.correct(T_cam_reference)
        return replace(observed, track=replace(observed.track, pose=PnPResult(
            T_cam_reference, inliers, covariance, rms)))

    def without_pose(self, observed: Observed) -> Observed:
        """Take the pose from a frame that the other cameras of its rig disagree with."""
        return observed if observed.track is None else replace(
            observed, track=replace(observed.track, pose=None))

    def lose_to_zoom(self, zoom: Zoom, name: str) -> None:
        """
        Lose tracking: the camera has been zooming for some frames.

        :param name: of the first of them
        """
        _log.warning('%s: the lens zooms from frame %s on: the focal length has changed by a '
                     'factor of %.2f; frames are left without a pose until it is the old one '
                     'again', self.name, name, zoom.factor)
        self._tracker = self._new_tracker()
        self._relocalizer.clear()
        self._zooms.clear()
        self._zoomed = True
        self._selection.recall_at_once()
        self._state, self.cause = TrackingState.LOST, Cause.ZOOMED

    @property
    def zoomed(self) -> bool:
        """Whether the focal length is not that of the map."""
        return self._zoomed

    def start(self, keyframe: Keyframe, frame: Frame, known: Map) -> None:
        """
        Start with a first keyframe.

        :param frame: of the keyframe
        :param known: the map, which has depth if one view gives any
        """
        if self._tracker.reference is not None:
            self._initializer.conclude(
                self._tracker.reference, self.rectifier.tracking_camera)
        self._tracker.follow(keyframe, None)
        if known.started:
            self._initializer.clear()
            self.refocus(known)
            self._follow(keyframe, np.eye(4))
            self._state = TrackingState.TRACKING
            return
        assert self._tracker.reference is not None
        self._initializer.start(untracked(frame), self.masks.seen(frame, keyframe.gray),
                                self._tracker.reference, ~at(keyframe.mask, keyframe.keypoints))

    def leave_map(self) -> None:
        """Begin anew: another map is to be begun."""
        self._tracker = self._new_tracker()
        self._initializer.clear()
        self._relocalizer.clear()
        self._zooms.clear()
        self._zoomed = False
        self.masks.restart()
        self._selection.recall_at_once()
        self._state = TrackingState.INITIALISING

    def place_waiting(self, first: Keyframe) -> list[Placed] | None:
        """
        Pose the frames that were pending until a first pair.

        :param first: keyframe, with the pair's depth
        :return: None where the frames reject the pair
        """
        placed = self._initializer.placed(first, self.rectifier.tracking_camera)
        if placed is None and self.reference is not None:
            self._tracker.follow_again()
        return placed

    def mask_waiting(self, placed: list[Placed], first: Keyframe) -> list[Placed]:
        """
        Detect dynamic objects in frames that `place_waiting` has posed.

        :param placed: some of them, in order
        :param first: keyframe, with the pair's depth
        """
        if not self._motion.detect:
            return placed
        evidence = self.masks.new_evidence()
        masked = self._initializer.with_masks(placed, first, evidence, self.masks.new_evidence)
        if any(p.frame.index == self._initializer.newest and p.mask is not None for p in masked):
            self.masks.take_over(evidence)
        return masked

    def begin(self, first: Keyframe, second: Keyframe, placed: list[Placed]) -> None:
        """
        Take the second keyframe of a first pair as reference.

        :param placed: the frames that were pending
        """
        T_cam_first = {p.frame.index: p.pose.T_cam_world for p in placed}
        newest = self._initializer.newest
        self._initializer.clear()
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
        if self._zoomed:
            self._relocalizer.clear()  # what it has of before is zoomed
        self._follow(keyframe, T_cam_ref)
        if self._state is TrackingState.TRACKING:
            return []
        self._state = TrackingState.TRACKING
        self._initializer.clear()
        return self._relocalizer.placed(keyframe, self._tracker)

    def reject(self, request: KeyframeRequest, known: Map) -> KeyframeRequest | None:
        """
        Take note that a requested keyframe was rejected.

        :param known: the map
        :return: what to request instead: to restart, where the overlap with the first keyframe is
            too small, or a first pair of a frame that no earlier map shows
        """
        if request.purpose is Purpose.RELOCALISATION:
            self._relocalizer.reject(request.begin)
        if request.purpose is Purpose.CARRIED:
            self._selection.end_carried()
        if request.purpose is Purpose.MAPPING and self._state is TrackingState.TRACKING:
            # Against a temporary reference the next one is not due at once
            assert self.reference is not None
            self._tracker.follow_newest(known.keyframes[self.reference])
        if request.purpose is Purpose.RECALL and request.shift and self.reference is not None:
            # Stills are so far apart in time that each is recalled first
            return replace(request, purpose=Purpose.FIRST_PAIR)
        if request.purpose is not Purpose.FIRST_PAIR:
            return None
        self._initializer.reject(request.shift)
        if request.overlap >= RESTART_OVERLAP or self.reference is None:
            return None
        return self._request(Purpose.START, request.frame, request.gray)

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

    def view(self, frame: Frame, moving: Mask | None) -> View:
        """
        Make the view of a frame for the back end.

        :param moving: its dynamic mask, in mask pixels; None where nothing is known
        """
        given = self.rectifier.given_mask(frame)
        excluded = self.masks.fixed if given is None else self.masks.fixed | given
        if excluded.any():
            moving = excluded if moving is None else moving | excluded
        return replace(self.rectifier.view(frame), moving=moving,
                       excluded=excluded if excluded.any() else None,
                       depth=self.rectifier.depth(frame), searched=frame.people is not None,
                       # Matching takes longer than tracking may: the back end does it
                       stereo=self.rectifier.stereo_pair(frame))

    def relocalisation(self, frame: Frame, gray: Gray) -> KeyframeRequest:
        """
        Request a keyframe wherever in the map a frame is.

        :param gray: tracking image of it
        """
        return self._request(Purpose.RELOCALISATION, frame, gray)

    def begins_instead_of(self, other: CameraFrontend) -> bool:
        """
        Whether to begin the map with the newest frame: the camera that has begun sees nothing.

        :param other: of the first keyframe, or this one
        """
        blind = other.cause in NOTHING_SEEN or (
            self._newest_ns - other._newest_ns > AWAITED_S * 1e9)
        return other is not self and blind and self.cause is None

    def start_request(self, observed: Observed) -> KeyframeRequest:
        """Request that a map begins with a frame."""
        return self._request(Purpose.START, observed.frame, observed.gray)

    def leave_first(self) -> None:
        """Forget the first keyframe: another camera begins the map."""
        self._tracker = self._new_tracker()
        self._initializer.clear()

    def turned(self) -> list[TrackedFrame]:
        """Pose the frames of a camera that only rotated, and so has no map."""
        reference = self._tracker.reference
        if reference is None or self.reference is None:
            return []
        return self._initializer.turned(
            reference, self.rectifier.tracking_camera, self.reference)

    def _new_tracker(self) -> KeyframeTracker:
        return KeyframeTracker(self.rectifier.tracking_camera, self._options.tracked_landmarks)

    def _initialise(self, frame: Frame, gray: Gray, known: Map, busy: bool) -> FrontendStep:
        seen = self.masks.seen(frame, gray)
        mask, step = self._without_pose(frame, seen)
        self.cause = None
        if not self._maps:
            return step
        reference = self._tracker.reference
        own = any(k.camera_name == self.name for k in known.keyframes.values())
        if not known.keyframes or (own and reference is None and not busy):
            # The very first frame, or the first one after a cut
            return replace(step, request=self._request(Purpose.START, frame, gray))
        if (reference is None and known.number and not busy
                and self._selection.is_recall_due(frame)):
            return replace(step, request=self._request(Purpose.RECALL, frame, gray, mask))
        if reference is None:
            # Another camera begins the map, or a pair from before a cut is pending
            self.cause = self._image_cause(gray, self.masks.fixed)
            return step
        track = self._tracker.track(gray)
        # Not what was detected as dynamic: without depth, near objects may seem to be
        unfit = self.masks.fixed if seen.given is None else self.masks.fixed | seen.given
        self._initializer.add(untracked(frame), seen, replace(
            track, found=track.found & ~masked(track.pixels, unfit, gray)))
        pair = self._initializer.first_pair(reference, self.rectifier.tracking_camera)
        self.cause = self._image_cause(gray, unfit) or (Cause.ZOOM if pair.zoomed else (
            of_initialisation(pair.shift, pair.overlap, self._initializer.rejected)))
        if busy:
            return step
        if known.number and self._selection.is_recall_due(frame):
            return replace(step, request=replace(
                self._request(Purpose.RECALL, frame, gray, mask),
                shift=pair.shift if pair.worth_trying else 0.0, overlap=pair.overlap))
        if pair.zoomed and pair.overlap < RESTART_OVERLAP:
            return replace(step, request=self._request(Purpose.START, frame, gray))
        if self._initializer.rejected and (
                keyframes.sharpness(gray) > SHARPER * keyframes.sharpness(reference.gray)):
            return replace(step, request=self._request(Purpose.START, frame, gray))
        if not pair.worth_trying:
            return step
        return replace(step, request=replace(
            self._request(Purpose.FIRST_PAIR, frame, gray, mask),
            shift=pair.shift, overlap=pair.overlap))

    def _found_again(self, gray: Gray, known: Map, keyframe: Keyframe, predicted: Predicted
                     ) -> Keyframe | None:
        """
        Track against another keyframe, where the gyroscope's prediction has turned to it.

        :param keyframe: the reference so far
        :return: the reference from now on; None where the frame is not found
        """
        T_map_cam = keyframe.T_map_cam @ predicted.T_keyframe_cam
        for other in in_view(known, T_map_cam):
            T_other_keyframe = se3.inverse(other.T_map_cam) @ keyframe.T_map_cam
            pose = self._tracker.find(gray, other, se3.inverse(
                T_other_keyframe @ predicted.T_keyframe_cam)).pose
            if pose is None or pose.inliers.sum() < SURE_INLIERS or not predicted.agrees(
                    se3.inverse(T_other_keyframe) @ se3.inverse(pose.T_cam_world)):
                continue
            self._follow(other, T_other_keyframe)
            self._tracker.resume(pose.T_cam_world)
            self._switched |= other.id != keyframe.id
            return other
        return None

    def _coast(self, frame: Frame, gray: Gray, keyframe: Keyframe, predicted: Predicted
               ) -> FrontendStep:
        """Give a frame the pose that the gyroscope predicts, without any landmark."""
        self._state, self.cause = TrackingState.TRACKING, None
        mask = self.masks.of(self.masks.seen(frame, gray), self._effort.mask_period)
        return FrontendStep(_placed_blindly(
            frame, keyframe, predicted.T_keyframe_cam, predicted.covariance, mask))

    def _carry(self, observed: Observed, rig: OnRig, busy: bool, due: bool) -> FrontendStep:
        """
        Give a frame the pose that the rig has by its other cameras.

        :param due: whether these become keyframes
        """
        frame, gray = observed.frame, observed.gray
        if rig.T_map_cam is None or rig.keyframe is None or rig.covariance is None:
            step = self._without_pose(frame, self.masks.seen(frame, gray))[1]
            self.cause = Cause.UNSCALED
            return step
        self._state, self.cause = TrackingState.TRACKING, None
        self._relocalizer.clear()
        self._selection.count_carried()
        T_keyframe_cam = se3.inverse(rig.keyframe.T_map_cam) @ rig.T_map_cam
        mask = self.masks.of(self.masks.seen(frame, gray), self._effort.mask_period)
        placed = _placed_blindly(frame, rig.keyframe, T_keyframe_cam, rig.covariance, mask)
        request = None
        needed = self._selection.needs_landmarks(
            observed, self._tracker.reference, self.rectifier.tracking_camera)
        usable = self._image_cause(gray, self.masks.fixed) is None
        if usable and not busy and (due or needed):
            request = replace(
                self._request(Purpose.CARRIED, frame, gray, self.masks.unmapped(mask)),
                T_reference_cam=T_keyframe_cam, reference=rig.keyframe.id,
                covariance=rig.covariance)
        if observed.keyframe is not None:
            self._tracker.expect(se3.inverse(observed.keyframe.T_map_cam) @ rig.T_map_cam)
        return FrontendStep(placed, request)

    def _lose(self, frame: Frame, gray: Gray, busy: bool, others_tracked: bool) -> FrontendStep:
        self._state = TrackingState.LOST
        mask, step = self._without_pose(frame, self.masks.seen(frame, gray))
        if self._zoomed:
            self.cause = Cause.ZOOMED
        else:
            self._relocalizer.add(untracked(frame), gray)
            self.cause = self._image_cause(gray, self.masks.fixed) or Cause.NOT_FOUND
        if busy or (others_tracked and self._relocalizer.waits):
            return step
        if self._zoomed and not self._selection.is_recall_due(frame):
            return step
        if self._relocalizer.in_vain and not others_tracked and not self._zoomed:
            _log.info('%s: frame %s is in no part of the map: another map is begun',
                      self.name, frame.name)
            return replace(step, request=self._request(Purpose.START, frame, gray))
        return replace(step, request=replace(
            self._request(Purpose.RELOCALISATION, frame, gray, mask), zoomed=self._zoomed))

    def _zoom_of(self, frame: Frame, track: Track) -> Zoom | None:
        """Return a zoom that a tracked frame establishes; an unknown focal length says nothing."""
        reference = self._tracker.reference
        if not self.rectifier.calibrated or track.pose is None or reference is None:
            return None
        return self._zooms.add(
            frame.index, reference, track, track.pose, self.rectifier.tracking_camera)

    def _leave_alone(self, frame: Frame, gray: Gray) -> FrontendStep:
        """Pass over a frame that is either a single bad one or the first of a new scene."""
        self._relocalizer.add(untracked(frame), gray)
        self.cause = Cause.CUT
        return FrontendStep(unposed=replace(untracked(frame), mask=frame.mask))

    def _cut(self) -> None:
        """Forget what was seen before the frame that was left alone: a new scene began there."""
        first = self._relocalizer.restart()
        _log.warning('cut in the video at frame %s: nothing is tracked across it', first.name)
        self._cut_at.append(first.index)
        self._tracker = self._new_tracker()
        self.masks.reset()
        self._exposure = Exposure()
        self._selection.leave_scene()
        self._zooms.clear()
        self._zoomed = False

    def _without_pose(self, frame: Frame, seen: SeenFrame) -> tuple[Mask | None, FrontendStep]:
        """Detect dynamic objects in a frame without a pose: its mask, and the step so far."""
        mask = self.masks.of(seen, self._effort.mask_period)
        return mask.known, FrontendStep(unposed=replace(
            untracked(frame), propagated=mask.propagated, objects=mask.objects,
            mask=None if mask.known is None else self.rectifier.mask_to_source(mask.known)))

    def _image_cause(self, gray: Gray, unfit: Mask) -> Cause | None:
        return of_image(gray, float(unfit.mean()), self._selection.usual_sharpness)

    def _keyframe_is_due(self, frame: Frame, gray: Gray, track: Track, before: object) -> bool:
        """Whether a tracked frame should become a keyframe."""
        reference = self._tracker.reference
        assert reference is not None
        return self._selection.is_due(frame, gray, track, reference, reference is not before,
                                      self._options)

    def _mapping(self, frame: Frame, gray: Gray, track: Track, mask: FrameMask, keyframe: Keyframe,
                 busy: bool) -> KeyframeRequest | None:
        """Request a keyframe of a tracked frame, unless one is pending."""
        reference = self._tracker.reference
        assert reference is not None and track.pose is not None
        if busy:
            # The old one is tracked for as long as possible: its landmarks are known best
            if keyframes.overlap(track, reference) < keyframes.CRITICAL_OVERLAP:
                self._tracker.follow_newest(keyframe)
            return None
        self._switched = False
        return replace(
            self._request(Purpose.MAPPING, frame, gray, self.masks.unmapped(mask)),
            T_reference_cam=self._tracker.T_keyframe_cam(track.pose), reference=self.reference,
            covariance=track.pose.covariance)

    def _request(self, purpose: Purpose, frame: Frame, gray: Gray, moving: Mask | None = None
                 ) -> KeyframeRequest:
        self.masks.mark()
        return KeyframeRequest(purpose, frame, self.view(frame, moving), gray, perf_counter())

    def _follow(self, keyframe: Keyframe, T_cam_old: Array | None) -> None:
        self._tracker.follow(keyframe, T_cam_old)
        self.masks.follow(keyframe, T_cam_old)
        self._zoomed = False
        assert self._tracker.reference is not None
        self._zooms.follow(self._tracker.reference, keyframe.index)


def _placed_blindly(frame: Frame, keyframe: Keyframe, T_keyframe_cam: Array, covariance: Array,
                    mask: FrameMask) -> Placed:
    """Give a frame a pose (4, 4) by other means than landmarks, of which it shows none."""
    found = np.zeros(len(keyframe.keypoints), bool)
    return Placed(
        replace(untracked(frame), keyframe=keyframe.id, T_keyframe_cam=T_keyframe_cam,
                propagated=mask.propagated),
        np.zeros((len(found), 2), np.float32), found,
        PnPResult(se3.inverse(T_keyframe_cam), found, covariance, float('nan')),
        mask.known, mask.objects)
