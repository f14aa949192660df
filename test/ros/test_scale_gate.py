# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The published scale: when it changes, when outputs wait for it, and its status message."""

from __future__ import annotations

import math

from diagnostic_msgs.msg import DiagnosticStatus
from recon3r_ros.ros.diagnostics import scale_status
from recon3r_ros.ros.scale_gate import ScaleGate
from recon3r_ros.slam.types import MetricScale


def scale(value: float, sigma: float = 0.01) -> MetricScale:
    return MetricScale(value, sigma, 'odometry')


def test_outputs_wait_only_where_metres_are_demanded():
    for demanded in (False, True):
        gate = ScaleGate(demanded)
        assert gate.closed == demanded and gate.metres == 1.0
        assert gate.update(scale(1.5))
        assert not gate.closed and gate.metres == 1.5


def test_it_changes_in_steps():
    gate = ScaleGate(True)
    steps = [gate.update(scale(value)) for value in (1.5, 1.51, 1.52, 1.54, 1.545, 1.5)]
    assert steps == [True, False, False, True, False, True]
    assert gate.revision == 3


def test_a_change_within_the_uncertainty_is_none():
    gate = ScaleGate(True)
    gate.update(scale(1.5, 0.2))
    assert not gate.update(scale(1.6, 0.2))
    assert gate.update(scale(1.6, 0.05))


def test_a_scale_that_is_lost_closes_the_gate():
    gate = ScaleGate(True)
    gate.update(scale(1.5))
    assert gate.update(None) and gate.closed and gate.revision == 2
    assert not gate.update(None)


def test_the_message_can_be_read_by_people_and_programs():
    gate = ScaleGate(True)
    status = scale_status(gate)
    values = {v.key: v.value for v in status.values}
    assert (status.message, status.level) == ('scale: unknown', DiagnosticStatus.WARN)
    assert math.isnan(float(values['metres per map unit'])) and values['revision'] == '0'
    gate.update(scale(1.2345678))
    status = scale_status(gate)
    values = {v.key: v.value for v in status.values}
    assert status.level == DiagnosticStatus.OK and values['scale source'] == 'odometry'
    assert float(values['metres per map unit']) == 1.2345678 and values['revision'] == '1'
