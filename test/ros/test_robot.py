# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node among the other nodes of a robot: frames, metres, late joiners, synchronisers."""

from __future__ import annotations

from collections.abc import Callable
import math
import time

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from live import FRAME_ID, LiveCamera, walk_index
from nav_msgs.msg import Path as PathMessage
import numpy as np
import pytest
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.parameter import parameter_value_to_python
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions, qos
from ros_helpers import Collector, wait_for
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from simulated import render, still_scene
from std_srvs.srv import Trigger
from test_node import (
    assert_transforms_are_poses,
    call,
    listen_to_transforms,
    NODE,
    set_parameter,
    stamp,
)
from visualization_msgs.msg import Marker, MarkerArray
import yaml

#: A camera that looks ahead, in front of and above the base
T_BASE_CAM = se3.from_rt(np.array([[0., 0, 1], [-1, 0, 0], [0, -1, 0]]), np.array([.1, 0, .3]))
EXTRINSICS = [*T_BASE_CAM[:3, 3].tolist(), *se3.quat_xyzw_from_matrix(T_BASE_CAM[:3, :3]).tolist()]
WITH_BASE = ('-p', 'base_frame:=base_link', '-p', f'camera.extrinsics:={EXTRINSICS}')
WITH_DEPTH = ('-p', 'camera.use_depth:=true')


@pytest.fixture
def tf_message():
    return pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs could not be built').TFMessage


def metric_outputs(node) -> list[Collector]:
    """Subscribe to all metric topics but the poses, to which the camera subscribes."""
    transforms = listen_to_transforms(node)
    return [
        Collector(node, PointCloud2, '/recon3r/camera/points', qos.POSES),
        Collector(node, PointCloud2, '/recon3r/camera/dynamic_points', qos.POSES),
        Collector(node, PointCloud2, '/recon3r/camera/static_points', qos.POSES),
        Collector(node, Image, '/recon3r/camera/depth/image', qos.POSES),
        Collector(node, PointCloud2, '/recon3r/map', qos.LATCHED),
        Collector(node, PathMessage, '/recon3r/path', qos.LATCHED),
        Collector(node, MarkerArray, '/recon3r/graph', qos.LATCHED),
        *([transforms] if transforms is not None else []),
    ]


def scale_of(status: DiagnosticStatus) -> float:
    return float(next(v.value for v in status.values if v.key == 'metres per map unit'))


@pytest.mark.slow
def test_lengths_are_held_back_until_they_are_metres(ros_node, spawn, tf_message):
    """With a base frame, whose extrinsics are in metres, and a depth camera that comes late."""
    transforms = listen_to_transforms(ros_node)
    camera = LiveCamera(ros_node)
    outputs = metric_outputs(ros_node)
    scale = Collector(ros_node, DiagnosticStatus, '/recon3r/scale', qos.LATCHED)
    mask = Collector(ros_node, Image, '/recon3r/camera/dynamic_mask', qos.POSES)
    child = spawn(*NODE, *WITH_BASE, *WITH_DEPTH)
    camera.connect()
    for output in (*outputs, transforms):
        output.wait_for_matched()
    assert scale.wait(1)[0].message == 'scale: unknown' and math.isnan(scale_of(scale.messages[0]))

    def tracks() -> bool:
        camera.play(5, 0.05)
        return int(camera.values(': camera').get('images posed', 0)) > 30

    wait_for(tracks, 60, 'a map in map units')
    status = camera.wait_for_status('reconstruction', lambda s: True, 'a diagnostic')
    assert status.level == DiagnosticStatus.WARN
    assert 'scale: unknown' in status.message and 'measured depth' in status.message
    assert not camera.poses.messages and len(scale) == 1
    assert not [o.topic for o in outputs if o.messages]
    assert mask.messages  # which have no unit

    camera.with_depth = True

    def posed() -> bool:
        camera.play(5, 0.05)
        return bool(camera.poses.messages)

    wait_for(posed, 60, 'poses in metres')
    camera.play(20)
    known = scale.wait(2)[-1]
    assert known.level == DiagnosticStatus.OK
    values = {v.key: v.value for v in known.values}
    assert values['scale source'] == 'depth' and int(values['revision']) >= 1
    clouds = outputs[0].wait(1)
    # Depth and cloud of a keyframe are metres: the simulated depth, at its stamp
    index = walk_index(camera.count - 1 - round((camera.stamp_ns - stamp(clouds[0])) / 33_333_333))
    true = np.nanmedian(render(still_scene(3, 40), index).depth)
    cloud = conversions.cloud_from_message(clouds[0])
    assert np.median(cloud.points[:, 2]) == pytest.approx(true, rel=0.3)
    for output in outputs[4:7]:
        output.wait(1)
    parents = {(t.header.frame_id, t.child_frame_id)
               for m in transforms.messages for t in m.transforms}
    assert parents == {('map', 'base_link')}
    # TF reaches back to the keyframes that were held back, and no pose is without its transform
    found = {stamp(t): conversions.matrix_from_transform(t.transform)
             for m in transforms.messages for t in m.transforms}
    assert {stamp(m) for m in clouds} <= set(found)
    for message in camera.poses.messages:
        assert np.abs(found[stamp(message)]
                      - conversions.matrix_from_pose(message.pose.pose)).max() < 1e-6
    assert 'held back' in child.output and 'scale: ' in child.output


