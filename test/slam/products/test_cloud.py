# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fusion on exact depths of a box in front of a wall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.slam.products import cloud as fusion
from recon3r_ros.slam.products.cloud import fuse, LiveCloud
from recon3r_ros.slam.products.product import Product
from recon3r_ros.slam.types import Keyframe, Map, PointCloud

# Inside a voxel of the sizes used, not between two
WALL = 4.03
BOX = np.array([[-0.5, -0.4, 2.5], [0.5, 0.4, 3.2]])
CAMERA = Camera(160, 120, 140.0, 140.0, 79.5, 59.5)
POSITIONS = [[-0.4, 0.0, 0.0], [0.0, 0.1, 0.0], [0.4, 0.0, 0.1]]

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')


def depth_from(position: np.ndarray) -> np.ndarray:
    """Exact depth (H, W) of the scene for a camera that looks along the map's z axis."""
    rays = CAMERA.unproject(pixel_grid(CAMERA.height, CAMERA.width))
    with np.errstate(divide='ignore'):
        planes = (BOX[:, None, None] - position) / rays
    enter, leave = planes.min(0).max(-1), planes.max(0).min(-1)
    return np.where(enter < leave, enter, WALL - position[2])


def keyframe(number: int, position=None, depth=None) -> Keyframe:
    """Make a keyframe with exact depth: the box red, the wall blue."""
    position = np.asarray(POSITIONS[number] if position is None else position)
    depth = depth_from(position) if depth is None else depth
    image = np.where((depth < 3.5)[..., None], [200, 0, 0], [0, 0, 200]).astype(np.uint8)
    shape = depth.shape
    return Keyframe(
        number, f'{number}', number, number, CAMERA, image, np.zeros(shape, np.uint8),
        np.ones(1, np.float32), np.zeros((0, 2), np.int32),
        se3.from_rt(np.eye(3), position), np.zeros(0), np.zeros(0),
        (1 / depth).astype(np.float32), np.full(shape, 1e4, np.float32), np.zeros(shape, bool))


def scene() -> list[Keyframe]:
    """Three views of the box."""
    return [keyframe(n) for n in range(3)]


def distance_to_surface(points: np.ndarray) -> np.ndarray:
    """Distance (N,) of points to the wall or the box."""
    outside = np.linalg.norm(np.maximum(np.maximum(BOX[0] - points, points - BOX[1]), 0), axis=1)
    inside = np.minimum(points - BOX[0], BOX[1] - points).min(1)
    to_box = np.where(inside > 0, inside, outside)
    return np.minimum(to_box, np.abs(points[:, 2] - WALL))


def test_points_lie_on_the_surfaces():
    cloud = fuse(scene(), 0.03)
    assert isinstance(cloud, PointCloud)
    assert (cloud.points.dtype, cloud.colors.dtype, cloud.confidences.dtype) == (
        np.float32, np.uint8, np.float32)
    assert len(cloud) > 2000
    assert distance_to_surface(cloud.points).max() < 0.01
    on_box = cloud.points[:, 2] < 3.5
    assert (cloud.colors[on_box, 0] == 200).all() and (cloud.colors[~on_box, 2] == 200).all()
    assert on_box.sum() > 500
    np.testing.assert_allclose(cloud.confidences, 1e4, rtol=1e-4)


@pytest.mark.parametrize('size', [0.05, 0.2])
def test_voxel_size_is_respected(size):
    cloud = fuse(scene(), size)
    wall = cloud.points[cloud.points[:, 2] > 3.9]
    # The wall seen by the three cameras, one point a voxel
    covered = np.prod(np.ptp(wall[:, :2], axis=0)) / size ** 2
    assert 0.7 * covered < len(wall) < 1.2 * covered
    cells = np.floor(wall / size).astype(int)
    assert len(np.unique(cells, axis=0)) > 0.8 * len(wall)


def test_default_voxel_follows_the_scale_of_the_map():
    def scaled(k: Keyframe) -> Keyframe:
        T = k.T_map_cam.copy()
        T[:3, 3] *= 10
        return replace(k, T_map_cam=T, inverse_depth=k.inverse_depth / 10)
    small, large = fuse(scene()), fuse([scaled(k) for k in scene()])
    assert len(large) == pytest.approx(len(small), rel=0.05)


def test_floater_is_removed():
    views = scene()
    inverse_depth = views[1].inverse_depth.copy()
    # Smooth, sure of itself, and wrong: the others look through it at the wall
    inverse_depth[10:30, 10:40] = 1 / 1.5
    cloud = fuse([views[0], replace(views[1], inverse_depth=inverse_depth), views[2]], 0.03)
    floaters = distance_to_surface(cloud.points) > 0.05
    # At the box's outline the others are not sure what they see
    assert floaters.sum() < 10
    alone = fuse([replace(views[1], inverse_depth=inverse_depth)], 0.03)
    assert (distance_to_surface(alone.points) > 0.5).sum() > 50


def test_trail_of_a_moving_thing_is_removed():
    views = scene()
    for n, column in enumerate((70, 75, 95)):
        inverse_depth = views[n].inverse_depth.copy()
        inverse_depth[90:115, column:column + 25] = 1 / 2.0
        views[n] = replace(views[n], inverse_depth=inverse_depth)
    assert (distance_to_surface(fuse(views, 0.03).points) > 0.05).sum() < 20


def test_point_hidden_from_the_others_is_kept():
    cloud = fuse(scene(), 0.03)
    x, y, z = cloud.points.T
    # Beside the box's shadow of one outer camera, and inside that of the other
    assert ((z > 3.9) & (np.abs(y) < 0.3) & (0.62 < np.abs(x)) & (np.abs(x) < 0.85)).sum() > 100


