# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Large messages between processes over real DDS, with the profile that is shipped."""

from array import array
import os
import signal

import pytest
import rclpy
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from recon3r_ros.bench import transport
from recon3r_ros.ros.environment import profile_path
from recon3r_ros.ros.transport_probe import cloud_stream, image_stream
from ros_helpers import Collector, wait_for, wait_for_matched
from sensor_msgs.msg import Image
from std_msgs.msg import String

SECONDS = 8.0
WIDTH, HEIGHT = 1280, 720

# A node that subscribes and never takes a message.
DEAF = """
import time

import rclpy
from sensor_msgs.msg import Image

rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
node = rclpy.create_node('deaf')
subscription = node.create_subscription(Image, 'image', print, 5)
while subscription.get_publisher_count() == 0:
    time.sleep(0.01)
print('matched')
try:
    while True:
        time.sleep(0.01)
except KeyboardInterrupt:
    rclpy.shutdown()
"""
# Answers each image with its number and the sum of its first and last byte.
ECHO = """
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import String

def answer(image):
    text = f'{image.header.stamp.nanosec} {image.data[0] + image.data[-1]} {len(image.data)}'
    publisher.publish(String(data=text))

rclpy.init()
node = rclpy.create_node('echo')
publisher = node.create_publisher(String, 'echo', 100)
subscription = node.create_subscription(Image, 'image', answer, qos_profile_sensor_data)
try:
    rclpy.spin(node)
except (KeyboardInterrupt, ExternalShutdownException):
    pass
rclpy.try_shutdown()
"""


def image(number: int) -> Image:
    """Make an image that carries its number in stamp and pixels."""
    message = Image(height=HEIGHT, width=WIDTH, encoding='rgb8', step=3 * WIDTH,
                    data=array('B', bytes([number % 256])) * (3 * WIDTH * HEIGHT))
    message.header.stamp.nanosec = number
    return message


def send_and_hear(node, publisher, count: int) -> None:
    """Send images, each once the one before was answered as it should be."""
    echoes = Collector(node, String, 'echo', 100)
    echoes.wait_for_matched()
    # the echo may not know the publisher yet
    wait_for(lambda: publisher.publish(image(0)) or len(echoes), what='the first image')
    for number in range(1, count + 1):
        answer = f'{number} {2 * number} {3 * WIDTH * HEIGHT}'
        publisher.publish(image(number))
        wait_for(lambda: answer in {m.data for m in echoes.messages}, what=f'image {number}')


def test_processes_use_the_shipped_profile(ros_domain):
    assert os.environ['FASTDDS_DEFAULT_PROFILES_FILE'] == str(profile_path())
    assert os.environ['ROS_DOMAIN_ID'] == str(ros_domain)


@pytest.mark.slow
def test_no_large_message_is_lost():
    results = transport.run(SECONDS, (image_stream(WIDTH, HEIGHT, rate=30.0),
                                      cloud_stream(points=200_000, rate=5.0)))
    images, clouds = results
    assert images.sent == 30 * SECONDS
    assert clouds.sent == 5 * SECONDS
    assert images.size == 3 * WIDTH * HEIGHT
    assert 16 * 200_000 <= clouds.size <= 24 * 200_000
    for result in results:
        assert result.lost == 0, result
        assert 0 < result.latency_median_ms <= result.latency_95_ms
        assert result.publish_ms > 0
        assert result.bare_ms > 0


def test_images_arrive_as_they_were_sent(ros_node, spawn):
    publisher = ros_node.create_publisher(Image, 'image', qos_profile_sensor_data)
    spawn('-c', ECHO)
    send_and_hear(ros_node, publisher, 20)


@pytest.mark.parametrize('stopped', [False, True], ids=['never reads', 'stopped'])
def test_deaf_subscriber_does_not_stop_the_publisher(ros_node, spawn, stopped):
    publisher = ros_node.create_publisher(Image, 'image', 5)
    deaf = spawn('-c', DEAF)
    deaf.wait_for_output('matched')
    wait_for_matched(publisher)
    spawn('-c', ECHO)
    wait_for_matched(publisher, 2)
    if stopped:
        deaf.send(signal.SIGSTOP)
    try:
        # more than the shared memory of the publisher holds
        send_and_hear(ros_node, publisher, 60)
    finally:
        deaf.send(signal.SIGCONT)
    assert deaf.returncode is None
    assert deaf.stdout == 'matched\n'
    assert deaf.stop() == 0, deaf.output


def test_ten_participants_find_each_other(ros_domain):
    # by unicast, as here, Fast DDS looks for four on each machine unless told otherwise
    contexts = [rclpy.Context() for _ in range(10)]
    try:
        for context in contexts:
            rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
        nodes = [rclpy.create_node(f'node_{index}', context=context)
                 for index, context in enumerate(contexts)]
        publisher = nodes[-1].create_publisher(String, 'topic', 1)
        for node in nodes[:-1]:
            node.create_subscription(String, 'topic', print, 1)
        wait_for_matched(publisher, len(nodes) - 1)
        for node in nodes:
            node.destroy_node()
    finally:
        for context in contexts:
            context.try_shutdown()
            context.destroy()
