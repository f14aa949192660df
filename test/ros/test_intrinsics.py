# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Intrinsics of the node's cameras: from a file or camera_info, scaled, and what is odd."""

from __future__ import annotations

import json

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.ros import conversions
from recon3r_ros.ros.inputs import CameraInput
from recon3r_ros.ros.intrinsics import Intrinsics
from recon3r_ros.ros.parameters import CameraConfig

CAMERA = Camera(320, 240, 260.0, 261.0, 159.5, 119.5)
OFF_CENTRE = Camera(320, 240, 260.0, 261.0, 20.0, 119.5)


def message(camera):
    return conversions.camera_info_message(camera, 0, 'camera')


def made(**config):
    """Return intrinsics and the list of their warnings."""
    warnings = []
    return Intrinsics(CameraConfig('camera', **config), warnings.append), warnings


def test_camera_info():
    intrinsics, warnings = made()
    assert not intrinsics.known and intrinsics.camera(320, 240) is None
    intrinsics.on_info(message(CAMERA))
    assert intrinsics.known and intrinsics.camera(320, 240) == CAMERA
    assert (intrinsics.notice, warnings) == ('', [])


def test_another_resolution_is_scaled_and_said_once():
    intrinsics, warnings = made()
    for _ in range(3):
        intrinsics.on_info(message(CAMERA))
        assert intrinsics.camera(640, 480) == CAMERA.resized(640, 480)
    line, = warnings
    assert '320x240' in line and '640x480' in line
    # another aspect is left to what refuses the image
    assert intrinsics.camera(320, 200) == CAMERA


def test_unusual_intrinsics_are_said_once_and_noticed():
    intrinsics, warnings = made()
    intrinsics.on_info(message(OFF_CENTRE))
    for _ in range(3):
        intrinsics.camera(320, 240)
    line, = warnings
    assert '(20.0, 119.5) is far from the middle' in line and intrinsics.notice == line
    intrinsics.on_info(message(CAMERA))
    intrinsics.camera(320, 240)
    assert intrinsics.notice == '' and len(warnings) == 1


def test_useless_camera_info_keeps_the_last():
    intrinsics, warnings = made()
    intrinsics.on_info(message(CAMERA))
    for focal in (0.0, np.nan, 1.0):
        bad = message(CAMERA)
        bad.k[0] = bad.k[4] = focal
        intrinsics.on_info(bad)
        assert intrinsics.camera(320, 240) == CAMERA
    odd = message(CAMERA)
    odd.distortion_model, odd.d = 'odd', [0.1] * 5
    intrinsics.on_info(odd)
    assert intrinsics.camera(320, 240) == CAMERA
    assert [line.split(':')[0] for line in warnings] == [
        'camera_info', 'camera_info', 'camera_info',
        'camera_info cannot be used and is ignored']


def test_a_file_of_another_format_comes_first(tmp_path):
    path = tmp_path / 'calibration'
    path.write_text(json.dumps({'K': CAMERA.K.tolist()}))
    intrinsics, warnings = made(calibration=str(path))
    intrinsics.on_info(message(OFF_CENTRE))
    assert intrinsics.camera(320, 240) == CAMERA
    assert warnings == []
    path.write_text('Dear diary')
    with pytest.raises(InputError, match='no known format'):
        made(calibration=str(path))


def test_uncalibrated_ignores_camera_info():
    intrinsics, _ = made(calibration='none')
    intrinsics.on_info(message(CAMERA))
    assert not intrinsics.known and intrinsics.camera(320, 240) is None


def test_frames_have_the_scaled_camera():
    arrivals = []
    camera = CameraInput(CameraConfig('camera'), arrivals.append, pytest.fail)
    camera.intrinsics.on_info(message(CAMERA.resized(160, 120)))
    camera.intrinsics._warn = lambda text: None  # of the scaling
    image = np.zeros((240, 320), np.uint8)
    for stamp_ns in (10**9, 2 * 10**9):
        camera.on_image(conversions.image_message(image, stamp_ns, 'c'), stamp_ns)
    found = camera.frame(arrivals[0]).camera
    assert (found.width, found.height, found.fx) == (320, 240, pytest.approx(260.0))
