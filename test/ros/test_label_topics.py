# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Label images of keyframes, objects of the map, and names of classes, over DDS."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus
from live import FRAME_ID, LiveCamera, walk_index
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.ros import conversions, detections, qos
from ros_helpers import Collector, wait_for
from sensor_msgs.msg import Image, PointCloud2
from simulated import render, still_scene
from std_srvs.srv import Trigger
from test_node import call, NODE, stamp


def fields_of(message: PointCloud2) -> dict[str, np.ndarray]:
    """Read label (n,) and instance (n,) of a cloud's points."""
    kinds = {'label': '<u1', 'instance': '<u2'}
    assert {f.name for f in message.fields} >= {*kinds}
    offsets = {f.name: f.offset for f in message.fields if f.name in kinds}
    rows = np.frombuffer(message.data, np.dtype({
        'names': list(offsets), 'offsets': list(offsets.values()),
        'formats': [kinds[n] for n in offsets], 'itemsize': message.point_step}))
    return {name: rows[name] for name in offsets}


def numbered(objects: np.ndarray, index: int) -> np.ndarray:
    """Give the objects of an image numbers (H, W), which are others in the next image."""
    return (300 + (objects + 7 * index) % 64).astype(np.uint16)


def assert_has_objects(message: PointCloud2) -> None:
    """Check that the room is one object of the map, and furniture is others."""
    own = fields_of(message)
    known = own['instance'] > 0
    assert known.mean() > 0.6
    room, counts = np.unique(own['instance'][known & (own['label'] == 1)], return_counts=True)
    assert counts.max() > 0.9 * counts.sum()
    others = np.unique(own['instance'][known & (own['label'] == 2)])
    assert len(others) > 0 and room[counts.argmax()] not in others
    assert own['instance'].max() < 300, 'numbers are not those of an image'


