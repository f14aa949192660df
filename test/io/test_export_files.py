# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Undistorted images, binary COLMAP models and transforms.json, read by independent readers."""

from __future__ import annotations

from dataclasses import dataclass, replace
import json
from pathlib import Path
import struct

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.io.colmap_binary import SparseImage, SparseModel, write_sparse_model
from recon3r_ros.io.export_images import ImageExport
from recon3r_ros.io.ground_truth import read_truth
from recon3r_ros.io.nerfstudio import TransformsFrame, write_transforms
from recon3r_ros.io.run_folder import PosedImage, RunFolder
from recon3r_ros.io.trajectory import write_euroc, write_kitti
from recon3r_ros.io.undistortion import pinhole_of, Undistortion
from recon3r_ros.slam.products.landmarks import tracks_of, tracks_of_cloud
from recon3r_ros.slam.saved_map import SavedObservations
from recon3r_ros.slam.types import Frame, Keyframe, PointCloud

PINHOLE = Camera(64, 48, 50.0, 51.0, 31.0, 24.0)
LENSES = {
    'radial': Camera(160, 120, 120.0, 121.0, 78.0, 61.0, (-0.25, 0.07, 1e-3, -1e-3, 0.01)),
    'fisheye': Camera(160, 120, 70.0, 70.0, 80.0, 60.0, (0.02, -0.01, 0.0, 0.0), 'equidistant'),
}


@dataclass(frozen=True, eq=False)
class ReadModel:
    """A sparse model as its files say."""

    cameras: dict[int, tuple[int, int, int, tuple[float, ...]]]
    images: dict[int, tuple[str, np.ndarray, np.ndarray, int, list[tuple[float, float, int]]]]
    points: dict[int, tuple[np.ndarray, tuple[int, ...], float, list[tuple[int, int]]]]


def read_model(folder: Path) -> ReadModel:
    """Read a binary model by COLMAP's description of its format."""
    def reader(name):
        data, place = (folder / name).read_bytes(), 0

        def take(layout):
            nonlocal place
            values = struct.unpack_from('<' + layout, data, place)
            place += struct.calcsize('<' + layout)
            return values if len(values) > 1 else values[0]

        def text():
            nonlocal place
            end = data.index(b'\0', place)
            found, place = data[place:end].decode(), end + 1
            return found

        return take, text, lambda: place == len(data)
    take, _, finished = reader('cameras.bin')
    cameras = {}
    for _ in range(take('Q')):
        number, model, width, height = take('IiQQ')
        cameras[number] = model, width, height, take('4d')
    assert finished()
    take, text, finished = reader('images.bin')
    images = {}
    for _ in range(take('Q')):
        number, *pose = take('I7d')
        camera, name = take('I'), text()
        images[number] = (name, np.array(pose[:4]), np.array(pose[4:]), camera,
                          [take('ddq') for _ in range(take('Q'))])
    assert finished()
    take, _, finished = reader('points3D.bin')
    points = {}
    for _ in range(take('Q')):
        number, x, y, z, *color, error, length = take('Q3d3BdQ')
        points[number] = np.array([x, y, z]), tuple(color), error, [
            take('II') for _ in range(length)]
    assert finished()
    return ReadModel(cameras, images, points)


def project(model: ReadModel, image: int, point: np.ndarray) -> np.ndarray:
    """Project a point by COLMAP's convention: world to camera, quaternion w x y z."""
    _, (w, *xyz), t, camera, _ = model.images[image]
    v = np.array(xyz)
    inside = point + 2 * np.cross(v, np.cross(v, point) + w * point) + t
    _, _, _, (fx, fy, cx, cy) = model.cameras[camera]
    return np.array([fx * inside[0] / inside[2] + cx, fy * inside[1] / inside[2] + cy])


@pytest.fixture
def keyframes() -> dict[int, Keyframe]:
    """Return two keyframes, side by side, that look at a plane 2 m away."""
    made = {}
    for i in range(2):
        T = np.eye(4)
        T[0, 3] = 0.1 * i
        shape = (PINHOLE.height, PINHOLE.width)
        keypoints = np.array([[20, 20], [30, 25], [40, 30]], np.int32)
        made[i] = Keyframe(
            i, f'{i}', i, i, PINHOLE, np.full((*shape, 3), 10 * i, np.uint8),
            np.zeros(shape, np.uint8), np.zeros(4, np.float32), keypoints, T, np.full(3, 0.5),
            np.ones(3), np.full(shape, 0.5, np.float32), np.full(shape, 100.0, np.float32),
            np.zeros(shape, bool))
    return made


def test_tracks_join_what_is_observed_and_leave_out_what_is_wrong(keyframes):
    # 0.1 m at 2 m are 2.5 pixels; the second observation is wrong by 5, the third landmark moves
    shifted = keyframes[0].keypoints - (2.5, 0)
    keyframes[0].mask[30, 40] = True
    found = tracks_of(keyframes, [SavedObservations(
        0, 1, np.array([0, 1, 2]), shifted + [[0, 0], [5, 0], [0, 0]])])
    assert len(found) == 1 and found.keyframe.tolist() == [0, 1]
    np.testing.assert_allclose(found.points[0], [(20 - 31) / 50 * 2, (20 - 24) / 51 * 2, 2])
    np.testing.assert_allclose(found.pixels, [[20, 20], [17.5, 20]])
    np.testing.assert_allclose(found.errors, 0, atol=1e-9)


