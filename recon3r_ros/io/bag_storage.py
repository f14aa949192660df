# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Files, topics and messages of a recording of ROS 2 or ROS 1, through `rosbags`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from functools import partial
import logging
from pathlib import Path
import re
import shutil
import tempfile
from typing import Any, BinaryIO, Protocol, TYPE_CHECKING
import weakref

from recon3r_ros.errors import InputError, one_line
from recon3r_ros.io.mcap_stream import (
    lacks_index,
    McapStream,
    unknown_compression,
    zstd_module,
)

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

logger = logging.getLogger(__name__)

_METADATA = 'metadata.yaml'
_ZSTD = '.zstd'
#: What a compressed message, or file, begins with
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
#: Bytes decompressed at once
_PIECE = 1 << 20
_SUFFIXES = ('.mcap', '.db3', '.mcap' + _ZSTD, '.db3' + _ZSTD)


def is_recording(path: Path) -> bool:
    """Whether a path is by its name, or by those in the folder, a recording of ROS."""
    if path.is_dir():
        return (path / _METADATA).exists() or any(
            file.name.endswith(_SUFFIXES) for file in path.iterdir())
    return path.name.endswith((*_SUFFIXES, '.bag'))


class BagDamagedError(Exception):
    """The storage cannot be read further."""


class Storage(Protocol):
    """What the readers of `rosbags` have in common."""

    @property
    def connections(self) -> list[Connection]: ...

    def open(self) -> None: ...

    def close(self) -> None: ...

    def messages(self, connections: Collection[Connection]
                 ) -> Iterator[tuple[Connection, int, bytes]]: ...


@dataclass(frozen=True)
class Topic:
    """
    A topic with messages.

    :param msgtype: 'sensor_msgs/msg/Image', for ROS 1 as well
    """

    name: str
    msgtype: str
    count: int


