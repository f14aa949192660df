# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What tests over real DDS share: waiting, collecting messages, child processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
import signal
import subprocess
import sys
from threading import Condition
import time
from typing import Any, TypeVar

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from recon3r_ros.ros.environment import child_environment

#: Seconds that anything may take on a loaded machine
TIMEOUT = 20.0
_POLL = 0.01
T = TypeVar('T')


def wait_for(condition: Callable[[], T], timeout: float = TIMEOUT, what: str = '') -> T:
    """
    Wait until a condition is true and return its value; fail the test where it stays false.

    :param timeout: seconds
    :param what: is awaited, for the message
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f'{what or condition} not within {timeout:g} s')
        time.sleep(_POLL)


def wait_for_matched(endpoint: Publisher | Subscription, count: int = 1,
                     timeout: float = TIMEOUT) -> None:
    """
    Wait until a publisher or a subscription knows its counterparts.

    :param count: how many of them
    :param timeout: seconds
    """
    if isinstance(endpoint, Publisher):
        found, topic = endpoint.get_subscription_count, endpoint.topic_name
    else:
        found, topic = endpoint.get_publisher_count, endpoint.topic_name
    wait_for(lambda: found() >= count, timeout, f'{count} counterparts on {topic}')


@dataclass(frozen=True)
class Received:
    """
    A received message.

    :param message: itself
    :param time_ns: when, by the wall clock
    """

    message: Any
    time_ns: int


class Collector:
    """
    Keeps every message of a topic; the node has to be spun in another thread.

    :param node: that subscribes
    :param kind: class of the messages
    :param topic: name
    :param qos: profile, or depth
    """

    def __init__(self, node: Node, kind: type, topic: str, qos: QoSProfile | int) -> None:
        self._received: list[Received] = []
        self._changed = Condition()
        self.topic = topic
        self.subscription = node.create_subscription(kind, topic, self._append, qos)

    def _append(self, message: Any) -> None:
        now = time.time_ns()
        with self._changed:
            self._received.append(Received(message, now))
            self._changed.notify_all()

    @property
    def received(self) -> list[Received]:
        """What came so far, oldest first."""
        with self._changed:
            return list(self._received)

    @property
    def messages(self) -> list[Any]:
        """The messages that came so far, oldest first."""
        return [received.message for received in self.received]

    def __len__(self) -> int:
        with self._changed:
            return len(self._received)

    def clear(self) -> None:
        """Forget what came."""
        with self._changed:
            self._received.clear()

    def wait(self, count: int = 1, timeout: float = TIMEOUT) -> list[Any]:
        """
        Wait until so many messages came in all, and return them.

        :param timeout: seconds
        """
        with self._changed:
            came = self._changed.wait_for(lambda: len(self._received) >= count, timeout)
            assert came, f'{len(self._received)} of {count} messages on {self.topic} ' \
                f'within {timeout:g} s'
            return [received.message for received in self._received]

    def wait_for_matched(self, count: int = 1, timeout: float = TIMEOUT) -> None:
        """
        Wait until the subscription knows its publishers.

        :param count: how many of them
        :param timeout: seconds
        """
        wait_for_matched(self.subscription, count, timeout)


class ChildProcess:
    """
    A child process in a session of its own, with its output in files.

    :param arguments: of Python; or `recon3r` and its arguments
    :param folder: that the output goes to, and the working directory
    :param extra: environment variables on top of `child_environment`
    """

    def __init__(self, arguments: tuple[str, ...], folder: Path, **extra: str) -> None:
        python = Path(sys.executable)
        command = [str(python.parent / arguments[0]), *arguments[1:]] \
            if arguments[0] == 'recon3r' else [str(python), *arguments]
        self.name = ' '.join(arguments[:3]).splitlines()[0]
        self._files = (folder / 'stdout.txt', folder / 'stderr.txt')
        with open(self._files[0], 'wb') as out, open(self._files[1], 'wb') as err:
            self._process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                env=child_environment(PYTHONUNBUFFERED='1', **extra), start_new_session=True)
        self.pid = self._process.pid

    @property
    def stdout(self) -> str:
        """Standard output so far."""
        return self._files[0].read_text(errors='replace')

    @property
    def stderr(self) -> str:
        """Standard error so far."""
        return self._files[1].read_text(errors='replace')

    @property
    def output(self) -> str:
        """Both, for the messages of failures and where the log may be in either."""
        return self.stdout + self.stderr

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """
        Send a signal.

        :param number: such as signal.SIGINT
        """
        self._process.send_signal(number)

    def wait(self, timeout: float = TIMEOUT) -> int:
        """
        Wait for its end and return the exit code.

        :param timeout: seconds
        """
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f'{self.name} still runs after {timeout:g} s; it wrote:\n{self.output}') from None

    def stop(self, timeout: float = TIMEOUT) -> int:
        """
        Press Ctrl-C, wait for the end and return the exit code.

        :param timeout: seconds
        """
        if self.returncode is None:
            self.send(signal.SIGINT)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it, and the processes that it started, by force."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def wait_for_output(self, text: str, timeout: float = TIMEOUT) -> None:
        """
        Wait until it has written a text to standard output or error.

        :param timeout: seconds
        """
        wait_for(lambda: text in self.output or self.returncode is not None, timeout,
                 f'{text!r} from {self.name}')
        assert text in self.output, f'{self.name} ended with {self.returncode}:\n{self.output}'
