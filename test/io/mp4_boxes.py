# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Change the boxes of an MP4 file, which has its index (moov) at the end."""

from __future__ import annotations

from collections.abc import Callable

_CONTAINERS = (b'moov', b'trak', b'mdia', b'minf', b'stbl', b'edts')
_HEADER = 8


def changed(data: bytes, changes: dict[bytes, Callable[[bytes], bytes]]) -> bytes:
    """
    Return a file with other boxes.

    :param data: the file
    :param changes: from the content of a box to its new content, by the type of the box
    """
    result = b''
    position = 0
    while position + _HEADER <= len(data):
        length = int.from_bytes(data[position:position + 4], 'big')
        kind, content = data[position + 4:position + 8], data[position + 8:position + length]
        if kind in _CONTAINERS:
            content = changed(content, changes)
        elif kind in changes:
            content = changes[kind](content)
        result += (len(content) + _HEADER).to_bytes(4, 'big') + kind + content
        position += length
    return result


def index_first(data: bytes) -> bytes:
    """Return a file with its index before the frames, as for streaming."""
    begin = data.index(b'moov') - 4
    index, frames = data[begin:], data[:begin]
    start = int.from_bytes(frames[:4], 'big')  # after ftyp

    def shifted(content: bytes) -> bytes:
        offsets = [int.from_bytes(content[i:i + 4], 'big') + len(index)
                   for i in range(8, len(content), 4)]
        return content[:8] + b''.join(offset.to_bytes(4, 'big') for offset in offsets)

    return frames[:start] + changed(index, {b'stco': shifted}) + frames[start:]
