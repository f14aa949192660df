# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Choice of the CameraInfo that belongs to a recorded image topic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag_storage import BagDamagedError, Reader
from recon3r_ros.io.bag_topics import camera_topic, COMPRESSED, IMAGE
from recon3r_ros.io.camera_info import camera_from_info

CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
_OPTION = '--camera-info-topic'
#: Relative difference of the ratio of width to height that rounding explains
_SAME_ASPECT = 0.01

Size = tuple[int, int]


def recorded_camera(
    path: Path, reader: Reader, image_topic: str, size: Size, wanted: str | None,
    note: Callable[[str], None],
) -> tuple[str, Camera | None]:
    """
    Return the name for errors and the camera of an image topic, by its first CameraInfo.

    `camera_info` beside the images belongs to them. Where there is none, that of another topic is
    taken if there is only one whose namespace holds the images, or only one in the recording that
    belongs to no other images, and the images have its size or a fraction of that.

    :param size: (width, height) of the images
    :param wanted: topic of the CameraInfo; None to choose one
    :param note: takes a warning, where intrinsics are from elsewhere or stay unknown
    :raises InputError: where there is no such topic, or its messages cannot be used
    """
    recorded = list(reader.topics(CAMERA_INFO))
    beside = _beside(image_topic)
    if wanted is not None and wanted not in recorded:
        raise InputError(
            f'{path}: no camera_info on {wanted}; recorded: {", ".join(recorded) or "none"}')
    topic = beside if wanted is None else wanted
    if topic in recorded:
        source = f'{topic} of {path}'
        try:
            return source, _first_camera(
                reader, topic, image_topic, lambda text: note(f'{source}: {text}'))
        except InputError as error:
            raise InputError(f'{source}: {error}') from error
    unknown = f'{path}: no camera_info beside {image_topic}, intrinsics unknown'
    fitting = _elsewhere(reader, image_topic, size, recorded)
    if len(fitting) == 1:
        (topic, camera), = fitting.items()
        note(f'{path}: no camera_info beside {image_topic}: taking that on {topic}')
        return f'{topic} of {path}', camera
    if recorded:
        unknown += f'; choose one with {_OPTION}, if it is theirs: {", ".join(recorded)}'
    note(unknown)
    return f'{beside} of {path}', None


def camera_beside(reader: Reader, image_topic: str) -> Camera | None:
    """
    Return the camera of the first CameraInfo beside a topic; None where there is none.

    :raises InputError: where it cannot be used
    """
    topic = _beside(image_topic.removesuffix('/compressedDepth'))
    if topic not in reader.topics(CAMERA_INFO):
        return None
    try:
        return _first_camera(reader, topic, image_topic, lambda text: None)
    except InputError as error:
        raise InputError(f'{topic}: {error}') from error


def _beside(image_topic: str) -> str:
    namespace, slash, _ = camera_topic(image_topic).rpartition('/')
    return f'{namespace}{slash}camera_info'


def _elsewhere(
    reader: Reader, image_topic: str, size: Size, recorded: list[str]
) -> dict[str, Camera]:
    """Return the cameras, by topic, that may be that of the images."""
    others = {_beside(name) for name in reader.topics(IMAGE, COMPRESSED)}
    free = [name for name in recorded if name not in others]
    parts = camera_topic(image_topic).split('/')
    above = {}
    for name in free:
        namespace = name.split('/')[:-1]
        if namespace == parts[:len(namespace)] and len(namespace) > 1:
            above[name] = len(namespace)
    # The innermost namespace that holds the images, or their own topic as a namespace
    candidates = [n for n, depth in above.items() if depth == max(above.values())] or free
    cameras: dict[str, Camera] = {}
    for name in candidates:
        try:
            camera = _first_camera(reader, name, image_topic, lambda text: None)
        except InputError:
            continue
        if camera is not None and _fits(camera, size):
            cameras[name] = camera.resized(*size)
    return cameras


def _fits(camera: Camera, size: Size) -> bool:
    """Whether images of a size (width, height) may be a camera's, as a whole, perhaps smaller."""
    width, height = size
    aspect = (camera.width * height) / (camera.height * width)
    return abs(aspect - 1) < _SAME_ASPECT


def _first_camera(reader: Reader, topic: str, image_topic: str, warn: Callable[[str], None]
                  ) -> Camera | None:
    """
    Return the camera of the first message; None where that is uncalibrated.

    :raises InputError: without the name of the topic
    """
    rectified = 'image_rect' in camera_topic(image_topic).rpartition('/')[2]
    try:
        for _, message in reader.messages(topic):
            if isinstance(message, InputError):
                raise message
            return camera_from_info(message, rectified, warn)
    except BagDamagedError as error:
        raise InputError(str(error)) from error
    return None
