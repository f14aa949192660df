# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measured depth of a recording: a topic of a depth camera, in the view of the images."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import replace
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag_cameras import camera_beside
from recon3r_ros.io.bag_storage import BagDamagedError, Reader, Recording
from recon3r_ros.io.bag_topics import COMPRESSED, IMAGE
from recon3r_ros.io.bag_transforms import fixed_root, frame_id, static_transforms, TF_STATIC
from recon3r_ros.io.compressed_depth import depth_of_message
from recon3r_ros.io.depths import MAX_DIFFERENCE_NS
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.slam.types import Frame

if TYPE_CHECKING:
    from recon3r_ros.geometry.depth_registration import DepthRegistration

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Floats = NDArray[np.float32]


class BagDepth:
    """
    Depth that belongs to the images of one camera: the nearest in time, within 20 ms.

    :param recording: that has the topic
    :param topic: Image or CompressedImage with depth
    :param image_topic: of the images
    :param colour: intrinsics of the images; None where unknown
    :raises InputError: where there is no such topic, or it cannot be brought to the images' view
    """

    def __init__(self, recording: Recording, topic: str, image_topic: str, colour: Camera | None
                 ) -> None:
        self._recording = recording
        self._topic = topic
        self._colour = colour
        with recording.opened() as reader:
            known = reader.topics(IMAGE, COMPRESSED)
            if topic not in known:
                raise InputError(f'{recording.path}: no depth images on {topic}; recorded: '
                                 f'{", ".join(known) or "none"}')
            self._camera = camera_beside(reader, topic)
            self._T_colour_depth = _between(recording.path, reader, image_topic, topic)
        if not np.array_equal(self._T_colour_depth, np.eye(4)) and (
                self._camera is None or colour is None):
            raise InputError(f'{recording.path}: {topic} is in another frame than the images, and '
                             'needs intrinsics of both, which are not recorded: record its '
                             'camera_info, or depth that is registered to the images')
        self._registration: DepthRegistration | None = None
        self._shape: tuple[int, ...] = ()
        self._failed = False

    def joined(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield frames with their depth, as far as there is one."""
        with closing(self._messages()) as messages:
            near = next(messages, None)
            following = next(messages, None)
            for frame in frames:
                while following is not None and near is not None and (
                        abs(following[0] - frame.stamp_ns) <= abs(near[0] - frame.stamp_ns)):
                    near, following = following, next(messages, None)
                if near is None or abs(near[0] - frame.stamp_ns) > MAX_DIFFERENCE_NS:
                    yield frame
                else:
                    yield replace(frame, depth=self._in_view(near[1]))

    def _messages(self) -> Generator[tuple[int, Any], None, None]:
        """Yield stamps and messages."""
        with self._recording.opened() as reader, suppress(BagDamagedError):
            for _, message in reader.messages(self._topic):
                if not isinstance(message, InputError):
                    stamp = message.header.stamp
                    yield int(stamp.sec) * NS_PER_S + int(stamp.nanosec), message

    def _in_view(self, message: Any) -> Floats | None:
        """Return depth in the images' view; None, with a warning, for a message without it."""
        try:
            depth = depth_of_message(message)
            if depth.shape != self._shape:
                self._registration, self._shape = self._registered(depth.shape), depth.shape
            return depth if self._registration is None else self._registration(depth)
        except InputError as error:
            if not self._failed:
                self._failed = True
                _log.warning('%s: %s; such images are used without depth', self._topic, error)
            return None

    def _registered(self, shape: tuple[int, ...]) -> DepthRegistration | None:
        """Make what brings depth to the images' view; None where it is there."""
        if self._camera is None or self._colour is None:
            return None
        # Loads compiled loops, which only depth needs
        from recon3r_ros.geometry.depth_registration import DepthRegistration, is_registered
        camera = self._camera.scaled_to(shape[1], shape[0])
        if camera is None:
            raise InputError(f'depth image has {shape[1]}x{shape[0]} pixels, its camera_info '
                             f'{self._camera.width}x{self._camera.height}')
        if is_registered(camera, self._colour, self._T_colour_depth):
            return None
        return DepthRegistration(camera, self._colour, self._T_colour_depth)


def _between(path: Path, reader: Reader, image_topic: str, topic: str) -> Array:
    """Return T_colour_depth (4, 4), the identity for frames of one name."""
    image, depth = frame_id(reader, image_topic), frame_id(reader, topic)
    if image == depth or not depth:
        return np.eye(4)
    fixed = static_transforms(reader)
    (root, T_root_image), (other, T_root_depth) = (fixed_root(fixed, f) for f in (image, depth))
    if root != other:
        raise InputError(f'{path}: the pose of the depth camera {depth!r} in the camera {image!r} '
                         f'is not in {TF_STATIC}: record it, or depth that is registered to the '
                         'images')
    return np.asarray(se3.inverse(T_root_image) @ T_root_depth)
