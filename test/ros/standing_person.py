# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A piece of furniture of a simulated room that is taken for a person who stands still."""

from __future__ import annotations

from live import LiveCamera
import numpy as np
from recon3r_ros.ros import conversions
from recon3r_ros.sim import SimulatedSequence
from recon3r_ros.slam.people_boxes import person_boxes
from recon3r_ros.slam.semantics import People
from ros_helpers import Collector
from simulated import render
from test_node import stamp
from visualization_msgs.msg import MarkerArray


def as_box(pose, size) -> tuple[np.ndarray, np.ndarray]:
    """Return pose (4, 4) and size (3,) of a box of a message, metres."""
    return conversions.matrix_from_pose(pose), np.array([size.x, size.y, size.z])


def furniture(scene: SimulatedSequence) -> int:
    """Return the largest object, which is taken for a person."""
    candidates, sizes = np.unique(render(scene, 0).object_index, return_counts=True)
    return int(max(zip(sizes[candidates > 0], candidates[candidates > 0]))[1])


def assert_is_one_person_where_it_stands(
        markers: Collector, camera: LiveCamera, scene: SimulatedSequence, shown: dict[int, int]
        ) -> list[MarkerArray]:
    """
    Fail where the boxes are not those of the truth, in metres, or have several ids.

    :param shown: indices in the scene of the images, by their stamps
    :return: the messages with people
    """
    person = furniture(scene)
    poses = {stamp(m): conversions.matrix_from_pose(m.pose.pose) for m in camera.poses.messages}
    found = [m for m in markers.messages if m.markers]
    assert len({m.markers[0].id for m in found}) == 1, 'it is one person throughout'
    for message in found:
        cube = message.markers[0]
        truth = render(scene, shown[stamp(cube)])
        own = truth.object_index == person
        (box,) = person_boxes(People(own.astype(np.uint16)), own, truth.depth, camera.camera,
                              poses[stamp(cube)])
        T, size = as_box(cube.pose, cube.scale)
        np.testing.assert_allclose(T[:3, 3], box.centre, atol=0.02)
        np.testing.assert_allclose(size, box.size, atol=0.02)
        assert cube.header.frame_id == 'map'
    return found


def assert_is_not_in(clouds: Collector, camera: LiveCamera, scene: SimulatedSequence,
                     shown: dict[int, int]) -> None:
    """Fail where a keyframe has points of the person; `shown` as above."""
    person = furniture(scene)
    for message in clouds.messages:
        cloud = conversions.cloud_from_message(message)
        pixels = np.rint(camera.camera.project(cloud.points.astype(float))).astype(int)
        objects = render(scene, shown[stamp(message)]).object_index
        inside = objects[pixels[:, 1].clip(0, 239), pixels[:, 0].clip(0, 319)] == person
        assert len(cloud) > 1000 and inside.mean() < 0.001
