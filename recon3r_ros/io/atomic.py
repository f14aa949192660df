# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Atomic writing of files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import errno
import os
from pathlib import Path

from recon3r_ros.errors import OutputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """
    Yield a temporary name beside `path`, with its suffix, and rename to `path` at the end.

    After any exception the temporary file is removed and an existing file is unchanged.

    :param path: file to write; its folder must exist
    :raises OutputError: for an OSError, in one line with a remedy
    """
    temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tmp{path.suffix}')
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError:
            pass  # the folder is gone; the original exception matters more


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """
    Write a file from the parts of its content.

    :raises OutputError: in one line that names the file
    """
    with atomic_file(path) as temporary, temporary.open('wb') as file:
        for part in parts:
            file.write(part)


def output_error(path: Path, error: OSError) -> OutputError:
    """Return the error for a file that cannot be written."""
    remedy = (
        'free space on that disk' if error.errno in _FULL else 'check the folder permissions'
    )
    return OutputError(
        f'cannot write {path}: {error.strerror or error}; {remedy} or choose another output folder'
    )
