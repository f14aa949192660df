# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Images and clouds sent to another process over DDS: loss, latency, run time.

Every other message is built from arrays, as in the node; the others are the baseline: the same
bytes, built in advance. All go through the same publisher to the same subscriber.
"""

from __future__ import annotations

from dataclasses import dataclass
import multiprocessing
from multiprocessing.connection import Connection
import time

import numpy as np
from recon3r_ros.errors import Recon3rError
from recon3r_ros.ros.environment import prepare_process
from recon3r_ros.ros.transport_probe import probe_node, read, Sender, SILENCE_S, Stream, Topic

#: Timeout for the start of the subscriber, seconds
START_S = 30.0
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class StreamResult:
    """
    Result of one stream.

    :param size: bytes of one message's data
    :param sent: messages sent
    :param received: messages received by the other process
    :param latency_median_ms: from the stamp to the subscriber's callback; NaN where none arrived
    :param latency_95_ms: 95th percentile
    :param publish_ms: median time to build a message from arrays and to publish it
    :param bare_ms: median time to publish the same bytes, built in advance
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
        """Ratio of the time to build and publish to the time to publish."""
        return self.publish_ms / self.bare_ms


def run(duration: float, streams: tuple[Stream, ...]) -> tuple[StreamResult, ...]:
    """
    Send streams concurrently to another process.

    :param duration: seconds
    """
    prepare_process()
    # Not forked: DDS has threads, and the subscriber must be an independent process.
    spawn = multiprocessing.get_context('spawn')
    ours, theirs = spawn.Pipe()
    reader = spawn.Process(
        target=read, args=(theirs, tuple(s.topic for s in streams)), daemon=True)
    reader.start()
    theirs.close()
    try:
        with probe_node('bench_sender') as node:
            senders = [Sender(node, stream) for stream in streams]
            _await_reader(senders, ours)
            _send(senders, duration)
            ours.send([sender.sent for sender in senders])
            try:
                latencies: list[list[int]] = ours.recv()
            except EOFError as error:
                raise Recon3rError('the reading process ended early, see its output') from error
            return tuple(_result(sender, found) for sender, found in zip(senders, latencies))
    finally:
        ours.close()
        reader.join(SILENCE_S)
        if reader.is_alive():
            reader.kill()


def _await_reader(senders: list[Sender], connection: Connection) -> None:
    """Publish until the subscriber has received every stream, so that discovery is complete."""
    deadline = time.monotonic() + START_S
    while not connection.poll(0.1):
        if time.monotonic() > deadline:
            raise Recon3rError(f'the subscriber process received nothing within {START_S:g} s: '
                               'check for a firewall, or too small a /dev/shm')
        for sender in senders:
            sender.wake()
    try:
        connection.recv()
    except EOFError as error:
        raise Recon3rError('the reading process ended early, see its output') from error


def _send(senders: list[Sender], duration: float) -> None:
    """Send each stream at its rate; a delayed one catches up."""
    start = time.monotonic()
    counts = [max(2, round(duration * sender.topic.rate)) for sender in senders]
    due = sorted((start + index / sender.topic.rate, order)
                 for order, sender in enumerate(senders) for index in range(counts[order]))
    for moment, order in due:
        time.sleep(max(0.0, moment - time.monotonic()))
        senders[order].send()


def _result(sender: Sender, latencies_ns: list[int]) -> StreamResult:
    """Summarise the measurements of a sender and the latencies of the messages that arrived."""
    median, most = np.percentile(latencies_ns, [50, 95]) if latencies_ns else (np.nan, np.nan)
    return StreamResult(
        sender.topic, sender.size, sender.sent, len(latencies_ns),
        float(median) / _NS_PER_MS, float(most) / _NS_PER_MS,
        float(np.median(sender.built_ns)) / _NS_PER_MS,
        float(np.median(sender.bare_ns)) / _NS_PER_MS)
