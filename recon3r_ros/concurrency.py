# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Independent calls side by side on two cores; results are those of one core, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
import os
from threading import current_thread
from typing import Any, TypeVar

R = TypeVar('R')

#: Tracking needs the cores, too; and few stages have more independent parts
THREADS = 2
_NAME = 'side_by_side'


def cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def side_by_side(function: Callable[..., R], *arguments: Iterable[Any]) -> list[R]:
    """
    Call a function with each set of arguments, as `map` does, in two threads.

    For functions that spend their time in OpenCV or in compiled loops, which release the
    interpreter's lock, and that depend neither on each other nor on their order. On one core, and
    within another such call, one after the other.

    :return: the results, in the order of the arguments
    """
    calls = list(zip(*arguments, strict=True))
    if len(calls) < 2 or cores() < 2 or current_thread().name.startswith(_NAME):
        return [function(*call) for call in calls]
    return list(_pool().map(lambda call: function(*call), calls))


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, _NAME)
