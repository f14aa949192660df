# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a recording of ROS 2 or ROS 1, read without ROS."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag_cameras import recorded_camera
from recon3r_ros.io.bag_depth import BagDepth
from recon3r_ros.io.bag_rig import BagRig, recorded_mounts, topics_of
from recon3r_ros.io.bag_storage import BagDamagedError, Reader, Recording, Topic
from recon3r_ros.io.bag_topics import (
    camera_names,
    choose_topics,
    COMPRESSED,
    IMAGE,
    pixels_of,
)
from recon3r_ros.io.base import fitted, PrefetchedSequence, size_text
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.instants import instants
from recon3r_ros.io.rig_calibration import read_rig_calibration
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.io.tone_map import ToneMap
from recon3r_ros.slam.types import Frame

#: Images from which the clock of a topic's stamps is chosen
_SAMPLE = 30
#: In place of a calibration: poses of cameras on a rig are not used
NO_RIG = 'none'


@dataclass(frozen=True)
class _Stream:
    """
    The images of one camera.

    :param stamped: whether the stamps of the headers are used, else recording times
    :param size: (height, width) of an image that is used
    :param name: of the camera
    """

    topic: Topic
    stamped: bool
    size: tuple[int, ...]
    camera: Camera | None
    name: str


@dataclass(frozen=True, eq=False)
class _Decoded:
    """
    An image message.

    :param position: among the messages of the topic
    :param stamp_ns: of the header, or of the recording where those are used
    :param image: (H, W, 3) RGB or (H, W) grey, uint8; or why there is none
    """

    position: int
    stamp_ns: int
    image: NDArray[np.uint8] | InputError


class Bag(PrefetchedSequence):
    """
    The images of one topic, or of one for each of several cameras, in the order of their stamps.

    A frame's `index` counts the messages of the topics; an unusable message leaves a gap, as in
    the stamps. With several cameras, a frame's name begins with its camera's.

    :param recording: that has the topics
    :param streams: one for each camera
    :param rig: how they are mounted, where that is known
    :param depth: of the first one's images, where it is measured
    """

    def __init__(self, recording: Recording, streams: Sequence[_Stream],
                 rig: BagRig | None = None, depth: BagDepth | None = None) -> None:
        super().__init__(' '.join((str(recording.path), *(s.topic.name for s in streams))))
        self._recording = recording
        self._streams = streams
        self._rig = rig
        self._depth = depth

    def __len__(self) -> int:
        """Return the number of messages on the topics, unusable ones included."""
        seconds = () if self._rig is None else self._rig.partners.values()
        return sum(stream.topic.count for number, stream in enumerate(self._streams)
                   if number not in seconds)

    def _frames(self) -> Generator[Frame, None, None]:
        merged = self._merged()
        try:
            if self._rig is None:
                yield from (frame for _, frame in merged)
            else:
                for instant in instants(merged):
                    yield from self._rig.assembled(instant)
        finally:
            merged.close()

    def _merged(self) -> Generator[tuple[int, Frame], None, None]:
        """Yield (number, frame) of all cameras in the order of their stamps."""
        begun = [0] * len(self._streams)
        sources = [self._frames_of(number) for number in range(len(self._streams))]
        try:
            # Each has a reader of its own: one reader would give them in the order of arrival
            for number, frame in merge(*sources, key=lambda item: item[1].stamp_ns):
                begun[number] = frame.index + 1
                yield number, replace(frame, index=sum(begun) - 1)
        finally:
            for source in sources:
                source.close()

    def _frames_of(self, number: int) -> Generator[tuple[int, Frame], None, None]:
        """Yield (number, frame) of one camera, whose index is the position on its topic."""
        frames = self._pictures(number)
        if self._depth is None or number:
            yield from ((number, frame) for frame in frames)
            return
        try:
            yield from ((number, frame) for frame in self._depth.joined(frames))
        finally:
            frames.close()

    def _pictures(self, number: int) -> Generator[Frame, None, None]:
        """Yield the images of one camera that can be used."""
        stream = self._streams[number]
        prefix = f'{stream.name}_' if len(self._streams) > 1 else ''
        previous_ns = -1
        for decoded in self._decoded(stream):
            image, stamp_ns = decoded.image, decoded.stamp_ns
            if isinstance(image, InputError):
                cause = str(image)
            elif image.shape[:2] != stream.size:
                cause = (f'has {size_text(image)} pixels, expected '
                         f'{stream.size[1]}x{stream.size[0]} as in the first image')
            elif stamp_ns <= previous_ns:
                cause = 'stamp is not after the previous image'
            else:
                previous_ns = stamp_ns
                yield Frame(image, stamp_ns, f'{prefix}{stamp_ns}', decoded.position,
                            stream.camera, stream.name)
                continue
            # Of several images with one stamp, each counts
            self._skip(f'{stream.topic.name} #{decoded.position} at {stamp_ns}: {cause}')

    def _decoded(self, stream: _Stream) -> Iterator[_Decoded]:
        """Yield the messages of a stream, and note where some are missing at the end."""
        count = 0
        reason = 'the rest is missing'
        with self._recording.opened() as reader:
            try:
                for decoded in _decoded(reader, stream.topic.name, stream.stamped):
                    count += 1
                    yield decoded
            except BagDamagedError as error:
                reason = str(error)
        if count < stream.topic.count:
            self._skip(f'{self._recording.path} {stream.topic.name}: ends after {count} of '
                       f'{stream.topic.count} images: {reason}')