def test_measured_depth_of_one_image_is_enough(ros_node, spawn):
    """The camera stands, and there is no second image: a pose, metres, and a cloud."""
    camera = LiveCamera(ros_node)
    scale = Collector(ros_node, DiagnosticStatus, '/recon3r/scale', qos.LATCHED)
    cloud = Collector(ros_node, PointCloud2, '/recon3r/camera/points', qos.POSES)
    spawn(*NODE, *WITH_DEPTH)
    camera.with_depth = True
    camera.connect()
    cloud.wait_for_matched()
    camera.play(1)
    assert len(camera.poses.wait(1)) == 1 and camera.count == 1
    points = conversions.cloud_from_message(cloud.wait(1)[0]).points
    wait_for(lambda: scale.messages[-1].level == DiagnosticStatus.OK, what='a known scale')
    true = np.nanmedian(render(still_scene(3, 40), walk_index(0)).depth)
    assert np.median(points[:, 2]) == pytest.approx(true, rel=0.02)


def test_a_bare_camera_goes_on_in_map_units(ros_node, spawn):
    camera = LiveCamera(ros_node)
    scale = Collector(ros_node, DiagnosticStatus, '/recon3r/scale', qos.LATCHED)
    spawn(*NODE)
    camera.connect()
    camera.start()
    assert scale.wait(1)[0].message == 'scale: unknown'
    assert camera.wait_for_status('reconstruction', lambda s: s.message == 'tracking', 'tracking')
    assert camera.values('reconstruction')['scale'] == 'unknown'


def test_extrinsics_of_the_parameters_are_on_tf_static(ros_node, spawn, tf_message):
    transforms = listen_to_transforms(ros_node)
    camera = LiveCamera(ros_node)
    camera.with_depth = True
    static = Collector(ros_node, tf_message, '/tf_static', qos.TF_STATIC)
    spawn(*NODE, *WITH_BASE, *WITH_DEPTH)
    camera.connect()
    transforms.wait_for_matched()
    camera.start()
    message, = static.wait(1)
    found, = message.transforms
    assert (found.header.frame_id, found.child_frame_id) == ('base_link', FRAME_ID)
    assert np.allclose(conversions.matrix_from_transform(found.transform), T_BASE_CAM)
    camera.play(10)
    assert len(static) == 1
    # (map -> base)(base -> camera) is where the camera is: clouds in its frame have a place
    assert_transforms_are_poses(transforms, camera.poses)


