# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node in a process of its own, over real DDS: its outputs, services and parameters."""

from __future__ import annotations

import json
from pathlib import Path
import re
import signal
import time

from geometry_msgs.msg import PoseWithCovarianceStamped
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from live import FRAME_ID, LiveCamera
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from recon3r_ros.geometry import se3
from recon3r_ros.io.map_store import read_map
from recon3r_ros.io.run_folder import read_run
from recon3r_ros.ros import conversions, qos
from ros_helpers import Collector, TIMEOUT, wait_for
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from simulated import as_frame, render, still_scene
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

NODE = ('-m', 'recon3r_ros.ros.start', '--ros-args')


def call(node, kind, name: str, request=None, timeout: float = 60.0):
    """Call a service and return its answer."""
    client = node.create_client(kind, name)
    wait_for(client.service_is_ready, what=f'service {name}')
    future = client.call_async(request or kind.Request())
    wait_for(future.done, timeout, f'an answer of {name}')
    node.destroy_client(client)
    return future.result()


def set_parameter(node, name: str, value: ParameterValue) -> None:
    """Set a parameter of the node."""
    request = SetParameters.Request(parameters=[Parameter(name=name, value=value)])
    result, = call(node, SetParameters, '/recon3r/set_parameters', request).results
    assert result.successful, result.reason


@pytest.fixture
def camera(ros_node) -> LiveCamera:
    return LiveCamera(ros_node)


def all_outputs(node) -> dict[str, Collector]:
    """Listen to everything."""
    topics = {
        'points': (PointCloud2, '/recon3r/camera/points', qos.POSES),
        'depth': (Image, '/recon3r/camera/depth/image', qos.images('sensor_data')),
        'depth_info': (CameraInfo, '/recon3r/camera/depth/camera_info', qos.images('sensor_data')),
        'mask': (Image, '/recon3r/camera/dynamic_mask', qos.images('sensor_data')),
        'odometry': (Odometry, '/recon3r/odometry', qos.POSES),
        'path': (PathMessage, '/recon3r/path', qos.LATCHED),
        'map': (PointCloud2, '/recon3r/map', qos.LATCHED),
        'graph': (MarkerArray, '/recon3r/graph', qos.LATCHED),
    }
    return {name: Collector(node, *topic) for name, topic in topics.items()}


def stamp(message) -> int:
    return conversions.stamp_to_ns(message.header.stamp)


def test_every_output_comes_from_its_image(ros_node, spawn):
    # Its subscription comes first: where transform and pose wait, it is served first
    transforms = listen_to_transforms(ros_node)
    camera = LiveCamera(ros_node)
    outputs = all_outputs(ros_node)
    spawn(*NODE)
    camera.connect()
    for output in [*outputs.values(), *([transforms] if transforms else [])]:
        output.wait_for_matched()
    sent = set(camera.start())
    sent |= set(camera.play(25))
    for name, output in outputs.items():
        output.wait(1)
    sent |= set(camera.play(5))
    for name in ('points', 'depth', 'depth_info', 'mask', 'odometry', 'path', 'map'):
        assert outputs[name].messages
        for message in outputs[name].messages:
            assert stamp(message) in sent, name
    for name in ('points', 'depth', 'depth_info', 'mask'):
        assert {m.header.frame_id for m in outputs[name].messages} == {FRAME_ID}, name
    for name in ('odometry', 'path', 'map'):
        assert {m.header.frame_id for m in outputs[name].messages} == {'map'}, name
    for pose in camera.poses.messages:
        assert pose.header.frame_id == 'map' and stamp(pose) in sent
        covariance = pose.pose.covariance.reshape(6, 6)
        assert np.isfinite(covariance).all() and np.allclose(covariance, covariance.T)
    # robot_localization trusts a variance of zero without limit
    for message in camera.poses.messages:
        assert (np.linalg.eigvalsh(message.pose.covariance.reshape(6, 6)) > 0).all()
    mask = outputs['mask'].messages[-1]
    assert (mask.width, mask.height) == (320, 240) and set(mask.data) <= {0, 255}
    if transforms is not None:
        parents = {t.child_frame_id: t.header.frame_id
                   for m in transforms.messages for t in m.transforms}
        assert parents == {FRAME_ID: 'map'}
        assert_transforms_are_poses(transforms, camera.poses)


