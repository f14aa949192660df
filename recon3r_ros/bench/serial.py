# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A thread pool without threads: its work can be measured where it is ordered."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class SerialExecutor(Executor):
    """Takes the arguments of a `ThreadPoolExecutor`, and runs every call before it returns."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Ignore the number of threads, their names and so on."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call now."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