def test_labels_instances_and_names_of_keyframes(ros_node, spawn, tmp_path):
    scene = still_scene(3, 40)
    (tmp_path / 'classes.txt').write_text('room\nfurniture\n')
    camera = LiveCamera(ros_node)
    camera.with_depth = True
    inputs = [ros_node.create_publisher(Image, f'/camera/{name}', qos.POSES)
              for name in ('labels', 'instances')]
    labels, instances, depths = (Collector(ros_node, Image, f'/recon3r/camera/{name}', qos.POSES)
                                 for name in ('labels', 'instances', 'depth/image'))
    clouds = Collector(ros_node, PointCloud2, '/recon3r/camera/points', qos.POSES)
    maps = Collector(ros_node, PointCloud2, '/recon3r/map', qos.LATCHED)
    saving = '-p', f'map_path:={tmp_path / "map"}'
    child = spawn(*NODE, *saving, '-p', 'camera.use_depth:=true', '-p', 'camera.use_labels:=true',
          '-p', 'camera.use_instances:=true', '-p', f'camera.class_names:={tmp_path}/classes.txt',
          '-p', 'map_period:=0.1')
    camera.connect()
    for each in (labels, instances, depths, clouds, maps):
        each.wait_for_matched()
    for each in inputs:
        wait_for(lambda: each.get_subscription_count() > 0, what='the node listens')
    shown: dict[int, int] = {}

    def labelled(message):
        index = walk_index(camera.count - 1)
        shown[camera.stamp_ns] = index
        objects = render(scene, index).object_index
        inputs[0].publish(conversions.image_message(
            (1 + (objects > 0)).astype(np.uint8), camera.stamp_ns, FRAME_ID))
        inputs[1].publish(conversions.ids_message(
            numbered(objects, index), camera.stamp_ns, FRAME_ID))
        return message

    def seen() -> bool:
        camera.play(1, 1.0, labelled)
        return min(len(labels), len(instances), len(clouds), len(maps)) >= 2

    wait_for(seen, 60, 'keyframes with labels')
    wait_for(lambda: {stamp(m) for m in labels.messages} == {stamp(m) for m in instances.messages}
             <= {stamp(m) for m in depths.messages}, what='all images of a keyframe')
    of_depth = {stamp(m): (m.width, m.height) for m in depths.messages}
    for message in labels.messages + instances.messages:
        ids = conversions.ids_from_message(message)
        assert (message.width, message.height) == of_depth[stamp(message)]
        assert message.header.frame_id == FRAME_ID
        index = shown[stamp(message)]
        objects = render(scene, index).object_index
        rows, columns = (((np.arange(n) + 0.5) * full / n).astype(int)
                         for n, full in zip(ids.shape, objects.shape))
        truth = objects[np.ix_(rows, columns)]
        expected = 1 + (truth > 0) if message.encoding == 'mono8' else numbered(truth, index)
        assert (ids == expected).mean() > 0.99
    for message in clouds.messages[-2:]:
        own = fields_of(message)
        index = shown[stamp(message)]
        objects = render(scene, index).object_index
        pixels = camera.camera.project(
            conversions.cloud_from_message(message).points.astype(float))
        u, v = np.rint(pixels).astype(int).T
        truth = objects[v.clip(0, 239), u.clip(0, 319)]
        assert (own['instance'] == numbered(truth, index)).mean() > 0.95
        assert (own['label'] == 1 + (truth > 0)).mean() > 0.9
    assert set(np.unique(fields_of(maps.messages[-1])['label'])) >= {1, 2}
    wait_for(lambda: bool(fields_of(maps.messages[-1])['instance'].any()), 20, 'objects')
    assert_has_objects(maps.messages[-1])
    if detections.LabelInfo is not None:
        late = Collector(ros_node, detections.LabelInfo, '/recon3r/camera/label_info', qos.LATCHED)
        (info,) = late.wait(1)
        assert [(c.class_id, c.class_name) for c in info.class_map] == [
            (1, 'room'), (2, 'furniture')]
        assert stamp(info) in of_depth

    # They come back with a saved map, before any image
    answer = call(ros_node, Trigger, '/recon3r/save_map')
    assert answer.success, answer.message
    assert child.stop() == 0
    maps.clear()
    spawn(*NODE, *saving, '-p', 'load_on_start:=true')
    loaded = maps.wait(1, 60)[0]
    assert_has_objects(loaded)
    names = Collector(ros_node, DiagnosticStatus, '/recon3r/classes', qos.LATCHED)
    assert [(v.key, v.value) for v in names.wait(1)[0].values] == [
        ('1', 'room'), ('2', 'furniture')]


def info(*classes: tuple[int, str]):
    """Make a LabelInfo message."""
    kinds = pytest.importorskip('vision_msgs.msg', reason='vision_msgs is missing')
    if detections.LabelInfo is None:
        pytest.skip('vision_msgs was not built with LabelInfo')
    return kinds.LabelInfo(class_map=[
        kinds.VisionClass(class_id=n, class_name=name) for n, name in classes])


def test_names_of_classes_in_a_message():
    message = info((0, 'background'), (3, 'a\nchair'), (1, 'wall'))
    assert detections.names_from_message(message) == ('wall', '', 'a chair')
    assert detections.names_from_message(info()) == ()
    for classes, problem in (([(256, 'sky')], '256'),
                             ([(2, 'a'), (2, 'b')], 'two names, a and b')):
        with pytest.raises(InputError, match=problem):
            detections.names_from_message(info(*classes))


def test_a_detector_names_its_classes(ros_node, spawn):
    message = info((1, 'room'), (2, 'furniture'))
    detector = ros_node.create_publisher(detections.LabelInfo, '/camera/label_info', qos.LATCHED)
    detector.publish(message)
    child = spawn(*NODE, '-p', 'camera.use_labels:=true')
    names = Collector(ros_node, DiagnosticStatus, '/recon3r/classes', qos.LATCHED)
    assert [v.value for v in names.wait(1, 60)[0].values] == ['room', 'furniture']
    detector.publish(info((300, 'sky')))
    child.wait_for_output('numbers of classes are 0 to 255')
    assert child.stop() == 0
