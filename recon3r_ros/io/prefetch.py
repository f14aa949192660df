# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run an iterator one thread ahead of its consumer."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar('Item')

AHEAD = 4


@dataclass(frozen=True, eq=False)
class _Produced(Generic[Item]):
    item: Item


@dataclass(frozen=True, eq=False)
class _Ended:
    error: BaseException | None


def prefetch(
    source: Generator[Item, None, None], ahead: int = AHEAD
) -> Generator[Item, None, None]:
    """
    Yield the items of `source`, while a thread prepares the next ones.

    The thread starts when the first item is requested. It ends when the source does, and when this
    generator is closed or dropped; `source` is closed in that thread. An exception of the source
    is raised here, after the items before it.

    :param source: generator, run only in the thread
    :param ahead: items prepared ahead of the consumer, at least 1
    """
    queue: Queue[_Produced[Item] | _Ended] = Queue(maxsize=max(1, ahead) + 1)
    stop = Event()
    thread = Thread(
        target=_produce, args=(source, queue, stop), name='recon3r-prefetch', daemon=True
    )
    thread.start()
    try:
        while isinstance(entry := queue.get(), _Produced):
            yield entry.item
        if entry.error is not None:
            raise entry.error
    finally:
        stop.set()
        _drain(queue)
        thread.join()


def _produce(
    source: Generator[Item, None, None],
    queue: Queue[_Produced[Item] | _Ended],
    stop: Event,
) -> None:
    """Put the items of the source, then the end; at most two more puts follow a stop."""
    error: BaseException | None = None
    try:
        for item in source:
            queue.put(_Produced(item))
            if stop.is_set():
                break
    except BaseException as raised:  # raised again in the consumer
        error = raised
    finally:
        source.close()
        queue.put(_Ended(error))


def _drain(queue: Queue[_Produced[Item] | _Ended]) -> None:
    """Empty the queue, so that a blocked producer continues and sees the stop."""
    while True:
        try:
            queue.get_nowait()
        except Empty:
            return
