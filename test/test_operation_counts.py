# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A frame and a keyframe cost what is recorded in operation_counts.json: see operation_counts."""

from __future__ import annotations

from collections import Counter
import sys
import tracemalloc

import cv2
import numpy as np
import operation_counts
from operation_counts import differences, largest, Meter, PEAK
import pytest
from recon3r_ros.geometry import camera, flow, pnp, se3
from recon3r_ros.geometry.camera import Camera

ADVICE = """
{} counts differ from operation_counts.json:

{}

More: does the change need this? Fewer: well done. Then record the new numbers with

    python test/operation_counts.py

and state the reason in the commit message.
"""


@pytest.mark.slow
def test_a_frame_and_a_keyframe_cost_what_is_recorded() -> None:
    counted, parts = operation_counts.count(operation_counts.rendered(operation_counts.SCENE))
    changed = differences(operation_counts.read_record(), counted)
    lines = ['\n    '.join([line, *largest(parts, line)]) for line in changed]
    assert not changed, ADVICE.format(len(changed), '\n'.join(lines))


RECORDED = {'frame': {'DIS pixels': 1000.0, 'rare calls': 0.5, PEAK: 1e6},
            'keyframe': {'SIFT calls': 2.0}}


@pytest.mark.parametrize('path, name, value, words', [
    ('frame', 'DIS pixels', 1160.0, 'frame: DIS pixels: 1160, 1000 recorded: MORE than 115%'),
    ('frame', 'DIS pixels', 690.0, 'frame: DIS pixels: 690, 1000 recorded: fewer than 70%'),
    ('frame', 'remap pixels', 10.0, 'frame: remap pixels: 10, 0 recorded: MORE than 115%'),
    ('frame', 'rare calls', 1.1, 'frame: rare calls: 1.1, 0.5 recorded: MORE than 115%'),
    ('frame', PEAK, 1.31e6, f'frame: {PEAK}: 1.31e+06, 1e+06 recorded: MORE than 130%'),
    ('keyframe', 'SIFT calls', 3.0, 'keyframe: SIFT calls: 3, 2 recorded: MORE than 115%'),
    ('keyframe', 'SIFT calls', 0.0, 'keyframe: SIFT calls: 0, 2 recorded: fewer than 70%'),
])
def test_a_change_is_reported(path: str, name: str, value: float, words: str) -> None:
    assert differences(RECORDED, {**RECORDED, path: {**RECORDED[path], name: value}}) == [words]


@pytest.mark.parametrize('path, name, value', [
    ('frame', 'DIS pixels', 1140.0), ('frame', 'DIS pixels', 710.0), ('frame', 'rare calls', 0.9),
    ('frame', 'rare calls', 0.0), ('frame', PEAK, 1.29e6), ('keyframe', 'SIFT calls', 2.25)])
def test_a_change_within_the_margins_passes(path: str, name: str, value: float) -> None:
    assert differences(RECORDED, {**RECORDED, path: {**RECORDED[path], name: value}}) == []


def test_a_path_that_is_gone_is_reported() -> None:
    assert len(differences(RECORDED, {'frame': RECORDED['frame']})) == 1


def test_the_message_names_the_largest_parts() -> None:
    parts = {'frame': Counter({'DIS pixels: a': 1, 'DIS pixels: b': 2, 'DIS calls: c': 3})}
    assert largest(parts, 'frame: DIS pixels: 1160, 1000 recorded: MORE') == ['b: 2', 'a: 1']


@pytest.fixture
def meter() -> Meter:
    return Meter()


def test_calls_of_opencv_and_their_work_are_counted(meter: Meter) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64), np.uint8)
    corners = rng.uniform(10, 30, (7, 1, 2)).astype(np.float32)
    original = cv2.resize
    with meter.patched():
        sift = cv2.SIFT_create()
        cv2.resize(image, (20, 10))  # not active yet
        with meter.active():
            cv2.resize(image, (32, 24))
            cv2.resize(image, (128, 96))
            cv2.calcOpticalFlowPyrLK(image, image, corners, None)
            sift.detectAndCompute(image, None)
            cv2.GaussianBlur(image, (3, 3), 0)
            cv2.BFMatcher(cv2.NORM_L2).match(rng.random((3, 8), np.float32),
                                             rng.random((5, 8), np.float32))
    assert cv2.resize is original
    counted = {name: value for name, value in meter.counts.items() if 'bytes' not in name}
    assert counted == {
        'resize calls': 2, 'resize pixels': 48 * 64 + 96 * 128, 'calcOpticalFlowPyrLK calls': 1,
        'calcOpticalFlowPyrLK points': 7, 'SIFT.detectAndCompute calls': 1,
        'SIFT.detectAndCompute pixels': 48 * 64, 'other OpenCV calls': 1,
        'other OpenCV pixels': 48 * 64, 'BFMatcher.match calls': 1,
        'BFMatcher.match comparisons': 15}
    assert meter.parts['other OpenCV pixels: GaussianBlur'] == 48 * 64


def test_solvers_compiled_functions_and_python_are_counted(meter: Meter) -> None:
    lens = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
    points = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 4], (30, 3))
    pixels = lens.project(points)
    before = sys.gettrace()
    with meter.patched(), meter.active():
        pnp.solve_pnp(points, pixels, lens, np.eye(4), 2.0)
    assert meter.counts['geometry.pnp.solve_pnp calls'] == 1
    assert meter.counts['compiled calls'] >= 1
    assert meter.counts['compiled elements'] >= 5 * len(points)
    once = meter.counts['Python calls'], meter.counts['Python lines']
    assert 0 < once[0] < once[1]
    with meter.patched(), meter.active():
        for _ in range(3):
            pnp.solve_pnp(points, pixels, lens, np.eye(4), 2.0)
    assert (meter.counts['Python calls'], meter.counts['Python lines']) == (3 * once[0],
                                                                           3 * once[1])
    assert sys.gettrace() is before and not tracemalloc.is_tracing()


def test_libraries_own_calls_are_not_counted(meter: Meter) -> None:
    """They change with the version of the library."""
    with meter.active():
        np.median(np.arange(9))
    assert meter.counts['Python calls'] == 0
    with meter.active():
        se3.inverse(np.eye(4))
    assert meter.counts['Python calls'] > 0


def test_memory_is_measured_where_it_is_held_and_where_it_is_not(meter: Meter) -> None:
    camera.pixel_grid(8, 8)
    with meter.active():
        kept = flow.pixel_positions(100, 200)  # in two parts, then joined
    assert kept.nbytes <= meter.counts[PEAK] < 4 * kept.nbytes
    assert kept.nbytes <= meter.counts['volume of allocations, bytes'] < 6 * kept.nbytes
    peak = meter.counts[PEAK]
    volume = meter.counts['volume of allocations, bytes']
    with meter.active():
        for _ in range(5):
            flow.pixel_positions(100, 200)
    assert meter.counts[PEAK] < 1.1 * peak
    assert meter.counts['volume of allocations, bytes'] == pytest.approx(5 * volume, rel=0.1)
