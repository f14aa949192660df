# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plausibility of stamps, and the worker under overload."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import numpy as np
import pytest
from recon3r_ros.ros import conversions
from recon3r_ros.ros.inputs import CameraInput
from recon3r_ros.ros.parameters import CameraConfig
from recon3r_ros.ros.stamps import NS_PER_S, StampGuard, Verdict
from recon3r_ros.ros.worker import Worker
from ros_helpers import wait_for

STEP = NS_PER_S // 30


def guarded(count: int = 5) -> tuple[StampGuard, int, int]:
    """Return a guard that has seen some images, and when the last was taken and came."""
    guard = StampGuard()
    for i in range(count):
        assert guard.judge(100 * NS_PER_S + i * STEP, i * STEP).verdict is Verdict.ACCEPT
    return guard, 100 * NS_PER_S + (count - 1) * STEP, (count - 1) * STEP


@pytest.mark.parametrize('shift', [-3600 * NS_PER_S, -STEP, 0, 3600 * NS_PER_S, -10 ** 19])
def test_one_wrong_stamp_costs_one_image(shift):
    guard, last, came = guarded()
    wrong = guard.judge(last + shift, came + STEP)
    assert wrong.verdict is Verdict.REJECT and wrong.reason
    assert guard.judge(last + 2 * STEP, came + 2 * STEP).verdict is Verdict.ACCEPT


@pytest.mark.parametrize('shift, verdict', [
    (-60 * NS_PER_S, Verdict.RESET), (3600 * NS_PER_S, Verdict.ACCEPT)])
def test_a_jump_is_believed_when_it_lasts(shift, verdict):
    guard, last, came = guarded()
    assert guard.judge(last + shift, came + STEP).verdict is Verdict.REJECT
    assert guard.judge(last + shift + STEP, came + 2 * STEP).verdict is verdict
    assert guard.judge(last + shift + 2 * STEP, came + 3 * STEP).verdict is Verdict.ACCEPT


def test_two_unlike_jumps_confirm_nothing():
    guard, last, came = guarded()
    assert guard.judge(last + 3600 * NS_PER_S, came + STEP).verdict is Verdict.REJECT
    assert guard.judge(last - 3600 * NS_PER_S, came + 2 * STEP).verdict is Verdict.REJECT
    assert guard.judge(last + 3 * STEP, came + 3 * STEP).verdict is Verdict.ACCEPT


def test_a_camera_that_was_away_is_believed_at_once():
    guard, last, came = guarded()
    assert guard.judge(last + 60 * NS_PER_S, came + 60 * NS_PER_S).verdict is Verdict.ACCEPT


def test_slow_motion_is_no_jump():
    guard, last, came = guarded()
    for i in range(1, 20):
        assert guard.judge(last + i * STEP, came + 50 * i * STEP).verdict is Verdict.ACCEPT


def input_of(stamps: list[int]) -> tuple[list[int], list[str], CameraInput]:
    """Send images with these stamps, a second apart on the clock; return what is processed."""
    taken: list[int] = []
    warnings: list[str] = []
    camera = CameraInput(CameraConfig('camera'), lambda a: taken.append(a.stamp_ns),
                         warnings.append)
    image = np.zeros((4, 4), np.uint8)
    for i, stamp_ns in enumerate(stamps):
        camera.on_image(conversions.image_message(image, stamp_ns, 'c'), (100 + i) * NS_PER_S)
    return taken, warnings, camera


def test_a_recording_may_begin_at_zero():
    taken, warnings, camera = input_of([0, STEP, 2 * STEP, 0, 3 * STEP])
    assert taken == [0, STEP, 2 * STEP, 3 * STEP]
    assert camera.counts().rejected == 1  # one image without a stamp among others
    assert not any('no stamp' in w for w in warnings)


def test_without_stamps_images_have_the_time_of_their_arrival():
    taken, warnings, _ = input_of([0, 0, 0])
    assert taken[0] == 100 * NS_PER_S and len(taken) >= 2
    assert sum('no stamp' in w for w in warnings) == 1


def gated() -> tuple[Callable[[int], None], Event, Event, list[int]]:
    """Return a handler, the gate that it waits for, whether it has begun, and what it has done."""
    gate, busy, done = Event(), Event(), list[int]()

    def handle(item: int) -> None:
        busy.set()
        gate.wait(20)
        done.append(item)

    return handle, gate, busy, done


def test_newest_wins_and_what_is_dropped_is_returned():
    handle, gate, busy, done = gated()
    worker: Worker[int] = Worker('test', handle, 2, pytest.fail)
    worker.put('a', 0)
    assert busy.wait(20)
    dropped = [worker.put('a', item) for item in range(1, 10)]
    assert worker.put('b', 100) is None
    assert (worker.waiting('a'), worker.waiting('b')) == (2, 1)
    assert dropped == [None, None, *range(1, 8)]
    gate.set()
    wait_for(lambda: len(done) == 4, what='all that was left')
    worker.close()
    assert done == [0, 8, 9, 100]


def test_it_survives_exceptions_and_does_orders_first():
    failures, done, gate, busy = [], [], Event(), Event()

    def handle(item: int) -> None:
        busy.set()
        gate.wait(20)
        done.append(item)
        if item == 1:
            raise ValueError('one')

    worker: Worker[int] = Worker('test', handle, 5, failures.append)
    worker.put('a', 0)
    assert busy.wait(20)
    worker.put('a', 1)
    worker.put('a', 2)
    worker.do(lambda: done.append(-1))
    gate.set()
    wait_for(lambda: len(done) == 4, what='everything')
    worker.close()
    assert done == [0, -1, 1, 2]
    assert [str(f) for f in failures] == ['one']


def test_a_queue_of_its_own_size() -> None:
    handle, gate, busy, done = gated()
    worker: Worker[int] = Worker('test', handle, 1, pytest.fail)
    worker.put('a', 0)
    assert busy.wait(20)
    for item in range(1, 7):
        worker.put('long', item, 4)
        worker.put('short', 10 * item)
    gate.set()
    wait_for(lambda: len(done) == 6, what='all that was left')
    worker.close()
    assert done == [0, 3, 4, 5, 6, 60]


def test_idle_work_is_woken_also_while_an_item_is_handled() -> None:
    """The period is an hour: without the call there would be none."""
    gate, busy, idle = Event(), Event(), Event()

    def handle(item: int) -> None:
        busy.set()
        gate.wait(20)

    worker: Worker[int] = Worker('test', handle, 1, pytest.fail, idle.set, 3600.0)
    worker.put('a', 0)
    assert busy.wait(20)
    worker.wake()
    gate.set()
    assert idle.wait(20)
    idle.clear()
    worker.wake()
    assert idle.wait(20)
    worker.wake()  # a thread that waits for an hour would not end
    worker.close()



def test_idle_is_done_when_nothing_waits():
    count = []
    worker: Worker[int] = Worker('test', pytest.fail, 1, pytest.fail,
                                 lambda: count.append(1), 0.001)
    wait_for(lambda: len(count) > 3, what='idle work')
    worker.close()
