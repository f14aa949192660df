# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People as messages: vision_msgs, which not every robot has installed, and markers."""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any, TYPE_CHECKING

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Pose, PoseWithCovariance, Vector3
import numpy as np
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

if TYPE_CHECKING:  # what they consist of is loaded by those who make them
    from recon3r_ros.slam.people_boxes import PersonBox
    from recon3r_ros.slam.people_tracks import TrackedPerson

try:
    from vision_msgs import msg as vision_msgs
except ImportError:
    vision_msgs = None

#: Class of all of them
PERSON = 'person'
#: Type of the messages; None without the package, or where it was built without them
Detection3DArray: Any = getattr(vision_msgs, 'Detection3DArray', None)
#: Seconds that a marker is shown: images with people come five times a second
_SHOWN = Duration(nanosec=600_000_000)
#: Variance of an angle of which nothing is known: where a person faces
_ANY_ANGLE = math.pi ** 2 / 3
_BOX_ALPHA = 0.35
#: Of the number above a box, share of its height
_TEXT = 0.12
#: Angle between the hues of two ids that follow each other: no two of them look alike
_GOLDEN = (math.sqrt(5) - 1) / 2


def people_message(people: Sequence[TrackedPerson], stamp_ns: int, frame_id: str) -> Any:
    """
    Detection3DArray message of the people in an image.

    Ids are decimal numbers. The covariance is that of the box's centre.

    :param people: in the frame, whose z is up
    """
    header = conversions.header(stamp_ns, frame_id)
    message = Detection3DArray(header=header)
    for person in people:
        detection = vision_msgs.Detection3D(header=header, id=str(person.id))
        detection.bbox.center, detection.bbox.size = _pose(person.box), _size(person.box)
        detection.results = [vision_msgs.ObjectHypothesisWithPose(
            hypothesis=vision_msgs.ObjectHypothesis(class_id=PERSON, score=person.box.score),
            pose=PoseWithCovariance(pose=detection.bbox.center,
                                    covariance=_covariance(person.box)))]
        message.detections.append(detection)
    return message


def people_markers(people: Sequence[TrackedPerson], stamp_ns: int, frame_id: str) -> MarkerArray:
    """
    Draw boxes and ids of people; they vanish by themselves.

    :param people: in the frame, whose z is up
    """
    header, markers = conversions.header(stamp_ns, frame_id), []
    for person in people:
        box, (r, g, b) = person.box, _colour(person.id)
        markers.append(Marker(
            header=header, ns='people', id=person.id, type=Marker.CUBE, action=Marker.ADD,
            pose=_pose(box), scale=_size(box), color=ColorRGBA(r=r, g=g, b=b, a=_BOX_ALPHA),
            lifetime=_SHOWN))
        above = _pose(box)
        above.position.z += float(box.size[2]) * (0.5 + _TEXT)
        markers.append(Marker(
            header=header, ns='ids', id=person.id, type=Marker.TEXT_VIEW_FACING,
            action=Marker.ADD, pose=above, text=str(person.id),
            scale=Vector3(z=float(box.size[2]) * _TEXT), color=ColorRGBA(r=r, g=g, b=b, a=1.0),
            lifetime=_SHOWN))
    return MarkerArray(markers=markers)


def _pose(box: PersonBox) -> Pose:
    return conversions.pose_message(
        se3.from_rt(se3.so3_exp(np.array([0.0, 0.0, box.yaw])), box.centre))


def _size(box: PersonBox) -> Vector3:
    x, y, z = box.size.tolist()
    return Vector3(x=x, y=y, z=z)


def _covariance(box: PersonBox) -> list[float]:
    """Covariance of the centre and, unknown, of the heading: 36 numbers in ROS's order."""
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = box.covariance
    covariance[5, 5] = _ANY_ANGLE
    return [float(x) for x in covariance.ravel()]


def _colour(number: int) -> tuple[float, float, float]:
    """Return a light colour (r, g, b), 0 to 1."""
    hue = number * _GOLDEN % 1
    r, g, b = (0.6 + 0.4 * math.cos(2 * math.pi * (hue + third / 3)) for third in range(3))
    return r, g, b