def test_flying_pixels_are_left_out():
    view = keyframe(1)
    inverse_depth = view.inverse_depth.copy()
    edge = np.zeros(inverse_depth.shape, bool)
    edge[:, :-1] = np.abs(np.diff(inverse_depth, axis=1)) > 0.02
    assert edge.sum() > 50
    inverse_depth[edge] = 1 / 3.7
    cloud = fuse([replace(view, inverse_depth=inverse_depth)], 0.01)
    assert distance_to_surface(cloud.points).max() < 0.05


def test_masked_and_unsure_points_are_absent():
    views = [replace(k, mask=k.image[..., 0] > 0) for k in scene()]
    assert (fuse(views, 0.03).points[:, 2] > 3.9).all()
    unsure = [replace(k, confidence=np.full_like(k.confidence, 5.0)) for k in scene()]
    assert len(fuse(unsure, 0.03)) == 0


def test_moved_pose_moves_its_points():
    T = se3.from_rt(se3.so3_exp([0.0, 0.3, 0.0]), [1.0, -2.0, 0.5])
    view = keyframe(1)
    still = fuse([view], 0.001).points
    moved = fuse([replace(view, T_map_cam=T @ view.T_map_cam)], 0.001).points
    assert len(moved) == pytest.approx(len(still), rel=0.02)
    back = se3.transform(se3.inverse(T), moved)
    assert distance_to_surface(back).max() < 0.01


def test_nothing_gives_an_empty_cloud():
    unknown = np.full((120, 160), np.inf)
    for views in ([], [keyframe(1, depth=unknown)]):
        cloud = fuse(views)
        assert cloud.points.shape == (0, 3) and cloud.colors.shape == (0, 3)
        assert cloud.confidences.shape == (0,)


def test_errors_name_the_remedy():
    with pytest.raises(Recon3rError, match='0'):
        fuse(scene(), 0.0)


def test_averages_are_those_of_open3d():
    """Position, colour and confidence of each voxel, against a library that does the same."""
    o3d = pytest.importorskip('open3d', exc_type=ImportError)
    rng = np.random.default_rng(3)
    points = rng.normal(size=(5000, 3)).astype(np.float32)
    colors = rng.integers(0, 256, (5000, 3), dtype=np.uint8)
    confidences = rng.uniform(1, 9, 5000).astype(np.float32)
    found = fusion._average(points, colors, confidences, 0.3)
    tensor = o3d.core.Tensor.from_numpy
    cloud = o3d.t.geometry.PointCloud(tensor(points))
    cloud.point['colors'] = tensor(colors.astype(np.float32))
    cloud.point['confidences'] = tensor(confidences[:, None])
    cloud = cloud.voxel_down_sample(0.3)
    order, theirs = (np.lexsort(p.T.round(4)) for p in (
        found.points, cloud.point['positions'].numpy()))
    assert np.allclose(found.points[order], cloud.point['positions'].numpy()[theirs], atol=1e-5)
    assert np.allclose(found.confidences[order],
                       cloud.point['confidences'].numpy()[theirs, 0], atol=1e-4)
    assert np.abs(found.colors[order] - cloud.point['colors'].numpy()[theirs]).max() <= 0.51


def live(frames: list[Keyframe], scales=(1.0, 1.0, 1.0)) -> Map:
    return Map({k.id: k for k in frames}, dict(enumerate(scales)))


def test_a_live_cloud_grows_by_what_is_new():
    """Points in voxels of a nearby keyframe are not added again."""
    product: Product[PointCloud] = LiveCloud(0.05)
    sizes = [len(product.update(live(scene()[:n]))) for n in (2, 3)]
    alone = sum(len(LiveCloud(0.05).update(Map({0: k, 9: replace(k, id=9)}))) for k in scene())
    assert 0 < sizes[0] < sizes[1] < 0.8 * alone
    cloud = product.update(live(scene()))
    assert len(cloud) == sizes[1], 'nothing new, nothing more'
    assert distance_to_surface(cloud.points).max() < 1e-3
    assert len(np.unique(np.floor(cloud.points / np.float32(0.05)), axis=0)) > 0.9 * len(cloud)


def test_a_live_cloud_follows_poses_and_scales_of_loops():
    product, frames = LiveCloud(0.05), scene()
    before = product.update(live(frames))
    T = se3.from_rt(se3.so3_exp(np.array([0.1, 0.3, -0.2])), [1.0, 2.0, -3.0])
    moved = [replace(k, T_map_cam=T @ k.T_map_cam) for k in frames]
    after = product.update(live(moved))
    assert np.allclose(after.points, se3.transform(T, before.points), atol=1e-4)
    # A loop doubles all depths
    doubled = [replace(k, T_map_cam=se3.stretched(k.T_map_cam, 2.0),
                       inverse_depth=k.inverse_depth / 2) for k in frames]
    assert np.allclose(product.update(live(doubled, (2.0, 2.0, 2.0))).points, 2 * before.points,
                       atol=1e-4)


def test_voxels_of_a_live_cloud_follow_the_depth_at_which_the_map_began():
    small = [replace(k, T_map_cam=se3.stretched(k.T_map_cam, 0.1),
                     inverse_depth=k.inverse_depth * 10, landmarks=np.full(1, 10 / 3.0),
                     keypoints=np.zeros((1, 2), np.int32)) for k in scene()]
    large = [replace(k, landmarks=np.full(1, 1 / 3.0), keypoints=np.zeros((1, 2), np.int32))
             for k in scene()]
    sizes = [len(LiveCloud().update(live(frames))) for frames in (small, large)]
    assert abs(sizes[0] / sizes[1] - 1) < 0.02 and sizes[0] > 500
    assert LiveCloud().update(Map()).points.shape == (0, 3)