def assert_transforms_are_poses(transforms: Collector, poses: Collector) -> None:
    """Every pose has a transform of its stamp that equals it, and that was there before it."""
    found = {stamp(t): (conversions.matrix_from_transform(t.transform), received.time_ns)
             for received in transforms.received for t in received.message.transforms}
    assert len(found) == sum(len(m.transforms) for m in transforms.messages)  # none twice
    assert set(found) == {stamp(m) for m in poses.messages}
    for message in poses.messages:
        T, _ = found[stamp(message)]
        assert np.abs(T - conversions.matrix_from_pose(message.pose.pose)).max() < 1e-6
    before = [found[stamp(r.message)][1] <= r.time_ns for r in poses.received]
    # The order of publishing; DDS may swap messages of two topics now and then
    assert np.mean(before) > 0.9


def listen_to_transforms(node) -> Collector | None:
    """Listen to /tf where its messages exist."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        return None
    return Collector(node, TFMessage, '/tf', qos.TF)


def test_depth_lies_on_the_published_cloud(ros_node, camera, spawn):
    points = Collector(ros_node, PointCloud2, '/recon3r/camera/points', qos.POSES)
    depth = Collector(ros_node, Image, '/recon3r/camera/depth/image', qos.images('sensor_data'))
    infos = Collector(ros_node, CameraInfo, '/recon3r/camera/depth/camera_info',
                      qos.images('sensor_data'))
    spawn(*NODE)
    camera.connect()
    for output in (points, depth, infos):
        output.wait_for_matched()
    camera.start()

    def complete() -> set[int]:
        camera.play(5)
        return ({stamp(m) for m in points.messages} & {stamp(m) for m in depth.messages}
                & {stamp(m) for m in infos.messages})

    at = wait_for(complete, 60, 'points, depth and camera_info of one keyframe').pop()
    cloud, image, info = (next(m for m in c.messages if stamp(m) == at)
                          for c in (points, depth, infos))
    assert (info.width, info.height) == (image.width, image.height)
    values = conversions.depth_from_message(image)
    own = conversions.cloud_from_message(cloud).points.astype(float)
    u = np.rint(own[:, 0] / own[:, 2] * info.k[0] + info.k[2]).astype(int)
    v = np.rint(own[:, 1] / own[:, 2] * info.k[4] + info.k[5]).astype(int)
    z = values[v, u].astype(float)
    again = np.stack([(u - info.k[2]) / info.k[0] * z, (v - info.k[5]) / info.k[4] * z, z], axis=1)
    assert len(own) > 500
    assert np.linalg.norm(again - own, axis=1).max() < 1e-3


def test_a_late_joiner_gets_the_map(ros_node, camera, spawn):
    spawn(*NODE)
    camera.connect()
    camera.start()
    camera.play(10)
    late = Collector(ros_node, PointCloud2, '/recon3r/map', qos.LATCHED)
    cloud = conversions.cloud_from_message(late.wait(1)[0])
    assert len(cloud) > 500 and np.isfinite(cloud.points).all()
    # Nothing moves any more, no image comes: who comes even later gets it too
    last = Collector(ros_node, PointCloud2, '/recon3r/map', qos.LATCHED)
    assert len(conversions.cloud_from_message(last.wait(1)[0])) > 500


def truth(index: int) -> np.ndarray:
    return render(still_scene(3, 40), index).T_world_cam


@pytest.mark.slow
def test_odometry_gives_metres_and_keeps_its_frame(ros_node, camera, spawn):
    """The robot drives with 5 % noise on its odometry; map -> odom corrects it."""
    T_base_cam = se3.from_rt(np.array([[0., 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([.1, 0, .3]))
    extrinsics = [*T_base_cam[:3, 3].tolist(),
                  *se3.quat_xyzw_from_matrix(T_base_cam[:3, :3]).tolist()]
    transforms = listen_to_transforms(ros_node)
    if transforms is None:
        pytest.skip('tf2_msgs could not be built')
    odom = ros_node.create_publisher(Odometry, '/odom', 50)
    spawn(*NODE, '-p', 'odometry:=true', '-p', 'base_frame:=base_link', '-p',
          f'camera.extrinsics:={extrinsics}')
    camera.connect()
    wait_for(lambda: odom.get_subscription_count() > 0, what='the node listens to odom')
    rng = np.random.default_rng(5)
    T_odom_base, before = np.eye(4), None
    published = {}

    def step() -> None:
        nonlocal T_odom_base, before
        index = camera.count % 78
        T_world_base = truth(min(index, 78 - index)) @ se3.inverse(T_base_cam)
        if before is not None:
            move = se3.inverse(before) @ T_world_base
            move[:3, 3] *= 1 + 0.05 * rng.normal()
            T_odom_base = se3.normalized(T_odom_base @ move)
        before = T_world_base
        message = Odometry(header=conversions.header(camera.stamp_ns + 33_333_333, 'odom'),
                           child_frame_id='base_link')
        message.pose.pose = conversions.pose_message(T_odom_base)
        odom.publish(message)
        published[camera.stamp_ns + 33_333_333] = T_odom_base
        camera.play(1, 0.2)

    def known() -> bool:
        for _ in range(20):
            step()
        return bool(camera.poses.messages)

    wait_for(known, 120, 'a scale')
    for _ in range(60):
        step()
    poses = {stamp(m): conversions.matrix_from_pose(m.pose.pose) for m in camera.poses.messages}
    newest = sorted(poses)[-40:]
    length = sum(np.linalg.norm(poses[b][:3, 3] - poses[a][:3, 3])
                 for a, b in zip(newest, newest[1:]))
    base = {s: truth(i) @ se3.inverse(T_base_cam) for s, i in indices_of(camera).items()}
    true = sum(np.linalg.norm(base[b][:3, 3] - base[a][:3, 3]) for a, b in zip(newest, newest[1:]))
    assert length == pytest.approx(true, rel=0.06)
    last = [t for m in transforms.messages for t in m.transforms]
    assert {(t.header.frame_id, t.child_frame_id) for t in last} == {('map', 'odom')}
    assert_looked_up_pose_is_published_pose(
        {stamp(t): conversions.matrix_from_transform(t.transform) for t in last},
        published, poses)


def assert_looked_up_pose_is_published_pose(
        T_map_odom: dict[int, np.ndarray], T_odom_base: dict[int, np.ndarray],
        poses: dict[int, np.ndarray]) -> None:
    """
    Compare (map -> odom)(odom -> base) at each image's stamp with its pose.

    map -> odom of an image is stamped 0.1 s later, exactly. At the image's own stamp tf2
    interpolates between those of the images about 0.1 s before, so that the pose that is looked up
    differs by no more than what map -> odom has changed by since.
    """
    tolerance_ns = 100_000_000
    stamps = np.array(sorted(T_map_odom))
    assert min(T_map_odom) <= min(poses)  # the first one can be looked up, too
    for at, pose in poses.items():
        exact = T_map_odom[at + tolerance_ns] @ T_odom_base[at]
        assert np.abs(exact - pose).max() < 1e-6
        before = int(np.searchsorted(stamps, at, side='right')) - 1
        earlier, later = stamps[before], stamps[before + 1]
        step = se3.log(se3.normalized(se3.inverse(T_map_odom[earlier]) @ T_map_odom[later]))
        share = float(at - earlier) / float(later - earlier)
        looked_up = T_map_odom[earlier] @ se3.exp(share * step) @ T_odom_base[at]
        since = [T_map_odom[s] for s in stamps[before:] if s <= at + tolerance_ns]
        newest = T_map_odom[at + tolerance_ns]
        changed = max(np.linalg.norm(((T - newest) @ T_odom_base[at])[:3, 3]) for T in since)
        assert np.linalg.norm((looked_up - pose)[:3, 3]) <= changed + 1e-3


def indices_of(camera: LiveCamera) -> dict[int, int]:
    """Which frame of the walk each stamp was."""
    found = {}
    for count in range(camera.count):
        index = count % 78
        found[camera.stamp_ns - (camera.count - 1 - count) * 33_333_333] = min(index, 78 - index)
    return found


@pytest.mark.slow
def test_save_load_and_relocalise(ros_node, camera, spawn, tmp_path):
    child = spawn(*NODE)
    camera.connect()
    assert not call(ros_node, Trigger, '/recon3r/save_map').success  # nowhere to write to
    set_parameter(ros_node, 'map_path', ParameterValue(type=4, string_value=str(tmp_path / 'map')))
    answer = call(ros_node, Trigger, '/recon3r/save_map')
    assert not answer.success and 'no map' in answer.message
    camera.start()
    camera.play(30)
    answer = call(ros_node, Trigger, '/recon3r/save_map')
    assert answer.success, answer.message
    written = tmp_path / 'map'
    report = json.loads((written / 'report.json').read_text())
    assert report['keyframes'] == len(list((written / 'depth').glob('*.npz'))) >= 2
    assert (written / 'map.ply').stat().st_size > 10_000
    assert len((written / 'trajectory.txt').read_text().splitlines()) >= 30
    saved = read_map(written / 'map.npz')
    exported = read_run(written)  # for recon3r export
    assert set(exported.keyframes) == set(saved.map.keyframes) and len(exported.images) >= 30
    assert child.stop() == 0

    again = spawn(*NODE, '-p', f'map_path:={written}', '-p', 'load_on_start:=true')
    camera.connect()
    camera.poses.clear()
    stamps = camera.play(12, TIMEOUT)
    assert set(stamps[2:]) <= camera.posed(), again.output
    # The same place in the same map, although the walk begins anew for this node
    latest = {stamp(m): conversions.matrix_from_pose(m.pose.pose) for m in camera.poses.messages}
    answer = call(ros_node, Trigger, '/recon3r/save_map')
    assert answer.success, answer.message
    grown = read_map(written / 'map.npz')
    assert set(saved.map.keyframes) < set(grown.map.keyframes)
    assert len(latest) >= 10


@pytest.mark.slow
def test_pause_resume_and_reset(ros_node, camera, spawn):
    spawn(*NODE)
    camera.connect()
    camera.start()
    camera.assert_tracks()
    assert call(ros_node, SetBool, '/recon3r/pause', SetBool.Request(data=True)).success
    ignored = camera.play(4, 0.1)
    camera.wait_for_status('reconstruction', lambda s: s.message == 'paused', 'paused')
    assert not set(ignored) & camera.posed()
    assert call(ros_node, SetBool, '/recon3r/pause', SetBool.Request(data=False)).success
    camera.play(4)
    camera.assert_tracks()
    assert call(ros_node, Trigger, '/recon3r/reset').success
    camera.wait_for_status('reconstruction', lambda s: any(
        v.key == 'keyframes' and v.value == '0' for v in s.values), 'an empty map')
    camera.poses.clear()
    camera.start()
    camera.play(20)
    camera.assert_tracks()


@pytest.mark.slow
def test_lifecycle_twenty_times_leaks_nothing(ros_node, spawn):
    child = spawn(*NODE, '-p', 'autostart:=false')

    def change(transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert call(ros_node, ChangeState, '/recon3r/change_state', request).success

    def cycle() -> None:
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
                           Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
            change(transition)

    def resources() -> tuple[int, int, int, int]:
        process = Path(f'/proc/{child.pid}')
        status = dict(line.split(':', 1) for line in
                      (process / 'status').read_text().splitlines() if ':' in line)
        children = (process / f'task/{child.pid}/children').read_text().split()
        topics = ros_node.get_publisher_names_and_types_by_node('recon3r', '/')
        return (int(status['Threads']), len(list((process / 'fd').iterdir())), len(children),
                len(topics))

    def memory_mb() -> float:
        return int(Path(f'/proc/{child.pid}/statm').read_text().split()[1]) * 4096 / 1e6

    for _ in range(3):  # libraries start their threads when they are first used
        cycle()
    before, used = resources(), memory_mb()
    for _ in range(17):
        cycle()
    wait_for(lambda: resources() <= before, what=f'{resources()} no more than {before}')
    assert memory_mb() < used + 20
    state = call(ros_node, GetState, '/recon3r/get_state').current_state
    assert state.id == State.PRIMARY_STATE_UNCONFIGURED
    assert child.stop() == 0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_soon_and_cleanly(camera, spawn, number):
    before = set(Path('/dev/shm').glob('fastdds_*'))
    child = spawn(*NODE)
    camera.connect()
    camera.start()
    camera.play(3, 0.05)
    own = shared_memory(child.pid) - before
    assert own
    begin = time.monotonic()
    child.send(number)
    assert child.wait(10) == 0, child.output
    assert time.monotonic() - begin < 5  # 2 s on a machine that does nothing else
    assert not [path for path in own if path.exists()]
    assert 'Traceback' not in child.output


def shared_memory(pid: int) -> set[Path]:
    """Files of messages in DDS's shared memory that a process has mapped."""
    maps = Path(f'/proc/{pid}/maps').read_text()
    return {Path(name) for name in re.findall(r'/dev/shm/fastdds_[0-9a-f]{16}$', maps, re.M)}


