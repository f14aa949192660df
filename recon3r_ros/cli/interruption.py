# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C: the first requests a stop, the second aborts."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


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