@pytest.mark.slow
@pytest.mark.parametrize('topic', ['/tf_static', '/tf'])
def test_a_frame_that_has_a_parent_gets_no_second_one(ros_node, spawn, tf_message, topic):
    """A URDF has the camera, on a mount that the parameters do not know."""
    urdf = ros_node.create_publisher(
        tf_message, topic, qos.LATCHED if topic == '/tf_static' else qos.TF)
    given = tf_message(transforms=[
        conversions.transform_message(np.eye(4), 'camera_mount', FRAME_ID, time.time_ns())])
    urdf.publish(given)
    static = Collector(ros_node, tf_message, '/tf_static', qos.TF_STATIC)
    camera = LiveCamera(ros_node)
    camera.with_depth = True
    spawn(*NODE, *WITH_BASE, *WITH_DEPTH)
    camera.connect()
    begin = time.monotonic()

    def driven() -> bool:
        urdf.publish(given)
        camera.play(1, 0.1)
        return bool(camera.poses.messages) and time.monotonic() - begin > 4

    wait_for(driven, 60, 'poses')
    parents = {(t.header.frame_id, t.child_frame_id)
               for m in static.messages for t in m.transforms}
    assert parents <= {('camera_mount', FRAME_ID)}


def test_the_housing_of_a_bare_camera_is_what_moves_in_the_map(ros_node, spawn, tf_message):
    """Drivers publish camera_link -> camera_optical_frame; nobody knows of a robot."""
    T_housing_cam = se3.from_rt(T_BASE_CAM[:3, :3], np.array([0.01, 0.02, 0.0]))
    transforms = listen_to_transforms(ros_node)
    driver = ros_node.create_publisher(tf_message, '/tf_static', qos.LATCHED)
    driver.publish(tf_message(transforms=[
        conversions.transform_message(T_housing_cam, 'camera_link', FRAME_ID, time.time_ns())]))
    camera = LiveCamera(ros_node)
    spawn(*NODE)
    camera.connect()
    transforms.wait_for_matched()
    camera.start()
    camera.play(5)
    found = {stamp(t): t for m in transforms.messages for t in m.transforms}
    assert {(t.header.frame_id, t.child_frame_id) for t in found.values()} == {
        ('map', 'camera_link')}
    for message in camera.poses.messages:  # of the optical frame
        T = conversions.matrix_from_transform(found[stamp(message)].transform) @ T_housing_cam
        assert np.abs(T - conversions.matrix_from_pose(message.pose.pose)).max() < 1e-6


def test_what_carries_a_camera_far_away_is_not_placed_in_map_units(ros_node, spawn, tf_message):
    """A URDF with metres between the base and a bare camera, whose map has none."""
    transforms = Collector(ros_node, tf_message, '/tf', qos.TF)
    urdf = ros_node.create_publisher(tf_message, '/tf_static', qos.LATCHED)
    urdf.publish(tf_message(transforms=[
        conversions.transform_message(T_BASE_CAM, 'base_link', FRAME_ID, time.time_ns())]))
    camera = LiveCamera(ros_node)
    spawn(*NODE)
    camera.connect()
    camera.start()
    status = camera.wait_for_status(
        'reconstruction', lambda s: 'not published' in s.message, 'a warning')
    assert 'base_link' in status.message and 'base_frame' in status.message
    camera.assert_tracks()
    assert not transforms.messages


@pytest.mark.parametrize('arguments, parent, child, remedy', [
    ((), 'odom', FRAME_ID, 'base_frame'),
    ((*WITH_BASE, *WITH_DEPTH), 'odom', 'base_link', 'odometry')])
