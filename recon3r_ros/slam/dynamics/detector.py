# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dynamic objects of one camera, frame by frame: evidence of motion, colours, and a cut."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.cells import resized_mask
from recon3r_ros.slam.dynamics.colours import Colours
from recon3r_ros.slam.dynamics.evidence import SCORE_LIMIT
from recon3r_ros.slam.dynamics.labelling import EVEN, label
from recon3r_ros.slam.dynamics.marked_frame import MarkedFrame
from recon3r_ros.slam.dynamics.motion import MotionEvidence
from recon3r_ros.slam.dynamics.objects import Objects
from recon3r_ros.slam.dynamics.seen_frame import SeenFrame
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

#: How much of their weight colours keep from frame to frame: half of it for half a second at 30 Hz
COLOUR_MEMORY = np.float32(0.95)
#: Margin around dynamic objects that stays out of the map, share of the image's width
MARGIN = 0.01
#: Vote for a dynamic object by the attention of a network. An object of which flow says nothing is
#: masked for 11 frames, about until the next keyframe; what flow found to be static stays so
SEED_VOTE = np.float32(2.0)


class MotionDetector:
    """
    Masks dynamic objects, frame by frame.

    :param camera: pinhole camera of the tracking images
    :param rest_s: seconds for which an object must pause to become static
    :param calibrated: whether the camera's intrinsics are known
    """

    def __init__(self, camera: Camera, rest_s: float = 0.0, calibrated: bool = True) -> None:
        #: Of motion, from the frames so far
        self.evidence = MotionEvidence(camera, calibrated=calibrated)
        self._objects = Objects(self.evidence.cells.shape, rest_s)
        self.reset()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of masks: a third of the image's, at least 16 each."""
        return self.evidence.cells.height, self.evidence.cells.width

    def refocus(self, camera: Camera) -> None:
        """Set another camera for images of the same size."""
        self.evidence.refocus(camera)

    def reset(self) -> None:
        """Drop all frames, and what is fixed to the camera."""
        self.evidence.reset()
        self.restart()

    def restart(self) -> None:
        """Drop all frames: the next ones have poses in another map."""
        self.evidence.restart()
        self._histograms: Map | None = None
        self._weight = np.float32(0)
        self._objects.reset()
        self._newest_index = -1
        self._marked: MarkedFrame | None = None

    def take_over(self, evidence: MotionEvidence) -> None:
        """
        Continue with the evidence of frames that had no poses until now.

        :param evidence: of the same camera, up to the newest frame
        """
        evidence.add_unposed(self.evidence)
        self.evidence = evidence

    def rescale(self, reference: Keyframe, factor: float) -> None:
        """See `MotionEvidence.rescale`."""
        self.evidence.rescale(reference, factor)

    def follow(self, reference: Keyframe, T_new_old: Array | None = None) -> None:
        """See `MotionEvidence.follow`."""
        self.evidence.follow(reference, T_new_old)

    def detect(self, frame: SeenFrame) -> Mask | None:
        """
        Find dynamic objects in a frame.

        :return: (H // 3, W // 3), at least 16 each; None where there is no evidence yet
        """
        before = self.evidence.add(frame)
        self._newest_index = frame.index
        if self._marked is not None and not self._marked.follow(before):
            self._marked = None
        colours = Colours.of(self.evidence.cells.of_colours(frame.colours))
        held = self._objects.follow(before, frame.stamp_ns * 1e-9)
        score = with_given(self.evidence.score, frame.given)
        moving, paused = label(
            colours, score, held, self.evidence.fixed, lambda e: self._learned(colours, e))
        self._histograms, self._weight = self._newest, self._weight * COLOUR_MEMORY + 1
        self._objects.update(moving, paused, score > EVEN, colours)
        known = self.evidence.known or frame.given is not None
        return self._of_pixels(moving | paused) if known else None

    def mark(self) -> None:
        """Follow the newest frame's cells, because attention will tell more about them."""
        self._marked = MarkedFrame(self._newest_index)

    def seed(self, keyframe: Keyframe) -> None:
        """
        Take the attention of a keyframe, if it has any, as evidence in the newest frame.

        :param keyframe: of the marked frame; one of another frame says nothing
        """
        marked, self._marked = self._marked, None
        if marked is None or marked.index != keyframe.index or keyframe.attention is None:
            return
        share = cv2.resize(keyframe.attention.astype(np.float32), self.evidence.cells.shape[::-1],
                           interpolation=cv2.INTER_AREA)
        self.evidence.vote(SEED_VOTE * marked.in_newest(share))

    @property
    def objects(self) -> Labels:
        """Ids (rows, columns) of the objects in the newest frame's cells, 0 for none."""
        return self._objects.labels

    @property
    def fixed(self) -> Mask:
        """
        Mask what is fixed to the camera or lies over its images, as far as that is known.

        :return: (H // 3, W // 3), at least 16 each
        """
        return self._of_pixels(self.evidence.fixed) | self.evidence.overlays

    def unsettled(self) -> Mask:
        """
        Mask what may not enter the map yet: dynamic in the newest frame, or shortly before.

        :return: (H // 3, W // 3), at least 16 each
        """
        return self._of_pixels(self._objects.unsettled())

    def _learned(self, colours: Colours, evidence: Map) -> Map:
        """Histograms of the frames so far and of the present one, by its evidence."""
        self._newest = colours.histograms(evidence)
        if self._histograms is not None:
            self._newest += COLOUR_MEMORY * self._histograms
        return self._newest / (COLOUR_MEMORY * self._weight + 1)

    def _of_pixels(self, cells: Mask) -> Mask:
        return resized_mask(cells, self.shape)


def with_given(score: Map, given: Mask | None) -> Map:
    """
    Add the evidence of a mask that came with a frame, which is certain.

    :param score: (rows, columns) evidence of motion
    :param given: (h, w) in mask pixels, or None
    """
    if given is None:
        return score
    return np.where(resized_mask(given, score.shape), SCORE_LIMIT, score)


def keyframe_mask(mask: Mask, keyframe: Keyframe) -> Mask:
    """
    Bring a detector's mask of the keyframe's own image to the keyframe's grid, with a margin.

    :param mask: (h, w) of any size
    :return: (H, W) on the grid, what to leave out of the map
    """
    height, width = keyframe.inverse_depth.shape
    full = cv2.resize(mask.astype(np.uint8) * 255, (width, height),
                      interpolation=cv2.INTER_LINEAR) >= 64
    # The detector's cells are two pixels of a usual grid wide
    margin = max(1, round(MARGIN * width))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1,) * 2)
    return cv2.dilate(full.astype(np.uint8), kernel).astype(bool)
