# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Focal lengths from EXIF data."""

import math

import numpy as np
from PIL import Image
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.exif import focal_prior
from recon3r_ros.io.image_folder import open_image_folder

ORIENTATION, EXIF = 0x0112, 0x8769
WIDTH, HEIGHT, FOCAL, FILM = 0xA002, 0xA003, 0x920A, 0xA405
PLANE_RESOLUTION, PLANE_UNIT = 0xA20E, 0xA210
DIAGONAL = math.hypot(24, 36)


@pytest.fixture
def photograph(tmp_path):
    """Return a function that writes a photograph with tags."""
    def of(tags, size=(400, 300), orientation=1, name='a.jpg'):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        exif.get_ifd(EXIF).update(tags)
        pixels = np.random.default_rng(5).integers(0, 255, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
        return tmp_path / name
    return of


@pytest.mark.parametrize('tags, size, expected', [
    # 3:2 is the film's aspect: 36 mm are the width
    ({FILM: 36}, (300, 200), 300.0),
    # other aspects have the diagonal in common
    ({FILM: 26}, (400, 300), 26 * 500 / DIAGONAL),
    ({FILM: 26, WIDTH: 4000, HEIGHT: 3000}, (400, 300), 26 * 500 / DIAGONAL),
    ({FILM: 26}, (300, 400), 26 * 500 / DIAGONAL),
    # 22.3 mm wide sensor of 6000 columns at 24 mm
    ({FOCAL: 24.0, PLANE_RESOLUTION: 6000 / (22.3 / 25.4), PLANE_UNIT: 2, WIDTH: 6000,
      HEIGHT: 4000}, (300, 200), 24 / 22.3 * 300),
    ({FOCAL: 24.0, PLANE_RESOLUTION: 6000 / 2.23, PLANE_UNIT: 3, WIDTH: 6000, HEIGHT: 4000},
     (300, 200), 24 / 22.3 * 300),
    ({FILM: 0, FOCAL: 24.0, PLANE_RESOLUTION: 300 / (22.3 / 25.4)}, (300, 200), 24 / 22.3 * 300),
    # nothing, implausible, or cropped since
    ({}, (300, 200), None), ({FILM: 0}, (300, 200), None), ({FILM: 2}, (300, 200), None),
    ({FILM: 65535}, (300, 200), None), ({FOCAL: 24.0}, (300, 200), None),
    ({FOCAL: 24.0, PLANE_RESOLUTION: 0}, (300, 200), None),
    ({FOCAL: 24.0, PLANE_RESOLUTION: 10.0, PLANE_UNIT: 9}, (300, 200), None),
    ({FILM: 26, WIDTH: 4000, HEIGHT: 3000}, (300, 200), None),
])
def test_tags(photograph, tags, size, expected):
    found = focal_prior(photograph(tags, size), *size)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-3))


def test_damaged_data(tmp_path, photograph):
    data = photograph({FILM: 26}).read_bytes()
    at = data.index(b'Exif\0\0') + 6
    for i, hurt in enumerate((data[:at] + b'\xff' * 40 + data[at + 40:], b'no image', b'')):
        (tmp_path / f'{i}.jpg').write_bytes(hurt)
        assert focal_prior(tmp_path / f'{i}.jpg', 400, 300) is None
    assert focal_prior(tmp_path / 'absent.jpg', 400, 300) is None


def test_frames_have_the_prior_and_no_camera(photograph, tmp_path):
    photograph({FILM: 26, WIDTH: 4000, HEIGHT: 3000}, orientation=6)
    frame, = open_image_folder(tmp_path)
    assert frame.image.shape == (400, 300, 3)  # upright
    assert frame.camera is None
    assert frame.focal_prior == pytest.approx(26 * 500 / DIAGONAL)
    frame, = open_image_folder(tmp_path, calibrated=False)
    assert frame.focal_prior is None
    frame, = open_image_folder(tmp_path, Camera(300, 400, 350.0, 350.0, 149.5, 199.5))
    assert frame.focal_prior is None
