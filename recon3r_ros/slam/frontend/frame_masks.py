# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dynamic masks of the frames of one camera: detected, propagated, or given with the frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
import logging

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.detector import MotionDetector
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.dynamics.propagation import MaskPropagation
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.steps import untracked
from recon3r_ros.slam.types import Frame, Keyframe, TrackedFrame

Array = NDArray[np.float64]
Gray = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_log = logging.getLogger(__name__)

#: Share of the image that must become fixed to the camera for earlier keyframes to leave it out:
#: a dot on the lens, with the tracker's window around it
FIXED_NEWS = 0.002
#: Of frames in which nothing is detected
_NO_COLOURS = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class FrameMask:
    """
    Dynamic objects of a frame.

    :param known: (h, w) mask in mask pixels; None where nothing is known
    :param objects: see `TrackedFrame`
    :param propagated: whether the mask is an earlier one, moved by optical flow
    """

    known: Mask | None
    objects: NDArray[np.int32] | None
    propagated: bool


class FrameMasks:
    """
    Finds the dynamic masks of one camera's frames.

    :param rectifier: of the camera
    :param motion: handling of dynamic objects
    """

    def __init__(self, rectifier: Rectifier, motion: MotionConfig) -> None:
        self._rectifier = rectifier
        #: Frames from one detection to the next; between them, masks are propagated
        self.period = 1
        self._detects = motion.detect
        self._detector = MotionDetector(
            rectifier.tracking_camera, motion.rest_s, rectifier.calibrated)
        self._propagation = MaskPropagation()
        self._static = np.zeros(self._detector.shape, bool)
        self._left_out = self.fixed

    @property
    def detects(self) -> bool:
        """Whether dynamic objects are detected, beside what is given with frames."""
        return self._detects

    def seen(self, frame: Frame, gray: Gray, reference: Keyframe | None = None,
             T_reference_cam: Array = np.eye(4)) -> SeenFrame:
        """Prepare a frame, whose tracking image (H, W) is `gray`: see `SeenFrame`."""
        colours = self._rectifier.colours(frame) if self._detects else _NO_COLOURS
        static = self._rectifier.static_mask(frame)
        if static is not None:
            self._static = static
        return SeenFrame(frame.index, gray, colours, reference, T_reference_cam, frame.stamp_ns,
                         self._rectifier.given_mask(frame), static)

    def of(self, seen: SeenFrame, at_once: bool = False) -> FrameMask:
        """
        Detect the dynamic objects of a frame, or propagate those of an earlier one.

        :param at_once: whether to detect in this one, whatever the period
        """
        mask: Mask | None = np.zeros(self._detector.shape, bool)
        moved = None
        if self._detects:
            moved = self._propagation.propagated(seen.gray, 1 if at_once else self.period)
            mask = moved if moved is not None else self._detector.detect(seen)
            if moved is None and mask is not None:
                self._propagation.keep(seen.gray, mask)
        if mask is not None and self._static.any():
            mask = mask & ~self._static
        if seen.given is not None:
            mask = seen.given if mask is None else mask | seen.given
        return FrameMask(
            mask, self._detector.objects if self._detects else None, moved is not None)

    def unposed(self, frame: Frame, mask: FrameMask) -> TrackedFrame:
        """Record a frame without a pose, with its mask as its source has it."""
        return replace(
            untracked(frame), propagated=mask.propagated, objects=mask.objects,
            mask=None if mask.known is None else self._rectifier.mask_to_source(mask.known))

    def untracked(self, mask: FrameMask) -> Mask:
        """Mask (h, w) what is not tracked: dynamic objects, and what is fixed to the camera."""
        return self.fixed if mask.known is None else mask.known | self.fixed

    def unmapped(self, mask: FrameMask) -> Mask:
        """Mask (h, w) what may not enter the map yet: dynamic, or stopped recently."""
        unsettled = self._detector.unsettled()
        return unsettled if mask.known is None else mask.known | unsettled

    @property
    def fixed(self) -> Mask:
        """Mask (h, w), in mask pixels, of what is fixed to the camera, as far as it is known."""
        return self._detector.fixed | self._static

    def news_of_fixed(self) -> Mask | None:
        """Return `fixed` where it has grown since it was returned last; else None."""
        fixed = self.fixed
        if (fixed & ~self._left_out).mean() < FIXED_NEWS:
            return None
        if not self._left_out.any():
            _log.warning('%.1f %% of the image are fixed to the camera: left out of the map',
                         100 * fixed.mean())
        self._left_out = fixed
        return fixed

    def new_evidence(self) -> MotionEvidence:
        """Make evidence for the same camera that is independent of these masks."""
        return MotionEvidence(
            self._rectifier.tracking_camera, calibrated=self._rectifier.calibrated)

    def take_over(self, evidence: MotionEvidence) -> None:
        """See `MotionDetector.take_over`."""
        self._detector.take_over(evidence)

    def reset(self) -> None:
        """Forget all frames: the next one shows another scene."""
        self._detector.reset()
        self._propagation.reset()

    def restart(self) -> None:
        """Forget all frames, but not what is fixed to the camera: another map begins."""
        self._detector.restart()
        self._propagation.reset()

    def mark(self) -> None:
        """See `MotionDetector.mark`."""
        self._detector.mark()

    def refocus(self, camera: Camera) -> None:
        """Set another camera for images of the same size."""
        self._detector.refocus(camera)

    def rescale(self, reference: Keyframe, factor: float) -> None:
        """See `MotionEvidence.rescale`."""
        self._detector.rescale(reference, factor)

    def follow(self, keyframe: Keyframe, T_cam_old: Array | None) -> None:
        """
        Take a new reference, and the evidence that comes with it.

        :param T_cam_old: (4, 4) pose of the former reference in the new one, None where unknown
        """
        if T_cam_old is not None:
            self._detector.follow(keyframe, T_cam_old)
        self._detector.seed(keyframe)
