# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""CPU time of processes."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import resource

_PROCESSES = Path('/proc')
#: Seconds of a unit of /proc/PID/stat
_TICK = 1 / os.sysconf('SC_CLK_TCK')


def all_processes() -> float:
    """
    CPU seconds so far (user and system) of this process with all threads, and its descendants.

    Descendants that still run are found in /proc, with a resolution of a tick (10 ms); where there
    is none, as on macOS, only ended ones count.
    """
    usages = (resource.getrusage(who)
              for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (sum(u.ru_utime + u.ru_stime for u in usages)
            + sum(_running(child) for child in _children('self')))


def _running(pid: str) -> float:
    """CPU seconds of a running process and its descendants; 0 where it has just ended."""
    try:
        # The name, in parentheses, may contain spaces
        fields = (_PROCESSES / pid / 'stat').read_text('utf-8', 'replace').rpartition(')')[2]
    except OSError:
        return 0.0
    # utime, stime, and those of ended children: fields 14 to 17 of proc(5)
    return (_TICK * sum(int(field) for field in fields.split()[11:15])
            + sum(_running(child) for child in _children(pid)))


def _children(pid: str) -> Iterator[str]:
    """List the running children of all threads of a process."""
    try:
        threads = list((_PROCESSES / pid / 'task').iterdir())
    except OSError:
        return
    for thread in threads:
        try:
            yield from (thread / 'children').read_text(encoding='ascii').split()
        except OSError:  # the thread has ended, or the kernel does not list children
            continue
