# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r play`, the recorder, and `recon3r demo --ros`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
import time

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.io.bag import open_bag
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.io.packs import write_pack
from recon3r_ros.ros import conversions, qos
from recon3r_ros.ros.player import Player, SETTLING_S
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.slam.types import PointCloud
from ros_helpers import Collector, wait_for, wait_for_matched
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage
import torch


@pytest.fixture(scope='module')
def pack(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp('pack') / 'pack'
    write_pack(SimulatedSequence(SceneConfig(
        seed=1, frames=12, width=160, height=120, moving_objects=0)), folder)
    return folder


def stamps(collector: Collector) -> list[int]:
    return [conversions.stamp_to_ns(m.header.stamp) for m in collector.messages]


def test_a_pack_is_played_at_its_pace(ros_node, spawn, pack):
    images = Collector(ros_node, Image, '/front/image_raw', qos.POSES)
    infos = Collector(ros_node, CameraInfo, '/front/camera_info', qos.POSES)
    child = spawn('recon3r', 'play', str(pack), '--camera', 'front', '--rate', '2')
    assert child.wait(60) == 0, child.output
    source = list(open_image_folder(pack))
    images.wait(len(source))
    infos.wait(len(source))
    sent = stamps(images)
    assert sent == stamps(infos)
    steps = np.diff([f.stamp_ns for f in source]) / 2
    assert np.abs(np.diff(sent) - steps).max() <= 1
    for message, frame in zip(images.messages, source):
        assert np.array_equal(conversions.image_from_message(message), frame.image)
        assert message.header.frame_id == 'front_optical_frame'
    assert infos.messages[0].k[0] == pytest.approx(source[0].camera.fx)
    # It is live: an image is stamped with the time at which it goes out
    delays = [(r.time_ns - s) / 1e9 for r, s in zip(images.received, sent)]
    assert min(delays) > -0.05 and np.median(delays) < 1
    assert f'published  {len(source)} images on /front/image_raw' in child.stdout


def test_original_stamps_come_with_a_clock(ros_node, spawn, pack):
    images = Collector(ros_node, Image, '/front/image', qos.POSES)
    clock = Collector(ros_node, Clock, '/clock', qos.POSES)
    child = spawn('recon3r', 'play', str(pack), '--stamps', 'original', '--rate', '4',
                  '--ros-args', '-r', 'camera/image_raw:=/front/image')
    assert child.wait(60) == 0, child.output
    source = [f.stamp_ns for f in open_image_folder(pack)]
    images.wait(len(source))
    assert stamps(images) == source
    assert {conversions.stamp_to_ns(m.clock) for m in clock.messages} <= set(source)


def test_it_waits_for_all_subscribers(ros_node, spawn, pack):
    first = Collector(ros_node, Image, '/camera/image_raw', qos.POSES)
    info = Collector(ros_node, CameraInfo, '/camera/camera_info', qos.POSES)
    child = spawn('recon3r', 'play', str(pack), '--subscribers', '2')
    first.wait_for_matched()
    time.sleep(2 * SETTLING_S)
    assert len(first) == len(info) == 0
    second = Collector(ros_node, Image, '/camera/image_raw', qos.POSES)
    time.sleep(2 * SETTLING_S)
    assert len(first) == len(second) == 0
    Collector(ros_node, CameraInfo, '/camera/camera_info', qos.POSES)
    assert child.wait(60) == 0, child.output
    assert len(first.wait(12)) == len(second.wait(12)) == len(info.wait(12)) == 12


def test_it_fails_without_the_subscribers_asked_for(ros_node, monkeypatch):
    monkeypatch.setattr('recon3r_ros.ros.player.LONG_PATIENCE_S', 0.2)
    with pytest.raises(Recon3rError, match='0 subscribers, its camera_info 0.*expected 1'):
        Player(ros_node).wait_for_listeners(1)


def test_nothing_to_play(spawn, tmp_path):
    for arguments, word in ((('/nowhere',), '/nowhere'), ((str(tmp_path),), str(tmp_path))):
        child = spawn('recon3r', 'play', *arguments)
        assert child.wait(30) == 2
        assert word in child.stderr and 'Traceback' not in child.output


@pytest.mark.parametrize('delay', [0.3, 0.45, 0.6, 0.75, 0.9, 1.2])
def test_interrupted_at_any_time_it_ends_in_silence(spawn, pack, delay):
    """While it loads, while the node is made, while it waits for listeners."""
    child = spawn('recon3r', 'play', str(pack), '--loop')
    time.sleep(delay)
    assert child.stop() in (0, 130), child.output
    assert 'Traceback' not in child.output and 'bug' not in child.output


def test_what_is_published_is_recorded(ros_node, spawn, tmp_path):
    path = tmp_path / 'bag'
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    images = ros_node.create_publisher(Image, '/camera/image_raw', qos.POSES)
    latched = ros_node.create_publisher(PointCloud2, '/recon3r/map', qos.LATCHED)
    points = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    cloud = PointCloud(points, np.zeros((100, 3), np.uint8), np.ones(100, np.float32))
    latched.publish(conversions.cloud_message(cloud, 5, 'map'))
    child = spawn('-m', 'recon3r_ros.ros.recorder', str(path))
    wait_for_matched(images)
    wait_for_matched(latched)
    for i in range(10):
        images.publish(conversions.image_message(image, 1_000_000_000 + i, 'camera'))
    # Reliable: what has been acknowledged will be written
    wait_for(lambda: images.wait_for_all_acked(), what='the recorder has all images')
    late = ros_node.create_publisher(CameraInfo, '/camera/camera_info', qos.POSES)
    wait_for_matched(late)
    assert child.stop() == 0, child.output
    frames = list(open_bag(path, ('/camera/image_raw',)))
    assert [f.stamp_ns for f in frames] == [1_000_000_000 + i for i in range(10)]
    assert all(np.array_equal(f.image, image) for f in frames)
    with AnyReader([path]) as reader:
        connections = {c.topic: c for c in reader.connections}
        map_profile, = connections['/recon3r/map'].ext.offered_qos_profiles
        assert map_profile.durability == QosDurability.TRANSIENT_LOCAL
        assert connections['/recon3r/map'].msgcount == 1
        assert '/camera/camera_info' in connections


def test_a_recording_needs_a_new_folder(spawn, tmp_path):
    (tmp_path / 'bag').mkdir()
    child = spawn('-m', 'recon3r_ros.ros.recorder', str(tmp_path / 'bag'))
    assert child.wait(30) == 2
    assert str(tmp_path / 'bag') in child.stderr and 'Traceback' not in child.output


@pytest.mark.slow
def test_demo_over_ros(spawn, tmp_path):
    output = tmp_path / 'demo'
    child = spawn('recon3r', 'demo', '--ros', '--frames', '60', '--load', '1', '--output',
                  str(output))
    assert child.wait(300) == 0, child.output
    for stage in ('rendering 60 images: ', 'starting the node', 'playing: 60 of 60'):
        assert stage in child.stderr
    report = (output / 'report.txt').read_text()
    assert report in child.stdout
    assert 'of 60 images' in report and 'not measured' not in report
    for name in ('frame.png', 'map.png', 'map.ply', 'map.npz', 'trajectory.txt'):
        assert (output / name).stat().st_size > 1000, name
    result = json.loads((output / 'evaluation.json').read_text())
    # How many images have a pose depends on what else runs: `bench --live` measures that
    assert result['tracked'] >= 10
    with AnyReader([output / 'recording']) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
    for topic in ('/camera/image_raw', '/recon3r/pose', '/recon3r/map', '/tf', '/diagnostics',
                  '/recon3r/camera/points', '/recon3r/camera/dynamic_mask'):
        assert counts.get(topic, 0) > 0, f'{topic} in {counts}'
    # From the first one on, everybody was connected
    assert counts['/camera/image_raw'] == counts['/camera/camera_info'] == 60
    assert result['frames'] == 60


def test_a_stereo_rig_is_played(ros_node, spawn, tmp_path):
    """Pairs with their stamps; the baseline is in P of the second camera and on /tf_static."""
    folder = tmp_path / 'rig'
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 24, 32), np.uint8)
    for side, own in zip(('left', 'right'), images):
        (folder / side).mkdir(parents=True)
        for i, image in enumerate(own):
            cv2.imwrite(str(folder / side / f'{i}.png'), image)
        (folder / side / 'frames.txt').write_text(
            ''.join(f'{0.1 * i:.3f} {i}.png\n' for i in range(3)))
    camera = {'width': 32, 'height': 24, 'fx': 30.0, 'fy': 30.0, 'cx': 16.0, 'cy': 12.0}
    T = np.eye(4)
    T[0, 3] = 0.2
    (folder / 'rig.json').write_text(json.dumps(
        {'left': camera, 'right': camera, 'T_left_right': T.tolist()}))
    sides = [Collector(ros_node, Image, f'/{s}/image_raw', qos.POSES) for s in ('left', 'right')]
    infos = Collector(ros_node, CameraInfo, '/right/camera_info', qos.POSES)
    child = spawn('recon3r', 'play', str(folder), '--stereo')
    assert child.wait(60) == 0, child.output
    for side, own in zip(sides, images):
        assert [conversions.image_from_message(m).tolist() for m in side.wait(3)] == own.tolist()
    assert stamps(sides[0]) == stamps(sides[1]) == stamps(infos)
    assert infos.messages[0].p[3] == pytest.approx(-30.0 * 0.2)


