# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Impossible intrinsics have a reason, unusual ones a line with the numbers, good ones none."""

from __future__ import annotations

from dataclasses import replace
import re

import pytest
from recon3r_ros.geometry.calibration_checks import contradicted, impossible, unusual
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations import read_calibration

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
FISHEYE = Camera(640, 480, 200.0, 200.0, 319.5, 239.5, (0.0,) * 4, 'equidistant')


@pytest.mark.parametrize('change, words', [
    ({'fx': 1.1, 'fy': 1.5, 'cx': 0.5, 'cy': 0.5}, '1.1 and 1.5 pixels .* 582 focal lengths wide'),
    ({'fx': 6.3, 'fy': 6.3}, '102 focal lengths'),
    ({'fx': 1600.0}, '1600 and 525 pixels differ by a factor of 3.0'),
    ({'fy': 1600.0}, 'factor of 3.0'),
    ({'fx': 6.5, 'fy': 6.5}, '^$'), ({'fx': 1570.0}, '^$'), ({}, '^$'),
])
def test_impossible(change, words):
    assert re.search(words, impossible(replace(CAMERA, **change)))


@pytest.mark.parametrize('camera, words', [
    (replace(CAMERA, cx=159.5, cy=119.5), r'\(159.5, 119.5\) is far .* 640x480 .* 0.25 .* 0.25'),
    (replace(CAMERA, cy=370.0), r'\(319.5, 370.0\) .* 0.00 of the width, 0.27 of the height'),
    (replace(CAMERA, cx=-20.0), 'far from the middle'),
    (replace(CAMERA, fx=13000.0, fy=13000.0), '1.3e.04 pixels .* 640 pixels wide .* 2.82 degrees'),
    (replace(CAMERA, fx=80.0, fy=80.0), 'focal length of 80 pixels .* 152 degrees'),
    (replace(CAMERA, fx=800.0), '800 and 525 pixels differ by a factor of 1.52'),
    (replace(FISHEYE, fx=180.0, fy=180.0), 'focal length of 180 pixels .* 204 degrees'),
    # both models turn back: r + k r^3 has its largest value at r = 1 / sqrt(-3 k)
    (replace(CAMERA, distortion=(-0.9, 0, 0, 0)), r'\(-0.9, 0, 0, 0\) has no inverse in .* %'),
    (replace(FISHEYE, distortion=(-0.2, 0, 0, 0)), 'no inverse beyond 74 degrees, inside'),
])
def test_unusual(camera, words):
    line, = unusual(camera)
    assert re.search(words, line)
    assert line.endswith('; check that the calibration is of these images')
    assert impossible(camera) == ''


@pytest.mark.parametrize('camera', [
    CAMERA, FISHEYE, replace(CAMERA, cx=240.0, cy=180.0), replace(CAMERA, fx=100.0, fy=100.0),
    replace(CAMERA, fx=12000.0, fy=12000.0), replace(CAMERA, fx=750.0),
    replace(FISHEYE, distortion=(-0.01, 0.002, -0.003, 0.0003)),
    Camera(1920, 1080, 1400.0, 1400.0, 959.5, 539.5, (-0.25, 0.06, 0, 0)),
])
def test_nothing_unusual(camera):
    assert unusual(camera) == () and impossible(camera) == ''


def test_every_lens_of_the_other_tests_is_usual(camera):
    assert unusual(camera) == () and impossible(camera) == ''


@pytest.mark.parametrize('name', [
    'euroc_v101_stationary', 'fox_object', 'kitti_06_first51', 'sevenscenes_redkitchen',
    'strecha_fountain_p11', 'strecha_herzjesu_p8'])
def test_real_cameras_are_usual(shared_data, name):
    camera = read_calibration(shared_data.pack(name) / 'camera.json').camera()
    assert unusual(camera) == ()


@pytest.mark.parametrize('focals, words', [
    ([525.0], 'a focal length of 525 pixels was given; the images agree best with 420 +- 3: '
     'check that the calibration is of these images'),
    ([525.0, 525.0], 'a focal length of 525 pixels was given; the images agree best with 420 +- '
     '3: check that the calibration is of these images'),
    ([1380.2, 525.0], 'focal lengths of 525, 1380 pixels were given; the images agree best with '
     '0.8 +- 0.006 times these: check that the calibration is of these images'),
])
def test_a_contradiction_names_what_was_given_and_what_fits(focals, words):
    assert contradicted(focals, 0.8, 0.0075) == words


def test_a_large_deviation_is_written_without_an_exponent():
    assert ' 420 +- 30:' in contradicted([525.0], 0.8, 0.08)