def test_points_of_a_cloud_are_seen_where_the_depth_agrees(keyframes):
    cloud = PointCloud(np.array([[0, 0, 2], [0, 0, 1.5], [9, 0, 2]], np.float32),
                       np.zeros((3, 3), np.uint8), np.ones(3, np.float32))
    found = tracks_of_cloud(cloud, keyframes, 100)
    assert found.points.tolist() == [[0, 0, 2]] and found.keyframe.tolist() == [0, 1]


@pytest.fixture
def model() -> SparseModel:
    """Return three images of two cameras that observe most of 50 points."""
    rng = np.random.default_rng(4)
    points = rng.uniform((-1, -1, 3), (1, 1, 5), (50, 3))
    images = []
    for i, T in enumerate(se3.exp(0.1 * rng.normal(size=(3, 6)))):
        camera = PINHOLE if i < 2 else Camera(32, 48, 40.0, 40.0, 15.0, 23.0)
        seen = np.flatnonzero(rng.random(50) < 0.8) if i else np.arange(50)
        images.append(SparseImage(f'ü {i}.png', camera, T, camera.project(
            se3.transform(se3.inverse(T), points[seen])), seen))
    colors = rng.integers(0, 256, (50, 3)).astype(np.uint8)
    return SparseModel(images, points, colors, np.zeros(50))


def test_binary_model_keeps_points_tracks_and_projections(model, tmp_path):
    write_sparse_model(tmp_path / 'sparse' / '0', model)
    read = read_model(tmp_path / 'sparse' / '0')
    assert [i[0] for i in read.images.values()] == [i.name for i in model.images]
    assert {c[:3] for c in read.cameras.values()} == {(1, 64, 48), (1, 32, 48)}
    assert sum(len(p[3]) for p in read.points.values()) == sum(
        len(i.points) for i in model.images)
    for number, (position, color, _, track) in read.points.items():
        np.testing.assert_array_equal(position, model.points[number - 1])
        assert color == tuple(model.colors[number - 1])
        assert track
        for image, observation in track:
            u, v, point = read.images[image][4][observation]
            assert point == number
            np.testing.assert_allclose(project(read, image, position), (u, v), atol=1e-9)


def test_pycolmap_reads_the_binary_model(model, tmp_path):
    pycolmap = pytest.importorskip('pycolmap', reason='pycolmap is missing')
    write_sparse_model(tmp_path, model)
    read = pycolmap.Reconstruction(str(tmp_path))
    assert read.num_points3D() == 50
    assert read.compute_num_observations() == sum(len(i.points) for i in model.images)
    read.update_point_3d_errors()
    assert read.compute_mean_reprojection_error() < 1e-9


def test_a_distorted_camera_is_refused(model, tmp_path):
    bent = replace(model.images[0], camera=LENSES['radial'])
    with pytest.raises(OutputError, match='ü 0.png has a distorted camera'):
        write_sparse_model(tmp_path, replace(model, images=[bent]))


@pytest.mark.parametrize('cameras', [[PINHOLE, PINHOLE], [PINHOLE, Camera(9, 8, 7, 6, 5, 4)]])
def test_transforms_project_as_the_cameras_do(tmp_path, cameras):
    poses = se3.exp(np.random.default_rng(1).normal(size=(2, 6)))
    write_transforms(tmp_path / 'transforms.json', [
        TransformsFrame(f'images/{i}.png', c, T, f'masks/{i}.png', f'depth/{i}.png')
        for i, (c, T) in enumerate(zip(cameras, poses))], 'sparse_pc.ply')
    read = json.loads((tmp_path / 'transforms.json').read_text())
    for frame, camera, T in zip(read['frames'], cameras, poses):
        own = {**read, **frame}
        point = np.array([0.2, -0.3, 2.5])
        right, up, back, eye = np.array(frame['transform_matrix'])[:3].T
        away = T[:3, :3] @ point + T[:3, 3] - eye
        u = own['cx'] + own['fl_x'] * (away @ right) / -(away @ back)
        v = own['cy'] - own['fl_y'] * (away @ up) / -(away @ back)
        np.testing.assert_allclose((u - 0.5, v - 0.5), camera.project(point), atol=1e-3)
        assert (own['w'], own['h']) == (camera.width, camera.height)


def test_depth_is_listed_for_all_or_none(tmp_path):
    frames = [TransformsFrame('a', PINHOLE, np.eye(4), 'm', 'd'),
              TransformsFrame('b', PINHOLE, np.eye(4), 'm')]
    write_transforms(tmp_path / 't.json', frames, 'p.ply')
    assert 'depth_file_path' not in (tmp_path / 't.json').read_text()