def test_two_cameras_share_a_map(ros_node, spawn):
    left, right = LiveCamera(ros_node, 'left'), LiveCamera(ros_node, 'right')
    spawn(*NODE, '-p', "cameras:=['left', 'right']")
    left.connect()
    right.connect()
    left.start()
    left.play(30)
    points = Collector(ros_node, PointCloud2, '/recon3r/right/points', qos.POSES)
    right.stamp_ns, right.count = left.stamp_ns, left.count
    stamps: list[int] = []

    def joined() -> bool:
        left.play(1, 0.1)
        right.stamp_ns = left.stamp_ns + 1000
        right.count = left.count + 1
        stamps.extend(right.play(1, 0.3))
        return len(set(stamps) & right.posed()) > 5

    wait_for(joined, 90, 'poses of the second camera')
    poses = {stamp(m): conversions.matrix_from_pose(m.pose.pose) for m in left.poses.messages}
    near = [(poses[s], poses[min((t for t in poses if t != s), key=lambda t: abs(t - s))])
            for s in stamps if s in poses]
    # One step of the walk apart, in one map: nothing near the size of the room
    distances = [np.linalg.norm(a[:3, 3] - b[:3, 3]) for a, b in near]
    assert np.median(distances) < 0.1
    assert points.subscription is not None


