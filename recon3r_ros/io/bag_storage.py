# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Storage, topics and messages of a rosbag2 recording, through `rosbags`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.camera_info import camera_from_info

if TYPE_CHECKING:
    from rosbags.rosbag2 import Reader

logger = logging.getLogger(__name__)

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
#: Encodings of depth images, and words in the names of topics with images that are not a camera's
_DEPTH_ENCODINGS = ('16UC1', '32FC1')
_NO_PICTURES = ('depth', 'disparity', 'mask', 'confidence', 'label', 'segmentation')


class BagDamagedError(Exception):
    """The storage cannot be read further."""


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """
    Open the storage.

    The types read here are the same in every ROS 2 distribution, so definitions embedded in the
    bag are ignored: a broken one of an unrelated topic must not prevent reading.
    """
    from rosbags.rosbag2 import Reader

    if path.suffix == '.bag':
        raise InputError(f'{path}: is a ROS 1 bag; convert it with rosbags-convert')
    if path.is_dir() and not (path / 'metadata.yaml').exists():
        raise InputError(
            f'{path}: no metadata.yaml; give the .mcap or .db3 file itself, or run '
            'ros2 bag reindex'
        )
    try:
        reader = Reader(path)
        reader.open()
    except FileNotFoundError:
        raise InputError(f'{path}: no such bag') from None
    except Exception as error:  # damaged bytes raise exceptions of several libraries
        raise InputError(
            f'{path}: cannot be read as a rosbag2 recording: {_one_line(error)}'
        ) from error
    try:
        yield reader
    finally:
        reader.close()


def choose_topic(path: Path, reader: Reader, wanted: str | None) -> str:
    """
    Return the image topic wanted, or the only one with camera images.

    :raises InputError: where there is none, or more than one
    """
    topics = sorted(
        {
            c.topic
            for c in reader.connections
            if c.msgtype in (IMAGE, COMPRESSED)
            and c.msgcount
            and not c.topic.endswith('/compressedDepth')
        }
    )
    listed = ', '.join(topics)
    if not topics:
        raise InputError(f'{path}: holds no images of type {IMAGE} or {COMPRESSED}')
    if wanted is not None:
        if wanted not in topics:
            raise InputError(f'{path}: no images on {wanted}; its image topics are {listed}')
        return wanted
    if len(topics) == 1:
        return topics[0]
    pictures = [topic for topic in topics if _is_picture(reader, topic)]
    # A camera's images may have been recorded raw and compressed
    pictures = [topic for topic in pictures if topic.removesuffix('/compressed') == topic
                or topic.removesuffix('/compressed') not in pictures]
    if len(pictures) != 1:
        raise InputError(f'{path}: has several image topics, choose one of {listed}')
    logger.info('%s: taking the images on %s', path, pictures[0])
    return pictures[0]


def _is_picture(reader: Reader, topic: str) -> bool:
    """Whether, by name and encoding, a topic has camera images, not depth or masks."""
    if any(word in topic.lower() for word in _NO_PICTURES):
        return False
    for _, message in messages(reader, topic):
        return getattr(message, 'encoding', '') not in _DEPTH_ENCODINGS
    return False


def recorded_camera(
    path: Path, reader: Reader, image_topic: str, wanted: str | None, note: Callable[[str], None]
) -> tuple[str, Camera | None]:
    """Return the name for errors and the camera of the first CameraInfo of an image topic."""
    base = image_topic.removesuffix('/compressed').removesuffix('/')
    namespace, _, image_name = base.rpartition('/')
    topic = wanted if wanted is not None else f'{namespace}/camera_info'
    source = f'{topic} of {path}'
    recorded = {c.topic for c in reader.connections if c.msgtype == CAMERA_INFO and c.msgcount}
    if topic not in recorded:
        if wanted is not None:
            listed = ', '.join(sorted(recorded)) or 'none'
            raise InputError(f'{path}: no camera_info on {wanted}; recorded: {listed}')
        logger.warning('%s: no camera_info beside %s, intrinsics unknown', path, image_topic)
        return source, None
    try:
        for _, message in messages(reader, topic):
            if isinstance(message, InputError):
                raise message
            return source, camera_from_info(
                message, 'image_rect' in image_name, lambda text: note(f'{source}: {text}')
            )
    except (InputError, BagDamagedError) as error:
        raise InputError(f'{source}: {error}') from error
    return source, None


def messages(reader: Reader, topic: str) -> Iterator[tuple[int, Any]]:
    """
    Yield (recording time in ns, message) of a topic; an InputError stands for a damaged message.

    :raises BagDamagedError: where the storage cannot be read further
    """
    from rosbags.typesys import get_typestore, Stores

    typestore = get_typestore(Stores.ROS2_HUMBLE)
    entries = reader.messages([c for c in reader.connections if c.topic == topic])
    while True:
        # Damaged bytes raise exceptions of sqlite3, lz4, zstandard and struct through rosbags.
        # The part of the bag before the damage stays usable.
        try:
            connection, recorded_ns, raw = next(entries)
        except StopIteration:
            return
        except Exception as error:
            raise BagDamagedError(_one_line(error)) from error
        message: object
        try:
            message = typestore.deserialize_cdr(raw, connection.msgtype)
        except Exception as error:
            message = InputError(f'cannot be deserialised: {_one_line(error)}')
        yield recorded_ns, message


def _one_line(error: BaseException) -> str:
    return ' '.join(f'{type(error).__name__}: {error}'.split())
