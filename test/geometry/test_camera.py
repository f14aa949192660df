# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras against OpenCV and against themselves."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import GeometryError, InputError
from recon3r_ros.geometry.camera import Camera, pixel_grid


def points_in_view(camera, rng, count=200):
    pixels = rng.uniform([60, 60], [camera.width - 60, camera.height - 60], (count, 2))
    return pixels, camera.unproject(pixels) * rng.uniform(0.5, 9.0, (count, 1))


def test_project_agrees_with_opencv(camera, rng):
    _, points = points_in_view(camera, rng)
    if camera.model == 'equidistant':
        expected, _ = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3),
                                                camera.K, np.array(camera.distortion))
    else:
        expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K,
                                        np.array(camera.distortion))
    np.testing.assert_allclose(camera.project(points), expected.reshape(-1, 2), atol=1e-9)


def test_unproject_inverts_project_on_the_whole_image(camera):
    grid = pixel_grid(camera.height, camera.width)
    rays = camera.unproject(grid)
    seen = np.isfinite(rays).all(-1)
    assert seen.all() or camera.model == 'equidistant'  # its corners are beyond 90 degrees
    assert seen.mean() > 0.85
    np.testing.assert_array_equal(rays[..., 2], 1.0)
    np.testing.assert_allclose(camera.project(3 * rays)[seen], grid[seen], atol=1e-6)


def test_points_not_in_front_have_no_pixel():
    camera = Camera.guess(64, 48)
    assert np.isnan(camera.project([[0.1, 0.2, -1.0], [0.1, 0.2, 0.0]])).all()
    fisheye = Camera(512, 512, 100, 100, 255.5, 255.5, (0, 0, 0, 0), 'equidistant')
    np.testing.assert_allclose(fisheye.project([1.0, 0.0, -1.0]),
                               [255.5 + 100 * 0.75 * np.pi, 255.5])
    np.testing.assert_allclose(fisheye.project([0.0, 0.0, 2.0]), [255.5, 255.5])


def test_no_inverse_is_nan_and_not_garbage():
    camera = Camera(100, 100, 50, 50, 50, 50, (-0.5, 0, 0, 0))  # folds at r = sqrt(2 / 3)
    largest = np.sqrt(2 / 3) * (1 - 0.5 * 2 / 3)
    u = 50 + 50 * np.array([largest - 1e-3, largest + 1e-3])
    rays = camera.unproject(np.stack([u, [50, 50]], axis=-1))
    assert 0.7 < rays[0, 0] < np.sqrt(2 / 3)
    assert np.isnan(rays[1, :2]).all()


def test_resize_and_crop_commute_with_projection(camera, rng):
    pixels, points = points_in_view(camera, rng)
    resized = camera.resized(320, 300)
    scale = np.array([320 / camera.width, 300 / camera.height])
    np.testing.assert_allclose(resized.project(points), (pixels + 0.5) * scale - 0.5, atol=1e-6)
    assert (resized.width, resized.height, resized.model) == (320, 300, camera.model)
    cropped = camera.cropped(30, 20, 200, 100)
    np.testing.assert_allclose(cropped.project(points), pixels - [30, 20], atol=1e-6)
    assert (cropped.width, cropped.height) == (200, 100)
    np.testing.assert_allclose(cropped.unproject(pixels - [30, 20]), camera.unproject(pixels),
                               atol=1e-9)
    np.testing.assert_allclose(resized.resized(camera.width, camera.height).K, camera.K)


def test_resize_follows_opencv_area_resampling():
    # a blob's centroid agrees with the resized camera's projection
    image = np.zeros((64, 96), np.float32)
    image[20:28, 40:44] = 1.0
    camera = Camera(96, 64, 100, 100, 41.5, 23.5)
    small = cv2.resize(image, (24, 16), interpolation=cv2.INTER_AREA)
    grid = pixel_grid(16, 24)
    centroid = (grid * small[..., None]).sum((0, 1)) / small.sum()
    np.testing.assert_allclose(camera.resized(24, 16).project([0.0, 0.0, 1.0]), centroid)


def test_rectified_sees_only_the_source_and_nearly_all_of_it(camera):
    view = camera.rectified()
    assert view.is_pinhole
    assert (view.width, view.height) == (camera.width, camera.height)
    map_x, map_y = camera.rectification_maps()
    assert map_x.dtype == map_y.dtype == np.float32
    assert map_x.shape == map_y.shape == (camera.height, camera.width)
    assert map_x.min() >= -1e-3 and map_x.max() <= camera.width - 1 + 1e-3
    assert map_y.min() >= -1e-3 and map_y.max() <= camera.height - 1 + 1e-3
    if camera.model == 'equidistant':
        left, right = view.unproject([[-0.5, view.cy], [view.width - 0.5, view.cy]])
        fov = np.degrees(np.arctan(right[0]) - np.arctan(left[0]))
        assert 100 < fov <= 120 + 1e-9
    else:
        assert 1.0 <= view.fx / camera.fx < 1.1
        assert (view.cx, view.cy) == (camera.cx, camera.cy)
    # at a slightly shorter focal length a border appears, unless the view is at its widest
    if 1.0 < view.fx / camera.fx < 2 and camera.model != 'equidistant':
        wider = replace(view, fx=view.fx * 0.999, fy=view.fy * 0.999)
        pixels = camera.project(wider.unproject(pixel_grid(view.height, view.width)))
        size = (camera.width - 1, camera.height - 1)
        assert ((pixels < 0) | (pixels > size)).any()