def open_bag(
    path: str | Path,
    image_topics: Sequence[str] = (),
    camera_info_topics: Sequence[str] = (),
    camera: Camera | Calibration | None = None,
    calibrated: bool = True,
    rig: str | Path | None = None,
    depth_topic: str | None = None,
) -> Bag:
    """
    Open a recording; see `bag_storage.Recording` for its forms.

    :param path: folder or file
    :param image_topics: Image or CompressedImage topics, one for each camera; none where the bag
        holds one
    :param camera_info_topics: one for each image topic; none to take what belongs to it
    :param camera: intrinsics of the images of a single topic, instead of those recorded
    :param calibrated: False ignores recorded intrinsics
    :param rig: calibration of several cameras, see `read_rig_calibration`, instead of recorded
        intrinsics and /tf_static; 'none': poses of the cameras on a rig are not used
    :param depth_topic: of measured depth of the first topic's images, see `BagDepth`
    :raises InputError: where there is nothing to read or the choice is ambiguous
    """
    on_rig = [] if rig is None or str(rig) == NO_RIG else read_rig_calibration(rig)
    if on_rig and (camera is not None or camera_info_topics or not calibrated):
        raise InputError(f'{rig}: has the intrinsics of all cameras, which are given, or refused, '
                         'by another argument as well: give one of them')
    recording = Recording(Path(path))
    notes = list(recording.warnings)
    with recording.opened() as reader:
        if on_rig:
            image_topics = topics_of(recording.path, reader, on_rig, image_topics)
        topics = choose_topics(recording.path, reader, image_topics)
        if camera is not None and len(topics) > 1:
            raise InputError(f'a camera file is that of one camera, but {len(topics)} image '
                             'topics are given')
        if camera_info_topics and len(camera_info_topics) != len(topics):
            raise InputError(f'{len(camera_info_topics)} topics of camera_info for {len(topics)} '
                             'image topics: give one for each, in the same order')
        names = [c.name for c in on_rig] or (
            camera_names([t.name for t in topics]) if len(topics) > 1 else ['camera'])
        infos: Sequence[str | None] = camera_info_topics or [None] * len(topics)
        streams: list[_Stream] = []
        for topic, info, name in zip(topics, infos, names):
            stamped = _is_stamped(reader, topic.name, notes)
            image = _first_image(recording.path, reader, topic)
            source, own = 'the camera given', camera
            if on_rig:
                source, own = str(rig), on_rig[len(streams)].calibration
            if own is None and (calibrated or info is not None):
                source, own = recorded_camera(recording.path, reader, topic.name,
                                              (image.shape[1], image.shape[0]), info, notes.append)
            streams.append(_Stream(topic, stamped, image.shape[:2], fitted(
                own, source, image, topic.name, notes.append), name))
        mounts = {i: c.T_rig_cam for i, c in enumerate(on_rig)}
        if rig is None and len(topics) > 1:
            mounts = recorded_mounts(reader, [t.name for t in topics], notes.append)
    sequence = Bag(
        recording, streams, BagRig.of(
            {i: s.camera for i, s in enumerate(streams) if s.camera is not None}, mounts),
        None if depth_topic is None else BagDepth(
            recording, depth_topic, topics[0].name, streams[0].camera))
    for text in notes:
        sequence.note(text)
    return sequence


