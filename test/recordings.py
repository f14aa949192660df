# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings made by hand, written by rosbags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

rosbag2 = pytest.importorskip('rosbags.rosbag2')
typesys = pytest.importorskip('rosbags.typesys')

STORE = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
TYPES = STORE.types
START_NS = 1_700_000_000_123_456_789


def header(stamp_ns):
    """Return a message header."""
    time = TYPES['builtin_interfaces/msg/Time']
    sec, nanosec = divmod(stamp_ns, 10**9)
    return TYPES['std_msgs/msg/Header'](stamp=time(sec=sec, nanosec=nanosec), frame_id='camera')


def image_message(stamp_ns, image, encoding, pad=0, big=0):
    """Return an Image with padded rows; `image` is what the bytes are, not what they show."""
    rows = image.reshape(image.shape[0], -1).view(np.uint8)
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=0xEE)
    return TYPES['sensor_msgs/msg/Image'](
        header=header(stamp_ns), height=image.shape[0], width=image.shape[1], encoding=encoding,
        is_bigendian=big, step=padded.shape[1], data=padded.reshape(-1))


def compressed_message(stamp_ns, data, image_format):
    """Return a CompressedImage."""
    return TYPES['sensor_msgs/msg/CompressedImage'](
        header=header(stamp_ns), format=image_format, data=np.frombuffer(data, np.uint8))


def info_message(stamp_ns, model='plumb_bob', d=(.1, .2, 0, 0, 0), focal=50.0, width=64):
    """Return a CameraInfo."""
    k = np.array([focal, 0, 31.5, 0, focal, 23.5, 0, 0, 1.0])
    return TYPES['sensor_msgs/msg/CameraInfo'](
        header=header(stamp_ns), height=48, width=width, distortion_model=model,
        d=np.array(d, np.float64), k=k, r=np.eye(3).reshape(-1),
        p=np.insert(k, [3, 6, 9], 0.0) * 1.25, binning_x=0, binning_y=0,
        roi=TYPES['sensor_msgs/msg/RegionOfInterest'](
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False))


def write_bag(path, topics, storage='mcap', step_ns=None):
    """
    Write {topic: messages}; every message is recorded a millisecond after its stamp.

    :param step_ns: from one recording to the next on a topic, where not by the stamps
    """
    plugin = rosbag2.StoragePlugin[storage.upper()]
    with rosbag2.Writer(path, version=9, storage_plugin=plugin) as writer:
        entries = []
        for topic, messages in topics.items():
            kind = messages[0] if isinstance(messages[0], str) else messages[0].__msgtype__
            connection = writer.add_connection(topic, kind, typestore=STORE)
            for i, message in enumerate(m for m in messages if not isinstance(m, str)):
                if isinstance(message, bytes):
                    entries.append((START_NS + i * 10**8, connection, message))
                    continue
                stamp = message.header.stamp
                stamp_ns = stamp.sec * 10**9 + stamp.nanosec
                if not any(m.header.stamp.sec for m in messages if hasattr(m, 'header')):
                    stamp_ns = START_NS + i * 10**8
                if step_ns is not None:
                    stamp_ns = START_NS + i * step_ns
                data = STORE.serialize_cdr(message, message.__msgtype__)
                entries.append((stamp_ns + 10**6, connection, data))
        for stamp_ns, connection, data in sorted(entries, key=lambda entry: entry[0]):
            writer.write(connection, stamp_ns, data)
    return path


def stamps(count):
    """Return stamps a tenth of a second apart."""
    return [START_NS + i * 10**8 for i in range(count)]


def bare_file(path):
    """Return the storage file of a bag folder."""
    return next(p for p in sorted(Path(path).iterdir()) if p.suffix in ('.mcap', '.db3'))
