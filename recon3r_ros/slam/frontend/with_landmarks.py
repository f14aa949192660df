# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of one camera in which its landmarks are found: their masks, and when to map them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter, thread_time

from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.frame_masks import FrameMask, FrameMasks
from recon3r_ros.slam.frontend.keyframe_requests import KeyframeRequests
from recon3r_ros.slam.frontend.keyframe_selection import KeyframeSelection
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.observed import Observed
from recon3r_ros.slam.frontend.steps import (
    FrontendStep,
    KeyframeRequest,
    Placed,
    Purpose,
    untracked,
)
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.types import StageTimes


@dataclass(frozen=True, eq=False)
class WithLandmarks:
    """
    Makes the steps of one camera's tracked frames; what it remembers is in its parts.

    :param tracker: of the landmarks
    :param masks: dynamic masks of its frames
    :param selection: says when a frame should become a keyframe
    :param requests: makes its requests
    """

    tracker: KeyframeTracker
    masks: FrameMasks
    selection: KeyframeSelection
    requests: KeyframeRequests

    def is_due(self, observed: Observed, options: FrontendOptions) -> bool:
        """
        Whether a tracked frame should become a keyframe; to be asked once.

        :param options: with which frames are tracked
        """
        reference = self.tracker.reference
        assert reference is not None and observed.track is not None
        return self.selection.is_due(observed.frame, observed.gray, observed.track, reference,
                                     reference is not observed.before, options)

    def placed(self, observed: Observed, options: FrontendOptions, due: bool | None, busy: bool
               ) -> FrontendStep:
        """
        Record a tracked frame with its dynamic mask, and request a keyframe of it.

        :param observed: just tracked
        :param options: with which frames are tracked
        :param due: whether it should become a keyframe; None to decide by `is_due`
        :param busy: whether a keyframe is pending, so that none can be requested
        """
        frame, gray, keyframe, track = (
            observed.frame, observed.gray, observed.keyframe, observed.track)
        assert keyframe is not None and track is not None and track.pose is not None
        tracked_at, track_cpu = perf_counter(), thread_time() - observed.begin_cpu
        T_keyframe_cam = self.tracker.T_keyframe_cam(track.pose)
        if due is None:
            due = self.is_due(observed, options)
        mask = self.masks.of(self.masks.seen(frame, gray, keyframe, T_keyframe_cam), due)
        times = StageTimes(
            tracked_at - observed.begin, perf_counter() - tracked_at, track_cpu=track_cpu,
            motion_cpu=thread_time() - observed.begin_cpu - track_cpu)
        self.tracker.remember(gray, track, self.masks.untracked(mask))
        placed = Placed(
            replace(untracked(frame), keyframe=keyframe.id, T_keyframe_cam=T_keyframe_cam,
                    propagated=mask.propagated),
            *self.tracker.observations(track), track.pose, mask.known, mask.objects)
        request = self._request(observed, track.pose, mask, busy) if due else None
        return FrontendStep(placed, request, times)

    def _request(self, observed: Observed, pose: PnPResult, mask: FrameMask, busy: bool
                 ) -> KeyframeRequest | None:
        """Request a keyframe of a tracked frame, unless one is pending."""
        reference, keyframe, track = self.tracker.reference, observed.keyframe, observed.track
        assert reference is not None and keyframe is not None and track is not None
        if busy:
            # The old one is tracked for as long as possible: its landmarks are known best
            if keyframes.overlap(track, reference) < keyframes.CRITICAL_OVERLAP:
                self.tracker.follow_newest(keyframe)
            return None
        return replace(
            self.requests.of(Purpose.MAPPING, observed.frame, observed.gray,
                             self.masks.unmapped(mask)),
            T_reference_cam=self.tracker.T_keyframe_cam(pose), reference=self.tracker.keyframe,
            covariance=pose.covariance)