def test_wrong_parameters_end_it_with_one_line(spawn):
    for arguments, words in (
            (('-p', 'queue_size:=two'), ('queue_size', 'INTEGER')),
            (('-p', 'tf_tolerance:=-1.0'), ('tf_tolerance', '-1.0')),
            (('-p', 'model:=unknown'), ('model', 'geometric')),
            (('-p', 'camera.extrinsics:=[1.0, 2.0]'), ('camera.extrinsics', 'seven')),
            (('-p', 'camera.calibration:=/nowhere.json'), ('calibration', '/nowhere.json'))):
        child = spawn(*NODE, *arguments)
        assert child.wait(30) == 2, child.output
        line, = [x for x in child.stderr.splitlines() if 'recon3r: error' in x]
        assert all(word in line for word in words), line
        assert 'Traceback' not in child.output


def test_first_image_of_the_walk_is_where_the_map_begins(camera, spawn):
    """The map frame is the first camera with z up: forward is x."""
    spawn(*NODE)
    camera.connect()
    camera.start()
    camera.play(10)
    first = min(camera.poses.messages, key=stamp)
    T = conversions.matrix_from_pose(first.pose.pose)
    assert np.allclose(T[:3, 3], 0, atol=0.05)
    assert np.allclose(T[:3, :3] @ [0, 0, 1], [1, 0, 0], atol=0.1)
    assert isinstance(first, PoseWithCovarianceStamped)
    assert as_frame(still_scene(3, 40), 0).image.shape[:2] == (240, 320)
