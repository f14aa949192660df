# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r export` on the results of a run."""

from __future__ import annotations

from functools import partial
import json
from pathlib import Path
import shutil

import numpy as np
from PIL import Image
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.io.clouds import read_ply
from recon3r_ros.io.gaussian_files import read_gaussian_ply
from recon3r_ros.io.run_folder import read_run
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.models.siu3r import view_gaussians
from recon3r_ros.nets.h3r import H3r, H3rConfig
from recon3r_ros.nets.layers.mask2former import MaskConfig
from recon3r_ros.nets.siu3r import Siu3r, Siu3rConfig
from recon3r_ros.nets.vae_encoder import VaeConfig
from recon3r_ros.slam import pair_gaussians
from safetensors.torch import save_file
import torch


@pytest.mark.parametrize('wanted', ['colmap', 'gsplat'])
def test_sparse_model_of_a_run(recon3r, results, pack, tmp_path, wanted):
    pycolmap = pytest.importorskip('pycolmap', reason='pycolmap is missing')
    done = recon3r('export', results, '--images', pack, '--format', wanted, '--to', tmp_path)
    assert done.status == 0
    model = pycolmap.Reconstruction(str(tmp_path / 'sparse' / '0'))
    assert f'{model.num_points3D()} points' in done.out
    assert model.num_images() == len(list((tmp_path / 'images').iterdir())) >= 2
    assert all(point.track.length() > 0 for point in model.points3D.values())
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 1.0


def test_colmap_has_images_masks_and_depth_of_all_keyframes(recon3r, results, pack, tmp_path):
    assert recon3r('export', results, '--images', pack, '--format', 'colmap', '--to',
                   tmp_path).status == 0
    names = {k['name'] for k in json.loads((results / 'keyframes.json').read_text())}
    assert {p.stem for p in (tmp_path / 'images').iterdir()} == names
    assert {p.stem for p in (tmp_path / 'depth').iterdir()} == names
    for name in names:
        given = np.asarray(Image.open(results / 'masks' / f'{name}.png'))
        mask = np.asarray(Image.open(tmp_path / 'masks' / f'{name}.png.png'))
        np.testing.assert_array_equal(mask, 255 - given)
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'images' / f'{name}.png')),
                                      np.asarray(Image.open(pack / 'images' / f'{name}.png')))


def test_transforms_fit_the_points_and_depths(recon3r, results, pack, tmp_path):
    assert recon3r('export', results, '--images', pack, '--format', 'nerfstudio', '--to',
                   tmp_path).status == 0
    read = json.loads((tmp_path / 'transforms.json').read_text())
    points = read_ply(tmp_path / read['ply_file_path']).points.astype(np.float64)
    agreeing = []
    for frame in read['frames']:
        right, up, back, eye = np.array(frame['transform_matrix'])[:3].T
        away = points - eye
        z = -(away @ back)
        u = read['cx'] + read['fl_x'] * (away @ right) / z
        v = read['cy'] - read['fl_y'] * (away @ up) / z
        inside = (z > 0) & (u >= 0) & (u < read['w']) & (v >= 0) & (v < read['h'])
        depth = np.asarray(Image.open(tmp_path / frame['depth_file_path'])) / 1000
        there = depth[v[inside].astype(int), u[inside].astype(int)]
        agreeing.append(np.mean(np.abs(there / z[inside] - 1)[there > 0] < 0.05))
    assert len(agreeing) >= 2 and min(agreeing) > 0.7


def test_every_image_has_all_that_have_a_pose(recon3r, results, pack, tmp_path):
    assert recon3r('export', results, '--images', pack, '--format', 'nerfstudio', '--every-image',
                   '--to', tmp_path).status == 0
    read = json.loads((tmp_path / 'transforms.json').read_text())
    assert len(read['frames']) == len(read_tum(results / 'trajectory.txt')[0])


def test_trajectories_are_those_of_the_run(recon3r, results, tmp_path):
    stamps_ns, poses = read_tum(results / 'trajectory.txt')
    for wanted in ('tum', 'kitti', 'euroc'):
        assert recon3r('export', results, '--format', wanted, '--to', tmp_path).status == 0
    np.testing.assert_array_equal(read_tum(tmp_path / 'trajectory.txt')[0], stamps_ns)
    rows = np.loadtxt(tmp_path / 'poses.txt').reshape(-1, 3, 4)
    np.testing.assert_allclose(rows, poses[:, :3], atol=1e-6)
    table = np.loadtxt(tmp_path / 'data.csv', delimiter=',')
    np.testing.assert_allclose(table[:, 1:4], poses[:, :3, 3], atol=1e-6)


def test_maps_are_written_each_by_itself(recon3r, results, tmp_path):
    whole = tmp_path / 'whole'
    for name in ('map_0', 'map_1'):
        shutil.copytree(results, whole / name, ignore=shutil.ignore_patterns('masks', 'colmap'))
    (whole / 'report.json').write_text('{"maps": [{"number": 0}, {"number": 1}]}')
    done = recon3r('export', whole, '--format', 'tum')
    assert done.status == 0 and len(done.out.splitlines()) == 2
    assert (whole / 'export' / 'tum' / 'map_1' / 'trajectory.txt').is_file()


