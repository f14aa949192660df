# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The static transforms of a recording."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import GeometryError, InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.bag_storage import BagDamagedError, Reader

Array = NDArray[np.float64]
#: Parent and T_parent_child (4, 4), metres, by child
Transforms = dict[str, tuple[str, Array]]

_TRANSFORMS = ('tf2_msgs/msg/TFMessage', 'tf/msg/tfMessage')
TF_STATIC = '/tf_static'


def frame_id(reader: Reader, topic: str) -> str:
    """Return the frame of the messages of a topic; '' where it has none."""
    with suppress(BagDamagedError):
        for _, message in reader.messages(topic):
            if not isinstance(message, InputError):
                return str(message.header.frame_id).lstrip('/')
    return ''


def static_transforms(reader: Reader) -> Transforms:
    """Return parent and T_parent_child of each frame with a static transform."""
    fixed: Transforms = {}
    if TF_STATIC not in reader.topics(*_TRANSFORMS):
        return fixed
    with suppress(BagDamagedError):
        for _, message in reader.messages(TF_STATIC):
            if isinstance(message, InputError):
                continue
            for given in message.transforms:
                with suppress(GeometryError):
                    fixed[given.child_frame_id.lstrip('/')] = (
                        given.header.frame_id.lstrip('/'), _matrix(given.transform))
    return fixed


def fixed_root(fixed: Transforms, frame: str) -> tuple[str, Array]:
    """Return the frame that static transforms to a frame begin at, and T_root_frame (4, 4)."""
    T_root_frame, passed = np.eye(4), set()
    while frame in fixed and frame not in passed:
        passed.add(frame)  # there may be a cycle
        frame, T_parent_child = fixed[frame]
        T_root_frame = T_parent_child @ T_root_frame
    return frame, T_root_frame


def _matrix(transform: Any) -> Array:
    q, t = transform.rotation, transform.translation
    return se3.from_rt(se3.matrix_from_quat_xyzw([q.x, q.y, q.z, q.w]), [t.x, t.y, t.z])
