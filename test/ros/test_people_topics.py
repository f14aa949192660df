# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People on ~/people and as markers, and out of the map."""

from __future__ import annotations

import os
import time

import cv2
from live import FRAME_ID, LiveCamera, walk_index
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions, people, qos
from recon3r_ros.slam.people_boxes import PersonBox
from recon3r_ros.slam.people_tracks import TrackedPerson
from ros_helpers import Collector, wait_for
from sensor_msgs.msg import Image, PointCloud2
from simulated import render, still_scene
from standing_person import (
    as_box,
    assert_is_not_in,
    assert_is_one_person_where_it_stands,
    furniture,
)
from test_node import NODE, stamp
from visualization_msgs.msg import Marker, MarkerArray

STAMP_NS = 1_700_000_000_123_456_789
BOX = PersonBox(3, 0.75, np.array([2.0, -1.0, 0.9]), 0.5, np.array([0.3, 0.6, 1.8]),
                np.diag([0.04, 0.01, 0.0]))
PEOPLE = [TrackedPerson(7, BOX, np.zeros(3)), TrackedPerson(12, BOX, np.zeros(3))]


def assert_is_the_box(pose, size):
    T, sides = as_box(pose, size)
    np.testing.assert_allclose(T[:3, 3], BOX.centre)
    np.testing.assert_allclose(T[:3, :3], se3.so3_exp(np.array([0, 0, BOX.yaw])), atol=1e-12)
    np.testing.assert_allclose(sides, BOX.size)


def test_markers_are_boxes_with_their_ids():
    message = deserialize_message(serialize_message(
        people.people_markers(PEOPLE, STAMP_NS, 'map')), MarkerArray)
    cubes = [m for m in message.markers if m.type == Marker.CUBE]
    texts = [m for m in message.markers if m.type == Marker.TEXT_VIEW_FACING]
    assert [m.id for m in cubes] == [7, 12] and [m.text for m in texts] == ['7', '12']
    assert_is_the_box(cubes[0].pose, cubes[0].scale)
    for marker in message.markers:
        assert (stamp(marker), marker.header.frame_id) == (STAMP_NS, 'map')
        assert 0 < marker.lifetime.nanosec < 1e9
        assert all(0 <= c <= 1 for c in (marker.color.r, marker.color.g, marker.color.b))
    assert texts[0].pose.position.z > BOX.centre[2] + BOX.size[2] / 2
    assert people.people_markers([], STAMP_NS, 'map').markers == []


def test_detections_have_box_class_score_and_covariance():
    if people.Detection3DArray is None:
        pytest.skip('vision_msgs was not built with Detection3DArray')
    message = deserialize_message(serialize_message(
        people.people_message(PEOPLE, STAMP_NS, 'map')), people.Detection3DArray)
    assert [d.id for d in message.detections] == ['7', '12']
    found = message.detections[0]
    assert_is_the_box(found.bbox.center, found.bbox.size)
    (result,) = found.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ('person', 0.75)
    covariance = np.array(result.pose.covariance).reshape(6, 6)
    np.testing.assert_allclose(covariance[:3, :3], BOX.covariance)
    assert_is_the_box(result.pose.pose, found.bbox.size)


def test_a_person_who_stands_still_has_a_box_and_is_not_in_the_map(ros_node, spawn):
    """A piece of furniture of the simulated room is taken for a person."""
    scene = still_scene(3, 40)
    person = furniture(scene)
    camera = LiveCamera(ros_node)
    camera.with_depth = True
    masks = ros_node.create_publisher(Image, '/camera/people', qos.POSES)
    markers = Collector(ros_node, MarkerArray, '/recon3r/people_markers', qos.POSES)
    detections = people.Detection3DArray and Collector(
        ros_node, people.Detection3DArray, '/recon3r/people', qos.POSES)
    clouds = Collector(ros_node, PointCloud2, '/recon3r/camera/points', qos.POSES)
    spawn(*NODE, '-p', 'camera.use_depth:=true', '-p', 'camera.use_people:=true')
    camera.connect()
    markers.wait_for_matched()
    clouds.wait_for_matched()
    wait_for(lambda: masks.get_subscription_count() > 0, what='the node listens')
    shown: dict[int, int] = {}

    def with_people(message):
        index = walk_index(camera.count - 1)
        shown[camera.stamp_ns] = index
        # Numbered anew in each image, as detectors do
        ids = np.where(render(scene, index).object_index == person, 1 + index, 0)
        masks.publish(conversions.image_message(
            ids.astype(np.uint8), camera.stamp_ns, FRAME_ID))
        return message

    def seen() -> bool:
        camera.play(1, 1.0, with_people)
        return len([m for m in markers.messages if m.markers]) >= 3 and len(clouds) >= 2

    wait_for(seen, 60, 'people and keyframes')
    found = assert_is_one_person_where_it_stands(markers, camera, scene, shown)
    if detections:
        assert {stamp(m) for m in detections.messages} >= {stamp(m.markers[0]) for m in found}
        assert {d.id for m in detections.messages for d in m.detections} == {
            str(found[0].markers[0].id)}
    assert_is_not_in(clouds, camera, scene, shown)
    status = camera.wait_for_status('camera', lambda s: any(
        v.key == 'people' for v in s.values), 'counts of people')
    assert {v.key: v.value for v in status.values}['people'] == '1'


def test_a_model_that_is_not_there_is_named(spawn):
    node = spawn(*NODE, '-p', 'people_model:=missing.task')
    node.wait_for_output('missing.task: there is no such file or folder', 60)


def test_the_node_finds_people_by_itself(ros_node, spawn, shared_data):
    """Only where the user has the networks' files."""
    path = os.environ.get('RECON3R_PEOPLE_MODEL')
    if not path:
        pytest.skip('RECON3R_PEOPLE_MODEL names no files of networks that find people')
    camera = LiveCamera(ros_node)
    masks = Collector(ros_node, Image, '/recon3r/camera/dynamic_mask', qos.POSES)
    spawn(*NODE, '-p', f'people_model:={path}', '-p', 'camera.calibration:=none')
    camera.connect()
    masks.wait_for_matched()
    pack = shared_data.pack('davis_dance_twirl')
    images = sorted((pack / 'images').iterdir())[:24]
    begin = time.time_ns()
    stamps = [begin + n * 41_666_667 for n in range(len(images))]
    for stamp_ns, path in zip(stamps, images):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        camera.send(conversions.image_message(image, stamp_ns, FRAME_ID))
        time.sleep(0.15)
    status = camera.wait_for_status('camera', lambda s: any(
        v.key == 'people' and v.value == '1' for v in s.values), 'a person')
    assert int({v.key: v.value for v in status.values}['images searched for people']) > 5
    wait_for(lambda: len(masks) > 5, what='masks')
    newest = masks.messages[-1]
    truth = cv2.imread(str(
        pack / 'masks' / f'{images[stamps.index(stamp(newest))].stem}.png'), 0) > 0
    own = conversions.mask_from_message(newest)
    # Spectators move, too
    assert own[truth].mean() > 0.85 and own.mean() < 0.4
