# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Gaussians of a cloud, and their files, read by Open3D."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.gaussian_files import (
    C0,
    read_gaussian_ply,
    write_gaussian_ply,
    write_splat,
)
from recon3r_ros.slam.products.gaussians import gaussians_of_cloud, WIDTH
from recon3r_ros.slam.types import Gaussians, PointCloud

STEP = 0.05


@pytest.fixture
def plane() -> tuple[PointCloud, np.ndarray]:
    """Return points of a tilted plane on a grid of STEP, and the plane's normal."""
    x, y = np.meshgrid(np.arange(30) * STEP, np.arange(20) * STEP)
    R = se3.so3_exp([0.4, -0.7, 0.2])
    points = np.stack([x, y, 0 * x], -1).reshape(-1, 3) @ R.T + (1, 2, 3)
    rng = np.random.default_rng(0)
    count = len(points)
    return PointCloud(points.astype(np.float32), rng.integers(0, 256, (count, 3)).astype(np.uint8),
                      rng.uniform(25, 2000, count).astype(np.float32)), R[:, 2]


def covariances(made: Gaussians) -> np.ndarray:
    """Return covariances (N, 3, 3), by the definition of the quaternion."""
    w, x, y, z = made.quaternions_wxyz.astype(np.float64).T
    R = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                  [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                  [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]])
    M = np.moveaxis(R, -1, 0) * made.scales[:, None]
    return M @ M.transpose(0, 2, 1)


def test_a_plane_becomes_disks_on_it_as_wide_as_its_grid(plane):
    cloud, normal = plane
    made = gaussians_of_cloud(cloud)
    across = np.sqrt(np.einsum('i,nij,j->n', normal, covariances(made), normal))
    inner = (np.arange(600).reshape(20, 30)[1:-1, 1:-1]).ravel()
    assert (across < 0.15 * STEP).all()
    np.testing.assert_allclose(made.scales[inner, :2], WIDTH * STEP, rtol=1e-3)
    np.testing.assert_allclose(made.colors * 255, cloud.colors, atol=1e-4)
    order = np.argsort(cloud.confidences)
    assert (np.diff(made.opacities[order]) >= 0).all()
    assert 0.5 <= made.opacities.min() and made.opacities.max() < 1


def test_an_isolated_point_stays_as_small_as_the_others(plane):
    cloud, _ = plane
    points = np.concatenate([cloud.points, np.array([[9, 9, 9]], np.float32)])
    made = gaussians_of_cloud(PointCloud(points, np.concatenate([cloud.colors, [[1, 2, 3]]]),
                                         np.append(cloud.confidences, np.float32(100))))
    assert made.scales.max() < 2 * STEP


def test_few_points_make_none():
    cloud = PointCloud(np.eye(3, dtype=np.float32), np.zeros((3, 3), np.uint8),
                       np.ones(3, np.float32))
    assert len(gaussians_of_cloud(cloud)) == 0 == len(gaussians_of_cloud(PointCloud.empty()))


@pytest.fixture
def made() -> Gaussians:
    """Return random Gaussians."""
    rng = np.random.default_rng(1)
    q = rng.normal(size=(40, 4))
    return Gaussians(*(a.astype(np.float32) for a in (
        rng.normal(size=(40, 3)), q / np.linalg.norm(q, axis=1, keepdims=True),
        rng.uniform(0.01, 0.2, (40, 3)), rng.uniform(0.1, 0.9, 40), rng.random((40, 3)))))


def test_ply_is_read_back_by_this_package_and_by_open3d(made, tmp_path):
    write_gaussian_ply(tmp_path / 'g.ply', made)
    read = read_gaussian_ply(tmp_path / 'g.ply')
    for name in ('means', 'quaternions_wxyz', 'scales', 'opacities', 'colors'):
        np.testing.assert_allclose(getattr(read, name), getattr(made, name), atol=1e-6)
    o3d = pytest.importorskip('open3d', reason='open3d is missing')
    point = o3d.t.io.read_point_cloud(str(tmp_path / 'g.ply')).point
    np.testing.assert_array_equal(point['positions'].numpy(), made.means)
    np.testing.assert_array_equal(point['rot'].numpy(), made.quaternions_wxyz)
    np.testing.assert_allclose(point['scale'].numpy(), made.scales, rtol=1e-5)  # it takes exp
    np.testing.assert_allclose(
        1 / (1 + np.exp(-point['opacity'].numpy()[:, 0])), made.opacities, rtol=1e-5)
    np.testing.assert_allclose(0.5 + C0 * point['f_dc'].numpy(), made.colors, atol=1e-6)


def test_splat_has_the_most_visible_first(made, tmp_path):
    write_splat(tmp_path / 'g.splat', made)
    data = np.frombuffer((tmp_path / 'g.splat').read_bytes(), np.uint8).reshape(-1, 32)
    place, scales = data[:, :12].copy().view('<f4'), data[:, 12:24].copy().view('<f4')
    visible = scales.prod(1) * data[:, 27]
    assert len(data) == 40 and np.corrcoef(np.arange(40), np.log(visible))[0, 1] < -0.9
    for i, point in enumerate(place):
        (k,) = np.flatnonzero((made.means == point).all(1))
        np.testing.assert_array_equal(scales[i], made.scales[k])
        np.testing.assert_allclose(data[i, 24:27] / 255, made.colors[k], atol=0.003)
        np.testing.assert_allclose(data[i, 27] / 255, made.opacities[k], atol=0.003)
        np.testing.assert_allclose((data[i, 28:].astype(float) - 128) / 128,
                                   made.quaternions_wxyz[k], atol=0.008)


def test_damaged_files_and_impossible_values_are_named(made, tmp_path):
    write_gaussian_ply(tmp_path / 'g.ply', made)
    (tmp_path / 'cut.ply').write_bytes((tmp_path / 'g.ply').read_bytes()[:-3])
    with pytest.raises(InputError, match='cut.ply'):
        read_gaussian_ply(tmp_path / 'cut.ply')
    made.opacities[0] = 1
    with pytest.raises(OutputError, match='opacity'):
        write_splat(tmp_path / 'g.splat', made)
