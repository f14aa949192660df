# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a demo says what was measured, what is good and what to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from recon3r_ros.bench.demo_report import Finding, live_findings, report, run_findings
from recon3r_ros.bench.load import MachineLoad
from recon3r_ros.evaluation.image_errors import DepthErrors
from recon3r_ros.evaluation.live import LiveMasks
from recon3r_ros.evaluation.results import DepthEvaluation, Evaluation, MaskEvaluation
from recon3r_ros.evaluation.trajectory_errors import AlignedErrors, TrajectoryErrors

ALIGNED = AlignedErrors(1.0, 0.004, 0.003, 0.01, 0.25, 0.5, 0.001, 0.1)
SAVED = Evaluation(
    120, 118, TrajectoryErrors(118, 1.6, 0.8, ALIGNED, ALIGNED, ''),
    DepthEvaluation(5, 0.7, DepthErrors(0.03, 0.98), DepthErrors(0.02, 0.99)),
    MaskEvaluation(120, 0.12, 120, 0.8))


@pytest.fixture
def live():
    pytest.importorskip('rclpy', reason='rclpy is missing')
    from recon3r_ros.cli.live_demo import LiveReport
    return LiveReport(120, 118, 0.95, 20.0, 300.0, 40.0, 0.1, MachineLoad(2, 0.8, 0.05))


def line(text: str, name: str) -> str:
    """Return the line of a measure."""
    found, = [line for line in text.splitlines() if line.startswith(name)]
    return found


def test_all_is_well(live):
    findings = live_findings(live, LiveMasks(90, 3, 0.81), SAVED, SAVED)
    assert all(finding.is_good for finding in findings)
    text = report(findings, Path('out'), True)
    assert 'not met' not in text and 'Other programs' not in text
    assert '95.0 % of 120 images; 118 have a pose' in line(text, 'posed within 500 ms')
    assert '3 of 90 images without mask' in line(text, 'mask J')
    assert line(text, 'ATE, as saved').endswith('good: <= 1 % of the path')
    assert '4.0 mm, 0.25 % of the path of 1.6 m' in line(text, 'ATE, as saved')
    assert '2.0 %' in line(text, 'depth error') and 'of 5 keyframes' in line(text, 'depth error')
    assert '2 cores 80% busy, 5% by other programs' in line(text, 'load')
    for word in ('frame.png', 'map.png', 'recording/', 'dynamic_mask',
                 'recon3r eval out out/truth'):
        assert word in text


def test_a_loaded_machine_and_what_was_not_measured(live):
    live = replace(live, in_time=0.4, latency_ms=51.0, load=MachineLoad(2, 1.0, 0.62))
    findings = live_findings(live, None, replace(SAVED, trajectory=None),
                             replace(SAVED, depth=None))
    text = report(findings, Path('out'), True)
    for name in ('posed', 'latency, median', 'mask J', 'ATE, as published', 'depth', 'load'):
        assert line(text, name).endswith('<- not met'), name
    assert line(text, 'latency, 95 %').endswith('good: <= 500 ms')
    for name in ('mask J', 'ATE, as published', 'depth'):
        assert 'not measured' in line(text, name)
    assert 'Other programs used 62 % of the cores' in text


def test_without_ros():
    findings = run_findings(SAVED)
    text = report(findings, Path('out'), False)
    assert '98.3 % of 120' in line(text, 'images with a pose')
    assert '0.800, mean of 120 images' in line(text, 'mask J')
    assert 'recon3r eval out out/pack' in text
    assert 'recording' not in text and '/recon3r/' not in text


@pytest.mark.parametrize('value, at_least, good', [
    (0.7, True, True), (0.69, True, False), (0.7, False, True), (0.71, False, False),
    (None, True, False), (None, False, False)])
def test_what_is_good(value, at_least, good):
    assert Finding('m', value, '', 0.7, '', at_least).is_good is good
