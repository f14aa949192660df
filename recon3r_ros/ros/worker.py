# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One thread, fed by bounded queues: a full queue drops its oldest item."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
import logging
from threading import Condition, Thread
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar('T')


@dataclass(frozen=True)
class _Queued(Generic[T]):
    """An item and its place in the order of arrival over all queues."""

    order: int
    item: T


class Worker(Generic[T]):
    """
    Handles items one by one in a thread of its own.

    :param name: of the thread
    :param handle: what to do with an item
    :param size: items that wait in each queue at most
    :param idle: called whenever nothing waits, at least every `period` seconds
    :param failed: called with an exception of `handle` or `idle`; the thread lives on
    """

    def __init__(self, name: str, handle: Callable[[T], None], size: int,
                 failed: Callable[[Exception], None],
                 idle: Callable[[], None] | None = None, period: float = 0.05) -> None:
        self._handle = handle
        self._size = size
        self._failed = failed
        self._idle = idle
        self._period = period
        self._queues: dict[str, deque[_Queued[T]]] = {}
        self._orders: deque[Callable[[], None]] = deque()
        self._changed = Condition()
        self._count = 0
        self._woken = False
        self._running = True
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, queue: str, item: T, size: int | None = None) -> T | None:
        """
        Queue an item; a full queue drops its oldest one.

        :param queue: its name: items of different queues do not displace each other
        :param size: items that wait in this queue at most; that of all queues where None
        :return: the item that is dropped for it, or None
        """
        with self._changed:
            waiting = self._queues.setdefault(queue, deque())
            full = len(waiting) >= (size or self._size)
            dropped = waiting.popleft().item if full else None
            waiting.append(_Queued(self._count, item))
            self._count += 1
            self._changed.notify()
        return dropped

    def do(self, order: Callable[[], None]) -> None:
        """Run a function before the items that wait; it is never dropped."""
        with self._changed:
            self._orders.append(order)
            self._changed.notify()

    def wake(self) -> None:
        """Call `idle` as soon as nothing waits, not only after the period."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def clear(self) -> None:
        """Forget the items that wait."""
        with self._changed:
            self._queues.clear()

    def waiting(self, queue: str) -> int:
        """Count the items that wait in a queue."""
        with self._changed:
            return len(self._queues.get(queue, ()))

    def close(self) -> None:
        """Finish the present item, drop those that wait, end the thread."""
        with self._changed:
            self._running = False
            self._queues.clear()
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._running and not (
                        self._woken or self._orders or any(self._queues.values())):
                    self._changed.wait(self._period)
                self._woken = False
                work = self._next()
                if work is None and not self._running:
                    return
            work = work or self._idle
            if work is None:
                continue
            try:
                work()
            except Exception as error:
                self._failed(error)

    def _next(self) -> Callable[[], None] | None:
        """Take what is due first: orders, then the item that came first."""
        if self._orders:
            return self._orders.popleft()
        filled = [q for q in self._queues.values() if q]
        if not filled or not self._running:
            return None
        item = min(filled, key=lambda q: q[0].order).popleft().item
        return lambda: self._handle(item)