def test_a_frame_of_another_tree_is_not_torn_out(
        ros_node, spawn, tf_message, arguments, parent, child, remedy):
    """Odometry of the camera, or of the base, is on TF, but was not asked for."""
    transforms = Collector(ros_node, tf_message, '/tf', qos.TF)
    other = ros_node.create_publisher(tf_message, '/tf', qos.TF)
    camera = LiveCamera(ros_node)
    camera.with_depth = WITH_DEPTH[1] in arguments
    spawn(*NODE, *arguments)
    camera.connect()

    def driven() -> bool:
        other.publish(tf_message(transforms=[
            conversions.transform_message(np.eye(4), parent, child, time.time_ns())]))
        camera.play(1, 0.1)
        return bool(camera.poses.messages)

    wait_for(driven, 60, 'poses')
    status = camera.wait_for_status(
        'reconstruction', lambda s: 'not published' in s.message, 'a warning')
    assert all(word in status.message for word in (parent, child, remedy))
    camera.assert_tracks()
    assert {t.header.frame_id for m in transforms.messages for t in m.transforms} == {parent}


def test_a_bad_transform_of_another_node_ends_nothing(ros_node, spawn, tf_message):
    """Latched, it would come again at every start; a chain that bites its tail, too."""
    other = ros_node.create_publisher(tf_message, '/tf_static', qos.LATCHED)
    zero = conversions.transform_message(np.eye(4), 'a', FRAME_ID, 1)
    zero.transform.rotation.w = 0.0
    loop = [conversions.transform_message(np.eye(4), *pair, 1) for pair in ('xy', 'yx')]
    unknown = conversions.transform_message(np.eye(4), 'b', 'c', 1)
    unknown.transform.translation.x = math.nan
    other.publish(tf_message(transforms=[zero, *loop, unknown]))
    camera = LiveCamera(ros_node)
    child = spawn(*NODE)
    camera.connect()
    camera.start()
    camera.assert_tracks()
    assert child.returncode is None and 'is ignored' in child.output


def test_a_parent_that_comes_later_is_noticed(ros_node, spawn, tf_message):
    """Odometry starts when the node has published for a while."""
    transforms = listen_to_transforms(ros_node)
    camera = LiveCamera(ros_node)
    camera.with_depth = True
    spawn(*NODE, *WITH_BASE, *WITH_DEPTH)
    camera.connect()
    transforms.wait_for_matched()
    camera.start()
    camera.play(20)
    odometry = ros_node.create_publisher(tf_message, '/tf', qos.TF)
    own = len(transforms)
    assert own

    def noticed() -> bool:
        odometry.publish(tf_message(transforms=[
            conversions.transform_message(np.eye(4), 'odom', 'base_link', time.time_ns())]))
        camera.play(1, 0.1)
        status = camera.status('reconstruction')
        return status is not None and 'not published' in status.message

    wait_for(noticed, 30, 'a warning')
    transforms.clear()
    camera.assert_tracks()
    assert {t.header.frame_id for m in transforms.messages for t in m.transforms} <= {'odom'}


def test_parameters_that_may_be_changed_change_something(ros_node, spawn, tf_message):
    transforms = listen_to_transforms(ros_node)
    camera = LiveCamera(ros_node)
    clouds = Collector(ros_node, PointCloud2, '/recon3r/map', qos.LATCHED)
    spawn(*NODE, '-p', 'map_period:=0.1')
    camera.connect()
    transforms.wait_for_matched()
    camera.start()
    camera.play(20)
    fine = clouds.wait(1)[-1].width
    set_parameter(ros_node, 'voxel_size', ParameterValue(type=3, double_value=0.2))
    wait_for(lambda: clouds.messages[-1].width < fine / 5, what='a coarse map')
    set_parameter(ros_node, 'publish_tf', ParameterValue(type=1, bool_value=False))
    camera.play(3)
    transforms.clear()
    camera.assert_tracks()
    assert not transforms.messages
    set_parameter(ros_node, 'publish_tf', ParameterValue(type=1, bool_value=True))
    camera.play(3)
    assert transforms.messages


