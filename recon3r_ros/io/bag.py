# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a rosbag2 recording, read without ROS."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag_storage import (
    BagDamagedError,
    choose_topic,
    messages,
    opened,
    recorded_camera,
)
from recon3r_ros.io.base import PrefetchedSequence, size_text
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.decode import decode_compressed
from recon3r_ros.io.encodings import image_to_array, ToneMap
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.slam.types import Frame

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader


@dataclass(frozen=True, eq=False)
class _Stamped:
    """
    One decoded image message.

    :param image: (H, W, 3) RGB or (H, W) grey, uint8
    :param stamp_ns: of the header, or of the recording where the header has none
    """

    image: NDArray[np.uint8]
    stamp_ns: int


class Bag(PrefetchedSequence):
    """
    The images of one topic, stamped by their headers.

    A frame's `index` is its position among the messages of the topic; an unusable message leaves
    a gap, as in the stamps.
    """

    def __init__(self, path: Path, topic: str, count: int, stamped: bool) -> None:
        """
        Prepare to read.

        :param path: rosbag2 folder or file
        :param topic: an image topic of the bag
        :param count: messages on it
        :param stamped: whether the headers have stamps; else recording times are used
        """
        super().__init__(f'{path} {topic}')
        self._path = path
        self._topic = topic
        self._count = count
        self._stamped = stamped
        self._tone_map = ToneMap()
        self._camera: Camera | None = None
        self._size: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of messages on the topic, unusable ones included."""
        return self._count

    def settle(self, camera: Camera | Calibration | None, camera_source: str) -> None:
        """
        Determine size and tone map of the sequence from the first readable image.

        :param camera: intrinsics of the images
        :param camera_source: name of the camera in an error
        :raises InputError: where no image can be read or the camera has another size
        """
        decoded = self._decoded()
        try:
            first = next(decoded, None)
        finally:
            decoded.close()
        if first is None:
            raise InputError(
                f'{self.name}: none of {self._count} images can be read'
                + ''.join(f'; the first: {reason}' for reason in self.skipped[:1])
            )
        image = first[1].image
        self._camera = self._fitted(camera, camera_source, image, self._topic)
        self._size = image.shape[:2]

    def _frames(self) -> Generator[Frame, None, None]:
        previous_ns = -1
        decoded = self._decoded()
        try:
            for index, message in decoded:
                label = self._label(message.stamp_ns)
                if message.image.shape[:2] != self._size:
                    self._skip(
                        f'{label}: has {size_text(message.image)} pixels, expected '
                        f'{self._size[1]}x{self._size[0]} as in the first image'
                    )
                elif message.stamp_ns <= previous_ns:
                    self._skip(f'{label}: stamp is not after the previous image')
                else:
                    previous_ns = message.stamp_ns
                    name = str(message.stamp_ns)
                    yield Frame(message.image, message.stamp_ns, name, index, self._camera)
        finally:
            decoded.close()

    def _decoded(self) -> Generator[tuple[int, _Stamped], None, None]:
        """Yield (index, image) of every message that can be decoded."""
        index = 0
        reason = 'the rest is missing'
        with opened(self._path) as reader:
            try:
                for recorded_ns, message in messages(reader, self._topic):
                    index += 1
                    if isinstance(message, InputError):
                        self._skip(f'{self._label(recorded_ns)}: {message}')
                        continue
                    stamp_ns = _stamp_ns(message) if self._stamped else recorded_ns
                    try:
                        image = self._tone_map(_pixels(message))
                    except InputError as error:
                        self._skip(f'{self._label(stamp_ns)}: {error}')
                    else:
                        yield index - 1, _Stamped(image, stamp_ns)
            except BagDamagedError as error:
                reason = str(error)
        if index < self._count:
            self._skip(f'{self.name}: ends after {index} of {self._count} images: {reason}')

    def _label(self, stamp_ns: int) -> str:
        return f'{self._topic} at {stamp_ns}'


def open_bag(
    path: str | Path,
    image_topic: str | None = None,
    camera_info_topic: str | None = None,
    camera: Camera | Calibration | None = None,
    calibrated: bool = True,
) -> Bag:
    """
    Open a rosbag2 recording (sqlite3 or mcap; a folder with metadata.yaml, or a bare file).

    :param path: folder, .mcap or .db3
    :param image_topic: Image or CompressedImage topic; None where the bag holds one
    :param camera_info_topic: None takes `camera_info` beside the image topic, if any
    :param camera: intrinsics of the images, instead of those recorded
    :param calibrated: False ignores recorded intrinsics
    :raises InputError: where there is nothing to read or the choice is ambiguous
    """
    bag_path = Path(path)
    camera_source = 'the camera given'
    notes: list[str] = []
    with opened(bag_path) as reader:
        topic = choose_topic(bag_path, reader, image_topic)
        if camera is None and (calibrated or camera_info_topic is not None):
            camera_source, camera = recorded_camera(
                bag_path, reader, topic, camera_info_topic, notes.append
            )
        count = sum(c.msgcount for c in reader.connections if c.topic == topic)
        stamped = _is_stamped(reader, topic)
    sequence = Bag(bag_path, topic, count, stamped)
    for note in notes:
        sequence.note(note)
    sequence.settle(camera, camera_source)
    return sequence


def recorded_images(path: Path, topic: str) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """
    Yield the images of one topic in the order of their recording, whatever their stamps.

    :param path: folder or file
    :param topic: name; nothing is yielded where nothing was published on it
    :returns: stamps in nanoseconds, and images (H, W) or (H, W, 3); unusable ones are left out
    :raises InputError: where the bag cannot be read
    """
    with opened(path) as reader:
        if topic not in {c.topic for c in reader.connections if c.msgcount}:
            return
        with suppress(BagDamagedError):
            for _, message in messages(reader, topic):
                with suppress(InputError):
                    if not isinstance(message, InputError):
                        yield _stamp_ns(message), _pixels(message)


def recorded_ages_ns(path: Path, topic: str) -> list[int]:
    """
    Nanoseconds from the stamps of a topic's messages to their recording, in order.

    :param path: folder or file
    :param topic: name, of messages with a header; nothing is returned where it is not in the bag
    :raises InputError: where the bag cannot be read
    """
    ages = []
    with opened(path) as reader, suppress(BagDamagedError):
        if topic in {c.topic for c in reader.connections}:
            for recorded_ns, message in messages(reader, topic):
                if not isinstance(message, InputError):
                    ages.append(recorded_ns - _stamp_ns(message))
    return ages


def _is_stamped(reader: Reader, topic: str) -> bool:
    """Whether images have stamps; the first may be zero, where the clock started with them."""
    try:
        readable = (m for _, m in messages(reader, topic) if not isinstance(m, InputError))
        return any(_stamp_ns(message) != 0 for message in islice(readable, 2))
    except BagDamagedError:
        return False


def _stamp_ns(message: Any) -> int:
    """Return the header's stamp; 0 where the driver does not set it."""
    stamp = message.header.stamp
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def _pixels(message: Any) -> NDArray[np.generic]:
    """Return the pixels of an Image or CompressedImage, 8 or 16 bits."""
    if hasattr(message, 'format'):
        return decode_compressed(message.data, message.format)
    return image_to_array(
        message.height,
        message.width,
        message.encoding,
        message.step,
        bool(message.is_bigendian),
        message.data,
    )
