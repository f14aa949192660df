# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
People are kept out of tracking and of the map, whether they move or not.

Statistics of motion do not see a person who stands still. What a source of people finds joins the
dynamic mask that a frame is given, so that all stages treat it as they treat masks of the user.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import logging
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.flow import pixel_positions
from recon3r_ros.models.people_mask import people_mask
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame

_log = logging.getLogger(__name__)
Mask = NDArray[np.bool_]
Gray = NDArray[np.uint8]

#: Detectors miss a person now and then: a pixel stays excluded so long after the last detection
HOLD_S = 0.5
#: The same where a slow network searches few images: until the next one has been, as a rule
LATE_HOLD_S = 2.0
#: Width of the images in which masks are moved, pixels
FLOW_WIDTH = 160


class PeopleSource(Protocol):
    """Finds people in images: a folder, a topic, or a network."""

    def people(self, frame: Frame) -> People | None:
        """Find the people in a frame; None where it was not searched."""
        ...


@dataclass(frozen=True)
class PeopleCounts:
    """
    What a source of people has excluded.

    :param searched: images in which people were looked for
    :param people: in the newest of them
    :param share: of that image that is excluded
    :param disbelieved: images that people would have covered nearly all of
    """

    searched: int = 0
    people: int = 0
    share: float = 0.0
    disbelieved: int = 0


class PeopleMasks:
    """
    Adds the people in the frames of one camera to the masks that come with them.

    Where a detector misses a person, or an image was not searched, the mask before is moved there
    by optical flow.

    :param hold_s: for so many seconds at most
    """

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self.counts = PeopleCounts()
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        #: Whether the people of the newest image are, which they may cover nearly all of
        self._believed = True
        self._gray: Gray | None = None
        self._stamp_ns = 0
        #: Seconds (h, w) since the last detection
        self._age: NDArray[np.float32] | None = None

    def masked(self, frame: Frame) -> Frame:
        """
        Return a frame whose `mask` includes the people in it, and who were just before.

        Its `people` are None where they are not believed.
        """
        own = None if frame.people is None else self._own(frame.people)
        if own is not None and not self._believed:
            frame = replace(frame, people=None)
        held = self._held(frame, own)
        if own is None and held is None:
            return frame
        parts = [part for part in (own, held, frame.mask) if part is not None]
        mask = np.logical_or.reduce(parts)
        if own is not None:
            self.counts = replace(self.counts, share=float(mask.mean()))
        return replace(frame, mask=mask)

    def _own(self, people: People) -> Mask:
        """Mask (H, W) of an image's people; empty where they are not believed."""
        found = people_mask(people.instances, people.scores)
        self._believed = found.believed
        if not found.believed and self.counts.disbelieved == 0:
            _log.warning('people cover %.0f %% of an image: not believed', 100 * found.share)
        self.counts = replace(
            self.counts, searched=self.counts.searched + 1, people=found.count,
            disbelieved=self.counts.disbelieved + (not found.believed))
        return found.mask

    def _held(self, frame: Frame, own: Mask | None) -> Mask | None:
        """Mask (H, W) of people of images shortly before; None where there were none."""
        height, width = frame.image.shape[:2]
        small = min(width, FLOW_WIDTH), max(1, round(height * min(width, FLOW_WIDTH) / width))
        passed = (frame.stamp_ns - self._stamp_ns) * 1e-9
        age = self._age
        if age is not None and (not 0 <= passed <= self._hold_s or age.shape != small[::-1]
                                or float(age.min()) + passed > self._hold_s):
            age = None
        needed = age is not None or (own is not None and bool(own.any()))
        gray = self._gray
        self._gray = _reduced(frame.image, small) if needed else None
        self._stamp_ns = frame.stamp_ns
        if age is not None:
            assert gray is not None and self._gray is not None
            back = self._flow.calc(self._gray, gray, None)
            age = np.float32(passed) + cv2.remap(
                age, pixel_positions(*age.shape) + back, None, cv2.INTER_NEAREST,
                borderMode=cv2.BORDER_CONSTANT, borderValue=2 * self._hold_s)
        held = None if age is None else cv2.resize(
            (age <= self._hold_s).astype(np.uint8), (width, height),
            interpolation=cv2.INTER_NEAREST_EXACT) > 0
        if needed and own is not None:
            now = cv2.resize(own.astype(np.uint8), small, interpolation=cv2.INTER_NEAREST_EXACT)
            age = np.where(now > 0, np.float32(0),
                           np.float32(2 * self._hold_s) if age is None else age).astype(np.float32)
        self._age = age
        return held


def _reduced(image: NDArray[np.uint8], size: tuple[int, int]) -> Gray:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA))
