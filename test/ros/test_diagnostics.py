# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages on /diagnostics of a node without problems, and with them."""

from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from recon3r_ros.ros import conversions
from recon3r_ros.ros.diagnostics import CameraHealth, classes_status, diagnostic_array, Health
from recon3r_ros.ros.rigs import RigHealth
from recon3r_ros.slam.types import MetricScale, TrackingState

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
STAMP_NS = 1_700_000_000_123_456_789
TIMEOUT_S = 5.0
CAMERA = CameraHealth(
    name='front', topics=('/front/image_raw', '/front/camera_info'), received=300, posed=290,
    dropped=4, rejected=2, reason='step is 5', waiting=1, rate=29.97, silent_s=0.03, age_s=0.0213,
    state=TrackingState.TRACKING)
HEALTH = Health(
    name='recon3r', cameras=(CAMERA,), paused=False, error='', notice='', keyframes=17,
    scale=MetricScale(1.2345, 0.021, 'odometry'), shed='none',
    latencies_ms={'tracking': 12.34, 'image': 20.0},
    memory_mb=612.4)


def report(health):
    """Return the statuses by name, as a subscriber gets them."""
    message = deserialize_message(
        serialize_message(diagnostic_array(health, TIMEOUT_S, STAMP_NS)), DiagnosticArray)
    assert conversions.stamp_to_ns(message.header.stamp) == STAMP_NS
    names = [status.name for status in message.status]
    assert len(set(names)) == len(names)
    return {status.name: status for status in message.status}


def node(**changes):
    return report(replace(HEALTH, **changes))['recon3r: reconstruction']


def camera(paused=False, **changes):
    health = replace(HEALTH, cameras=(replace(CAMERA, **changes),), paused=paused)
    return report(health)['recon3r: front']


def values(status):
    """Return key and value, of which the keys differ."""
    found = {v.key: v.value for v in status.values}
    assert len(found) == len(status.values)
    return found


def test_one_status_for_the_node_and_one_for_each_camera():
    rear = replace(CAMERA, name='rear')
    found = report(replace(HEALTH, cameras=(CAMERA, rear)))
    assert list(found) == ['recon3r: reconstruction', 'recon3r: front', 'recon3r: rear']
    assert {status.hardware_id for status in found.values()} == {'recon3r'}
    assert {status.level for status in found.values()} == {OK}


def test_a_healthy_node_in_figures():
    status = node()
    assert (status.level, status.message) == (OK, 'tracking')
    assert values(status) == {
        'keyframes': '17', 'scale': '1.2345 m per map unit', 'scale uncertainty': '2.1 %',
        'scale source': 'odometry', 'load shedding': 'none', 'memory': '612 MB',
        'tracking time': '12.3 ms',
        'image time': '20.0 ms'}


def test_a_healthy_camera_in_figures():
    status = camera()
    assert (status.level, status.message) == (OK, 'tracking')
    assert values(status) == {
        'state': 'tracking', 'no pose because': '',
        'images received': '300', 'images posed': '290',
        'images dropped': '4', 'images rejected': '2', 'last reason': 'step is 5',
        'intrinsics': '', 'queue': '1', 'rate': '30.0 Hz',
        'stamp to pose': '21 ms', 'last image': '0.0 s ago'}


def test_unusual_intrinsics_are_a_warning_unless_there_is_a_worse_one():
    odd = 'the principal point (20.0, 119.5) is far from the middle'
    status = camera(intrinsics=odd)
    assert (status.level, status.message) == (WARN, odd)
    assert values(status)['intrinsics'] == odd
    assert 'no image' in camera(intrinsics=odd, silent_s=60.0).message


def test_unknown_scale_is_said_to_be_unknown():
    found = values(node(scale=None))
    assert (found['scale'], found['scale uncertainty'], found['scale source']) == (
        'unknown', '', '')


@pytest.mark.parametrize('states, level, word', [
    ((TrackingState.TRACKING,), OK, 'tracking'),
    ((TrackingState.LOST, TrackingState.TRACKING), OK, 'tracking'),
    ((TrackingState.LOST,), WARN, 'lost'),
    ((TrackingState.LOST, None), WARN, 'lost'),
    ((TrackingState.INITIALISING,), OK, 'initialising'),
    ((None,), OK, 'initialising'),
    ((), OK, 'initialising'),
])
def test_state_of_the_node(states, level, word):
    status = node(cameras=tuple(replace(CAMERA, name=f'c{i}', state=s)
                                for i, s in enumerate(states)))
    assert status.level == level
    assert status.message.startswith(word)


