# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One thread that runs jobs in order, from a bounded queue."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Thread

Job = Callable[[], None]


class BackgroundWorker:
    """
    Runs jobs one after another; the first exception stops the rest.

    The exception is raised by the next call in the submitting thread, and by every call after it.
    """

    def __init__(self, name: str, waiting: int) -> None:
        """
        Start the thread.

        :param name: of the thread
        :param waiting: capacity of the queue; `submit` blocks while it is full
        """
        self._queue: Queue[Job | None] = Queue(maxsize=waiting)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job, or raise what an earlier one raised."""
        self.check()
        self._queue.put(job)

    def check(self) -> None:
        """Raise what a job raised."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Wait for the jobs queued and join the thread; may be called again."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            if self._error is not None:
                continue  # drain the queue, or the submitting thread would block
            try:
                job()
            except BaseException as error:  # of any kind, to raise it in the submitting thread
                self._error = error
