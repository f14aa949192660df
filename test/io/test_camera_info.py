# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""CameraInfo fields to cameras."""

import math
import re
from types import SimpleNamespace

import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.bag import open_bag
from recon3r_ros.io.camera_info import camera_from_info

K = (500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0)
P = (400.0, 0.0, 300.0, 0.0, 0.0, 410.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def info(model='plumb_bob', d=(), k=K, binning=(0, 0), roi=(0, 0, 0, 0), size=(640, 480), p=P):
    """Return what a deserialised message looks like."""
    x, y, width, height = roi
    return SimpleNamespace(
        width=size[0], height=size[1], distortion_model=model, d=list(d), k=k, p=p,
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
    ('rational_polynomial', range(1, 13), 'rational_polynomial', tuple(range(1, 13))),
    ('rational_polynomial', range(1, 15), 'rational_polynomial', tuple(range(1, 15))),
    ('plumb_bob', (.1, .2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, .01), 'rational_polynomial',
     (.1, .2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, .01)),
    ('rational_polynomial', (0,) * 14, 'plumb_bob', ()),
    ('mei', (0, 0, 0, 0, 0), 'plumb_bob', ()),
    ('inverse_brown_conrady', (), 'plumb_bob', ()),
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


def k_of(focal, cx, cy):
    """Return the K of a message."""
    return (focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0)


@pytest.mark.parametrize('message, words', [
    (info(k=(0.0,) * 9), 'K is zero, the camera is uncalibrated: intrinsics unknown; give a cam'),
    (info(k=k_of(math.nan, 320.0, 240.0)), 'K or D holds numbers that are not finite'),
    (info(d=(0.1, math.inf, 0, 0)), 'K or D holds numbers that are not finite'),
    (info(size=(0, 0)), '0x0 pixels'),
    (info(k=k_of(-500.0, 320.0, 240.0)), '-500 and -500 pixels'),
    (info(k=k_of(1.0, 0.0, 0.0)), '1 and 1 pixels make an image of 640x480 pixels 640 focal'),
    (info(k=k_of(500.0, 0.0, 0.0)), r'\(0.0, 0.0\) is far from the middle of 640x480'),
    (info(k=k_of(1000.0, 640.0, 480.0)), r'\(640.0, 480.0\) .* in an image 2 times as large'),
    (info(k=k_of(250.0, 160.0, 120.0)), r'\(160.0, 120.0\) .* in an image 0.5 times as large'),
    (info(k=k_of(250.0, 160.0, 120.0), binning=(1, 1)), 'in an image 0.5 times as large'),
])
def test_unknown_intrinsics_with_a_warning(message, words):
    warnings = []
    assert camera_from_info(message, warn=warnings.append) is None
    line, = warnings
    assert re.search(words, line)


def test_zero_p_of_rectified_images():
    warnings = []
    assert camera_from_info(info(p=(0.0,) * 12), True, warnings.append) is None
    assert warnings[0].startswith('P is zero')


@pytest.mark.parametrize('k', [
    k_of(500.0, 160.0, 239.5), k_of(500.0, 319.5, 500.0), k_of(500.0, 400.0, 180.0),
    k_of(500.0, 240.0, 170.0)])
def test_a_principal_point_off_the_middle_is_taken(k):
    camera = camera_from_info(info(k=k), warn=pytest.fail)
    assert (camera.cx, camera.cy) == (k[2], k[5])


@pytest.mark.parametrize('size, k, expected', [
    # by the definition: size and K of the full sensor
    ((640, 480), k_of(500.0, 319.5, 239.5), (320, 240, 250.0, 159.5)),
    ((640, 480), k_of(500.0, 350.0, 220.0), (320, 240, 250.0, 174.75)),
    # all of the binned image: such a camera is scaled to images of 320x240 without a change
    ((320, 240), k_of(250.0, 159.5, 119.5), (160, 120, 125.0, 79.5)),
])
def test_binning_by_the_definition(size, k, expected):
    camera = camera_from_info(info(k=k, size=size, binning=(2, 2)), warn=pytest.fail)
    assert (camera.width, camera.height, camera.fx, camera.cx) == expected


@pytest.mark.parametrize('size, k, binning, words', [
    ((640, 480), k_of(250.0, 159.5, 119.5), (2, 2),
     r'binning 2x2 .* \(159.5, 119.5\) .* 640x480 .* K is of the binned image of 320x240'),
    ((640, 480), k_of(250.0, 170.0, 110.0), (2, 2), 'K is of the binned image'),
    ((320, 240), k_of(500.0, 319.5, 239.5), (2, 2),
     r'\(319.5, 239.5\) .* if 320x240 pixels are those of the binned image'),
    ((960, 720), k_of(250.0, 159.5, 119.5), (3, 3), 'K is of the binned image of 320x240'),
])
def test_binning_that_the_driver_has_applied(size, k, binning, words):
    warnings = []
    message = info(k=k, size=size, binning=binning)
    camera = camera_from_info(message, warn=warnings.append)
    line, = warnings
    assert re.search(words, line)
    assert (camera.width, camera.height) == (320, 240)
    assert camera.fx == pytest.approx(250.0)
    assert camera.cx == pytest.approx(k[2] if k[0] == 250.0 else 159.5)


def test_a_region_beside_binning_that_the_driver_has_applied():
    camera = camera_from_info(info(k=k_of(250.0, 159.5, 119.5), binning=(2, 2),
                                   roi=(100, 40, 400, 200)), warn=lambda text: None)
    whole = camera_from_info(info(k=k_of(500.0, 319.5, 239.5), binning=(2, 2),
                                  roi=(100, 40, 400, 200)))
    assert (camera.width, camera.height) == (200, 100)
    assert (camera.fx, camera.cx, camera.cy) == pytest.approx((whole.fx, whole.cx, whole.cy))


def test_bags_from_the_field(shared_data):
    folded = open_bag(shared_data.field('camera_info_14_coefficients') / 'bag')
    camera = next(iter(folded)).camera
    assert camera.model == 'rational_polynomial' and len(camera.distortion) in (12, 14)
    assert folded.notes == []
    binned = open_bag(shared_data.field('camera_info_binning_k_scaled') / 'bag')
    assert next(iter(binned)).camera == Camera(320, 240, 262.5, 262.5, 159.75, 119.75)
    note, = binned.notes
    assert '(159.8, 119.8)' in note and 'K is of the binned image of 320x240' in note


def test_region_and_binning():
    camera = camera_from_info(info(binning=(2, 2), roi=(100, 40, 400, 200)))
    # the centre of a 2x2 bin is half a pixel off: u' = (u - 100 - 0.5) / 2
    assert camera == Camera(200, 100, 250.0, 255.0, 109.75, 99.75)
    assert camera_from_info(info(binning=(1, 1))) == camera_from_info(info())


@pytest.mark.parametrize('model, d, reason', [
    ('mei', (1, 2), "distortion model 'mei'"),
    ('rational_polynomial', range(1, 16), '15 coefficients, expected 0, 4, 5, 8, 12, 14; give a '),
])
def test_what_cannot_be_used(model, d, reason):
    with pytest.raises(InputError, match=reason):
        camera_from_info(info(model, d))
