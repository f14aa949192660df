# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""COLMAP text models, read back by an independent parser."""

import numpy as np
import pytest
from recon3r_ros.errors import OutputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.colmap import ColmapImage, is_representable, write_colmap
from recon3r_ros.slam.types import PointCloud

PINHOLE = Camera(64, 48, 50.0, 51.0, 31.5, 23.5)


def lines(path):
    """Return the lines of a file that are not comments, including empty ones."""
    return [line for line in path.read_text().splitlines() if not line.startswith('#')]


def rotation(w, x, y, z):
    """Return the matrix of a unit quaternion, written out."""
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])


@pytest.mark.parametrize('camera, expected', [
    (PINHOLE, '1 PINHOLE 64 48 50 51 32 24'),
    (Camera(64, 48, 50, 51, 31.5, 23.5, (.1, .2, .3, .4, 0.0)),
     '1 OPENCV 64 48 50 51 32 24 0.1 0.2 0.3 0.4'),
    (Camera(64, 48, 50, 51, 31.5, 23.5, (.1, .2, .3, .4)),
     '1 OPENCV 64 48 50 51 32 24 0.1 0.2 0.3 0.4'),
    (Camera(64, 48, 50, 51, 31.5, 23.5, (.1, .2, .3, .4, .5)),
     '1 FULL_OPENCV 64 48 50 51 32 24 0.1 0.2 0.3 0.4 0.5 0 0 0'),
    (Camera(64, 48, 50, 51, 31.5, 23.5, (1, 2, 3, 4, 5, 6, 7, 8), 'rational_polynomial'),
     '1 FULL_OPENCV 64 48 50 51 32 24 1 2 3 4 5 6 7 8'),
    (Camera(64, 48, 50, 51, 31.5, 23.5, (1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0),
            'rational_polynomial'), '1 FULL_OPENCV 64 48 50 51 32 24 1 2 3 4 5 6 7 8'),
    (Camera(64, 48, 50, 51, 31.5, 23.5, (0, 0, 0, 0), 'equidistant'),
     '1 OPENCV_FISHEYE 64 48 50 51 32 24 0 0 0 0'),
])
def test_cameras(tmp_path, camera, expected):
    write_colmap(tmp_path, [ColmapImage('a.jpg', camera, np.eye(4))])
    assert lines(tmp_path / 'cameras.txt') == [expected]


def test_images(tmp_path):
    other = Camera(32, 48, 50.0, 51.0, 15.5, 23.5)
    T_world_cam = se3.exp(np.random.default_rng(2).normal(size=(3, 6)))
    cameras = [PINHOLE, other, PINHOLE]
    write_colmap(tmp_path / 'sparse' / '0', [
        ColmapImage(f'{i}.png', c, T)
        for i, (c, T) in enumerate(zip(cameras, T_world_cam, strict=True))])
    rows = lines(tmp_path / 'sparse' / '0' / 'images.txt')
    assert rows[1::2] == ['', '', '']
    point_cam = np.array([0.3, -0.2, 2.0])
    for i, row in enumerate(rows[0::2]):
        number, *values, camera_id, name = row.split()
        assert (number, camera_id, name) == (str(i + 1), '121'[i], f'{i}.png')
        numbers = np.array(values, np.float64)
        point_world = T_world_cam[i, :3, :3] @ point_cam + T_world_cam[i, :3, 3]
        np.testing.assert_allclose(
            rotation(*numbers[:4]) @ point_world + numbers[4:], point_cam, atol=1e-9)
    assert len(lines(tmp_path / 'sparse' / '0' / 'cameras.txt')) == 2
    assert lines(tmp_path / 'sparse' / '0' / 'points3D.txt') == []


def test_points(tmp_path):
    count = 100_003
    cloud = PointCloud(
        np.arange(count * 3, dtype=np.float32).reshape(-1, 3) / 7,
        (np.arange(count * 3) % 256).astype(np.uint8).reshape(-1, 3),
        np.ones(count, np.float32))
    write_colmap(tmp_path, [], cloud)
    table = np.loadtxt(tmp_path / 'points3D.txt', skiprows=99_001)
    np.testing.assert_array_equal(table[:, 0], np.arange(99_000, count) + 1)
    np.testing.assert_allclose(table[:, 1:4], cloud.points[99_000:], rtol=1e-6)
    np.testing.assert_array_equal(table[:, 4:7], cloud.colors[99_000:])
    assert table.shape[1] == 8


def test_pycolmap_reads_it(tmp_path):
    pycolmap = pytest.importorskip('pycolmap')
    camera = Camera(64, 48, 50, 51, 31.5, 23.5, (.1, .2, .3, .4, .5))
    pose = se3.exp(np.array([.1, .2, .3, 1, 2, 3]))
    cloud = PointCloud(np.ones((4, 3), np.float32), np.ones((4, 3), np.uint8), np.ones(4))
    write_colmap(tmp_path, [ColmapImage('a.jpg', camera, pose)], cloud)
    model = pycolmap.Reconstruction(str(tmp_path))
    assert (model.num_cameras(), model.num_images(), model.num_points3D()) == (1, 1, 4)
    image = model.images[1]
    pixel = image.project_point(se3.transform(pose, np.array([[.3, .2, 2.0]]))[0])
    np.testing.assert_allclose(pixel - 0.5, camera.project([.3, .2, 2.0]), atol=1e-6)


def test_unwritable(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='file/model'):
        write_colmap(tmp_path / 'file' / 'model', [])


def test_thin_prism_has_no_model(tmp_path):
    prism = Camera(64, 48, 50, 51, 31.5, 23.5, (*(0,) * 8, 1e-3, 0, 0, 0), 'rational_polynomial')
    assert is_representable(PINHOLE) and not is_representable(prism)
    with pytest.raises(OutputError, match='12 distortion coefficients'):
        write_colmap(tmp_path, [ColmapImage('a.png', prism, np.eye(4))])