def test_maps_agree_with_projection(camera, rng):
    view, (map_x, map_y) = camera.rectified(), camera.rectification_maps()
    u, v = rng.integers(0, view.width, 50), rng.integers(0, view.height, 50)
    points = 4.0 * view.unproject(np.stack([u, v], axis=-1))
    np.testing.assert_allclose(np.stack([map_x, map_y], axis=-1)[v, u], camera.project(points),
                               atol=1e-3)
    back_x, back_y = camera.distortion_maps()
    u, v = rng.integers(200, 300, 50), rng.integers(180, 220, 50)
    points = 4.0 * camera.unproject(np.stack([u, v], axis=-1))
    np.testing.assert_allclose(np.stack([back_x, back_y], axis=-1)[v, u], view.project(points),
                               atol=1e-3)


def test_mask_returns_to_the_source_pixels(camera):
    mask = np.zeros((camera.height, camera.width), np.uint8)
    cv2.circle(mask, (camera.width // 2 + 40, camera.height // 2 - 30), 40, 255, -1)
    there = cv2.remap(mask, *camera.rectification_maps(), cv2.INTER_LINEAR)
    back = cv2.remap(there, *camera.distortion_maps(), cv2.INTER_LINEAR)
    overlap = ((mask > 127) & (back > 127)).sum() / ((mask > 127) | (back > 127)).sum()
    assert overlap > 0.95


def test_rectification_without_a_view_is_refused():
    with pytest.raises(GeometryError, match='no rectified view'):
        Camera(100, 100, 50, 50, 500, 50, (-0.3, 0, 0, 0)).rectified()


def test_pinhole_is_its_own_rectification():
    assert Camera.guess(64, 48).rectified() == Camera.guess(64, 48)
    zero = Camera(64, 48, 50, 50, 32, 24, (0.0,) * 5)
    assert zero.is_pinhole and zero.rectified() is zero
    assert not Camera(64, 48, 50, 50, 32, 24, (0.0,) * 4, 'equidistant').is_pinhole


def test_guess():
    camera = Camera.guess(640, 480)
    np.testing.assert_array_equal(camera.K, [[768, 0, 319.5], [0, 768, 239.5], [0, 0, 1]])
    assert Camera.guess(480, 640, 1.0).fx == 640


def test_values_are_normalised():
    camera = Camera(np.int64(64), 48, np.float32(50), 50, 32, 24, [0.1, 0, 0, 0])
    assert camera.distortion == (0.1, 0.0, 0.0, 0.0)
    assert type(camera.width) is int and type(camera.fx) is float
    assert hash(camera) == hash(replace(camera))


@pytest.mark.parametrize(('change', 'message'), [
    ({'width': 0}, 'width: got 0'), ({'height': 4.5}, 'height: got 4.5'),
    ({'width': True}, 'width: got True'), ({'fx': 0.0}, 'fx: got 0.0'),
    ({'fy': -3}, 'fy: got -3'), ({'cx': float('nan')}, 'cx: got nan'),
    ({'cy': '1'}, "cy: got '1'"), ({'cy': None}, 'cy: got None'),
    ({'distortion': (0.1,)}, 'got 1 coefficients'),
    ({'distortion': (0.1, 0, 0, float('inf'))}, 'distortion: got inf'),
    ({'model': 'fisheye62'}, "model: got 'fisheye62'"), ({'model': []}, r'model: got \[\]'),
    ({'model': 'equidistant'}, 'expects 4'),
    ({'model': 'rational_polynomial', 'distortion': (0,) * 5}, 'expects 8')])
def test_bad_values_are_quoted(change, message):
    values = {'width': 64, 'height': 48, 'fx': 50, 'fy': 50, 'cx': 32, 'cy': 24}
    with pytest.raises(InputError, match=message):
        Camera(**{**values, **change})


@pytest.mark.parametrize(('size', 'focal'), [
    ((640, 480), 500.0), ((320, 240), 250.0), ((1280, 960), 1000.0),
    ((427, 320), pytest.approx(333.6, abs=0.1)),  # 426.67 columns, rounded
    ((640, 488), None), ((480, 640), None), ((320, 200), None)])
def test_scaled_to_another_resolution_of_the_same_aspect(size, focal):
    camera = Camera(640, 480, 500.0, 510.0, 319.5, 239.5, (0.1, 0, 0, 0))
    scaled = camera.scaled_to(*size)
    if focal is None:
        assert scaled is None
        return
    assert scaled.fx == focal and (scaled.width, scaled.height) == size
    # the middle stays the middle
    assert scaled.cx == pytest.approx((size[0] - 1) / 2)
    assert scaled.cy == pytest.approx((size[1] - 1) / 2)


def test_pixel_grid_is_u_v():
    grid = pixel_grid(3, 5)
    assert grid.shape == (3, 5, 2)
    np.testing.assert_array_equal(grid[2, 4], [4, 2])
