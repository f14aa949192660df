# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a run has seen of its images: their places in the input, and the first of each camera."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.base import Sequence
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.io.writer import ImageRecord
from recon3r_ros.slam.types import Frame, Keyframe, Map, TrackedFrame

_Stamped = TypeVar('_Stamped', TrackedFrame, Keyframe)


class InputImages:
    """
    Records the images of a sequence that may be processed in another order than that of the input.

    Frames have indices and stamps of the order in which they are processed; results have those of
    the input.

    :param sequence: that the frames come from
    """

    def __init__(self, sequence: Sequence) -> None:
        self._sequence = sequence
        #: By the index in the order in which they are processed
        self._records: dict[int, ImageRecord] = {}
        #: First image of each camera, in their order
        self.first: dict[str, Frame] = {}
        #: Images so far
        self.count = 0
        #: Of these, those with measured depth of a stereo rig's second camera
        self.stereo = 0
        #: Whether all images of each camera are identical
        self.alike = True

    def note(self, frame: Frame) -> None:
        """Record the next image, before it is processed."""
        first = self.first.setdefault(frame.camera_name, frame)
        if self.alike:
            self.alike = np.array_equal(frame.image, first.image)
        self.count += 1
        self.stereo += frame.stereo is not None
        given = self._sequence.original(frame)
        self._records[frame.index] = ImageRecord(
            given.stamp_ns, self._sequence.file_name(frame), given.index)

    @property
    def in_order(self) -> dict[int, ImageRecord]:
        """The images in the order of the input, by their index in it."""
        images = sorted(self._records.values(), key=lambda image: image.index)
        return {image.index: image for image in images}

    @property
    def reordered(self) -> bool:
        """Whether they are processed in another order than that of the input."""
        return any(image.index != i for i, image in self._records.items())

    @property
    def duration_s(self) -> float:
        """Seconds between the first and the last stamp of the input."""
        stamps_ns = [image.stamp_ns for image in self._records.values()] or [0]
        return (max(stamps_ns) - min(stamps_ns)) / NS_PER_S

    def index_of(self, index: int) -> int:
        """Return the index in the input of the image with an index in the processing order."""
        return self._records[index].index

    def as_given(self, item: _Stamped) -> _Stamped:
        """Return a frame or keyframe with its index and stamp in the input."""
        image = self._records[item.index]
        if (image.index, image.stamp_ns) == (item.index, item.stamp_ns):
            return item
        return replace(item, index=image.index, stamp_ns=image.stamp_ns)

    def source_camera(self, known: Map, camera_name: str | None = None
                      ) -> tuple[Camera | None, bool]:
        """
        Return the camera of the source images, if known, and whether it was estimated.

        :param known: the map, which refines or estimates the focal length
        :param camera_name: which camera; None for the first
        """
        name = camera_name or next(iter(self.first), '')
        first = self.first.get(name)
        if first is None:
            return None, False
        if first.camera is not None:
            factor, given = known.focal_refined, first.camera
            return replace(given, fx=given.fx * factor, fy=given.fy * factor), False
        keyframes = [k for k in known.keyframes.values() if k.camera_name == name]
        if not known.started or not keyframes:
            return None, True
        height, width = first.image.shape[:2]
        return keyframes[-1].camera.resized(width, height), True
