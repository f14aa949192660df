# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Gravity in the results of a real camera with an IMU, and arguments of an IMU."""

from __future__ import annotations

import re

import cv2
import numpy as np
from recon3r_ros.bench.imu import still_error


def test_z_of_the_results_is_up_within_a_degree(shared_data):
    """EuRoC at rest: the true orientations come from another estimator."""
    images = shared_data.pack('euroc_v101_stereo_imu') / 'mav0' / 'cam0'
    worst, gravity = still_error(
        images, shared_data.pack('euroc_v101_stationary') / 'groundtruth.txt')
    assert worst <= 1.0
    assert gravity.startswith('z is up') and 'standstill' in gravity


def test_arguments_that_do_not_go_together_are_named(recon3r, tmp_path):
    (tmp_path / 'frames.txt').write_text('0.0 a.png\n')
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images' / 'a.png'), np.zeros((48, 64), np.uint8))
    for arguments, words in ((('--imu-topic', '/imu'), '--imu-topic /imu needs --bag'),
                             (('--imu-extrinsics', 'imu.json'), 'imu.json: .*--imu-topic')):
        found = recon3r('run', '--images', tmp_path, *arguments, '--output', tmp_path / 'out')
        assert found.status != 0 and re.search(words, found.err), found.err