class Recording:
    """
    A recording, which is opened anew for each pass over it.

    A bare file without an index, and one that was compressed as a whole, are read once here.

    :param path: folder with metadata.yaml, or without that and with the files of one recording;
        .mcap or .db3, also with .zstd behind; .bag
    :raises InputError: where there is no recording, or none that can be read
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: What is to be told of its state, a line each
        self.warnings: list[str] = []
        try:
            self._storages = [self._storage(file, file) for file in self._files()]
        except OSError as error:
            raise InputError(f'{path}: cannot be read: {error.strerror or error}') from None

    @contextmanager
    def opened(self) -> Iterator[Reader]:
        """
        Open the files.

        :raises InputError: where that fails
        """
        with ExitStack() as stack:
            storages = []
            for make in self._storages:
                try:
                    storage = make()
                    storage.open()
                except Exception as error:  # damaged bytes raise exceptions of several libraries
                    remedy = '; try rosbag reindex' if self.path.suffix == '.bag' else ''
                    raise InputError(f'{self.path}: cannot be read as a recording: '
                                     f'{one_line(error, with_type=True)}{remedy}') from error
                stack.callback(storage.close)
                storages.append(storage)
            yield Reader(storages)

    def _files(self) -> list[Path]:
        """Return what one reader each can open, in the order of recording."""
        path = self.path
        if not path.exists():
            raise InputError(f'{path}: no such bag')
        if path.is_file():
            return [path]
        files = sorted((f for f in path.iterdir() if f.name.endswith(_SUFFIXES)),
                       key=lambda f: (len(f.name), f.name))
        if (path / _METADATA).exists():
            # With them, `rosbags` reads only what has an index
            plain = any(f.suffix == '.mcap' and lacks_index(f) for f in files)
            return files if plain else [path]
        # Only a recorder that was stopped in good order has written the metadata
        parts = {re.sub(r'(_\d+)?\..*', '', f.name) for f in files}
        if len(parts) != 1:
            raise InputError(
                f'{path}: no {_METADATA}, and '
                + ('no recording' if not files else 'files of several recordings: '
                   + ', '.join(f.name for f in files))
                + '; give the .mcap or .db3 file itself, or run ros2 bag reindex')
        return files

    def _storage(self, file: Path, source: Path) -> Callable[[], Storage]:
        """
        Return what makes a reader.

        :param file: file, or folder with metadata
        :param source: what it was decompressed from, else the same
        """
        from rosbags import rosbag1, rosbag2
        if file.suffix == '.bag':
            return partial(rosbag1.Reader, file)
        if file.suffix == _ZSTD:
            return self._storage(self._decompressed(file), source)
        for part in file.glob('*.mcap') if file.is_dir() else [file]:
            if compression := unknown_compression(part):
                raise InputError(
                    f'{source}: its messages are compressed with {compression!r}, which is '
                    'neither lz4 nor zstd: convert it with what has recorded it')
        if file.suffix == '.mcap' and lacks_index(file):
            return self._stream(file, source)
        return partial(rosbag2.Reader, file)

    def _stream(self, file: Path, source: Path) -> Callable[[], Storage]:
        stream = McapStream(file)
        if not stream.complete:
            self.warnings.append(
                f'{source}: was cut off, there is no footer: {stream.message_count} messages '
                f'before that are read; to repair it: mcap recover {file.name} -o fixed.mcap')
        return lambda: stream

    def _decompressed(self, file: Path) -> Path:
        """Decompress a file into a temporary one, which lives as long as this recording."""
        folder = Path(tempfile.mkdtemp(prefix='recon3r-bag-'))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        target = folder / file.stem
        remedy = f'decompress it: zstd -d {file}'
        try:
            with file.open('rb') as packed, target.open('wb') as plain:
                is_whole = _decompress(packed, plain)
        except OSError as error:
            raise InputError(f'{file}: cannot be decompressed into {folder}: '
                             f'{error.strerror or error}; {remedy}') from None
        except Exception as error:
            raise InputError(f'{file}: cannot be decompressed: '
                             f'{one_line(error, with_type=True)}') from error
        if not is_whole:
            if target.stat().st_size == 0:
                raise InputError(f'{file}: is cut off before anything can be decompressed')
            self.warnings.append(f'{file}: is cut off; what can be decompressed is read')
        return target


class Reader:
    """
    The files of a recording, opened, one after the other.

    :param storages: readers that are open
    """

    def __init__(self, storages: Iterable[Storage]) -> None:
        self._storages = list(storages)

    def topics(self, *msgtypes: str) -> dict[str, Topic]:
        """Return the topics with messages of these types, by name, in alphabetical order."""
        counts: dict[tuple[str, str], int] = {}
        for storage in self._storages:
            for c in storage.connections:
                if c.msgtype in msgtypes and c.msgcount:
                    key = c.topic, c.msgtype
                    counts[key] = counts.get(key, 0) + c.msgcount
        return {name: Topic(name, msgtype, count)
                for (name, msgtype), count in sorted(counts.items())}

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        """
        Yield (recording time in ns, message) of a topic; an InputError stands for a damaged one.

        The types read here are the same in every distribution, so definitions embedded in the bag
        are ignored: a broken one of an unrelated topic must not prevent reading.

        :raises BagDamagedError: where the storage cannot be read further
        """
        from rosbags.interfaces import ConnectionExtRosbag1
        from rosbags.typesys import get_typestore, Stores

        typestore = get_typestore(Stores.ROS2_HUMBLE)
        for connection, recorded_ns, raw in self._raw(topic):
            message: object
            try:
                if isinstance(connection.ext, ConnectionExtRosbag1):
                    raw = bytes(typestore.ros1_to_cdr(raw, connection.msgtype))
                elif raw[:4] == _ZSTD_MAGIC:
                    # Of messages that were compressed one by one, only the metadata would tell
                    raw = zstd_module().decompress(raw)
                message = typestore.deserialize_cdr(raw, connection.msgtype)
            except Exception as error:
                message = InputError(f'cannot be deserialised: {one_line(error, with_type=True)}')
            yield recorded_ns, message

    def _raw(self, topic: str) -> Iterator[tuple[Connection, int, bytes]]:
        for storage in self._storages:
            connections = [c for c in storage.connections if c.topic == topic]
            if not connections:
                continue  # none would mean all
            try:
                # Damaged bytes raise exceptions of sqlite3, lz4, zstd and struct through rosbags.
                # The part of the bag before the damage stays usable.
                yield from storage.messages(connections)
            except Exception as error:
                raise BagDamagedError(one_line(error, with_type=True)) from error


def _decompress(packed: BinaryIO, plain: BinaryIO) -> bool:
    """Decompress all frames of a file, and return whether the last is complete."""
    decompressor = zstd_module().ZstdDecompressor()
    while piece := packed.read(_PIECE):
        plain.write(decompressor.decompress(piece))
        while decompressor.eof and decompressor.unused_data:
            piece, decompressor = decompressor.unused_data, zstd_module().ZstdDecompressor()
            plain.write(decompressor.decompress(piece))
    return bool(decompressor.eof)
