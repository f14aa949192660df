# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The prefetching thread: order, errors, termination."""

import gc
import threading
import time

import pytest
from recon3r_ros.io.prefetch import prefetch

pytestmark = pytest.mark.usefixtures('no_new_threads')


def numbers(count, log=None, fail_at=None):
    """Yield 0, 1, ... and record in `log` the requested items and the closing."""
    try:
        for i in range(count):
            if i == fail_at:
                raise ValueError('broken')
            if log is not None:
                log.append(i)
            yield i
    finally:
        if log is not None:
            log.append(threading.current_thread().name)


def test_all_items_in_order():
    assert list(prefetch(numbers(100))) == list(range(100))
    assert list(prefetch(numbers(0))) == []


def test_error_arrives_after_the_items_before_it():
    seen = []
    with pytest.raises(ValueError, match='broken') as caught:
        for item in prefetch(numbers(10, fail_at=3)):
            seen.append(item)
    assert seen == [0, 1, 2]
    assert any(entry.name == 'numbers' for entry in caught.traceback)


@pytest.mark.parametrize('taken', [1, 5])
def test_abandoned_iteration_closes_the_source_in_its_thread(taken):
    log = []
    iterator = prefetch(numbers(10**6, log))
    for _ in range(taken):
        next(iterator)
    del iterator
    gc.collect()
    assert log[-1] == 'recon3r-prefetch'
    assert log[-2] < taken + 10


def test_never_more_than_a_few_ahead():
    log = []
    iterator = prefetch(numbers(1000, log), ahead=2)
    assert next(iterator) == 0
    time.sleep(0.1)
    assert max(log) <= 5
    iterator.close()


def test_slow_source_and_stop():
    def slow():
        for i in range(1000):
            time.sleep(0.01)
            yield i

    for item in prefetch(slow()):
        if item == 2:
            break


def test_no_thread_before_the_first_item():
    before = threading.active_count()
    iterator = prefetch(numbers(3))
    assert threading.active_count() == before
    iterator.close()
