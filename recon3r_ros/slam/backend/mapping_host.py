# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Where keyframes are made: at once in this process, or in one of their own.

A keyframe takes longer than a frame may. Beside tracking in one process it would hold the
interpreter's lock most of the time, so that live it is made in another process, at a lower
priority. What comes back is the map as it is then; only what changed travels.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection, Pipe
import os
from queue import SimpleQueue
import signal
import subprocess
import sys
from threading import Thread
from typing import Any, Callable, Concatenate, ParamSpec, Protocol, TypeVar

from recon3r_ros.errors import missing_package, one_line, Recon3rError
from recon3r_ros.models.types import Predictor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.dynamics.motion import MotionConfig
from recon3r_ros.slam.types import Keyframe, Map

P = ParamSpec('P')
R = TypeVar('R')

#: How much less urgent keyframes are than poses (Unix niceness)
NICENESS = 5
#: Seconds that the process has to end when it is told to
_PATIENCE_S = 2.0


class MapperHost(Protocol):
    """
    Runs methods of one mapper, one after the other.

    `at_once` says whether a method has run when `call` returns.
    """

    @property
    def at_once(self) -> bool: ...

    def call(self, method: Callable[Concatenate[Mapper, P], R], *args: P.args, **kwargs: P.kwargs
             ) -> Future[tuple[R, Map]]:
        """Run a method; its result comes with the map as it is afterwards."""
        ...

    def close(self) -> None:
        """Free the mapper; nothing may be called any more."""
        ...


class MapperAtOnce:
    """
    Runs methods before `call` returns: results do not depend on the machine's speed.

    :param mapper: to run them on
    """

    at_once = True

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper

    def call(self, method: Callable[Concatenate[Mapper, P], R], *args: P.args, **kwargs: P.kwargs
             ) -> Future[tuple[R, Map]]:
        """Run a method now."""
        future: Future[tuple[R, Map]] = Future()
        try:
            result = method(self._mapper, *args, **kwargs)
            future.set_result((result, self._mapper.snapshot()))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, eq=False)
class _Call:
    """A method, what it is given, and where its result goes."""

    method: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Future[Any]


@dataclass(frozen=True, eq=False)
class _Difference:
    """
    From one map to the next.

    :param known: the next one, without keyframes
    :param changed: fields of keyframes that are new or differ, by id, in order
    :param ids: all keyframes there are
    """

    known: Map
    changed: dict[int, dict[str, Any]]
    ids: tuple[int, ...]

    @classmethod
    def between(cls, old: Map, new: Map) -> _Difference:
        """Find it; a field that is the same object has not changed."""
        changed = {}
        for i, keyframe in new.keyframes.items():
            before = old.keyframes.get(i)
            if before is not keyframe:
                changed[i] = {
                    f.name: getattr(keyframe, f.name) for f in fields(Keyframe)
                    if before is None or getattr(keyframe, f.name) is not getattr(before, f.name)}
        return cls(replace(new, keyframes={}), changed, tuple(new.keyframes))

    def apply(self, old: Map) -> Map:
        """Return the next map."""
        keyframes = {}
        for i in self.ids:
            changes = self.changed.get(i)
            before = old.keyframes.get(i)
            if changes is None:
                keyframes[i] = old.keyframes[i]
            else:
                keyframes[i] = Keyframe(**changes) if before is None else replace(
                    before, **changes)
        return replace(self.known, keyframes=keyframes)


