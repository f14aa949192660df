# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Frames of one camera in which its landmarks are not found.

They coast by the gyroscope, are carried by the other cameras of the rig, or are lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.slam.frontend.causes import Cause, of_image
from recon3r_ros.slam.frontend.coasting import in_view, Predicted
from recon3r_ros.slam.frontend.frame_masks import FrameMask, FrameMasks
from recon3r_ros.slam.frontend.keyframe_requests import KeyframeRequests
from recon3r_ros.slam.frontend.keyframe_selection import KeyframeSelection
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.observed import Observed, OnRig
from recon3r_ros.slam.frontend.relocalizer import Relocalizer
from recon3r_ros.slam.frontend.steps import FrontendStep, Placed, Purpose, untracked
from recon3r_ros.slam.frontend.tracking import SURE_INLIERS
from recon3r_ros.slam.types import Frame, Keyframe, Map

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FoundAgain:
    """
    A frame that is found again where the gyroscope's prediction has turned to.

    :param keyframe: whose landmarks are found
    :param T_keyframe_before: (4, 4) pose of the former reference keyframe in it
    :param T_cam_keyframe: (4, 4) pose of the keyframe in the frame's camera
    """

    keyframe: Keyframe
    T_keyframe_before: Array
    T_cam_keyframe: Array


@dataclass(frozen=True, eq=False)
class WithoutLandmarks:
    """
    Makes the steps of one camera's frames without landmarks; what it remembers is in its parts.

    :param name: of the camera
    :param tracker: of the landmarks
    :param masks: dynamic masks of its frames
    :param selection: counts frames that are carried
    :param requests: makes its requests
    :param relocalizer: keeps the frames that are lost
    """

    name: str
    tracker: KeyframeTracker
    masks: FrameMasks
    selection: KeyframeSelection
    requests: KeyframeRequests
    relocalizer: Relocalizer

    def found_again(self, gray: Gray, known: Map, keyframe: Keyframe, predicted: Predicted
                    ) -> FoundAgain | None:
        """
        Search for the landmarks of other keyframes; the state does not change.

        :param gray: (H, W) tracking image
        :param known: the map
        :param keyframe: the reference so far
        :param predicted: pose relative to it
        :return: None where the frame is not found
        """
        T_map_cam = keyframe.T_map_cam @ predicted.T_keyframe_cam
        for other in in_view(known, T_map_cam):
            T_other_keyframe = se3.inverse(other.T_map_cam) @ keyframe.T_map_cam
            pose = self.tracker.find(gray, other, se3.inverse(
                T_other_keyframe @ predicted.T_keyframe_cam)).pose
            if pose is None or pose.inliers.sum() < SURE_INLIERS or not predicted.agrees(
                    se3.inverse(T_other_keyframe) @ se3.inverse(pose.T_cam_world)):
                continue
            return FoundAgain(other, T_other_keyframe, pose.T_cam_world)
        return None

    def coasted(self, frame: Frame, gray: Gray, keyframe: Keyframe, predicted: Predicted
                ) -> FrontendStep:
        """
        Give a frame the pose that the gyroscope predicts.

        :param gray: (H, W) tracking image of it
        :param keyframe: that the pose is relative to
        """
        mask = self.masks.of(self.masks.seen(frame, gray))
        return FrontendStep(_placed(
            frame, keyframe, predicted.T_keyframe_cam, predicted.covariance, mask))

    def carried(self, observed: Observed, rig: OnRig, busy: bool, due: bool) -> FrontendStep:
        """
        Give a frame the pose that the rig has by its other cameras, where there is one.

        :param busy: whether a keyframe is pending
        :param due: whether the frames of the other cameras become keyframes
        """
        frame, gray = observed.frame, observed.gray
        if rig.T_map_cam is None or rig.keyframe is None or rig.covariance is None:
            return replace(self.without_pose(frame, gray), cause=Cause.UNSCALED)
        self.relocalizer.clear()
        self.selection.count_carried()
        T_keyframe_cam = se3.inverse(rig.keyframe.T_map_cam) @ rig.T_map_cam
        mask = self.masks.of(self.masks.seen(frame, gray))
        placed = _placed(frame, rig.keyframe, T_keyframe_cam, rig.covariance, mask)
        request = None
        needed = self.selection.needs_landmarks(
            observed, self.tracker.reference, self.tracker.camera)
        usable = self._image_cause(gray) is None
        if usable and not busy and (due or needed):
            request = replace(
                self.requests.of(Purpose.CARRIED, frame, gray, self.masks.unmapped(mask)),
                T_reference_cam=T_keyframe_cam, reference=rig.keyframe.id,
                covariance=rig.covariance)
        if observed.keyframe is not None:
            self.tracker.expect(se3.inverse(observed.keyframe.T_map_cam) @ rig.T_map_cam)
        return FrontendStep(placed, request)

    def lost(self, frame: Frame, gray: Gray, busy: bool, others_tracked: bool, zoomed: bool
             ) -> FrontendStep:
        """
        Keep a frame until the camera is relocalised.

        :param gray: (H, W) tracking image of it
        :param busy: whether a keyframe is pending
        :param others_tracked: whether other cameras need keyframes
        :param zoomed: whether the focal length is not that of the map
        """
        mask = self.masks.of(self.masks.seen(frame, gray))
        step = FrontendStep(unposed=self.masks.unposed(frame, mask), cause=Cause.ZOOMED)
        if not zoomed:
            self.relocalizer.add(untracked(frame), gray)
            step = replace(step, cause=self._image_cause(gray) or Cause.NOT_FOUND)
        if busy or (others_tracked and self.relocalizer.waits):
            return step
        if zoomed and not self.selection.is_recall_due(frame):
            return step
        if self.relocalizer.in_vain and not others_tracked and not zoomed:
            _log.info('%s: frame %s is in no part of the map: another map is begun',
                      self.name, frame.name)
            return replace(step, request=self.requests.of(Purpose.START, frame, gray))
        return replace(step, request=replace(
            self.requests.of(Purpose.RELOCALISATION, frame, gray, mask.known), zoomed=zoomed))

    def left_alone(self, frame: Frame, gray: Gray) -> FrontendStep:
        """Pass over a frame that is either a single bad one or the first of a new scene."""
        self.relocalizer.add(untracked(frame), gray)
        return FrontendStep(unposed=replace(untracked(frame), mask=frame.mask), cause=Cause.CUT)

    def without_pose(self, frame: Frame, gray: Gray) -> FrontendStep:
        """Detect dynamic objects in a frame, and nothing else."""
        mask = self.masks.of(self.masks.seen(frame, gray))
        return FrontendStep(unposed=self.masks.unposed(frame, mask))

    def _image_cause(self, gray: Gray) -> Cause | None:
        return of_image(gray, float(self.masks.fixed.mean()), self.selection.usual_sharpness)


def _placed(frame: Frame, keyframe: Keyframe, T_keyframe_cam: Array, covariance: Array,
            mask: FrameMask) -> Placed:
    """Give a frame a pose (4, 4) by other means than landmarks, of which it shows none."""
    found = np.zeros(len(keyframe.keypoints), bool)
    return Placed(
        replace(untracked(frame), keyframe=keyframe.id, T_keyframe_cam=T_keyframe_cam,
                propagated=mask.propagated),
        np.zeros((len(found), 2), np.float32), found,
        PnPResult(se3.inverse(T_keyframe_cam), found, covariance, float('nan')),
        mask.known, mask.objects)
