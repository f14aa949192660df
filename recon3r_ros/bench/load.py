# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Load on the machine by other programs, for measurements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
import os
from pathlib import Path
import resource
import subprocess
import sys

#: Ends with its parent, whose id is the argument, also where that is killed
_BUSY = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """
    Keep processes of normal priority busy, each on one core, until the context ends.

    :param count: how many, 0 or more
    """
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen(
                [sys.executable, '-I', '-S', '-c', _BUSY, str(os.getpid())],
                stdin=subprocess.DEVNULL, start_new_session=True))
            stack.callback(process.kill)
        yield


@dataclass(frozen=True)
class MachineLoad:
    """
    Use of the cores that this process may run on, over some time.

    :param cores: their number
    :param busy: share of their time that was used, by any program
    :param others: share that was used by other programs than those that are measured
    """

    cores: int
    busy: float
    others: float


class LoadMeter:
    """
    Measures the load of the machine, from its construction on; needs Linux.

    :param sessions: ids of the sessions of the processes that are measured, beside this one and
        its children that have ended
    """

    def __init__(self, sessions: Iterable[int]) -> None:
        self._sessions = frozenset(sessions)
        self._begin = self._times()

    def read(self) -> MachineLoad | None:
        """Return the load so far; None where the system does not tell it."""
        begin, end = self._begin, self._times()
        if begin is None or end is None or end[0] <= begin[0]:
            return None
        total, busy, own = (after - before for before, after in zip(begin, end))
        return MachineLoad(len(os.sched_getaffinity(0)), busy / total,
                           max(busy - own, 0.0) / total)

    def _times(self) -> tuple[float, float, float] | None:
        """Seconds in all, those used by any process, and those used by ours."""
        try:
            cores = {f'cpu{core}' for core in os.sched_getaffinity(0)}
            rows = [[int(word) for word in line.split()[1:9]] for line in
                    Path('/proc/stat').read_text(encoding='ascii').splitlines()
                    if line.split()[0] in cores]
        except (AttributeError, OSError, ValueError):
            return None
        ended = [resource.getrusage(who) for who in (
            resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(used.ru_utime + used.ru_stime for used in ended)
        tick = os.sysconf('SC_CLK_TCK')
        # user, nice, system, idle, waiting for disks, interrupts (2), stolen by the hypervisor
        total = sum(sum(row) for row in rows) / tick
        idle = sum(row[3] + row[4] for row in rows) / tick
        return total, total - idle, own + sum(map(self._used, Path('/proc').glob('[0-9]*'))) / tick

    def _used(self, process: Path) -> int:
        """Ticks that a running process of the measured sessions has used; 0 for others."""
        try:
            words = (process / 'stat').read_text(errors='replace').rpartition(')')[2].split()
            return sum(map(int, words[11:13])) if int(words[3]) in self._sessions else 0
        except (OSError, ValueError, IndexError):  # it has just ended
            return 0
