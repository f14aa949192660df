# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Faults on robots: injected into a running node, tolerated, reported.

One node lives through all of it. After every fault the good images that follow have to get their
poses, in the same map. docs/reliability.md lists what is tested here.
"""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import signal
import subprocess
import sys
from threading import Thread
import time

import cv2
from live import FRAME_ID, LiveCamera
import numpy as np
import pytest
from rcl_interfaces.msg import ParameterValue
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from recon3r_ros.geometry import se3
from recon3r_ros.ros import conversions
from recon3r_ros.ros.environment import child_environment
from ros_helpers import ChildProcess, TIMEOUT, wait_for
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from test_node import call, NODE, set_parameter


class Rig:
    """A camera, the node that subscribes to it, and the checks of both after every fault."""

    def __init__(self, camera: LiveCamera, child: ChildProcess) -> None:
        self.camera = camera
        self.child = child

    @property
    def node(self):
        return self.camera.node

    def keyframes(self) -> int:
        """Return how many keyframes the map has."""
        return int(self.camera.values('reconstruction')['keyframes'])

    def rejected(self) -> int:
        """Return how many images were rejected so far."""
        status = self.camera.wait_for_status(': camera', lambda s: True, 'a diagnostic')
        return int({v.key: v.value for v in status.values}['images rejected'])

    def wait_until_refused(self, before: int, count: int, words: str) -> None:
        """Wait until so many more images were rejected, for a reason that has these words."""
        def reported(status) -> bool:
            values = {v.key: v.value for v in status.values}
            return (int(values['images rejected']) >= before + count
                    and words in values['last reason'])
        self.camera.wait_for_status(': camera', reported, f'{count} images refused: {words}')

    def survive(self) -> None:
        """Fail unless tracking continues in the same map, in the same process."""
        self.camera.assert_tracks()
        assert self.child.returncode is None, self.child.output
        assert 'Traceback' not in self.child.output


@pytest.fixture(scope='module')
def rig(ros_domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Start a node and have it track."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('faulty', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass

    thread = Thread(target=spin, daemon=True)
    thread.start()
    child = ChildProcess((*NODE, '-p', 'image_timeout:=1.0', '-p', 'diagnostics_period:=0.2'),
                         tmp_path_factory.mktemp('node'))
    rig = Rig(LiveCamera(node), child)
    try:
        rig.camera.connect()
        rig.camera.start()
        rig.camera.play(30)
        yield rig
        assert child.stop() == 0, child.output
    finally:
        child.kill()
        executor.shutdown()
        thread.join(10)
        node.destroy_node()
        context.try_shutdown()


def shortened(message: Image) -> Image:
    message.data = message.data[:len(message.data) // 2]
    return message


def with_field(name: str, value):
    def change(message: Image) -> Image:
        setattr(message, name, value)
        return message
    return change


def emptied(message: Image) -> Image:
    message.width = message.height = message.step = 0
    message.data = []
    return message


@pytest.mark.parametrize('change, words', [
    pytest.param(with_field('step', 5), 'step', id='wrong_step'),
    pytest.param(shortened, 'bytes', id='truncated_data'),
    pytest.param(with_field('encoding', 'holographic'), 'holographic', id='unknown_encoding'),
    pytest.param(emptied, 'pixels', id='zero_sized_image'),
])
def test_image_that_cannot_be_decoded(rig, change, words):
    before, size = rig.rejected(), rig.keyframes()
    rig.camera.play(3, 0.1, change)
    rig.wait_until_refused(before, 3, words)
    rig.survive()
    assert rig.keyframes() >= size


def resized(message: Image) -> Image:
    image = cv2.resize(conversions.image_from_message(message), (256, 192))
    return conversions.image_message(image, conversions.stamp_to_ns(message.header.stamp),
                                     FRAME_ID)


def test_a_few_images_of_another_size(rig):
    before, size = rig.rejected(), rig.keyframes()
    rig.camera.play(3, 0.1, resized)
    rig.wait_until_refused(before, 3, '256x192')
    rig.survive()
    assert rig.keyframes() >= size


@pytest.mark.slow
def test_resolution_changes_for_good_and_back(rig):
    """The camera is relocalised in the map, with another lens."""
    size = rig.keyframes()
    whole = rig.camera.camera
    rig.camera.camera = whole.resized(256, 192)
    stamps = []

    def found() -> bool:
        stamps.extend(rig.camera.play(1, 0.5, resized))
        return len(set(stamps[-4:]) & rig.camera.posed()) == 4

    wait_for(found, 60, 'poses of smaller images')
    rig.camera.camera = whole

    def back() -> bool:
        stamps.extend(rig.camera.play(1, 0.5))
        return len(set(stamps[-4:]) & rig.camera.posed()) == 4

    wait_for(back, 60, 'poses of images of the first size')
    rig.survive()
    assert rig.keyframes() >= size


def test_camera_info_ceases(rig):
    stamps = [rig.camera.send(rig.camera.message(), info=False)]
    rig.camera.assert_tracks()
    wait_for(lambda: set(stamps) <= rig.camera.posed(), what='a pose without camera_info')


@pytest.mark.parametrize('k, words', [
    pytest.param(np.zeros(9), 'uncalibrated', id='all_zero'),
    pytest.param(np.array([np.nan, 0, 1, 0, 5, 1, 0, 0, 1]), 'not finite', id='nan_in_k'),
])
def test_unusable_camera_info(rig, k, words):
    for _ in range(3):
        info = conversions.camera_info_message(rig.camera.camera, rig.camera.stamp_ns, FRAME_ID)
        info.k = k
        rig.camera.infos.publish(info)
    wait_for(lambda: words in rig.child.output, what=f'{words!r} in the log')
    rig.survive()


def test_camera_info_changes_for_a_moment(rig):
    before = rig.rejected()
    info: CameraInfo = conversions.camera_info_message(
        rig.camera.camera, rig.camera.stamp_ns, FRAME_ID)
    info.k[0] *= 2
    rig.camera.infos.publish(info)
    stamps = []

    def refused() -> bool:
        stamps.append(rig.camera.send(rig.camera.message(), info=False))
        time.sleep(0.03)
        return rig.rejected() > before
    wait_for(refused, what='an image with another camera_info is refused')
    rig.camera.play(2, 0.1)
    rig.survive()


@pytest.mark.parametrize('shift_ns, words', [
    pytest.param(None, 'without a stamp', id='zero'),
    pytest.param(0, 'repeated', id='repeated'),
    pytest.param(-50_000_000, 'older', id='out_of_order'),
    pytest.param(3_600_000_000_000, 'jumps', id='forward_an_hour'),
    pytest.param(-3_600_000_000_000, 'jumps', id='back_an_hour'),
])
def test_one_wrong_stamp(rig, shift_ns, words):
    before, size = rig.rejected(), rig.keyframes()
    good = rig.camera.play(1, TIMEOUT)
    message = rig.camera.message()
    message.header.stamp = conversions.ns_to_stamp(0 if shift_ns is None else good[0] + shift_ns)
    rig.camera.send(message)
    rig.wait_until_refused(before, 1, words)
    rig.survive()
    assert rig.keyframes() >= size


def test_time_goes_forward_and_stays_there(rig):
    size = rig.keyframes()
    rig.camera.stamp_ns += 3_600_000_000_000
    rig.camera.play(2, 0.2)
    rig.survive()
    assert rig.keyframes() >= size


@pytest.mark.slow
def test_camera_stops_and_returns(rig):
    size = rig.keyframes()
    rig.camera.wait_for_status(
        ': camera', lambda s: 'no image for' in s.message and 'camera/image_raw' in s.message,
        'a warning that names the topic')
    time.sleep(10)  # that long a camera is gone when its cable is plugged in again
    rig.camera.stamp_ns += 11_000_000_000
    rig.survive()
    assert rig.keyframes() >= size


def test_black_images(rig):
    size = rig.keyframes()

    def black(message: Image) -> Image:
        return conversions.image_message(
            np.zeros((240, 320, 3), np.uint8), conversions.stamp_to_ns(message.header.stamp),
            FRAME_ID)

    dark = rig.camera.play(6, 0.1, black)
    assert not set(dark) & rig.camera.posed()
    rig.camera.play(3, 1.0)
    rig.survive()
    assert rig.keyframes() >= size


def test_camera_only_turns(rig):
    size = rig.keyframes()
    still = rig.camera.frame()
    rig.camera.count -= 1
    K = rig.camera.camera.K
    stamps = []
    for angle in (0, 1, 2, 3, 2, 1, 0):
        R = se3.so3_exp(np.array([0, np.deg2rad(angle), 0]))
        turned = cv2.warpPerspective(still.image, K @ R @ np.linalg.inv(K), (320, 240),
                                     borderMode=cv2.BORDER_REFLECT)
        rig.camera.stamp_ns += 33_333_333
        stamps.append(rig.camera.send(
            conversions.image_message(turned, rig.camera.stamp_ns, FRAME_ID)))
        time.sleep(0.05)
    wait_for(lambda: set(stamps) <= rig.camera.posed(), what='poses while turning')
    positions = {conversions.stamp_to_ns(m.header.stamp): m.pose.pose.position
                 for m in rig.camera.poses.messages}
    moved = [abs(positions[s].x - positions[stamps[0]].x) for s in stamps]
    assert max(moved) < 0.1
    rig.survive()
    assert rig.keyframes() >= size


def test_images_ten_times_as_fast(rig):
    before = int(rig.camera.values(': camera')['images dropped'])
    for _ in range(150):
        rig.camera.send(rig.camera.message())
        time.sleep(0.0033)
    newest = rig.camera.stamp_ns
    wait_for(lambda: rig.camera.posed() and max(rig.camera.posed()) >= newest - 100_000_000,
             what='a pose of the newest images')
    rig.survive()
    rig.camera.wait_for_status(': camera', lambda s: int(
        {v.key: v.value for v in s.values}['images dropped']) > before, 'drops are counted')


SLEEPER = """
import sys, time, rclpy
from recon3r_ros.ros import qos
from nav_msgs.msg import Odometry
from sensor_msgs.msg import PointCloud2
rclpy.init()
node = rclpy.create_node('sleeper')
kept = [node.create_subscription(PointCloud2, '/recon3r/map', print, qos.LATCHED),
        node.create_subscription(PointCloud2, '/recon3r/camera/points', print, qos.RELIABLE),
        node.create_subscription(Odometry, '/recon3r/odometry', print, qos.POSES)]
