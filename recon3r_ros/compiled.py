# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Compiled inner loops: functions that Numba translates to machine code, once for a machine.

The code is kept beside the source, or in the user's cache folder where that is read-only, or in a
folder of the temporary files where the home is read-only, too.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
import logging
import os
from pathlib import Path
import stat
import tempfile
from typing import Any, cast, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar('F', bound=Callable[..., Any])

_log = logging.getLogger(__name__)
#: About what all of the package's loops take to compile, seconds
COMPILING_S = 20
#: Scalars of 32 bits for compiled loops, which would compute with 64 bits otherwise; to the type
#: checker they are like any number
f4, i4, u4 = cast(Any, numba.float32), cast(Any, numba.int32), cast(Any, numba.uint32)


def compiled(*signatures: str) -> Callable[[F], F]:
    """
    Compile a function when its module is imported, or load the kept code.

    Signatures are explicit: no call compiles anything, whatever arrays it is given, so that no
    image has to wait. The lock of the interpreter is released. Floating-point operations keep
    their order: results are those of the source.

    :param signatures: Numba's types of the result and the arguments, as `'f8[:](f8[:,::1], f8)'`;
        none for a function that only other compiled ones call
    """
    def compile_(function: F) -> F:
        def compile_with(cache: bool) -> Any:
            loop = numba.njit(list(signatures) or None, cache=cache, nogil=True,
                              error_model='numpy')(function)
            if loop.stats.cache_misses:
                _report()
            return loop

        try:
            return cast(F, compile_with(True))
        except RuntimeError:  # neither beside the source nor in the user's cache folder
            folder = temporary_folder()
            if folder is not None:
                numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
            return cast(F, compile_with(folder is not None))

    return compile_


@functools.cache  # once in a process
def _report() -> None:
    """Log why this start takes long, after the first function that had to be compiled."""
    _log.info('compiling inner loops for this machine, once; takes about %d s', COMPILING_S)


def dense(values: Any, dtype: Any = None) -> NDArray[Any]:
    """
    Return an array as signatures demand it: C-contiguous and writable; a copy where it is not.

    Images of messages and bags, for example, are read-only.
    """
    return np.require(values, dtype, ('C', 'W'))


def temporary_folder() -> Path | None:
    """
    Return a folder for compiled code among the temporary files, which nobody else can write to.

    :return: None where there is none: code must not be loaded from a folder of another user
    """
    owner = os.getuid()
    folder = Path(tempfile.gettempdir()) / f'recon3r-compiled-{owner}'
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        return None
    return folder
