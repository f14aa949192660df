# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C: the first requests a stop, the second aborts; none is lost."""

from __future__ import annotations

import _thread
from collections.abc import Iterator
from contextlib import contextmanager
import signal
import sys
import threading
from types import FrameType, TracebackType

#: Until an interrupt that C code has dropped is repeated, seconds
_AGAIN_S = 0.01


@contextmanager
def kept_interrupts() -> Iterator[None]:
    """
    Repeat a KeyboardInterrupt that C code has dropped.

    Python ignores exceptions in callbacks from C, of which Numba makes one for each compiled
    function that it loads.
    """
    previous = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            # Later, and from a thread: the callback has not returned yet
            threading.Timer(_AGAIN_S, _thread.interrupt_main).start()
        else:
            previous(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous


class Interruption:
    """
    A context in which the first Ctrl-C only sets `requested`; the second raises KeyboardInterrupt.

    Outside of the main thread, where Python delivers no signals, it has no effect.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: object = None
        self._installed = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._installed:
            # None where the handler was not installed from Python
            signal.signal(signal.SIGINT, self._previous or signal.default_int_handler)  # type: ignore[arg-type]
            self._installed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
