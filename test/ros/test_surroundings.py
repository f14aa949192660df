# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of other nodes of a robot, and bad timing: detected, reported, tolerated."""

from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import time

from diagnostic_msgs.msg import DiagnosticStatus
from live import FRAME_ID, LiveCamera
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.io.map_store import read_map
from recon3r_ros.ros import conversions, qos
from ros_helpers import Collector, wait_for
from sensor_msgs.msg import Image, PointCloud2
from std_srvs.srv import Trigger
from test_node import call, listen_to_transforms, NODE, stamp
from test_robot import T_BASE_CAM, WITH_BASE, WITH_DEPTH


@pytest.fixture
def camera(ros_node) -> LiveCamera:
    return LiveCamera(ros_node)


@pytest.mark.parametrize('content, words', [
    ('/**: {ros__parameters: {camera: {extrinsics: [0.1, 0, 0.3, 0.0, 0.0, 0.0, 1.0]}}}', '0.0'),
    ('/**: {ros__parameters: {map_period: }}', 'file.yaml'),
    ('/**: {ros_parameters: {map_period: 1.0}}', 'file.yaml'),
    ('/**:\n\tros__parameters: 1', 'file.yaml')])
def test_a_parameter_file_that_rcl_cannot_read(spawn, tmp_path, content, words):
    (tmp_path / 'file.yaml').write_text(content)
    child = spawn(*NODE, '--params-file', str(tmp_path / 'file.yaml'))
    assert child.wait(30) == 2, child.output
    line, = [x for x in child.stderr.splitlines() if 'recon3r: error' in x]
    assert words in line and 'Traceback' not in child.output


def test_odometry_of_other_frames_is_ignored_and_named(ros_node, camera, spawn):
    odom = ros_node.create_publisher(Odometry, '/odom', 50)
    transforms = listen_to_transforms(ros_node)
    child = spawn(*NODE, *WITH_BASE, *WITH_DEPTH, '-p', 'odometry:=true')
    camera.with_depth = True
    camera.connect()
    wait_for(lambda: odom.get_subscription_count() > 0, what='the node listens to odom')
    for _ in range(60):
        message = Odometry(header=conversions.header(camera.stamp_ns, 'robot1/odom'),
                           child_frame_id='robot1/base_footprint')
        message.pose.pose.orientation.w = 1.0
        odom.publish(message)
        camera.play(1, 0.02)
    assert 'robot1/odom -> robot1/base_footprint is ignored' in child.output
    assert 'odom_frame' in child.output
    assert transforms is None or not transforms.messages


def test_diagnostics_come_without_a_clock(camera, spawn):
    spawn(*NODE, '-p', 'use_sim_time:=true', '-p', 'diagnostics_period:=0.2')
    status = camera.wait_for_status(
        'reconstruction', lambda s: '/clock' in s.message, 'a diagnostic that names /clock')
    assert status.level == DiagnosticStatus.WARN


def test_a_topic_with_two_publishers_is_named(ros_node, camera, spawn):
    other = ros_node.create_publisher(Image, '/camera/image_raw', qos.POSES)
    spawn(*NODE, '-p', 'diagnostics_period:=0.2')
    camera.connect()
    camera.wait_for_status('reconstruction', lambda s: '2 publishers' in s.message, 'a warning')
    ros_node.destroy_publisher(other)


def test_depth_that_cannot_be_used_costs_no_image(ros_node, camera, spawn):
    child = spawn(*NODE, *WITH_DEPTH)
    camera.connect()
    wait_for(lambda: camera.depths.get_subscription_count() > 0, what='the node hears depth')

    def tracked() -> bool:
        depth = conversions.depth_message(
            np.ones((240, 320), np.float32), camera.stamp_ns + 33_333_333, FRAME_ID)
        depth.encoding = '64FC1'
        camera.depths.publish(depth)
        camera.play(1, 0.1)
        return bool(camera.posed())

    wait_for(tracked, 60, 'poses')
    assert '64FC1' in child.output and 'tracked without it' in child.output


def test_camera_info_that_comes_too_late_is_named(ros_node, camera, spawn):
    child = spawn(*NODE)
    camera.connect()

    def started() -> bool:
        camera.send(camera.message(), info=False)
        time.sleep(0.05)
        return bool(camera.posed())

    wait_for(started, 60, 'a map without intrinsics')
    camera.play(5)
    assert 'reset the map' in child.output


def test_a_leading_slash_is_not_part_of_a_frame(ros_node, camera, spawn):
    transforms = listen_to_transforms(ros_node)
    if transforms is None:
        pytest.skip('tf2_msgs could not be built')
    spawn(*NODE)
    camera.connect()
    transforms.wait_for_matched()

    def slashed(message: Image) -> Image:
        message.header.frame_id = f'/{FRAME_ID}'
        return message

    def tracked() -> bool:
        camera.play(2, 0.1, slashed)
        return bool(transforms.messages)

    wait_for(tracked, 60, 'transforms')
    assert {t.child_frame_id for m in transforms.messages for t in m.transforms} == {FRAME_ID}


