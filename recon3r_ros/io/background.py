# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One thread that does work in order behind a bounded queue."""

from __future__ import annotations

from collections.abc import Callable
from queue import Queue
from threading import Thread

Job = Callable[[], None]


class BackgroundWorker:
    """
    Runs jobs one after another; the first exception stops the rest.

    The exception is raised by the next call in the thread that hands in jobs, and by every call
    after it.
    """

    def __init__(self, name: str, waiting: int) -> None:
        """
        Start the thread.

        :param name: of the thread
        :param waiting: jobs that may wait; `submit` blocks while there are that many
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
                continue  # keep emptying the queue, or the other side would block
            try:
                job()
            except BaseException as error:  # whatever it is, the submitting thread must see it
                self._error = error