def change_state(node, *transitions: int) -> None:
    for transition in transitions:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert call(node, ChangeState, '/recon3r/change_state', request).success


@pytest.mark.slow
def test_an_inactive_node_publishes_nothing(ros_node, spawn):
    camera = LiveCamera(ros_node)
    outputs = metric_outputs(ros_node)
    scale = Collector(ros_node, DiagnosticStatus, '/recon3r/scale', qos.LATCHED)
    spawn(*NODE, '-p', 'autostart:=false')
    change_state(ros_node, Transition.TRANSITION_CONFIGURE)
    time.sleep(0.5)
    assert not scale.messages
    change_state(ros_node, Transition.TRANSITION_ACTIVATE)
    scale.wait(1)
    camera.connect()
    camera.start()
    camera.play(20)
    change_state(ros_node, Transition.TRANSITION_DEACTIVATE)
    time.sleep(1.0)  # for what was on its way
    for collector in (*outputs, camera.poses):
        collector.clear()
    late = Collector(ros_node, PathMessage, '/recon3r/path', qos.LATCHED)
    for _ in range(20):
        camera.play(1, 0.05)
    assert not [o.topic for o in (*outputs, camera.poses) if o.messages]
    assert len(late) <= 1  # what was latched before
    change_state(ros_node, Transition.TRANSITION_ACTIVATE)
    wait_for(lambda: camera.images.get_subscription_count() > 0, what='the node listens again')
    camera.assert_tracks()


