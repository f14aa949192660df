# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When the frames of a camera should become keyframes, by those before them."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.frontend import keyframes
from recon3r_ros.slam.frontend.depth_rhythm import DepthRhythm
from recon3r_ros.slam.frontend.observed import Observed
from recon3r_ros.slam.frontend.tracking import MIN_INLIERS, Reference, Track
from recon3r_ros.slam.options import FrontendOptions
from recon3r_ros.slam.types import Frame

#: Seconds of images between two attempts to recall an earlier map, while another one begins, or
#: to relocalise a zoomed camera: both may go on for long
RECALL_PERIOD_S = 1.0
#: Frames in a row without the landmarks of the reference, after which a camera that its rig
#: carries requests a keyframe
CARRIED_FRAMES = 5
#: Recent frames whose sharpness a frame is compared with
RECENT = 60


class KeyframeSelection:
    """Of one camera; the only owner of what it remembers of earlier frames."""

    def __init__(self) -> None:
        self._sharpness: deque[float] = deque(maxlen=RECENT)
        self._depths = DepthRhythm()
        self._carried = 0
        #: When an earlier map was recalled last
        self._recalled_ns: int | None = None

    @property
    def carried(self) -> int:
        """Newest frames in a row whose pose is that of the rig."""
        return self._carried

    @property
    def usual_sharpness(self) -> float:
        """Median sharpness of recent frames; 0 before the first."""
        return float(np.median(self._sharpness)) if self._sharpness else 0.0

    def count_carried(self) -> None:
        """Count a frame whose pose is that of the rig."""
        self._carried += 1

    def end_carried(self) -> None:
        """Count frames that are carried anew: there are landmarks, or a keyframe is refused."""
        self._carried = 0

    def is_due(self, frame: Frame, gray: NDArray[np.uint8], track: Track, reference: Reference,
               temporary: bool, options: FrontendOptions) -> bool:
        """
        Whether a tracked frame should become a keyframe; to be asked once for each.

        :param gray: its tracking image
        :param reference: what it was tracked against
        :param temporary: whether tracking needed a temporary reference: then the next keyframe is
            overdue
        """
        sharpness = keyframes.sharpness(gray)
        self._sharpness.append(sharpness)
        blurred = sharpness < options.keyframe_sharpness * self.usual_sharpness
        return temporary or keyframes.is_due(
            track, reference, blurred, options.spaced(self._depths.spacing(frame)))

    def needs_landmarks(self, observed: Observed, reference: Reference | None, camera: Camera
                        ) -> bool:
        """
        Whether a carried frame should become a keyframe, so that its camera has landmarks.

        :param reference: what it was tracked against; None where there is none
        :param camera: of its tracking image
        """
        self._sharpness.append(keyframes.sharpness(observed.gray))
        track = observed.track
        if reference is None or track is None:
            return True
        if np.isfinite(reference.points[:, 0]).sum() >= MIN_INLIERS:
            return self._carried > CARRIED_FRAMES
        usable = max(len(reference.pixels), 1)
        shift = keyframes.first_shift(track, reference, camera)
        return bool(shift > keyframes.FIRST_SHIFT_SHARE * camera.width
                    or track.found.sum() < keyframes.FIRST_OVERLAP * usable)

    def is_recall_due(self, frame: Frame) -> bool:
        """Whether to try again to relocalise, where that may be in vain for long."""
        if self._recalled_ns is not None and (
                frame.stamp_ns - self._recalled_ns < RECALL_PERIOD_S * 1e9):
            return False
        self._recalled_ns = frame.stamp_ns
        return True

    def recall_at_once(self) -> None:
        """Let the next attempt to relocalise be due at once."""
        self._recalled_ns = None

    def leave_scene(self) -> None:
        """Forget the images of a scene that has ended."""
        self._sharpness.clear()