def test_an_error_outranks_everything():
    lost = (replace(CAMERA, state=TrackingState.LOST),)
    status = node(error='the disk is full', notice='no odometry', cameras=lost, paused=True)
    assert (status.level, status.message) == (ERROR, 'the disk is full')


def test_a_notice_is_a_warning():
    assert node(notice='no odometry').level == WARN
    assert node(notice='no odometry').message == 'no odometry'
    lost = node(notice='no odometry', cameras=(replace(CAMERA, state=TrackingState.LOST),))
    assert lost.level == WARN
    assert lost.message.startswith('lost')  # the graver of the two


def test_paused():
    status = node(paused=True, cameras=(replace(CAMERA, state=TrackingState.LOST),))
    assert (status.level, status.message) == (OK, 'paused')
    assert camera(paused=True, silent_s=100.0).level == OK


@pytest.mark.parametrize('state, received', [(None, 0), (TrackingState.TRACKING, 300)])
def test_a_silent_camera_names_the_topics_waited_for(state, received):
    status = camera(silent_s=7.2, state=state, received=received, dropped=0, rejected=0)
    assert status.level == WARN
    assert status.message == 'no image for 7 s; waiting for /front/image_raw, /front/camera_info'


def test_silence_is_worth_a_warning_after_the_timeout():
    assert camera(silent_s=TIMEOUT_S).level == OK
    assert camera(silent_s=TIMEOUT_S + 0.01).level == WARN


@pytest.mark.parametrize('dropped, rejected, level', [
    (0, 0, OK), (30, 0, OK), (31, 0, WARN), (0, 31, WARN), (16, 15, WARN)])
def test_many_lost_images_are_worth_a_warning(dropped, rejected, level):
    status = camera(dropped=dropped, rejected=rejected)
    assert status.level == level
    if level == WARN:
        assert status.message.startswith('31 of 300 images') and 'step is 5' in status.message
    status = camera(dropped=dropped, rejected=rejected, reason='')
    assert ('faster' in status.message) == (level == WARN)


def test_what_was_lost_long_ago_is_forgiven():
    def level(earlier):
        now = replace(HEALTH, cameras=(replace(CAMERA, received=400, dropped=80, rejected=0),))
        then = replace(HEALTH, cameras=(replace(CAMERA, rejected=0, **earlier),))
        return diagnostic_array(now, TIMEOUT_S, STAMP_NS, then).status[1].level
    assert level({'received': 300, 'dropped': 80}) == OK
    assert level({'received': 300, 'dropped': 69}) == WARN
    assert level({'name': 'another', 'received': 300, 'dropped': 80}) == WARN


def test_a_rig_names_the_camera_that_is_missing():
    rig = RigHealth(('front', 'back'), 50, {'front': 0, 'back': 4}, {'back': 0.3}, 'TF', (), '')

    def status(now, then=None):
        then = None if then is None else replace(HEALTH, rigs=(then,))
        return diagnostic_array(replace(HEALTH, rigs=(now,)), TIMEOUT_S, STAMP_NS, then).status[-1]

    found = status(rig, replace(rig, complete=40, missing={'front': 0, 'back': 3}))
    assert (found.name, found.level) == ('recon3r: rig front', OK)
    assert values(found)['instants without back'] == '4'
    assert values(found)['offset of stamps of back'] == '+0.3 ms'
    found = status(replace(rig, missing={'front': 0, 'back': 24}), rig)
    assert found.level == WARN and 'back is missing in 20' in found.message
    found = status(replace(rig, source='', unplaced=('back',), notice='the pose of back'))
    assert found.level == WARN and found.message == 'the pose of back'
    assert values(found)['extrinsics'] == 'unknown'


def test_before_the_first_image():
    status = camera(received=0, posed=0, dropped=0, rejected=0, reason='', rate=0.0, silent_s=1.0,
                    age_s=None, state=None)
    assert (status.level, status.message) == (OK, '')
    found = values(status)
    assert (found['state'], found['stamp to pose'], found['rate']) == ('', '', '0.0 Hz')


def test_levels_are_what_the_message_takes():
    # a byte field of one: rclpy takes bytes of length one, no integers
    for status in (node(), node(error='x'), camera(), camera(silent_s=9.0)):
        assert isinstance(status.level, bytes) and len(status.level) == 1


def test_classes_have_the_numbers_of_the_field_label():
    status = deserialize_message(serialize_message(classes_status(('wall', 'floor'))),
                                 DiagnosticStatus)
    assert [(v.key, v.value) for v in status.values] == [('1', 'wall'), ('2', 'floor')]
    assert status.level == OK