@pytest.fixture
def network(tmp_path) -> Path:
    """Return the file of a small untrained network of H3R's kind."""
    torch.manual_seed(0)
    path = tmp_path / 'network.safetensors'
    save_file(H3r(H3rConfig(VaeConfig((32, 32, 32), 1), 32, 4, 4, 4, 16, 64, 1, 16)).state_dict(),
              path)
    return path


def test_gaussians_by_a_network(recon3r, results, network, tmp_path):
    done = recon3r('export', results, '--format', 'gaussians', '--network', network, '--to',
                   tmp_path / 'to')
    assert done.status == 0 and "Gaussians by a network of H3R's kind" in done.out
    made = read_gaussian_ply(tmp_path / 'to' / 'gaussians.ply')
    assert f'{len(made)} Gaussians' in done.out
    assert (tmp_path / 'to' / 'gaussians.splat').stat().st_size == 32 * len(made)
    # About where the map is: depth is bounded by the keyframes'
    lower, upper = (np.quantile(read_ply(results / 'map.ply').points, q, axis=0)
                    for q in (0.05, 0.95))
    middle = np.median(made.means, axis=0)
    assert (middle > lower - (upper - lower)).all() and (middle < upper + (upper - lower)).all()


@pytest.mark.large
def test_gaussians_by_siu3r(recon3r, results, tmp_path, monkeypatch):
    torch.manual_seed(0)
    path = tmp_path / 'siu3r.ckpt'
    network = Siu3r(Siu3rConfig(64, 4, 1, 64, 4, 1, 4, 8,
                                MaskConfig(64, 32, 2, 1, 32, 3, 64, 5, 20), 1))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    # Points in front of the camera
    network.downstream_head1.dpt.head['4'].bias.data[2] = 1.0
    # As it is published: by PyTorch Lightning
    torch.save({'pytorch-lightning_version': '2', 'state_dict': {
        f'model.{name}': value for name, value in network.state_dict().items()}}, path)
    # A small grid is fast
    monkeypatch.setattr(pair_gaussians, 'view_gaussians', partial(view_gaussians, side=64))
    done = recon3r('export', results, '--format', 'gaussians', '--network', path, '--to',
                   tmp_path / 'to')
    assert done.status == 0 and 'Gaussians by SIU3R' in done.out
    made = read_gaussian_ply(tmp_path / 'to' / 'gaussians.ply')
    assert f'{len(made)} Gaussians' in done.out
    # Their depths in a keyframe are those of the map, in its unit
    for keyframe in read_run(results).keyframes.values():
        depth = se3.transform(se3.inverse(keyframe.T_map_cam), made.means)[:, 2]
        known = keyframe.inverse_depth > 0
        assert 0.5 < np.median(depth) * np.median(keyframe.inverse_depth[known]) < 2


def test_a_network_that_cannot_be_used_is_named(recon3r, results, network, tmp_path):
    (tmp_path / 'bad.safetensors').write_bytes(network.read_bytes()[:1000])
    for arguments, expected in (
            (['gaussians', '--network', tmp_path / 'none'], 'none: no such file; '),
            (['gaussians', '--network', tmp_path / 'bad.safetensors'], 'is truncated'),
            (['gaussians', '--network', network, '--voxel', 0.1], 'give one of the two'),
            (['tum', '--network', network], 'give --format gaussians')):
        done = recon3r('export', results, '--to', tmp_path / 'to', '--format', *arguments)
        assert done.status == 2 and len(done.errors) == 1 and expected in done.errors[0]


def test_unusable_input_is_named(recon3r, results, pack, tmp_path):
    empty = tmp_path / 'empty'
    empty.mkdir()
    shutil.copy(pack / 'images' / '000000.png', empty / 'other.png')
    old = tmp_path / 'old'
    shutil.copytree(results, old)
    (old / 'cameras.json').unlink()
    for arguments, expected in (
            ([results, '--format', 'colmap'], 'needs the images'),
            ([tmp_path / 'none', '--format', 'tum'], 'no such folder'),
            ([empty, '--format', 'tum'], 'holds no map'),
            ([old, '--format', 'tum'], 'holds no cameras.json'),
            ([results, '--format', 'colmap', '--images', empty], 'are not there (000000.png')):
        done = recon3r('export', *arguments, '--to', tmp_path / 'to')
        assert done.status == 2 and len(done.errors) == 1 and expected in done.errors[0]


def test_results_are_read_back_in_the_frame_and_unit_of_the_files(results):
    run = read_run(results)
    for keyframe in run.keyframes.values():
        written = np.load(results / 'depth' / f'{keyframe.name}.npz')['depth']
        np.testing.assert_allclose(keyframe.depth(), written, rtol=1e-5)