def recorded_images(path: Path, topic: str) -> Iterator[tuple[int, NDArray[np.generic]]]:
    """
    Yield the images of one topic in the order of their recording, whatever their stamps.

    :param path: folder or file
    :param topic: name; nothing is yielded where nothing was published on it
    :returns: stamps in nanoseconds, and images (H, W) or (H, W, 3); unusable ones are left out
    :raises InputError: where the bag cannot be read
    """
    with Recording(path).opened() as reader:
        if topic not in reader.topics(IMAGE, COMPRESSED):
            return
        with suppress(BagDamagedError):
            for _, message in reader.messages(topic):
                with suppress(InputError):
                    if not isinstance(message, InputError):
                        yield _stamp_ns(message), pixels_of(message)


def recorded_ages_ns(path: Path, topic: str) -> list[int]:
    """
    Nanoseconds from the stamps of a topic's messages to their recording, in order.

    :param path: folder or file
    :param topic: name, of messages with a header; nothing is returned where it is not in the bag
    :raises InputError: where the bag cannot be read
    """
    ages = []
    with Recording(path).opened() as reader, suppress(BagDamagedError):
        for recorded_ns, message in reader.messages(topic):
            if not isinstance(message, InputError):
                ages.append(recorded_ns - _stamp_ns(message))
    return ages


def _decoded(reader: Reader, topic: str, stamped: bool) -> Iterator[_Decoded]:
    """Yield the images of a topic in the order of recording."""
    tone_map = ToneMap()
    for position, (recorded_ns, message) in enumerate(reader.messages(topic)):
        if isinstance(message, InputError):
            yield _Decoded(position, recorded_ns, message)
            continue
        stamp_ns = _stamp_ns(message) if stamped else recorded_ns
        image: NDArray[np.uint8] | InputError
        try:
            image = tone_map(pixels_of(message))
        except InputError as error:
            image = error
        yield _Decoded(position, stamp_ns, image)


def _first_image(path: Path, reader: Reader, topic: Topic) -> NDArray[np.uint8]:
    """Return the first image that can be read, which has the size of those that are used."""
    first = ''
    try:
        for decoded in _decoded(reader, topic.name, True):
            if not isinstance(decoded.image, InputError):
                return decoded.image
            first = first or f'; the first: {topic.name} at {decoded.stamp_ns}: {decoded.image}'
    except BagDamagedError as error:
        first = first or f': {error}'
    raise InputError(f'{path} {topic.name}: none of {topic.count} images can be read{first}')


def _is_stamped(reader: Reader, topic: str, notes: list[str]) -> bool:
    """
    Whether stamps of headers can be used: they are there, and most follow the one before.

    :param notes: gets a line where they cannot although they are there
    """
    times: list[tuple[int, int]] = []
    with suppress(BagDamagedError):
        readable = ((t, m) for t, m in reader.messages(topic) if not isinstance(m, InputError))
        times = [(t, _stamp_ns(m)) for t, m in islice(readable, _SAMPLE)]
    recorded_ns, stamps_ns = zip(*times) if times else ((), ())
    # The first may be zero, where the clock started with the images
    if not any(stamps_ns[:2]):
        return False
    if not _is_stuck(stamps_ns) or _is_stuck(recorded_ns):
        return True
    notes.append(f'{topic}: most images have no later stamp than the one before: the times of '
                 'their recording are used')
    return False


def _is_stuck(times_ns: Sequence[int]) -> bool:
    """Whether most times are not after the one before."""
    return 2 * sum(b <= a for a, b in pairwise(times_ns)) > len(times_ns) - 1 > 0


def _stamp_ns(message: Any) -> int:
    """Return the header's stamp; 0 where the driver does not set it."""
    stamp = message.header.stamp
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)
