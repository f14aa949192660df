# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Large messages from one process to another, to measure the transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from recon3r_ros.ros import conversions
from recon3r_ros.slam.types import PointCloud
from sensor_msgs.msg import Image, PointCloud2

#: Seconds without a message after which the rest is lost
SILENCE_S = 3.0
#: The reader keeps this many seconds of messages, so that only the transport can lose some
_READER_DEPTH_S = 2.0
_FRAME = 'bench'


@dataclass(frozen=True)
class Topic:
    """
    Topic of a stream.

    :param kind: class of the messages
    :param rate: messages a second
    :param reliable: sent so; else best effort
    """

    name: str
    kind: type
    rate: float
    reliable: bool

    def qos(self, depth: int) -> QoSProfile:
        """Return the quality of service, keeping the last `depth` messages."""
        return QoSProfile(depth=depth, reliability=(
            ReliabilityPolicy.RELIABLE if self.reliable else ReliabilityPolicy.BEST_EFFORT))


@dataclass(frozen=True)
class Stream:
    """
    Messages of one topic.

    :param build: makes a message from arrays, for a stamp in nanoseconds
    """

    topic: Topic
    build: Callable[[int], Any]


def image_stream(width: int = 1280, height: int = 720, rate: float = 30.0) -> Stream:
    """
    Colour images, best effort as cameras send them.

    :param rate: images a second
    """
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Stream(Topic('bench/image', Image, rate, reliable=False),
                  lambda stamp_ns: conversions.image_message(image, stamp_ns, _FRAME))


def cloud_stream(points: int = 200_000, rate: float = 5.0) -> Stream:
    """
    Clouds as the node sends them.

    :param points: of each
    :param rate: clouds a second
    """
    generator = np.random.default_rng(0)
    cloud = PointCloud(generator.normal(size=(points, 3)).astype(np.float32),
                       generator.integers(0, 256, (points, 3), np.uint8),
                       generator.random(points, np.float32))
    return Stream(Topic('bench/points', PointCloud2, rate, reliable=True),
                  lambda stamp_ns: conversions.cloud_message(cloud, stamp_ns, _FRAME))


class Sender:
    """
    Sends one stream and measures the run time of sending.

    Every other message is built from arrays; the others were built before.

    :param node: that publishes
    :param stream: what
    """

    def __init__(self, node: Node, stream: Stream) -> None:
        self.topic = stream.topic
        self._build = stream.build
        self._publisher: Publisher = node.create_publisher(
            self.topic.kind, self.topic.name, self.topic.qos(depth=5))
        self._ready_made = stream.build(0)
        #: Bytes of one message's data
        self.size = len(self._ready_made.data)
        #: Nanoseconds for each message that was built and published, and that was published alone
        self.built_ns: list[int] = []
        self.bare_ns: list[int] = []

    @property
    def sent(self) -> int:
        """Messages so far, without those that only wake the reader."""
        return len(self.built_ns) + len(self.bare_ns)

    def wake(self) -> None:
        """Send a message that does not count, known by its stamp of zero."""
        self._publisher.publish(self._build(0))

    def send(self) -> None:
        """Send the next message."""
        start = time.perf_counter_ns()
        if self.sent % 2:
            message, costs = self._ready_made, self.bare_ns
            message.header.stamp = conversions.ns_to_stamp(time.time_ns())
        else:
            message, costs = self._build(time.time_ns()), self.built_ns
        self._publisher.publish(message)
        costs.append(time.perf_counter_ns() - start)


def read(connection: Connection, topics: tuple[Topic, ...]) -> None:
    """
    Receive messages until told how many were sent, then send latencies: in a process of its own.

    :param connection: sends None when every topic was received, receives the numbers of messages
        sent, sends the latencies in nanoseconds, a list a topic
    :param topics: that are read
    """
    heard: set[str] = set()
    latencies: dict[str, list[int]] = {topic.name: [] for topic in topics}

    def take(name: str, message: Any) -> None:
        now = time.time_ns()
        stamp = conversions.stamp_to_ns(message.header.stamp)
        heard.add(name)
        if stamp:
            latencies[name].append(now - stamp)

    try:
        with probe_node('bench_reader') as node:
            executor = SingleThreadedExecutor(context=node.context)
            executor.add_node(node)
            for topic in topics:
                node.create_subscription(
                    topic.kind, topic.name, lambda message, name=topic.name: take(name, message),
                    topic.qos(depth=max(1, round(topic.rate * _READER_DEPTH_S))))
            while len(heard) < len(topics):
                executor.spin_once(timeout_sec=0.1)
            connection.send(None)
            while not connection.poll():
                executor.spin_once(timeout_sec=0.1)
            sent: list[int] = connection.recv()
            last = time.monotonic()
            while time.monotonic() - last < SILENCE_S:
                before = sum(map(len, latencies.values()))
                if before >= sum(sent):
                    break
                executor.spin_once(timeout_sec=0.1)
                if sum(map(len, latencies.values())) > before:
                    last = time.monotonic()
            executor.shutdown()
            connection.send(list(latencies.values()))
    except (KeyboardInterrupt, ExternalShutdownException, EOFError, BrokenPipeError):
        pass  # the sender ends, and reports why


@contextmanager
def probe_node(name: str) -> Iterator[Node]:
    """Make a node with a context of its own."""
    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(name, context=context, enable_rosout=False,
                                 start_parameter_services=False)
        try:
            yield node
        finally:
            node.destroy_node()
    finally:
        context.try_shutdown()
        # otherwise its shared memory may outlive the process
        context.destroy()
