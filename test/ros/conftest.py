# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests over real DDS; without rclpy all tests of this folder are skipped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import fcntl
import importlib.util
from pathlib import Path
import random
import signal
import tempfile
from threading import Thread
from typing import IO

import pytest

_RCLPY = importlib.util.find_spec('rclpy') is not None
#: Domains whose ports lie below those that Linux hands out
_DOMAINS = range(1, 102)


class _SkippedModule(pytest.Module):
    """A module whose imports would fail."""

    def collect(self):
        pytest.skip('rclpy is missing: install the extra `ros` or source a ROS 2 installation',
                    allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector):
    """Skip the modules of this folder where rclpy is missing."""
    if not _RCLPY:
        return _SkippedModule.from_parent(parent, path=module_path)
    return None


def _claim_domain() -> tuple[int, IO[str]]:
    """Take a domain that no other test process on this machine uses, until the file is closed."""
    for domain in random.SystemRandom().sample(_DOMAINS, len(_DOMAINS)):
        try:
            claim = open(Path(tempfile.gettempdir()) / f'recon3r_ros_domain_{domain}.lock', 'w')
        except PermissionError:
            continue  # another user's
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            claim.close()
            continue
        return domain, claim
    raise AssertionError('every ROS domain is in use')


@pytest.fixture(scope='session', autouse=True)
def ros_domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Keep this process and its children from everybody else; return the domain."""
    from recon3r_ros.ros.environment import prepare_process, PROFILE_VARIABLES
    domain, claim = _claim_domain()
    # Started in the background of a script, Ctrl-C is ignored, and children inherit that.
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch, claim:
        for name in (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS', 'RMW_IMPLEMENTATION',
                     'ROS_LOG_DIR', 'ROS_LOCALHOST_ONLY', 'ROS_STATIC_PEERS', 'ROS_NAMESPACE'):
            patch.delenv(name, raising=False)
        patch.setenv('ROS_DOMAIN_ID', str(domain))
        patch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        patch.setenv('ROS_HOME', str(tmp_path_factory.mktemp('ros_home')))
        prepare_process()
        yield domain
        for name in PROFILE_VARIABLES:
            patch.delenv(name, raising=False)
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture
def ros_context(ros_domain: int):
    """Return an rclpy context of the test's own, initialised."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    context = rclpy.Context()
    # pytest handles Ctrl-C
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    yield context
    context.try_shutdown()
    # otherwise its shared memory would outlive the process
    context.destroy()


@pytest.fixture
def ros_node(ros_context):
    """Return a node in that context, spun in a thread of its own until the test ends."""
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    node = rclpy.create_node('test_node', context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    failures: list[BaseException] = []

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=spin, name='ros_node', daemon=True)
    thread.start()
    yield node
    executor.shutdown()
    thread.join(10)
    assert not thread.is_alive(), 'the executor does not end'
    node.destroy_node()
    if failures:
        raise failures[0]


@pytest.fixture
def spawn(ros_domain: int, tmp_path: Path) -> Iterator[Callable]:
    """
    Return `spawn(*arguments, **environment)`: start Python, or `recon3r`, with arguments.

    `spawn('-m', 'some.module', ...)`, `spawn('-c', program)` and `spawn('recon3r', 'node', ...)`
    return a `ChildProcess`. At the end of the test those that still run get Ctrl-C, which has to
    end them.
    """
    from ros_helpers import ChildProcess
    children: list[ChildProcess] = []

    def start(*arguments: str, **environment: str) -> ChildProcess:
        folder = tmp_path / f'child_{len(children)}'
        folder.mkdir()
        children.append(ChildProcess(arguments, folder, **environment))
        return children[-1]

    yield start
    failures = []
    for child in reversed(children):
        try:
            child.stop()
        except AssertionError as failure:
            failures.append(str(failure))
        child.kill()
    assert not failures, '\n'.join(failures)
