# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dynamic objects, and names of classes, as vision_msgs, which not every robot has installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recon3r_ros.errors import InputError
from recon3r_ros.ros import conversions
from recon3r_ros.slam.dynamics.boxes import Box

try:
    from vision_msgs import msg as vision_msgs
except ImportError:
    vision_msgs = None

#: Class of all of them
DYNAMIC = 'dynamic'
#: Types of the messages; None without the package, or where it was built without them
Detection2DArray: Any = getattr(vision_msgs, 'Detection2DArray', None)
LabelInfo: Any = getattr(vision_msgs, 'LabelInfo', None)


def detections_message(boxes: Sequence[Box], stamp_ns: int, frame_id: str) -> Any:
    """
    Detection2DArray message of an image's dynamic objects.

    Ids are decimal numbers, scores are shares of the boxes that are masked. As pixel centres are
    at integers, that of a box two pixels wide lies between them.
    """
    header = conversions.header(stamp_ns, frame_id)
    message = Detection2DArray(header=header)
    for box in boxes:
        detection = vision_msgs.Detection2D(header=header, id=str(box.id))
        detection.bbox.center.position.x = box.left + (box.width - 1) / 2
        detection.bbox.center.position.y = box.top + (box.height - 1) / 2
        detection.bbox.size_x, detection.bbox.size_y = float(box.width), float(box.height)
        detection.results = [vision_msgs.ObjectHypothesisWithPose(
            hypothesis=vision_msgs.ObjectHypothesis(class_id=DYNAMIC, score=box.score))]
        message.detections.append(detection)
    return message


def names_from_message(message: Any) -> tuple[str, ...]:
    """
    Names of classes in a LabelInfo message, from class 1 on; '' where a number has no name.

    Class 0, the background of some detectors, is unknown here, and has no name.

    :raises InputError: for a number that labels of 8 bits cannot have, or one with two names
    """
    found: dict[int, str] = {}
    for kind in message.class_map:
        if not 0 <= kind.class_id <= 255:
            raise InputError(f'class {kind.class_id} ({kind.class_name}): numbers of classes are '
                             '0 to 255')
        name = ' '.join(kind.class_name.replace('\0', ' ').split())
        if found.setdefault(kind.class_id, name) != name:
            raise InputError(f'class {kind.class_id} has two names, {found[kind.class_id]} and '
                             f'{name}')
    return tuple(found.get(n, '') for n in range(1, max(found, default=0) + 1))


def label_info_message(names: Sequence[str], stamp_ns: int, frame_id: str) -> Any:
    """
    LabelInfo message: names of classes, of which the first is class 1.

    Its threshold is 0: labels have none.
    """
    return LabelInfo(header=conversions.header(stamp_ns, frame_id), class_map=[
        vision_msgs.VisionClass(class_id=i + 1, class_name=name) for i, name in enumerate(names)])
