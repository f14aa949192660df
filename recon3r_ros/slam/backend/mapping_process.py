# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A process for local mapping, and the channel to it.

It takes most of a second to import what it needs. Nothing is imported here, so that a command can
start it first and do its own imports meanwhile.
"""

from __future__ import annotations

from multiprocessing.connection import Pipe
import subprocess
import sys

from recon3r_ros.slam.backend.channel import Channel, shared_file

#: Seconds that the process has to end on request
_PATIENCE_S = 2.0
#: Garbage collection takes a sixth of the time of imports, which leave no garbage
_MAIN = ('import gc; gc.disable(); '
         'from recon3r_ros.slam.backend.subprocess_executor import serve; '
         'gc.freeze(); gc.enable(); serve')


class MappingProcess:
    """
    Starts a process that runs `subprocess_executor.serve`; a context manager that ends it.

    Not forked, because copies of the locks of other threads would never be released; not spawned
    by multiprocessing, which would import the main module again.

    :raises OSError: where it cannot be started
    """

    def __init__(self) -> None:
        connection, remote = Pipe()
        there, here = shared_file(), shared_file()
        with remote:
            descriptors = remote.fileno(), here, there
            self._process = subprocess.Popen(
                [sys.executable, '-c', f'{_MAIN}{descriptors}'], pass_fds=descriptors,
                stdin=subprocess.DEVNULL)
        self.channel = Channel(connection, there, here)

    def __enter__(self) -> MappingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status of a process that has ended, else None."""
        return self._process.poll()

    def wait(self) -> int | None:
        """Wait a moment for its end; return the status, or None where it lives on."""
        try:
            return self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """End it, at once where it does not end on request; may be called again."""
        self._process.terminate()
        if self.wait() is None:
            self.kill()
