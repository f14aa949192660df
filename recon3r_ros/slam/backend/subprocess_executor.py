# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Local mapping in a process of its own, which is restarted with the map where it ends.

A keyframe takes longer than a frame may. In the process of tracking it would hold the
interpreter's lock most of the time, so that it is processed in another one. The map comes back;
only changes are sent. Its priority is not lower: on a busy computer the first pair would come so
late that hundreds of milliseconds of images wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
import logging
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
import signal
from threading import Lock, Thread
from time import perf_counter, process_time
from typing import Any, Concatenate, ParamSpec, TypeVar

import cv2
from recon3r_ros.errors import missing_package, one_line, Recon3rError
from recon3r_ros.models.types import Predictor
from recon3r_ros.slam.backend.channel import Channel
from recon3r_ros.slam.backend.map_delta import MapDelta, MappedViews
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.backend.mapping_process import MappingProcess
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.options import MappingOptions
from recon3r_ros.slam.types import Map

P = ParamSpec('P')
R = TypeVar('R')

_log = logging.getLogger(__name__)
#: Newest keyframes whose run times are kept
_TIMES = 10_000
#: Seconds between two checks that the idle process lives
_LOOK_S = 0.5


@dataclass(frozen=True, eq=False)
class _Call:
    """A method, its arguments, and the future of its result."""

    method: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Future[Any]


@dataclass(frozen=True)
class KeyframeTime:
    """
    Run time of local mapping for a requested keyframe, accepted or not.

    :param wall_s: seconds
    :param cpu_s: CPU seconds of the process, all its threads
    """

    wall_s: float
    cpu_s: float


class _Ended(Exception):
    """The process has ended, or its answer cannot be read."""


