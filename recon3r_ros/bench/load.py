# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Load on the machine by other programs, for measurements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
import os
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
