# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A node whose model finds people: without any other source, they are published and kept out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finding_model import FindingModel
from live import FRAMES, LiveCamera, SCENE, walk_index
import numpy as np
from recon3r_ros.ros import conversions, qos
from recon3r_ros.sim import SimulatedSequence
from ros_helpers import Collector, wait_for
from sensor_msgs.msg import Image, PointCloud2
from simulated import render, still_scene
from standing_person import (
    assert_is_not_in,
    assert_is_one_person_where_it_stands,
    furniture,
)
from test_node import NODE, stamp
from visualization_msgs.msg import MarkerArray


def finding(folder: Path, scene: SimulatedSequence) -> FindingModel:
    """Make a model that knows where that is in the walk."""
    person = furniture(scene)
    return FindingModel(folder, (
        (render(scene, i).image, render(scene, i).object_index == person)
        for i in range(FRAMES)))


def test_people_of_the_model_are_published_and_kept_out(ros_node, spawn, tmp_path):
    """A piece of furniture of the simulated room is taken for a person."""
    scene = still_scene(SCENE, FRAMES)
    person, model = furniture(scene), finding(tmp_path, scene)
    spawn(*NODE, '-p', 'model:=finding', '-p', f'weights:={model.weights}', '-p',
          'camera.use_depth:=true', PYTHONPATH=model.python_path)
    camera = LiveCamera(ros_node)
    camera.with_depth = True
    markers = Collector(ros_node, MarkerArray, '/recon3r/people_markers', qos.POSES)
    clouds = Collector(ros_node, PointCloud2, '/recon3r/camera/points', qos.POSES)
    masks = Collector(ros_node, Image, '/recon3r/camera/dynamic_mask', qos.POSES)
    camera.connect()
    for collector in (markers, clouds, masks):
        collector.wait_for_matched()
    shown: dict[int, int] = {}

    def with_index(message: Any) -> Any:
        shown[camera.stamp_ns] = walk_index(camera.count - 1)
        return message

    def seen() -> bool:
        camera.play(1, 1.0, with_index)
        return len([m for m in markers.messages if m.markers]) >= 4 and len(clouds) >= 2

    wait_for(seen, 60, 'people and keyframes')
    found = assert_is_one_person_where_it_stands(markers, camera, scene, shown)
    assert_is_not_in(clouds, camera, scene, shown)
    begin = stamp(found[0].markers[0])
    covered = [conversions.mask_from_message(m)[
        render(scene, shown[stamp(m)]).object_index == person].mean()
        for m in masks.messages if stamp(m) > begin]
    assert np.median(covered) > 0.9
    status = camera.wait_for_status('camera', lambda s: any(
        v.key == 'people' for v in s.values), 'counts of people')
    assert {v.key: v.value for v in status.values}['people'] == '1'
    assert model.made == 1, 'it is loaded once'


def test_with_another_source_the_model_searches_keyframes_alone(ros_node, spawn, tmp_path):
    """That source is silent: nothing is said of people, but none is in the map."""
    model = finding(tmp_path, still_scene(SCENE, FRAMES))
    camera = LiveCamera(ros_node)
    camera.with_depth = True
    markers = Collector(ros_node, MarkerArray, '/recon3r/people_markers', qos.POSES)
    clouds = Collector(ros_node, PointCloud2, '/recon3r/camera/points', qos.POSES)
    spawn(*NODE, '-p', 'model:=finding', '-p', f'weights:={model.weights}', '-p',
          'camera.use_depth:=true', '-p', 'camera.use_people:=true',
          PYTHONPATH=model.python_path)
    camera.connect()
    for collector in (markers, clouds):
        collector.wait_for_matched()
    shown: dict[int, int] = {}

    def with_index(message: Any) -> Any:
        shown[camera.stamp_ns] = walk_index(camera.count - 1)
        return message

    def mapped() -> bool:
        camera.play(1, 1.0, with_index)
        return len(clouds) >= 2

    wait_for(mapped, 60, 'keyframes')
    assert_is_not_in(clouds, camera, still_scene(SCENE, FRAMES), shown)
    assert not markers.messages