def test_a_rig_of_several_cameras_is_played(ros_node, spawn, tmp_path):
    """Its images, intrinsics and poses are what another process needs to pose them together."""
    camera = {'width': 64, 'height': 48, 'fx': 50.0, 'fy': 50.0, 'cx': 31.5, 'cy': 23.5}
    T_front_back = se3.from_rt(se3.so3_exp([0.0, np.pi, 0.0]), [0.0, 0.1, -0.3])
    for number, name in enumerate(('front', 'back')):
        (tmp_path / name).mkdir()
        for i in range(4):
            cv2.imwrite(str(tmp_path / name / f'{i}.png'),
                        np.full((48, 64), 50 * i + number, np.uint8))
    (tmp_path / 'rig.json').write_text(json.dumps(
        {'front': camera, 'back': camera, 'T_front_back': T_front_back.tolist()}))
    fronts = Collector(ros_node, Image, '/front/image_raw', qos.POSES)
    backs = Collector(ros_node, Image, '/back/image_raw', qos.POSES)
    infos = Collector(ros_node, CameraInfo, '/back/camera_info', qos.POSES)
    static = Collector(ros_node, TFMessage, '/tf_static', qos.LATCHED)
    child = spawn('recon3r', 'play', str(tmp_path), '--fps', '10')
    assert child.wait(60) == 0, child.output
    assert [m.data[0] for m in fronts.wait(4)] == [0, 50, 100, 150]
    assert [m.data[0] for m in backs.wait(4)] == [1, 51, 101, 151]
    assert stamps(fronts) == stamps(backs) and infos.messages[0].k[0] == 50
    (transform,), = [m.transforms for m in static.messages]
    assert (transform.header.frame_id, transform.child_frame_id) == (
        'front_optical_frame', 'back_optical_frame')
    np.testing.assert_allclose(conversions.matrix_from_transform(transform.transform),
                               T_front_back, atol=1e-9)
    refused = spawn('recon3r', 'play', str(tmp_path), '--camera', 'middle')
    assert refused.wait(60) == 2 and 'front, back' in refused.stderr
