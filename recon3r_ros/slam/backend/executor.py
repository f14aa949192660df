# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where local mapping runs: in step with tracking, or in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.types import Map

P = ParamSpec('P')
R = TypeVar('R')


class Executor(Protocol):
    """
    Runs methods of one mapper, one after the other.

    `in_step` says whether a method has run when `call` returns.
    """

    @property
    def in_step(self) -> bool: ...

    def call(self, method: Callable[Concatenate[Mapper, P], R], *args: P.args, **kwargs: P.kwargs
             ) -> Future[tuple[R, Map]]:
        """Run a method; return its result and the map afterwards."""
        ...

    def close(self) -> None:
        """Free the mapper; nothing may be called any more."""
        ...


class InProcessExecutor:
    """
    Runs methods before `call` returns: results do not depend on the machine's speed.

    :param mapper: to run them on
    """

    in_step = True

    def __init__(self, mapper: Mapper) -> None:
        self._mapper = mapper

    def call(self, method: Callable[Concatenate[Mapper, P], R], *args: P.args, **kwargs: P.kwargs
             ) -> Future[tuple[R, Map]]:
        """Run a method now."""
        future: Future[tuple[R, Map]] = Future()
        try:
            result = method(self._mapper, *args, **kwargs)
            future.set_result((result, self._mapper.snapshot()))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Do nothing."""
