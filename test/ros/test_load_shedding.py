# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Effort follows the load of a simulated worker with a queue of six images, in simulated time."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from recon3r_ros.ros.load_shedding import LoadShedding
from recon3r_ros.slam.effort import Effort, EFFORTS
from recon3r_ros.slam.options import FrontendOptions

PERIOD = 1 / 30


class Simulation:
    """
    A worker that takes longer or shorter for an image.

    A detection costs half of an image's time, the rest is in proportion to the landmarks.
    """

    def __init__(self):
        self.changes = []
        self.shedding = LoadShedding(lambda effort, reason: self.changes.append((effort, reason)))
        self.latencies = []
        self._arrival, self._free, self._processed = 0.0, 0.0, 0
        self._queue = deque()

    def run(self, seconds, full_s):
        """Process images for some time, each taking `full_s` at full effort."""
        self.latencies = []
        end = self._arrival + seconds
        while self._arrival < end:
            self._arrival += PERIOD
            while self._queue and self._free <= self._arrival:
                self._process(self._queue.popleft(), full_s)
            self._queue.append(self._arrival)
            if len(self._queue) > 6:
                self._queue.popleft()
        return float(np.percentile(self.latencies, 95))

    def _process(self, arrival, full_s):
        if self.shedding.skips('front'):
            return
        effort = self.shedding.effort_for(max(self._free - arrival, 0.0), PERIOD)
        self._processed += 1
        detects = self._processed % effort.mask_period == 0
        busy = full_s * (0.5 * detects + 0.5 * effort.landmarks)
        self._free = max(arrival, self._free) + busy
        self.latencies.append(self._free - arrival)
        self.shedding.add(self._free, self.latencies[-1], PERIOD, busy)


def test_an_idle_computer_sheds_nothing():
    simulation = Simulation()
    assert simulation.run(20, 0.015) < 2 * PERIOD
    assert simulation.changes == [] and simulation.shedding.description == 'none'


@pytest.mark.parametrize('full_s', [0.05, 0.08, 0.12])
def test_latency_is_bounded_under_load_and_effort_is_restored_after_it(full_s):
    simulation = Simulation()
    simulation.run(10, full_s)
    assert simulation.shedding.effort != Effort()
    assert 'latency' in simulation.shedding.description
    assert simulation.run(10, full_s) < 3 * PERIOD
    simulation.run(60, 0.01)
    assert simulation.shedding.effort == Effort()
    efforts = [effort for effort, _ in simulation.changes]
    down = efforts[:efforts.index(max(efforts, key=EFFORTS.index)) + 1]
    assert [EFFORTS.index(e) for e in down] == list(range(1, len(down) + 1))


def test_images_that_waited_catch_up_whatever_the_present_effort():
    shedding = LoadShedding(lambda *_: pytest.fail('no change of the present effort'))
    assert shedding.effort_for(0.9 * PERIOD, PERIOD) == Effort()
    assert shedding.effort_for(1.1 * PERIOD, PERIOD) == Effort(mask_period=4)
    assert shedding.effort_for(1.0, 0.0) == Effort(), 'the period is unknown'
    shedding._level = len(EFFORTS) - 1
    assert shedding.effort_for(9 * PERIOD, PERIOD) == EFFORTS[-1]


def test_images_are_skipped_only_where_less_work_is_not_enough():
    """A backlog of three images is not made shorter by losing every second one."""
    shedding = LoadShedding(lambda *_: None)
    for n in range(300):
        shedding.add(n * PERIOD, 3 * PERIOD, PERIOD, PERIOD)
    assert shedding.effort.image_period == 1 and shedding.effort == EFFORTS[4]
    for n in range(300, 700):
        shedding.add(n * PERIOD, 5 * PERIOD, PERIOD, PERIOD)
    assert shedding.effort == EFFORTS[-1]


def test_a_burst_of_late_images_skips_none():
    changes = []
    shedding = LoadShedding(lambda effort, _: changes.append(effort))
    for n in range(90):
        shedding.add(n * PERIOD, 5 * PERIOD, PERIOD, PERIOD)
    assert changes == list(EFFORTS[1:5]), 'three seconds'
    for n in range(90, 200):
        shedding.add(n * PERIOD, 0.5 * PERIOD, PERIOD, 0.5 * PERIOD)
    assert all(effort.image_period == 1 for effort in changes)


def test_masks_go_first_and_images_last():
    assert EFFORTS[0] == Effort()
    for less, more in zip(EFFORTS[1:], EFFORTS):
        changed = [n for n in ('mask_period', 'landmarks', 'spacing', 'image_period')
                   if getattr(less, n) != getattr(more, n)]
        assert len(changed) == 1
    first = [next(n for n, e in enumerate(EFFORTS) if getattr(e, name) != getattr(Effort(), name))
             for name in ('mask_period', 'landmarks', 'spacing', 'image_period')]
    assert first == sorted(first)


def test_effort_does_not_oscillate_at_the_limit():
    """A load that fits one level, but not the one above it: attempts become rare."""
    simulation = Simulation()
    simulation.run(60, 0.05)
    settled = len(simulation.changes)
    simulation.run(120, 0.05)
    assert len(simulation.changes) - settled <= 12


def test_images_are_skipped_evenly():
    shedding = LoadShedding(lambda *_: None)
    shedding._level = len(EFFORTS) - 1
    assert [shedding.skips('a') for _ in range(6)] == [False, True, True] * 2
    assert not shedding.skips('b')


def test_options_of_an_effort_stay_in_range():
    full = FrontendOptions()
    assert Effort().options(full) == full
    least = EFFORTS[-1].options(full)
    assert least.tracked_landmarks == full.tracked_landmarks / 2
    assert least.keyframe_parallax > full.keyframe_parallax
    assert 0.1 <= least.keyframe_overlap < full.keyframe_overlap
    for effort in EFFORTS[1:]:
        assert str(effort) != 'none'
