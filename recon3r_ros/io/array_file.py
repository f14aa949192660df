# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Arrays in one .npz file, read as untrusted input.

`numpy.load` allocates the size that an array's header states. Here the type and the shape of every
array are known or checked before it is unpacked, and nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
import io
import math
from pathlib import Path
import struct
import tokenize
from typing import Any
import zipfile
import zlib

import numpy as np
from numpy.typing import DTypeLike, NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.atomic import atomic_file

#: Largest ratio of unpacked to packed size. Maps, with their uncompressed images, stay below 4;
#: deflate reaches 1000
MAX_EXPANSION = 20
_MAX_HEADER = 4096
_VERSION = (1, 0)
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError,
            RuntimeError, SyntaxError, TypeError, LookupError, struct.error, tokenize.TokenError)
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def write_arrays(path: Path, arrays: Iterable[tuple[str, NDArray[Any], bool]]) -> None:
    """
    Write a .npz file, whole or not at all, one array at a time.

    :param arrays: name, content, and whether to compress it
    :raises OutputError: in one line that names the file
    """
    with atomic_file(path) as temporary:
        archive = zipfile.ZipFile(temporary, 'w', compresslevel=1)
        try:
            for name, array, compress in arrays:
                content = io.BytesIO()
                np.lib.format.write_array(
                    content, np.ascontiguousarray(array), _VERSION, allow_pickle=False)
                archive.writestr(
                    zipfile.ZipInfo(f'{name}.npy'), content.getbuffer(),
                    zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED)
            archive.close()
        except OSError:
            # It would try to finish when it is deleted, fail again, and log it
            if archive.fp is not None:
                with suppress(OSError):
                    archive.fp.close()
                archive.fp = None
            raise


class ArrayFile:
    """
    A .npz file opened for reading; a context manager.

    :raises InputError: here and in all methods; the error does not name the file
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise InputError('no such file')
        if not path.is_file():
            raise InputError('is not a file')
        try:
            self._archive = zipfile.ZipFile(path)
        except _DAMAGED as error:
            raise InputError(f'is truncated or not a .npz file ({error})') from None
        members = self._archive.infolist()
        self._members = {m.filename.removesuffix('.npy'): m for m in members}
        unpacked = sum(m.file_size for m in members)
        if (len(self._members) < len(members)
                or any(m.compress_type not in _METHODS for m in members)
                or unpacked > MAX_EXPANSION * path.stat().st_size):
            self._archive.close()
            raise InputError('is not packed as a map file')

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def read(self, name: str, dtype: DTypeLike, shape: tuple[int | None, ...]) -> NDArray[Any]:
        """
        Return a writable array.

        :param dtype: the required type
        :param shape: the required shape; None stands for any number
        """
        dtype = np.dtype(dtype)
        member = self._members.get(name)
        if member is None:
            raise InputError(f'has no {name}')
        if None not in shape:
            size = math.prod(n for n in shape if n is not None) * dtype.itemsize
            if not size < member.file_size <= size + _MAX_HEADER:
                raise InputError(f'{name} has {member.file_size} bytes, expected {size}')
        try:
            content = io.BytesIO(self._archive.read(member))
            version = np.lib.format.read_magic(content)
            if version != _VERSION:
                raise InputError(f'{name} is an array of version {version}, expected {_VERSION}')
            got, by_column, got_dtype = np.lib.format.read_array_header_1_0(
                content, max_header_size=_MAX_HEADER)
        except _DAMAGED as error:
            raise InputError(f'{name} is damaged ({error})') from None
        if got_dtype != dtype or by_column:
            raise InputError(f'{name} has type {got_dtype}, expected {dtype} in row-major order')
        if len(got) != len(shape) or any(w is not None and g != w for g, w in zip(got, shape)):
            wanted = ', '.join('N' if w is None else str(w) for w in shape)
            raise InputError(f'{name} has shape {got}, expected ({wanted})')
        values = bytearray(content.read())
        if len(values) != math.prod(got) * dtype.itemsize:
            raise InputError(f'{name} has {len(values)} bytes for shape {got}')
        if dtype == np.bool_ and max(values, default=0) > 1:
            raise InputError(f'{name} has values other than true and false')
        return np.frombuffer(values, dtype).reshape(got)
