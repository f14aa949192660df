# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Objects between two processes: a pipe for their structure, shared memory for their arrays.

A pipe copies a keyframe's images and depths several times, 64 kB at a time, and wakes both
processes for each piece. Here an array is copied once into memory that both have mapped, and once
out of it (pickle protocol 5, PEP 574). What is too large for that, a saved map, takes the pipe.
"""

from __future__ import annotations

import mmap
from multiprocessing.connection import Connection
import os
import pickle
import tempfile
from typing import Any

#: Arrays begin at multiples of this many bytes
_ALIGNMENT = 64
#: Memory grows in steps of this many bytes, up to a limit: it is never given back, and containers
#: often have 64 MB of it, for everything that runs in them
_STEP, _LIMIT = 1 << 22, 1 << 25
_FOLDER = '/dev/shm'


class Channel:
    """
    One end of a connection between two processes that send by turns.

    What was sent is overwritten by the next object of the same direction: the other end must have
    received it, which an answer shows.

    :param connection: the pipe's end
    :param outgoing: file descriptor of the memory to write to, which the other end reads from
    :param incoming: the same in the other direction
    """

    def __init__(self, connection: Connection[Any, Any], outgoing: int, incoming: int) -> None:
        self._connection = connection
        self._outgoing, self._incoming = _Memory(outgoing), _Memory(incoming)

    def send(self, value: Any) -> None:
        """
        Send an object.

        :raises OSError: where the other end is closed
        :raises Exception: where it cannot be pickled; nothing has been sent then
        """
        buffers: list[pickle.PickleBuffer] = []
        structure = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        spans = self._outgoing.write([buffer.raw() for buffer in buffers])
        if spans is None:
            structure, spans = pickle.dumps(value, protocol=5), []
        self._connection.send((structure, spans))

    def recv(self) -> Any:
        """
        Wait for an object, and return it with arrays of its own.

        :raises EOFError, OSError: where the other end is closed
        """
        structure, spans = self._connection.recv()
        return pickle.loads(structure, buffers=self._incoming.read(spans))

    def close(self) -> None:
        """Close this end and free the memory."""
        self._connection.close()
        self._outgoing.close()
        self._incoming.close()


class _Memory:
    """Memory that grows, behind a file that two processes have open."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mapped: mmap.mmap | None = None

    def write(self, views: list[memoryview]) -> list[tuple[int, int]] | None:
        """Write arrays; return begin and length of each, or None where the memory is too small."""
        spans, end = [], 0
        for view in views:
            spans.append((end, view.nbytes))
            end += -(-view.nbytes // _ALIGNMENT) * _ALIGNMENT
        if end > self._size:
            size = -(-end // _STEP) * _STEP
            if size > _LIMIT:
                return None
            try:
                os.posix_fallocate(self._descriptor, 0, size)  # else SIGBUS where it is full
            except OSError:
                return None
            self._map(size)
        for view, (begin, length) in zip(views, spans):
            if self._mapped is not None:
                self._mapped[begin:begin + length] = view
        return spans

    def read(self, spans: list[tuple[int, int]]) -> list[bytearray]:
        if max((begin + length for begin, length in spans), default=0) > self._size:
            self._map(os.fstat(self._descriptor).st_size)
        return [bytearray(memoryview(self._mapped)[begin:begin + length])
                if length and self._mapped is not None else bytearray()
                for begin, length in spans]

    def close(self) -> None:
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None
        os.close(self._descriptor)

    @property
    def _size(self) -> int:
        return 0 if self._mapped is None else len(self._mapped)

    def _map(self, size: int) -> None:
        if self._mapped is not None:
            self._mapped.close()
        self._mapped = mmap.mmap(self._descriptor, size)


def shared_file() -> int:
    """
    Return the descriptor of a new file in memory, which vanishes with its last user.

    :raises OSError: where none can be made
    """
    with tempfile.TemporaryFile(dir=_FOLDER if os.path.isdir(_FOLDER) else None) as file:
        return os.dup(file.fileno())
