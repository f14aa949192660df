# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Messages of an MCAP file without an index, up to its end or to where it was cut off.

A recorder writes index and footer last. Where it lost its power, `rosbags` refuses the file, and
the readers of the `mcap` package lose the last chunk, often the only one. So the few kinds of
records that lead to messages are read here (MCAP specification, section "Records").
"""

from __future__ import annotations

from binascii import crc32
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
import struct
import sys
from typing import Any, BinaryIO, Protocol, TYPE_CHECKING

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

_MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
_RECORD_START = struct.Struct('<BQ')
_CHANNEL_START = struct.Struct('<HH')
_MESSAGE_START = struct.Struct('<HIQQ')
_CHUNK_START = struct.Struct('<QQQI')
_FILE_END = struct.Struct('<BQQQI8s')
#: Bytes of a record above which its length is taken for damage
_LONGEST = 1 << 31
#: Bytes decompressed at once, so that what precedes damage is kept
_PIECE = 1 << 14
#: Compressions of chunks that the specification knows
_COMPRESSIONS = ('', 'lz4', 'zstd')
#: Bytes of a compression's name above which it is taken for damage
_LONGEST_NAME = 64


class _Decompressor(Protocol):
    def decompress(self, data: bytes) -> bytes: ...


@dataclass(frozen=True)
class _Channel:
    id: int
    topic: str
    msgtype: str
    encoding: str


@dataclass(frozen=True, eq=False)
class _Message:
    channel: int
    recorded_ns: int
    data: bytes


@dataclass(frozen=True)
class _DataEnd:
    """The end of the messages; missing in a file that was cut off."""


_Record = _Channel | _Message | _DataEnd


def lacks_index(path: Path) -> bool:
    """Whether a file is an MCAP without an index: cut off, or written without."""
    with path.open('rb') as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return False
        if path.stat().st_size < len(_MAGIC) + _FILE_END.size:
            return True
        file.seek(-_FILE_END.size, 2)
        kind, _, summary_start, _, _, magic = _FILE_END.unpack(file.read(_FILE_END.size))
    return magic != _MAGIC or kind != _FOOTER or summary_start == 0


def unknown_compression(path: Path) -> str:
    """
    Return the compression of an MCAP's chunks where it is none that is read here, else ''.

    A file has one compression: that of its first chunk. Where a later chunk has another one, or
    this is no name, the file is damaged, and is read up to there.
    """
    with path.open('rb') as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return ''
        while len(start := file.read(_RECORD_START.size)) == _RECORD_START.size:
            kind, length = _RECORD_START.unpack(start)
            if kind == _CHUNK:
                break
            if kind in (0, _MESSAGE) or length > _LONGEST:
                return ''
            file.seek(length, 1)
        chunk = file.read(_CHUNK_START.size + 4 + _LONGEST_NAME)
    try:
        compression, _ = _text(chunk, _CHUNK_START.size)
    except ValueError:
        return ''
    return '' if compression in _COMPRESSIONS or not compression.isprintable() else compression


class McapStream:
    """
    An MCAP file read from its beginning, with the interface of the readers of `rosbags`.

    :param path: of the file, which is read once, to count the messages
    """

    def __init__(self, path: Path) -> None:
        from rosbags.interfaces import (
            Connection,
            ConnectionExtRosbag2,
            MessageDefinition,
            MessageDefinitionFormat,
        )
        self._path = path
        #: Whether the file has an end, and its messages without that
        self.complete = False
        self.message_count = 0
        undefined = MessageDefinition(MessageDefinitionFormat.NONE, '')
        counts: Counter[int] = Counter()
        channels: dict[int, _Channel] = {}
        for record in _records_of(path):
            if isinstance(record, _Message):
                counts[record.channel] += 1
                self.message_count += 1
            elif isinstance(record, _Channel):
                channels[record.id] = record
            else:
                self.complete = True
        self.connections: list[Connection] = [
            Connection(c.id, c.topic, c.msgtype, undefined, '', counts[c.id],
                       ConnectionExtRosbag2(c.encoding, []), self)
            for c in channels.values() if c.encoding == 'cdr']

    def open(self) -> None:
        """Do nothing: each iteration opens the file."""

    def close(self) -> None:
        """Do nothing."""

    def messages(self, connections: Collection[Connection]
                 ) -> Iterator[tuple[Connection, int, bytes]]:
        """Yield the messages of some topics: connection, recording time in ns, and bytes."""
        wanted = {c.id: c for c in connections}
        for record in _records_of(self._path):
            if isinstance(record, _Message) and record.channel in wanted:
                yield wanted[record.channel], record.recorded_ns, record.data


def _records_of(path: Path) -> Iterator[_Record]:
    with path.open('rb') as file:
        file.seek(len(_MAGIC))
        # Damaged bytes raise exceptions of struct and str
        with suppress(struct.error, ValueError):
            yield from _records(file, path.stat().st_size, {})


def _records(file: BinaryIO, size: int, schemas: dict[int, str]) -> Iterator[_Record]:
    """
    Yield what leads to messages, up to the last record that is whole.

    :param file: positioned at a record
    :param size: of the file, bytes
    :param schemas: message types by id; those found are added
    """
    while len(start := file.read(_RECORD_START.size)) == _RECORD_START.size:
        kind, length = _RECORD_START.unpack(start)
        is_cut = length > size - file.tell()
        if kind == 0 or length > _LONGEST or (is_cut and kind != _CHUNK):
            return  # zeros are what a file system leaves where data was not written any more
        if kind in (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK):
            content = file.read(length)
        else:
            file.seek(length, 1)
        if kind == _SCHEMA:
            schemas[int.from_bytes(content[:2], 'little')] = _text(content, 2)[0]
        elif kind == _CHANNEL:
            channel, schema = _CHANNEL_START.unpack_from(content)
            topic, end = _text(content, _CHANNEL_START.size)
            yield _Channel(channel, topic, schemas.get(schema, ''), _text(content, end)[0])
        elif kind == _MESSAGE:
            channel, _, recorded_ns, _ = _MESSAGE_START.unpack_from(content)
            yield _Message(channel, recorded_ns, content[_MESSAGE_START.size:])
        elif kind == _CHUNK:
            records, is_whole = _unpacked(content)
            yield from _records(BytesIO(records), len(records), schemas)
            if not is_whole:
                return
        elif kind == _DATA_END:
            yield _DataEnd()
            return


def _unpacked(chunk: bytes) -> tuple[bytes, bool]:
    """Return the records of a chunk as far as they are there, and whether they are all."""
    _, _, size, expected = _CHUNK_START.unpack_from(chunk)
    compression, end = _text(chunk, _CHUNK_START.size)
    packed = chunk[end + 8:]  # its length precedes it
    records = packed if not compression else _decompressed(packed, _decompressor(compression))
    is_whole = len(records) == size
    if is_whole and expected and crc32(records) != expected:
        return b'', False
    return records, is_whole


def _decompressed(packed: bytes, decompressor: _Decompressor) -> bytes:
    out = bytearray()
    with suppress(Exception):  # damage raises what lz4 and zstd raise
        for begin in range(0, len(packed), _PIECE):
            out += decompressor.decompress(packed[begin:begin + _PIECE])
    return bytes(out)


def _decompressor(compression: str) -> _Decompressor:
    """Return a decompressor that takes what there is of a chunk."""
    if compression == 'lz4':
        from lz4.frame import LZ4FrameDecompressor
        lz4: _Decompressor = LZ4FrameDecompressor()
        return lz4
    if compression != 'zstd':
        raise ValueError(f'compression {compression!r} is not one of lz4, zstd')
    zstd: _Decompressor = zstd_module().ZstdDecompressor()
    return zstd


def zstd_module() -> Any:
    """Return the module of the standard library, or what stands for it; `rosbags` has it, too."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _text(content: bytes, begin: int) -> tuple[str, int]:
    """Return a text that its length precedes, and where it ends."""
    end = begin + 4 + int.from_bytes(content[begin:begin + 4], 'little')
    if end > len(content):
        raise ValueError('a text is cut off')
    return content[begin + 4:end].decode(), end
