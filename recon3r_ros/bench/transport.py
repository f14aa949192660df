# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Images and clouds sent to another process over DDS: what arrives, how late, at what cost.

Every other message is built from arrays, as the node does; the others are those of a bare
publisher: the same bytes, built before. All go through the same publisher to the same reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import multiprocessing
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
from recon3r_ros.errors import Recon3rError
from recon3r_ros.ros import conversions
from recon3r_ros.ros.environment import prepare_process
from recon3r_ros.slam.types import PointCloud
from sensor_msgs.msg import Image, PointCloud2

#: Seconds that the reader may take to start
START_S = 30.0
#: Seconds without a message after which the rest is lost
_SILENCE_S = 3.0
#: The reader keeps this many seconds of messages, so that only the transport can lose some
_READER_DEPTH_S = 2.0
_FRAME = 'bench'
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Topic:
    """
    Where a stream is sent.

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
    What is sent on one topic.

    :param build: makes a message from arrays, for a stamp in nanoseconds
    """

    topic: Topic
    build: Callable[[int], Any]


@dataclass(frozen=True)
class StreamResult:
    """
    How one stream fared.

    :param size: bytes of one message's data
    :param sent: messages
    :param received: of them, by the other process
    :param latency_median_ms: from the stamp to the reader's callback; NaN where none arrived
    :param latency_95_ms: which 95 % of the messages keep below
    :param publish_ms: median time to build a message from arrays and to publish it
    :param bare_ms: median time to publish the same bytes, built before
    """

    topic: Topic
    size: int
    sent: int
    received: int
    latency_median_ms: float
    latency_95_ms: float
    publish_ms: float
    bare_ms: float

    @property
    def lost(self) -> int:
        """Messages that did not arrive."""
        return self.sent - self.received

    @property
    def cost_ratio(self) -> float:
        """Cost of building and publishing, in costs of publishing alone."""
        return self.publish_ms / self.bare_ms


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


def run(duration: float, streams: tuple[Stream, ...]) -> tuple[StreamResult, ...]:
    """
    Send streams, all at the same time, to another process.

    :param duration: seconds
    """
    prepare_process()
    # Not forked: DDS has threads, and the reader is to be a process like any other.
    spawn = multiprocessing.get_context('spawn')
    ours, theirs = spawn.Pipe()
    reader = spawn.Process(
        target=_read, args=(theirs, tuple(s.topic for s in streams)), daemon=True)
    reader.start()
    theirs.close()
    try:
        with _node('bench_sender') as node:
            senders = [_Sender(node, stream) for stream in streams]
            _await_reader(senders, ours)
            _send(senders, duration)
            ours.send([sender.sent for sender in senders])
            try:
                latencies: list[list[int]] = ours.recv()
            except EOFError as error:
                raise Recon3rError('the reading process ended early, see its output') from error
            return tuple(sender.result(found) for sender, found in zip(senders, latencies))
    finally:
        ours.close()
        reader.join(_SILENCE_S)
        if reader.is_alive():
            reader.kill()


class _Sender:
    """
    Sends one stream and measures what that costs.

    :param node: that publishes
    :param stream: what
    """

    def __init__(self, node: Node, stream: Stream) -> None:
        self.topic = stream.topic
        self._build = stream.build
        self._publisher: Publisher = node.create_publisher(
            self.topic.kind, self.topic.name, self.topic.qos(depth=5))
        self._ready_made = stream.build(0)
        self._size = len(self._ready_made.data)
        # nanoseconds a message: built here, and bare
        self._built: list[int] = []
        self._bare: list[int] = []

    @property
    def sent(self) -> int:
        """Messages so far, without those that only wake the reader."""
        return len(self._built) + len(self._bare)

    def wake(self) -> None:
        """Send a message that does not count, known by its stamp of zero."""
        self._publisher.publish(self._build(0))

    def send(self) -> None:
        """Send the next message."""
        start = time.perf_counter_ns()
        if self.sent % 2:
            message, costs = self._ready_made, self._bare
            message.header.stamp = conversions.ns_to_stamp(time.time_ns())
        else:
            message, costs = self._build(time.time_ns()), self._built
        self._publisher.publish(message)
        costs.append(time.perf_counter_ns() - start)

    def result(self, latencies: list[int]) -> StreamResult:
        """
        Sum up.

        :param latencies: nanoseconds, of the messages that arrived
        """
        median, most = (np.percentile(latencies, [50, 95]) if latencies else
                        (np.nan, np.nan))
        return StreamResult(
            self.topic, self._size, self.sent, len(latencies),
            float(median) / _NS_PER_MS, float(most) / _NS_PER_MS,
            float(np.median(self._built)) / _NS_PER_MS, float(np.median(self._bare)) / _NS_PER_MS)


def _await_reader(senders: list[_Sender], connection: Connection) -> None:
    """Wake the reader until it heard every stream: both sides know each other then."""
    deadline = time.monotonic() + START_S
    while not connection.poll(0.1):
        if time.monotonic() > deadline:
            raise Recon3rError(f'the reading process heard nothing within {START_S:g} s: look '
                               'for a firewall, or for too small a /dev/shm')
        for sender in senders:
            sender.wake()
    try:
        connection.recv()
    except EOFError as error:
        raise Recon3rError('the reading process ended early, see its output') from error


def _send(senders: list[_Sender], duration: float) -> None:
    """Send each stream at its rate; one that falls behind catches up."""
    start = time.monotonic()
    counts = [max(2, round(duration * sender.topic.rate)) for sender in senders]
    due = sorted((start + index / sender.topic.rate, order)
                 for order, sender in enumerate(senders) for index in range(counts[order]))
    for moment, order in due:
        time.sleep(max(0.0, moment - time.monotonic()))
        senders[order].send()


def _read(connection: Connection, topics: tuple[Topic, ...]) -> None:
    """Take messages until told how many were sent, then tell the latencies (another process)."""
    heard: set[str] = set()
    latencies: dict[str, list[int]] = {topic.name: [] for topic in topics}

    def take(name: str, message: Any) -> None:
        now = time.time_ns()
        stamp = conversions.stamp_to_ns(message.header.stamp)
        heard.add(name)
        if stamp:
            latencies[name].append(now - stamp)

    try:
        with _node('bench_reader') as node:
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
            while time.monotonic() - last < _SILENCE_S:
                before = sum(map(len, latencies.values()))
                if before >= sum(sent):
                    break
                executor.spin_once(timeout_sec=0.1)
                if sum(map(len, latencies.values())) > before:
                    last = time.monotonic()
            executor.shutdown()
            connection.send(list(latencies.values()))
    except (KeyboardInterrupt, ExternalShutdownException, EOFError, BrokenPipeError):
        pass  # the sender ends, and says why


@contextmanager
def _node(name: str) -> Iterator[Node]:
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