@pytest.mark.parametrize('frame', ['map', 'base_link'])
def test_images_in_a_frame_of_the_robot_are_not_put_on_tf(ros_node, camera, spawn, frame):
    transforms = listen_to_transforms(ros_node)
    arguments = () if frame == 'map' else (*WITH_BASE, *WITH_DEPTH)
    camera.with_depth, camera.frame_id = frame != 'map', frame
    spawn(*NODE, *arguments)
    camera.connect()

    def warned() -> bool:
        camera.play(2, 0.1)
        status = camera.status('reconstruction')
        return status is not None and f'in the frame {frame}' in status.message

    wait_for(warned, 60, 'a warning')
    assert transforms is None or not transforms.messages


@pytest.mark.slow
def test_a_map_frame_is_level_whoever_listens_first(ros_node, spawn, tmp_path):
    """Extrinsics come from TF; RViz asks for a loaded map before the first image is there."""
    tf = pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs could not be built')
    pitched = T_BASE_CAM.copy()
    pitched[:3, :3] = se3.so3_exp(np.array([0, np.deg2rad(30), 0])) @ T_BASE_CAM[:3, :3]
    urdf = ros_node.create_publisher(tf.TFMessage, '/tf_static', qos.LATCHED)
    urdf.publish(tf.TFMessage(transforms=[
        conversions.transform_message(pitched, 'base_link', FRAME_ID, time.time_ns())]))
    arguments = ('-p', 'base_frame:=base_link', *WITH_DEPTH, '-p', f'map_path:={tmp_path / "map"}')

    def first_pose(*more: str) -> np.ndarray:
        camera = LiveCamera(ros_node)
        camera.with_depth = True
        child = spawn(*NODE, *arguments, *more)
        camera.connect()
        time.sleep(0.5)

        def posed() -> bool:
            camera.play(1, 0.1)
            return bool(camera.poses.messages)

        wait_for(posed, 60, 'poses')
        camera.play(10)
        answer = call(ros_node, Trigger, '/recon3r/save_map')
        assert answer.success, answer.message
        assert child.stop() == 0
        return conversions.matrix_from_pose(
            min(camera.poses.messages, key=stamp).pose.pose)

    up = np.array([0.0, 0.0, 1.0])
    assert first_pose()[:3, :3] @ up @ up > np.cos(np.deg2rad(5))
    listener = Collector(ros_node, PointCloud2, '/recon3r/map', qos.LATCHED)
    again = first_pose('-p', 'load_on_start:=true')
    assert again[:3, :3] @ up @ up > np.cos(np.deg2rad(5))
    assert listener.messages


def mapping_process(child) -> int:
    children = Path(f'/proc/{child.pid}/task/{child.pid}/children').read_text().split()
    for pid in children:
        if 'subprocess_executor' in Path(f'/proc/{pid}/cmdline').read_text():
            return int(pid)
    raise AssertionError('there is no mapping process')


def test_services_start_a_dead_mapping_process_again(ros_node, camera, spawn):
    child = spawn(*NODE)
    camera.connect()
    camera.start()
    os.kill(mapping_process(child), signal.SIGKILL)
    answer = call(ros_node, Trigger, '/recon3r/reset')
    assert answer.success, answer.message
    camera.poses.clear()
    camera.start()


def test_maps_are_saved_one_at_a_time_and_whole(ros_node, camera, spawn, tmp_path):
    """Four at once, then Ctrl-C while one is written; with a path as people write it."""
    child = spawn(*NODE, '-p', 'map_path:=~/map', HOME=str(tmp_path))
    camera.connect()
    camera.start()
    camera.play(30)
    clients = [ros_node.create_client(Trigger, '/recon3r/save_map') for _ in range(4)]
    for client in clients:
        wait_for(client.service_is_ready, what='save_map')
    answers = [client.call_async(Trigger.Request()) for client in clients]
    wait_for(lambda: all(a.done() for a in answers), 60, 'four answers')
    results = [a.result() for a in answers]
    assert any(r.success for r in results)
    assert all(r.success or 'already' in r.message for r in results)
    assert str(tmp_path / 'map') in next(r.message for r in results if r.success)
    written = tmp_path / 'map'
    read_map(written / 'map.npz')
    (written / 'report.json').unlink()
    clients[0].call_async(Trigger.Request())
    wait_for(lambda: not (written / 'report.json').exists(), what='it begins')
    time.sleep(0.15)
    assert child.stop(30) == 0, child.output
    if (written / 'report.json').exists():  # it had begun: then it is whole
        report = json.loads((written / 'report.json').read_text())
        assert report['keyframes'] == len(read_map(written / 'map.npz').map.keyframes)
    assert not list(written.glob('.*tmp*')), 'nothing half written is left'


def test_cameras_that_share_a_frame_are_named(ros_node, spawn):
    left, right = LiveCamera(ros_node, 'left'), LiveCamera(ros_node, 'right')
    spawn(*NODE, '-p', "cameras:=['left', 'right']")
    left.connect()
    right.connect()
    left.start()
    right.stamp_ns, right.count = left.stamp_ns + 1000, left.count

    def warned() -> bool:
        left.play(1, 0.1)
        right.play(1, 0.1)
        status = left.status('reconstruction')
        return status is not None and 'several cameras' in status.message

    wait_for(warned, 60, 'a warning')
