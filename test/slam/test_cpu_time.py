# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""CPU time of all processes together."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys
from threading import Thread
import time

import pytest
from recon3r_ros.slam import cpu_time

#: Works for 0.3 s in a child of a child, says so, and waits
_PROGRAM = """
import subprocess, sys, time
if len(sys.argv) > 1:
    sys.exit(subprocess.run([sys.executable, '-I', '-S', '-c', sys.argv[1]]).returncode)
while time.process_time() < 0.3: pass
print('done', flush=True)
sys.stdin.read()
"""


def work(seconds: float) -> None:
    """Use CPU time in this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_all_threads_count() -> None:
    before = cpu_time.all_processes()
    threads = [Thread(target=work, args=(0.1,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.2 <= cpu_time.all_processes() - before < 0.5


def test_sleep_does_not_count() -> None:
    before = cpu_time.all_processes()
    time.sleep(0.2)
    assert cpu_time.all_processes() - before < 0.1


@pytest.mark.skipif(not any(Path('/proc').glob('self/task/*/children')),
                    reason='the system does not list the children of a process')
def test_processes_count_once_while_they_run_and_after() -> None:
    before = cpu_time.all_processes()
    child = subprocess.Popen([sys.executable, '-I', '-S', '-c', _PROGRAM, _PROGRAM], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == 'done\n'
    running = cpu_time.all_processes() - before
    child.communicate('')
    ended = cpu_time.all_processes() - before
    assert 0.28 <= running <= ended + 0.02
    assert ended < running + 0.2