print('listening', flush=True)
time.sleep(600)
"""


def test_a_subscriber_that_never_reads(rig):
    sleeper = subprocess.Popen([sys.executable, '-c', SLEEPER], env=child_environment(),
                               stdout=subprocess.PIPE, text=True)
    try:
        assert sleeper.stdout.readline() == 'listening\n'
        wait_for(lambda: rig.node.count_subscribers('/recon3r/odometry') > 0, what='it is there')
        rig.camera.play(120, 0.3)
        rig.survive()
    finally:
        sleeper.kill()
        sleeper.wait()


def test_save_map_to_a_place_that_cannot_be_written(rig):
    set_parameter(rig.node, 'map_path', ParameterValue(type=4, string_value='/proc/no/map'))
    answer = call(rig.node, Trigger, '/recon3r/save_map')
    assert not answer.success and '/proc/no/map' in answer.message
    rig.survive()


def test_load_map_of_damaged_and_foreign_files(rig, tmp_path):
    size = rig.keyframes()
    folder = tmp_path / 'map'
    set_parameter(rig.node, 'map_path', ParameterValue(type=4, string_value=str(folder)))
    answer = call(rig.node, Trigger, '/recon3r/load_map')
    assert not answer.success and 'map.npz' in answer.message
    answer = call(rig.node, Trigger, '/recon3r/save_map')
    assert answer.success, answer.message
    whole = (folder / 'map.npz').read_bytes()
    canary = tmp_path / 'executed'
    pickled = f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()
    for damaged in (whole[:len(whole) // 2], whole[100:], b'', b'PK', pickled, os.urandom(1000)):
        (folder / 'map.npz').write_bytes(damaged)
        answer = call(rig.node, Trigger, '/recon3r/load_map')
        assert not answer.success and 'map.npz' in answer.message
    assert not canary.exists()
    rig.survive()
    assert rig.keyframes() >= size


def mapping_process(pid: int) -> int:
    """Of a node's process; 0 while there is none."""
    children = [child for listed in Path(f'/proc/{pid}/task').glob('*/children')
                for child in listed.read_text().split()]
    return int(children[0]) if children else 0


def test_what_makes_keyframes_is_killed(rig):
    """It is restarted with the map; tracking continues meanwhile."""
    size, killed = rig.keyframes(), mapping_process(rig.child.pid)
    os.kill(killed, signal.SIGKILL)
    stamps = rig.camera.play(5, 0.2)
    wait_for(lambda: set(stamps) <= rig.camera.posed(), what='poses all the while')
    wait_for(lambda: 'the mapping process has ended' in rig.child.output, what='a warning')
    wait_for(lambda: mapping_process(rig.child.pid) not in (0, killed), what='another process')
    rig.survive()
    assert rig.keyframes() >= size


def test_time_goes_back_and_stays_there(rig):
    """A bag that is played again: the map begins anew."""
    rig.camera.stamp_ns -= 600_000_000_000
    rig.camera.count = 0
    rig.camera.poses.clear()
    rig.camera.start()
    assert 'time went back' in rig.child.output
    rig.camera.play(20)
    rig.survive()