def pattern(rays: np.ndarray) -> np.ndarray:
    """Return a smooth image (H, W, 3) of what lies in directions (H, W, 3), z = 1."""
    x, y = np.nan_to_num(rays[..., 0]), np.nan_to_num(rays[..., 1])
    return np.stack([127 + 100 * np.sin(3 * x), 127 + 100 * np.sin(3 * y),
                     127 + 100 * np.cos(2 * x + y)], -1).astype(np.uint8)


@pytest.mark.parametrize('lens', LENSES)
def test_exported_image_mask_and_depth_are_views_of_the_pinhole(lens, tmp_path):
    source = LENSES[lens]
    grid = source.rectified().resized(80, 60)
    rays = source.unproject(pixel_grid(120, 160))
    moving = (np.abs(rays[..., 0] - 0.1) < 0.1) & (np.abs(rays[..., 1]) < 0.1)
    (tmp_path / 'masks').mkdir()
    cv2.imwrite(str(tmp_path / 'masks' / 'a.png'), moving * np.uint8(255))
    shape = (60, 80)
    keyframe = Keyframe(
        0, 'a', 5, 3, grid, np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8),
        np.zeros(2, np.float32), np.zeros((0, 2), np.int32), np.eye(4), np.zeros(0), np.zeros(0),
        np.where(np.arange(80) < 40, np.float32(0.5), np.float32(0)) * np.ones(shape, np.float32),
        np.full(shape, 100.0, np.float32), np.zeros(shape, bool))
    run = RunFolder(tmp_path, {'camera': source},
                    (PosedImage('a', 'a.tif', 5, 3, 'camera', np.eye(4)),), {0: keyframe}, (),
                    PointCloud.empty(), True, 1, {})
    (view,) = ImageExport(run, tmp_path / 'out', False, lambda name: name).write(
        Images([Frame(pattern(rays), 5, 'a', 3)]), lambda: None)
    assert view.camera.is_pinhole and view.image == 'images/a.png'
    seen = view.camera.unproject(pixel_grid(120, 160))
    written = cv2.imread(str(tmp_path / 'out' / view.image))[..., ::-1].astype(int)
    assert np.abs(written - pattern(seen)).max() <= 6
    mask = cv2.imread(str(tmp_path / 'out' / view.mask), cv2.IMREAD_UNCHANGED)
    expected = (np.abs(seen[..., 0] - 0.1) < 0.1) & (np.abs(seen[..., 1]) < 0.1)
    assert set(np.unique(mask)) == {0, 255}
    assert expected.sum() > 100
    assert np.sum((mask == 0) != expected) < 0.2 * expected.sum()
    depth = cv2.imread(str(tmp_path / 'out' / view.depth), cv2.IMREAD_UNCHANGED)
    assert (depth[:, :80] == 2000).all() and (depth[:, 80:] == 0).all()
    confidence = np.load(tmp_path / 'out' / 'confidence' / 'a.npz')['confidence']
    assert (confidence[:, :80] == 100).all() and (confidence[:, 80:] == 0).all()


class Images(list):
    """A list of frames as a sequence."""

    name = 'the folder'

    def file_name(self, frame: Frame) -> str:
        """Return the name of a frame's file."""
        return f'{frame.name}.tif'


def test_missing_images_and_other_sizes_are_named(tmp_path):
    run = RunFolder(tmp_path, {'camera': PINHOLE},
                    (PosedImage('a', 'a.tif', 0, 0, 'camera', np.eye(4)),), {}, (),
                    PointCloud.empty(), True, 1, {})
    with pytest.raises(InputError, match=r'the folder: 1 of 1 images of the map .* \(a.tif\)'):
        ImageExport(run, tmp_path, True, str).write(Images(), lambda: None)
    small = Frame(np.zeros((8, 8, 3), np.uint8), 0, 'a', 0)
    with pytest.raises(InputError, match='a.tif is 8x8, the map was made of images of 64x48'):
        ImageExport(run, tmp_path, True, str).write(Images([small]), lambda: None)


def test_images_of_a_pinhole_stay_as_they_are():
    halved = PINHOLE.resized(37, 29)
    assert pinhole_of(PINHOLE, halved) is PINHOLE
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    assert Undistortion(PINHOLE, PINHOLE).image(image) is image


@pytest.mark.parametrize('write', [
    lambda path, stamps, poses: write_euroc(path, stamps, poses, True),
    lambda path, stamps, poses: write_kitti(path, poses)], ids=['euroc', 'kitti'])
def test_trajectories_are_read_back_as_those_of_data_sets(tmp_path, write):
    poses = se3.exp(np.random.default_rng(3).normal(size=(5, 6)))
    stamps = [1_500_000_000_000_000_000 + 7 * i for i in range(5)]
    write(tmp_path / 'data.csv', stamps, poses)
    read = read_truth(tmp_path / 'data.csv')
    np.testing.assert_allclose(read.T_world_cam, poses, atol=1e-8)
    assert read.stamps_ns is None or read.stamps_ns.tolist() == stamps
