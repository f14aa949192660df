# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Choice of a recording's image topics: a camera's pictures, not depth, masks or video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
import logging
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.bag_storage import BagDamagedError, Reader, Topic
from recon3r_ros.io.base import size_text
from recon3r_ros.io.decode import decode_compressed
from recon3r_ros.io.encodings import image_to_array
from recon3r_ros.io.tone_map import white_of

logger = logging.getLogger(__name__)

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED = 'sensor_msgs/msg/CompressedImage'
#: Messages that hold a piece of a video
_VIDEO = (
    'foxglove_msgs/msg/CompressedVideo',
    'ffmpeg_image_transport_msgs/msg/FFMPEGPacket',
    'theora_image_transport/msg/Packet',
)
_DEPTH_ENCODINGS = ('16UC1', 'mono16', '32FC1')
#: Names of topics with depth, but not of another sensor in a depth camera's namespace
_DEPTH_NAME = re.compile(r'(depth|disparity)(?!.*/(rgb|colou?r|ir|infra|mono|gr[ae]y|thermal))')
#: Words in the names of other topics with images that are not a camera's
_OTHER_WORDS = ('mask', 'confidence', 'label', 'segmentation')


class Content(Enum):
    """What the images of a topic are; `UNSURE` is taken where nothing is a picture for sure."""

    PICTURES = 'pictures'
    UNSURE = 'unsure'
    DEPTH = 'depth'


@dataclass(frozen=True)
class ImageTopic:
    """
    A topic with images.

    :param encoding: of the first message that can be read; '' where there is none
    :param size: WIDTHxHEIGHT of its image, likewise
    """

    topic: Topic
    encoding: str
    size: str
    content: Content

    @property
    def name(self) -> str:
        """Name of the topic."""
        return self.topic.name

    def __str__(self) -> str:
        about = ' '.join(filter(None, (self.encoding, self.size)))
        return f'{self.name} ({about + ", " if about else ""}{self.topic.count} images)'


def pixels_of(message: Any) -> NDArray[np.generic]:
    """
    Return the pixels of an Image or CompressedImage: RGB (H, W, 3) or grey (H, W).

    :returns: uint8, uint16 or float32
    :raises InputError: where it cannot be decoded
    """
    if hasattr(message, 'format'):
        return decode_compressed(message.data, message.format)
    return image_to_array(message.height, message.width, message.encoding, message.step,
                          bool(message.is_bigendian), message.data)


def choose_topics(path: Path, reader: Reader, wanted: Sequence[str]) -> list[Topic]:
    """
    Return the image topics wanted, or else the only one with a camera's pictures.

    :raises InputError: where there is none, or more than one
    """
    topics = reader.topics(IMAGE, COMPRESSED)
    videos = reader.topics(*_VIDEO)
    for name in wanted:
        if name in videos:
            raise InputError(f'{path}: {_of_video(videos[name])}')
    if not topics:
        if videos:
            raise InputError(f'{path}: {_of_video(next(iter(videos.values())))}')
        raise InputError(f'{path}: holds no images of type {IMAGE} or {COMPRESSED}')
    found = {name: _examined(reader, topic) for name, topic in topics.items()}
    for name in wanted:
        if name not in found:
            listed = ', '.join(str(t) for t in found.values())
            raise InputError(f'{path}: no images on {name}; its image topics are {listed}')
        if found[name].content is Content.DEPTH:
            raise InputError(f'{path}: {found[name]} holds depth images, not pictures; name a '
                             "topic with a camera's pictures")
    return [topics[name] for name in wanted] or [_the_only_one(path, list(found.values())).topic]