def test_services_outlive_a_cleanup(ros_node, spawn, tmp_path):
    """A lifecycle manager resets the node while a map is being saved."""
    camera = LiveCamera(ros_node)
    child = spawn(*NODE, '-p', f'map_path:={tmp_path / "map"}')
    camera.connect()
    camera.start()
    camera.play(20)
    client = ros_node.create_client(Trigger, '/recon3r/save_map')
    wait_for(client.service_is_ready, what='save_map')
    answer = client.call_async(Trigger.Request())
    change_state(ros_node, Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
    wait_for(answer.done, what='an answer')
    refused = call(ros_node, Trigger, '/recon3r/save_map')
    assert not refused.success and 'not configured' in refused.message
    change_state(ros_node, Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    wait_for(lambda: camera.images.get_subscription_count() > 0, what='the node listens again')
    camera.poses.clear()
    camera.start()
    assert child.returncode is None, child.output


def assert_latched(node, kind: type, topic: str, accept: Callable[[object], bool]) -> None:
    """Check that a late subscriber of this topic alone gets its latched message."""
    late = Collector(node, kind, topic, qos.LATCHED)
    wait_for(lambda: any(accept(m) for m in late.messages), what=f'{topic} for a late joiner')
    node.destroy_subscription(late.subscription)


def test_every_latched_topic_reaches_a_late_joiner_and_forgets_at_reset(ros_node, spawn):
    camera = LiveCamera(ros_node)
    spawn(*NODE)
    camera.connect()
    camera.start()
    camera.play(15)
    # No image comes any more
    topics = (
        (PathMessage, '/recon3r/path', lambda m: len(m.poses) > 10),
        (MarkerArray, '/recon3r/graph', lambda m: any(len(x.points) for x in m.markers)),
        (PointCloud2, '/recon3r/map', lambda m: m.width > 500),
        (DiagnosticStatus, '/recon3r/scale', lambda m: m.message == 'scale: unknown'))
    for topic in topics:
        assert_latched(ros_node, *topic)
        assert_latched(ros_node, *topic)  # it is kept
    assert call(ros_node, Trigger, '/recon3r/reset').success
    for kind, topic, accept in (
            (PathMessage, '/recon3r/path', lambda m: not m.poses),
            (MarkerArray, '/recon3r/graph', lambda m: all(
                x.action == Marker.DELETE for x in m.markers)),
            (PointCloud2, '/recon3r/map', lambda m: m.width == 0)):
        late = Collector(ros_node, kind, topic, qos.LATCHED)
        assert all(accept(m) for m in late.wait(1)), topic


def test_a_keyframe_is_complete_however_busy_the_node_is(ros_node, spawn):
    """Images come at several times the rate; masks of images are dropped, never of keyframes."""
    camera = LiveCamera(ros_node)
    outputs = [Collector(ros_node, kind, f'/recon3r/camera/{name}', qos.POSES)
               for kind, name in ((PointCloud2, 'points'), (Image, 'depth/image'),
                                  (CameraInfo, 'depth/camera_info'), (Image, 'dynamic_mask'))]
    spawn(*NODE, '-p', 'queue_size:=10')
    camera.connect()
    for output in outputs:
        output.wait_for_matched()
    camera.start()
    for _ in range(200):
        camera.play(1, 0.0)
        time.sleep(0.008)
    camera.assert_tracks()
    camera.play(10)

    def stamps() -> list[set[int]]:
        return [{stamp(m) for m in output.messages} for output in outputs]

    wait_for(lambda: len(stamps()[0]) >= 4, what='keyframes')
    wait_for(lambda: stamps()[0] == stamps()[1] == stamps()[2] <= stamps()[3],
             what='points, depth, camera_info and mask of every keyframe')
    for output in outputs:
        assert len(output) == len({stamp(m) for m in output.messages}), 'none twice'
    assert {(m.width, m.height) for m in outputs[3].messages} == {(320, 240)}


def values_of(node) -> dict[str, object]:
    """Ask for all parameters, as `ros2 param dump` does."""
    names = call(node, ListParameters, '/recon3r/list_parameters').result.names
    answer = call(node, GetParameters, '/recon3r/get_parameters',
                  GetParameters.Request(names=names))
    found = {n: parameter_value_to_python(v) for n, v in zip(names, answer.values)}
    return {n: v.tolist() if isinstance(v, np.ndarray) else list(v) if hasattr(v, 'typecode')
            else v for n, v in found.items()}


def test_dynamic_objects_have_ids_and_boxes(ros_node, spawn):
    """A picture slides through the images of a camera at rest, before there is a map."""
    vision_msgs = pytest.importorskip('vision_msgs.msg', reason='vision_msgs was not built')
    camera = LiveCamera(ros_node)
    masks = Collector(ros_node, Image, '/recon3r/camera/dynamic_mask', qos.POSES)
    objects = Collector(ros_node, vision_msgs.Detection2DArray, '/recon3r/camera/objects',
                        qos.POSES)
    spawn(*NODE)
    camera.connect()
    masks.wait_for_matched()
    objects.wait_for_matched()
    still = camera.frame()
    picture = np.random.default_rng(0).integers(0, 255, (12, 10, 3)).astype(np.uint8)
    picture = picture.repeat(6, axis=0).repeat(6, axis=1)
    for n in range(40):
        image = still.image.copy()
        left = 20 + 4 * n
        image[80:152, left:left + 60] = picture
        camera.send(conversions.image_message(
            image, still.stamp_ns + n * 33_333_333, FRAME_ID))
        # No faster than a busy machine: of images that it drops the object would jump
        wait_for(lambda: n == 0 or len(masks) >= n, what='masks')
        time.sleep(0.03)
    wait_for(lambda: len(objects) > 20, what='objects')
    shown = {stamp(m): conversions.mask_from_message(m) for m in masks.messages}
    wait_for(lambda: {stamp(m) for m in objects.messages} <= {stamp(m) for m in masks.messages},
             what='a mask of each image')
    ids = set()
    for message in objects.messages[-10:]:
        mask = shown[stamp(message)]
        assert message.header.frame_id == FRAME_ID
        for detection in message.detections:
            box, (result,) = detection.bbox, detection.results
            left, top = (round(c - (s - 1) / 2) for c, s in (
                (box.center.position.x, box.size_x), (box.center.position.y, box.size_y)))
            part = mask[top:top + round(box.size_y), left:left + round(box.size_x)]
            assert result.hypothesis.score == pytest.approx(part.mean(), abs=1e-6)
            assert result.hypothesis.class_id == 'dynamic'
            assert min(part.any(0)[0], part.any(0)[-1], part.any(1)[0], part.any(1)[-1])
            ids.add(detection.id)
        assert message.detections
    assert len(ids) == 1, 'it is one object throughout'


@pytest.mark.parametrize('arguments', [
    (), (*WITH_BASE, *WITH_DEPTH), ('-p', 'camera.extrinsics:=[]')])
def test_dumped_parameters_load_again(ros_node, spawn, tmp_path, arguments):
    camera = LiveCamera(ros_node)
    child = spawn(*NODE, *arguments)
    camera.connect()
    dumped = values_of(ros_node)
    assert not [name for name, value in dumped.items() if value is None]
    assert child.stop() == 0
    file = tmp_path / 'dump.yaml'
    file.write_text(yaml.dump({'/recon3r': {'ros__parameters': dumped}}))
    again = spawn(*NODE, '--params-file', str(file))
    wait_for(lambda: camera.images.get_subscription_count() > 0, what='the node listens again')
    assert values_of(ros_node) == dumped
    assert again.stop() == 0


@pytest.mark.parametrize('arguments, words', [
    (('-p', 'cameras:=[]'), ('cameras', 'empty')),
    (('-p', 'model:=dust3r'), ('dust3r', 'weights')),
    (('-p', 'model:=dune-mast3r', '-p', 'weights:=w.pth'), ('dune-mast3r', 'encoder_weights')),
    (('-p', 'load_on_start:=true', '-p', 'map_path:=/nowhere'), ('/nowhere',)),
    (('-p', 'mask_refiner:=nowhere:nothing'), ('nowhere',)),
])
def test_what_cannot_be_configured_ends_it_with_one_line(spawn, arguments, words):
    child = spawn(*NODE, *arguments)
    assert child.wait(30) == 2, child.output
    assert 'Traceback' not in child.output
    lines = [x for x in child.output.splitlines() if all(word in x for word in words)]
    assert len(lines) == 1, child.output


def test_without_autostart_a_lifecycle_manager_can_try_again(ros_node, spawn, tmp_path):
    child = spawn(*NODE, '-p', 'autostart:=false', '-p', 'load_on_start:=true', '-p',
                  'map_path:=/nowhere')
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert not call(ros_node, ChangeState, '/recon3r/change_state', request).success
    assert child.returncode is None
    set_parameter(ros_node, 'map_path', ParameterValue(type=4, string_value=str(tmp_path)))
    assert not call(ros_node, ChangeState, '/recon3r/change_state', request).success
    assert str(tmp_path) in child.output


def test_the_log_tells_what_happens(ros_node, spawn, tmp_path):
    camera = LiveCamera(ros_node)
    child = spawn(*NODE, '-p', f'map_path:={tmp_path / "map"}')
    camera.connect()
    camera.start()
    camera.play(20)
    dark = conversions.image_message(np.zeros((240, 320, 3), np.uint8), 0, FRAME_ID)
    for _ in range(5):
        camera.stamp_ns += 33_333_333
        dark.header.stamp = conversions.ns_to_stamp(camera.stamp_ns)
        camera.send(dark)
        time.sleep(0.05)
    camera.assert_tracks()
    assert call(ros_node, Trigger, '/recon3r/save_map').success
    assert child.stop() == 0
    order = ['configured: model geometric', 'active: waiting for images on /camera/image_raw',
             'camera: first image, 320x240', 'camera: map started', 'camera: tracking lost',
             'camera: relocalised', 'map saved: ']
    found = [child.output.find(words) for words in order]
    assert found == sorted(found) and found[0] >= 0, child.output
