# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Calls side by side: order of results, nesting, errors, one core."""

from __future__ import annotations

from threading import Barrier, current_thread, main_thread
from unittest.mock import patch

import pytest
from recon3r_ros.concurrency import side_by_side

TWO_CORES = patch('recon3r_ros.concurrency.cores', return_value=2)


def test_calls_run_at_the_same_time_and_results_keep_their_order() -> None:
    together = Barrier(2, timeout=20)

    def call(a: int, b: str) -> str:
        together.wait()
        return f'{a}{b}'

    with TWO_CORES:
        assert side_by_side(call, (1, 2, 3, 4), 'abcd') == ['1a', '2b', '3c', '4d']


def test_calls_within_a_call_do_not_wait_for_a_thread() -> None:
    def inner(n: int) -> int:
        return n + 1

    def outer(n: int) -> list[int]:
        return side_by_side(inner, range(n))

    with TWO_CORES:
        assert side_by_side(outer, range(8)) == [list(range(1, n + 1)) for n in range(8)]


def test_on_one_core_everything_runs_in_the_thread_of_the_caller() -> None:
    with patch('recon3r_ros.concurrency.cores', return_value=1):
        threads = side_by_side(lambda _: current_thread(), range(3))
    assert threads == [main_thread()] * 3


def test_an_error_is_raised_and_the_threads_live_on() -> None:
    with TWO_CORES:
        with pytest.raises(ZeroDivisionError):
            side_by_side(lambda n: 1 / n, (1, 0, 2))
        assert side_by_side(str, (1, 2)) == ['1', '2']


def test_arguments_must_be_as_many() -> None:
    with pytest.raises(ValueError, match='shorter'):
        side_by_side(max, (1, 2), (1,))
    assert side_by_side(max) == []
