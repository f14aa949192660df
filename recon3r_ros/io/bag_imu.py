# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The IMU of a recording: its samples, and its pose by the recorded static transforms."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.bag_storage import BagDamagedError, Reader, Recording
from recon3r_ros.io.bag_topics import camera_names, choose_topics
from recon3r_ros.io.bag_transforms import (
    fixed_root,
    frame_id,
    static_transforms,
    TF_STATIC,
    Transforms,
)
from recon3r_ros.io.imu import mounted, read_extrinsics
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.slam.imu.samples import ACCELEROMETER_NOISE, GYROSCOPE_NOISE, ImuSamples

Array = NDArray[np.float64]

IMU = 'sensor_msgs/msg/Imu'


def recorded_imu(path: str | Path, topic: str, image_topics: Sequence[str] = (),
                 extrinsics: str | Path | None = None) -> dict[str, ImuSamples]:
    """
    Read the samples of a topic.

    :param topic: of sensor_msgs/Imu
    :param image_topics: as for `open_bag`
    :param extrinsics: an imu.json with T_cam_imu of the first camera; None: by /tf_static
    :return: by the name of the camera, as `open_bag` gives them
    :raises InputError: where there is no such topic, or the pose of the IMU is not known
    """
    recording = Recording(Path(path))
    with recording.opened() as reader:
        known = reader.topics(IMU)
        if topic not in known:
            raise InputError(f'{path}: no {IMU} on {topic}; recorded: '
                             f'{", ".join(known) or "none"}')
        stamps_ns, values, imu_frame = _read(reader, topic)
        images = [t.name for t in choose_topics(recording.path, reader, image_topics)]
        names = camera_names(images) if len(images) > 1 else ['camera']
        source = f'{topic} of {path}'
        if extrinsics is not None:
            T_cam_imu, *noise = read_extrinsics(Path(extrinsics))
            return {names[0]: mounted(source, stamps_ns, values, T_cam_imu, *noise)}
        fixed = static_transforms(reader)
        return {name: mounted(
            source, stamps_ns, values,
            _pose(recording.path, fixed, frame_id(reader, image), imu_frame),
            GYROSCOPE_NOISE, ACCELEROMETER_NOISE) for name, image in zip(names, images)}


def _read(reader: Reader, topic: str) -> tuple[list[int], Array, str]:
    """Return stamps, values (N, 6) and the IMU's frame; what is damaged is left out."""
    stamps, rows, frame = [], [], ''
    with suppress(BagDamagedError):
        for _, message in reader.messages(topic):
            if isinstance(message, InputError):
                continue
            frame = frame or message.header.frame_id.lstrip('/')
            stamp = message.header.stamp
            stamps.append(int(stamp.sec) * NS_PER_S + int(stamp.nanosec))
            rate, force = message.angular_velocity, message.linear_acceleration
            rows.append([rate.x, rate.y, rate.z, force.x, force.y, force.z])
    return stamps, np.array(rows, np.float64).reshape(-1, 6), frame


def _pose(path: Path, fixed: Transforms, camera: str, imu: str) -> Array:
    """Return T_cam_imu (4, 4) of two frames with a common root."""
    root, T_root_cam = fixed_root(fixed, camera)
    other, T_root_imu = fixed_root(fixed, imu)
    if root != other or not camera or not imu:
        raise InputError(
            f'{path}: the pose of the IMU {imu!r} in the camera {camera!r} is not in {TF_STATIC}: '
            'give it with --imu-extrinsics, a file imu.json with T_cam_imu')
    return se3.inverse(T_root_cam) @ T_root_imu