class SubprocessExecutor:
    """
    Runs methods of a mapper in a process of its own; it ends with this one.

    Where the process ends by itself (killed, out of memory), it is restarted with the last known
    map, and the method is run again.

    :param predictor: makes the predictor there: a class, or another callable that can be pickled
    :param options: of local mapping
    :param motion: how dynamic objects are handled; its refiner is a function that can be pickled
    :param warn: called with one line when the process is restarted
    :param process: that has been started already; it is ended by `close`
    :param finished: called after each method, in a thread of the executor's
    :raises Recon3rError: where the process cannot make the predictor
    """

    in_step = False

    def __init__(self, predictor: Callable[[], Predictor], options: MappingOptions,
                 motion: MotionConfig = MotionConfig(),
                 warn: Callable[[str], None] = _log.warning,
                 process: MappingProcess | None = None,
                 finished: Callable[[], None] = lambda: None) -> None:
        self._finished = finished
        self._setup = (predictor, options, motion)
        self._warn = warn
        self._known = MappedViews.empty()
        self._lock = Lock()
        self._closed = False
        self._served = False
        self.keyframe_times: deque[KeyframeTime] = deque(maxlen=_TIMES)
        self._process = MappingProcess() if process is None else process
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = Thread(target=self._pump, name='recon3r-mapping', daemon=True)
        self._thread.start()
        try:
            self.call(Mapper.snapshot).result()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def call(self, method: Callable[Concatenate[Mapper, P], R], *args: P.args, **kwargs: P.kwargs
             ) -> Future[tuple[R, Map]]:
        """
        Run a method after those called before.

        The future raises what the method raised, or Recon3rError where the process ended during
        it, and again after the restart.
        """
        future: Future[tuple[R, Map]] = Future()
        self._calls.put(_Call(method, args, kwargs, future))
        return future

    def close(self) -> None:
        """End the process and the thread; pending calls are dropped."""
        with self._lock:
            self._closed = True
            process = self._process
        process.end()
        self._calls.put(None)
        self._thread.join()
        process.channel.close()

    def _start(self) -> None:
        """Start a process that continues mapping in the last known map."""
        with self._lock:
            if self._closed:
                raise _Ended('the mapping process is closed')
            self._process = MappingProcess()

    def _restart(self, reason: str) -> None:
        if self._closed:
            raise Recon3rError(reason)  # ended on purpose
        self._warn(f'{reason}: it is started again, the map is kept')
        self._process.channel.close()
        self._served = False
        with suppress(OSError, _Ended):  # where that one ends, too, the next exchange reports it
            self._start()

    def _pump(self) -> None:
        """Hand calls over one by one; runs in a thread, because a pipe may block."""
        while True:
            try:
                call = self._calls.get(timeout=_LOOK_S)
            except Empty:
                self._look()
                continue
            if call is None:
                return
            try:
                result, error = self._run(call)
            except Exception as broken:
                result, error = None, broken
            if error is not None:
                call.future.set_exception(error)
            else:
                call.future.set_result((result, self._known.map))
            self._finished()

    def _look(self) -> None:
        """Restart a process that has ended, before the next keyframe waits for it."""
        status = self._process.status
        # One that has never answered would end again
        if status is not None and self._served and not self._closed:
            self._restart(f'the mapping process has ended (status {status})')

    def _run(self, call: _Call) -> tuple[Any, Exception | None]:
        """Run a method, once more where the process ends; its result, or what it raised."""
        try:
            return self._exchange(call)
        except _Ended as ended:
            self._restart(str(ended))
        try:
            return self._exchange(call)
        except _Ended as ended:
            self._restart(str(ended))
            raise Recon3rError(f'{ended}, twice in a row') from ended

    def _exchange(self, call: _Call) -> tuple[Any, Exception | None]:
        setup = None if self._served else (*self._setup, self._known)
        try:
            self._process.channel.send((setup, call.method, call.args, call.kwargs))
        except OSError as broken:
            raise self._ended(broken) from broken
        except Exception as broken:
            # It is pickled whole before anything is sent
            raise Recon3rError(
                f'cannot be sent to the mapping process: {one_line(broken)}') from broken
        try:
            result, error, delta, time = self._process.channel.recv()
            self._known = delta.apply(self._known)
        except (EOFError, OSError) as broken:
            raise self._ended(broken) from broken
        except Exception as broken:
            # The two maps differ from now on: only a new process is consistent
            self._process.kill()
            raise _Ended('the answer of the mapping process cannot be read '
                         f'({one_line(broken, with_type=True)})') from broken
        self._served = True
        if call.method is Mapper.add:
            self.keyframe_times.append(time)
        return result, error

    def _ended(self, broken: Exception) -> _Ended:
        status = self._process.wait()  # None where it has closed its pipe, but lives on
        return _Ended('the mapping process has ended '
                      f'(status {status}, {type(broken).__name__})')


def serve(descriptor: int, outgoing: int, incoming: int) -> None:
    """
    Run a mapper's methods as requested by a pipe, until it is closed: the process's main.

    :param descriptor: of the pipe's end
    :param outgoing: of the memory for answers
    :param incoming: of the memory for requests
    """
    channel = Channel(Connection(descriptor), outgoing, incoming)
    # Ctrl-C in a terminal reaches all processes; the parent decides when to end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)  # tracking has the other cores
    mapper: Mapper | None = None
    while True:
        try:
            setup, method, args, kwargs = channel.recv()
        except (EOFError, OSError):
            return
        if setup is not None:
            predictor, options, motion, sent = setup
        result: Any = None
        error: Exception | None = None
        begin, begin_cpu = perf_counter(), process_time()
        try:
            if mapper is None:
                mapper = Mapper(predictor(), options, motion)
                mapper.recover(sent.map, sent.views)
            result = method(mapper, *args, **kwargs)
        except ModuleNotFoundError as missing:
            error = missing_package(missing, 'mapping')
        except Exception as raised:
            error = raised
        known = sent if mapper is None else MappedViews(mapper.snapshot(), mapper.views)
        if error is not None and not _travels(error):
            error = Recon3rError(f'{type(error).__name__}: {error}')
        time = KeyframeTime(perf_counter() - begin, process_time() - begin_cpu)
        channel.send((result, error, MapDelta.between(sent, known), time))
        sent = known


def _travels(error: Exception) -> bool:
    """Whether an exception's type survives pickling: one of ours or of Python's own."""
    return type(error).__module__ in ('builtins', 'recon3r_ros.errors')