class MapperProcess:
    """
    Runs methods in a process of its own; it ends with this one.

    :param predictor: makes the predictor there: a class, or another callable that can be pickled
    :param max_keyframes: of the map
    :param motion: how dynamic objects are handled; its refiner is a function that can be pickled
    :raises Recon3rError: where the process cannot make the predictor
    """

    at_once = False

    def __init__(self, predictor: Callable[[], Predictor], max_keyframes: int,
                 motion: MotionConfig = MotionConfig()) -> None:
        # Not forked, because copies of the locks of other threads would never be released; not
        # spawned by multiprocessing, which would import the main module again
        self._connection, remote = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, '-c', f'import {__name__} as host; host.serve({remote.fileno()})'],
            pass_fds=[remote.fileno()], stdin=subprocess.DEVNULL)
        remote.close()
        self._map = Map()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = Thread(target=self._pump, name='recon3r-mapping', daemon=True)
        self._thread.start()
        try:
            self._connection.send((predictor, max_keyframes, motion))
            self.call(Mapper.snapshot).result()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def call(self, method: Callable[Concatenate[Mapper, P], R], *args: P.args, **kwargs: P.kwargs
             ) -> Future[tuple[R, Map]]:
        """
        Run a method after those called before.

        The future raises what the method raised, or Recon3rError where the process has ended.
        """
        future: Future[tuple[R, Map]] = Future()
        self._calls.put(_Call(method, args, kwargs, future))
        return future

    def close(self) -> None:
        """End the process and the thread; what has not been done yet is not done."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._calls.put(None)
        self._thread.join()
        self._connection.close()

    def _status(self) -> int | None:
        """Exit status of a process that has closed its pipe; None where it lives on."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(_PATIENCE_S)
        return None

    def _ended(self, broken: Exception) -> Recon3rError:
        return Recon3rError(f'the mapping process has ended (status {self._status()}, '
                            f'{type(broken).__name__})')

    def _pump(self) -> None:
        """Hand calls over one by one; runs in a thread, because a pipe may block."""
        while True:
            call = self._calls.get()
            if call is None:
                return
            try:
                self._connection.send((call.method, call.args, call.kwargs))
            except OSError as broken:
                call.future.set_exception(self._ended(broken))
                continue
            except Exception as broken:
                # It is pickled whole before anything is sent
                call.future.set_exception(Recon3rError(
                    f'the mapping process cannot be given this: {one_line(broken)}'))
                continue
            try:
                result, error, difference = self._connection.recv()
                known = difference.apply(self._map)
            except (EOFError, OSError) as broken:
                call.future.set_exception(self._ended(broken))
                continue
            except Exception as broken:
                # The two maps differ from now on: only a new process can be trusted
                self._process.kill()
                call.future.set_exception(Recon3rError(
                    'the answer of the mapping process cannot be read, it is ended: '
                    f'{type(broken).__name__}: {one_line(broken)}'))
                continue
            self._map = known
            if error is not None:
                call.future.set_exception(error)
            else:
                call.future.set_result((result, self._map))


def serve(descriptor: int) -> None:
    """
    Make a mapper and do what comes through a pipe, until it is closed: the process's main.

    :param descriptor: of the pipe's end
    """
    connection: Connection[Any, Any] = Connection(descriptor)
    # Ctrl-C in a terminal reaches all processes; the parent says when to end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.nice(NICENESS)
    sent = Map()
    mapper: Mapper | None = None
    predictor, max_keyframes, motion = connection.recv()
    while True:
        try:
            method, args, kwargs = connection.recv()
        except (EOFError, OSError):
            return
        result: Any = None
        error: Exception | None = None
        try:
            if mapper is None:
                mapper = Mapper(predictor(), max_keyframes, motion)
            result = method(mapper, *args, **kwargs)
        except ModuleNotFoundError as missing:
            error = missing_package(missing, 'mapping')
        except Exception as raised:
            error = raised
        known = Map() if mapper is None else mapper.snapshot()
        if error is not None and not _travels(error):
            error = Recon3rError(f'{type(error).__name__}: {error}')
        connection.send((result, error, _Difference.between(sent, known)))
        sent = known


def _travels(error: Exception) -> bool:
    """Whether an exception's type survives pickling: one of ours or of Python's own."""
    return type(error).__module__ in ('builtins', 'recon3r_ros.errors')
