# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""CameraInfo fields to cameras."""

from types import SimpleNamespace

import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.camera_info import camera_from_info

K = (500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0)
P = (400.0, 0.0, 300.0, 0.0, 0.0, 410.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def info(model='plumb_bob', d=(), k=K, binning=(0, 0), roi=(0, 0, 0, 0)):
    """Return what a deserialised message looks like."""
    x, y, width, height = roi
    return SimpleNamespace(
        width=640, height=480, distortion_model=model, d=list(d), k=k, p=P,
        binning_x=binning[0], binning_y=binning[1],
        roi=SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height))


@pytest.mark.parametrize('model, d, expected_model, expected', [
    ('plumb_bob', (.1, .2, .3, .4, .5), 'plumb_bob', (.1, .2, .3, .4, .5)),
    ('plumb_bob', (.1, .2, .3, .4), 'plumb_bob', (.1, .2, .3, .4, 0)),
    ('plumb_bob', (0, 0, 0, 0, 0), 'plumb_bob', ()),
    ('', (), 'plumb_bob', ()),
    ('rational_polynomial', (1, 2, 3, 4, 5, 6, 7, 8), 'rational_polynomial',
     (1, 2, 3, 4, 5, 6, 7, 8)),
    ('rational_polynomial', (1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0), 'rational_polynomial',
     (1, 2, 3, 4, 5, 6, 7, 8)),
    ('equidistant', (.1, .2, .3, .4), 'equidistant', (.1, .2, .3, .4)),
    ('equidistant', (), 'equidistant', (0, 0, 0, 0)),
    ('fisheye', (0, 0, 0, 0), 'equidistant', (0, 0, 0, 0)),
])
def test_models(model, d, expected_model, expected):
    camera = camera_from_info(info(model, d))
    assert camera == Camera(640, 480, 500.0, 510.0, 320.0, 240.0, expected, expected_model)


def test_rectified_images_use_p():
    camera = camera_from_info(info(d=(.1, .2, .3, .4, .5)), rectified=True)
    assert camera == Camera(640, 480, 400.0, 410.0, 300.0, 200.0)


def test_zero_k_is_uncalibrated():
    assert camera_from_info(info(k=(0.0,) * 9)) is None


def test_region_and_binning():
    camera = camera_from_info(info(binning=(2, 2), roi=(100, 40, 400, 200)))
    # the centre of a 2x2 bin is half a pixel off: u' = (u - 100 - 0.5) / 2
    assert camera == Camera(200, 100, 250.0, 255.0, 109.75, 99.75)
    assert camera_from_info(info(binning=(1, 1))) == camera_from_info(info())


@pytest.mark.parametrize('model, d, reason', [
    ('mei', (1, 2), "distortion model 'mei'"),
    ('rational_polynomial', range(1, 13), '12 coefficients, expected at most 8'),
])
def test_what_cannot_be_used(model, d, reason):
    with pytest.raises(InputError, match=reason):
        camera_from_info(info(model, d))
