# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
How a map begins with the frames of one camera: until one of its keyframes has depth.

A first keyframe is requested, then a first pair of it and a frame with parallax. Meanwhile frames
wait for their poses, and earlier maps are searched for the place.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.causes import Cause, of_image, of_initialisation
from recon3r_ros.slam.frontend.frame_masks import FrameMask, FrameMasks
from recon3r_ros.slam.frontend.initializer import Initializer
from recon3r_ros.slam.frontend.keyframe_requests import KeyframeRequests
from recon3r_ros.slam.frontend.keyframe_selection import KeyframeSelection
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.steps import (
    FrontendStep,
    KeyframeRequest,
    Placed,
    Purpose,
    untracked,
)
from recon3r_ros.slam.frontend.tracking import masked, Reference
from recon3r_ros.slam.types import at, Frame, Keyframe, Map, TrackedFrame

Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Share of the first keyframe's keypoints still tracked below which initialisation restarts
RESTART_OVERLAP = 0.25
#: How much sharper a frame must be to replace the first keyframe, where no pair was accepted
SHARPER = 3.0


class MapBeginning:
    """
    Takes the frames of one camera while its map has no depth; the only owner of those that wait.

    :param name: of the camera
    :param rectifier: of the camera
    :param tracker: tracks the keypoints of the first keyframe
    :param masks: dynamic masks of its frames
    :param selection: says when earlier maps are recalled
    :param requests: makes its requests
    :param live: whether poses are awaited
    :param mapping: whether to request keyframes
    """

    def __init__(self, name: str, rectifier: Rectifier, tracker: KeyframeTracker,
                 masks: FrameMasks, selection: KeyframeSelection, requests: KeyframeRequests,
                 live: bool, mapping: bool) -> None:
        self._name = name
        self._rectifier = rectifier
        self._tracker = tracker
        self._masks = masks
        self._selection = selection
        self._requests = requests
        self._mapping = mapping
        self._initializer = Initializer(live, rectifier.calibrated)

    def add(self, frame: Frame, gray: Gray, known: Map, busy: bool) -> FrontendStep:
        """
        Keep a frame until its pose can be estimated.

        :param gray: (H, W) tracking image of it
        :param known: the map, without depth
        :param busy: whether a keyframe is pending, so that none can be requested
        """
        seen = self._masks.seen(frame, gray)
        mask = self._masks.of(seen)
        step = FrontendStep(unposed=self._masks.unposed(frame, mask))
        if not self._mapping:
            return step
        reference = self._tracker.reference
        own = any(k.camera_name == self._name for k in known.keyframes.values())
        if not known.keyframes or (own and reference is None and not busy):
            # The very first frame, or the first one after a cut
            return replace(step, request=self._requests.of(Purpose.START, frame, gray))
        if (reference is None and known.number and not busy
                and self._selection.is_recall_due(frame)):
            return replace(step, request=self._requests.of(
                Purpose.RECALL, frame, gray, mask.known))
        if reference is None:
            # Another camera begins the map, or a pair from before a cut is pending
            return replace(step, cause=self._image_cause(gray, self._masks.fixed))
        return self._compare(frame, seen, mask, reference, known, busy, step)

    def _compare(self, frame: Frame, seen: SeenFrame, mask: FrameMask, reference: Reference,
                 known: Map, busy: bool, step: FrontendStep) -> FrontendStep:
        """
        Compare a frame with the first keyframe.

        :param reference: keypoints of the first keyframe
        :param step: so far, without request and cause
        """
        gray = seen.gray
        track = self._tracker.track(gray)
        # Not what was detected as dynamic: without depth, near objects may seem to be
        unfit = self._masks.fixed if seen.given is None else self._masks.fixed | seen.given
        self._initializer.add(untracked(frame), seen, replace(
            track, found=track.found & ~masked(track.pixels, unfit, gray)))
        pair = self._initializer.first_pair(reference, self._rectifier.tracking_camera)
        step = replace(step, cause=self._image_cause(gray, unfit) or (
            Cause.ZOOM if pair.zoomed else of_initialisation(
                pair.shift, pair.overlap, self._initializer.rejected)))
        if busy:
            return step
        if known.number and self._selection.is_recall_due(frame):
            return replace(step, request=replace(
                self._requests.of(Purpose.RECALL, frame, gray, mask.known),
                shift=pair.shift if pair.worth_trying else 0.0, overlap=pair.overlap))
        if pair.zoomed and pair.overlap < RESTART_OVERLAP:
            return replace(step, request=self._requests.of(Purpose.START, frame, gray))
        if self._initializer.rejected and (
                keyframes.sharpness(gray) > SHARPER * keyframes.sharpness(reference.gray)):
            return replace(step, request=self._requests.of(Purpose.START, frame, gray))
        if not pair.worth_trying:
            return step
        return replace(step, request=replace(
            self._requests.of(Purpose.FIRST_PAIR, frame, gray, mask.known),
            shift=pair.shift, overlap=pair.overlap))

    def leave_first(self) -> None:
        """Keep the rotations relative to the first keyframe, before another one."""
        if self._tracker.reference is not None:
            self._initializer.conclude(
                self._tracker.reference, self._rectifier.tracking_camera)

    def start(self, keyframe: Keyframe, frame: Frame) -> None:
        """
        Wait for depth with a first keyframe, which is tracked by now.

        :param frame: of the keyframe
        """
        assert self._tracker.reference is not None
        self._initializer.start(untracked(frame), self._masks.seen(frame, keyframe.gray),
                                self._tracker.reference, ~at(keyframe.mask, keyframe.keypoints))

    def clear(self) -> None:
        """Drop the frames that wait."""
        self._initializer.clear()

    def placed(self, first: Keyframe) -> list[Placed] | None:
        """
        Pose the frames that were pending until a first pair.

        :param first: keyframe, with the pair's depth
        :return: None where the frames reject the pair
        """
        placed = self._initializer.placed(first, self._rectifier.tracking_camera)
        if placed is None and self._tracker.keyframe is not None:
            self._tracker.follow_again()
        return placed

    def masked(self, placed: list[Placed], first: Keyframe) -> list[Placed]:
        """
        Detect dynamic objects in frames that `placed` has posed.

        :param placed: some of them, in order
        :param first: keyframe, with the pair's depth
        """
        if not self._masks.detects:
            return placed
        evidence = self._masks.new_evidence()
        found = self._initializer.with_masks(placed, first, evidence, self._masks.new_evidence)
        if any(p.frame.index == self._initializer.newest and p.mask is not None for p in found):
            self._masks.take_over(evidence)
        return found

    def end(self) -> int:
        """Drop the frames that waited, because there is depth; return the newest one's index."""
        newest = self._initializer.newest
        self._initializer.clear()
        return newest

    def reject(self, request: KeyframeRequest) -> KeyframeRequest | None:
        """
        Take note that a requested keyframe was rejected.

        :return: what to request instead: to restart, where the overlap with the first keyframe is
            too small, or a first pair of a frame that no earlier map shows
        """
        reference = self._tracker.keyframe
        if request.purpose is Purpose.RECALL and request.shift and reference is not None:
            # Stills are so far apart in time that each is recalled first
            return replace(request, purpose=Purpose.FIRST_PAIR)
        if request.purpose is not Purpose.FIRST_PAIR:
            return None
        self._initializer.reject(request.shift)
        if request.overlap >= RESTART_OVERLAP or reference is None:
            return None
        return self._requests.of(Purpose.START, request.frame, request.gray)

    def turned(self) -> list[TrackedFrame]:
        """Pose the frames of a camera that only rotated, and so has no map."""
        reference, keyframe = self._tracker.reference, self._tracker.keyframe
        if reference is None or keyframe is None:
            return []
        return self._initializer.turned(reference, self._rectifier.tracking_camera, keyframe)

    def _image_cause(self, gray: Gray, unfit: Mask) -> Cause | None:
        return of_image(gray, float(unfit.mean()), self._selection.usual_sharpness)