def _the_only_one(path: Path, topics: list[ImageTopic]) -> ImageTopic:
    """Return the topic with a camera's pictures."""
    usable = [t for t in topics if t.content is not Content.DEPTH]
    if not usable:
        raise InputError(f'{path}: holds only depth images, on '
                         f"{', '.join(map(str, topics))}; record a camera's pictures as well")
    pictures = [t for t in usable if t.content is Content.PICTURES] or usable
    names = {t.name for t in pictures}
    # A camera's images may have been recorded raw and compressed
    pictures = [t for t in pictures if camera_topic(t.name) == t.name
                or camera_topic(t.name) not in names]
    if len(pictures) != 1:
        raise InputError(f'{path}: has several image topics, choose with --image-topic, for '
                         f'several cameras more than one: {", ".join(map(str, pictures))}')
    if len(topics) > 1:
        logger.info('%s: taking the images on %s', path, pictures[0].name)
    return pictures[0]


def camera_topic(image_topic: str) -> str:
    """Return the name of a topic without what stands for its compression."""
    return image_topic.removesuffix('/compressed').rstrip('/')


def camera_names(image_topics: Sequence[str]) -> list[str]:
    """
    Return a name for each of several cameras: the parts of their topics that tell them apart.

    :param image_topics: names; /stereo/left/image_raw and /stereo/right/image_raw give left and
        right
    :raises InputError: where two are the same camera's
    """
    parts = [camera_topic(topic).strip('/').split('/') for topic in image_topics]
    if len({tuple(p) for p in parts}) < len(parts):
        raise InputError(f'{", ".join(image_topics)}: name each camera once, raw or compressed')
    shared = 0
    while all(len(p) > shared + 1 for p in parts) and len({p[shared] for p in parts}) == 1:
        shared += 1
    longest = max(map(len, parts))
    names = ['_'.join(p[shared:]) for p in parts]
    for end in range(shared + 1, longest + 1):
        shorter = ['_'.join(p[shared:end]) for p in parts]
        if len(set(shorter)) == len(parts):
            names = shorter
            break
    return [re.sub(r'\W', '_', name) for name in names]


def _examined(reader: Reader, topic: Topic) -> ImageTopic:
    """Find out by name, encoding and values what the images of a topic are."""
    message = _first(reader, topic.name)
    encoding = _encoding(message)
    try:
        pixels = None if message is None else pixels_of(message)
    except InputError:
        pixels = None
    size = '' if pixels is None else size_text(pixels)
    return ImageTopic(topic, encoding, size, _content(topic.name, encoding, pixels))


def _content(name: str, encoding: str, pixels: NDArray[np.generic] | None) -> Content:
    is_of_depth = _DEPTH_NAME.search(name.lower()) is not None
    if name.endswith('/compressedDepth') or 'compressedDepth' in encoding:
        return Content.DEPTH
    if encoding in _DEPTH_ENCODINGS and is_of_depth:
        return Content.DEPTH
    if pixels is not None and pixels.dtype == np.float32:
        try:
            white_of(pixels)
        except InputError:
            return Content.DEPTH
    is_other = is_of_depth or any(word in name.lower() for word in _OTHER_WORDS)
    # Thermal cameras have 16UC1, and depth cameras whose topics are named otherwise
    return Content.UNSURE if is_other or encoding in ('16UC1', '32FC1') else Content.PICTURES


def _first(reader: Reader, topic: str) -> Any:
    """Return the first message that can be read, or None."""
    try:
        return next((m for _, m in reader.messages(topic) if not isinstance(m, InputError)), None)
    except BagDamagedError:
        return None


def _encoding(message: Any) -> str:
    """Return the encoding of an image, before compression where it is known."""
    if message is None:
        return ''
    if not hasattr(message, 'format'):
        return str(message.encoding)
    # As image_transport writes it: 'bgr8; jpeg compressed bgr8'
    text = str(message.format)
    return text if 'compressedDepth' in text else text.partition(';')[0].strip()


def _of_video(topic: Topic) -> str:
    return (f'{topic.name} holds compressed video ({topic.msgtype}), which is not decoded here: '
            'republish it as images and record those, or give it as a file with --video')
