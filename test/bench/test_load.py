# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Busy processes beside a measurement."""

import os
import resource
import subprocess
import sys
import time

import pytest
from recon3r_ros.bench.load import busy_processes, LoadMeter


def cpu_seconds_of_children() -> float:
    """Return CPU time of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended may wait for a parent that reads it."""
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii') as stat:
            return stat.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def test_they_are_busy_and_end_with_the_context():
    before = cpu_seconds_of_children()
    with pytest.raises(KeyError), busy_processes(2):
        time.sleep(1.0)
        raise KeyError
    used = cpu_seconds_of_children() - before
    assert used > 0.3  # of two cores that others use, too
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_they_end_with_their_parent():
    program = (
        'import os, signal, subprocess\n'
        'from recon3r_ros.bench import load\n'
        'started, popen = [], subprocess.Popen\n'
        'def start(*a, **k):\n'
        '    started.append(popen(*a, **k)); return started[-1]\n'
        'subprocess.Popen = start\n'
        'with load.busy_processes(1):\n'
        '    print(started[0].pid, flush=True)\n'
        '    os.kill(os.getpid(), signal.SIGKILL)\n')
    killed = subprocess.run([sys.executable, '-c', program], stdout=subprocess.PIPE, text=True,
                            check=False, timeout=60)
    pid = int(killed.stdout)
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def test_load_of_our_processes_and_of_others():
    if not os.path.exists('/proc/stat'):
        pytest.skip('needs Linux')
    command = [sys.executable, '-I', '-S', '-c', 'while True: pass']
    with subprocess.Popen(command, start_new_session=True) as ours, \
            subprocess.Popen(command, start_new_session=True) as other:
        try:
            every, first, none = LoadMeter([ours.pid, other.pid]), LoadMeter([ours.pid]), \
                LoadMeter([])
            time.sleep(2.0)
            loads = [meter.read() for meter in (every, first, none)]
        finally:
            ours.kill()
            other.kill()
    assert {load.cores for load in loads} == {len(os.sched_getaffinity(0))}
    assert all(0 <= load.others <= load.busy <= 1.05 for load in loads)
    # Each had at least a little of one core
    others = [load.others for load in loads]
    assert others[0] + 0.02 < others[1] < others[2] - 0.02


def test_none():
    before = cpu_seconds_of_children()
    with busy_processes(0):
        pass
    assert cpu_seconds_of_children() == before
