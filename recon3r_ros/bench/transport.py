# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Images and clouds sent to another process over DDS: what arrives, how late, at what cost.

Every other message is built from arrays, as the node does; the others are those of a bare
publisher: the same bytes, built before. All go through the same publisher to the same reader.
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

#: Seconds that the reader may take to start
START_S = 30.0
_NS_PER_MS = 1e6


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


def _send(senders: list[Sender], duration: float) -> None:
    """Send each stream at its rate; one that falls behind catches up."""
    start = time.monotonic()
    counts = [max(2, round(duration * sender.topic.rate)) for sender in senders]
    due = sorted((start + index / sender.topic.rate, order)
                 for order, sender in enumerate(senders) for index in range(counts[order]))
    for moment, order in due:
        time.sleep(max(0.0, moment - time.monotonic()))
        senders[order].send()


def _result(sender: Sender, latencies_ns: list[int]) -> StreamResult:
    """Sum up what a sender measured, and the latencies of the messages that arrived."""
    median, most = np.percentile(latencies_ns, [50, 95]) if latencies_ns else (np.nan, np.nan)
    return StreamResult(
        sender.topic, sender.size, sender.sent, len(latencies_ns),
        float(median) / _NS_PER_MS, float(most) / _NS_PER_MS,
        float(np.median(sender.built_ns)) / _NS_PER_MS,
        float(np.median(sender.bare_ns)) / _NS_PER_MS)
