# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A recording of two cameras, which see the same scene, in one run."""

import json

import numpy as np
from PIL import Image
import pytest
from recon3r_ros.io.stamps import parse_seconds
from recon3r_ros.io.trajectory import read_tum
from recordings import image_message, info_message, write_bag


@pytest.fixture(scope='module')
def bag(pack, tmp_path_factory):
    """Return a recording in which the images of one camera come from two in turn."""
    lens = json.loads((pack / 'camera.json').read_text())
    lines = [line.split() for line in (pack / 'frames.txt').read_text().splitlines()
             if not line.startswith('#')]
    topics = {}
    for number, (stamp, name) in enumerate(lines):
        image = np.asarray(Image.open(pack / 'images' / name.rpartition('/')[2]))
        camera = ('left', 'right')[number % 2]
        stamp_ns = parse_seconds(stamp) + 10**9
        topics.setdefault(f'/{camera}/image_raw', []).append(
            image_message(stamp_ns, image, 'rgb8'))
        info = info_message(stamp_ns, d=(0, 0, 0, 0, 0), width=lens['width'])
        info.height = lens['height']
        info.k = np.array([lens['fx'], 0, lens['cx'], 0, lens['fy'], lens['cy'], 0, 0, 1.0])
        topics.setdefault(f'/{camera}/camera_info', []).append(info)
    return write_bag(tmp_path_factory.mktemp('two') / 'bag', topics)


def test_two_cameras_in_one_map(recon3r, bag, tmp_path):
    outcome = recon3r('run', '--bag', bag, '--image-topic', '/left/image_raw', '--image-topic',
                      '/right/image_raw', '--motion', 'offline', '--colmap', '--output',
                      tmp_path / 'o')
    assert outcome.status == 0
    paths = {name: read_tum(tmp_path / 'o' / f'trajectory_{name}.txt')
             for name in ('left', 'right')}
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert report['frames_read'] == 25
    assert report['frames_tracked'] == sum(len(stamps) for stamps, _ in paths.values()) >= 20
    assert not set(paths['left'][0]) & set(paths['right'][0])
    np.testing.assert_array_equal(read_tum(tmp_path / 'o' / 'trajectory.txt')[1],
                                  paths['left'][1])
    masks = {path.stem for path in (tmp_path / 'o' / 'masks').iterdir()}
    assert len(masks) == 25
    assert {name.split('_')[0] for name in masks} == {'left', 'right'}
    # The two are one: the path of one lies between the poses of the other
    stamps, poses = paths['right']
    others, other_poses = paths['left']
    steps = np.linalg.norm(np.diff(other_poses[:, :3, 3], axis=0), axis=1)
    for stamp, pose in zip(stamps, poses):
        near = np.abs(others - stamp).argmin()
        assert np.linalg.norm(pose[:3, 3] - other_poses[near, :3, 3]) < 3 * steps.max()
    written = (tmp_path / 'o' / 'colmap' / 'images.txt').read_text()
    assert written.count('left_') + written.count('right_') == report['frames_tracked']


def test_two_cameras_have_to_be_named(recon3r, bag, tmp_path):
    outcome = recon3r('run', '--bag', bag, '--output', tmp_path / 'o')
    assert outcome.status == 2
    assert '/left/image_raw (rgb8 320x240, 13 images)' in outcome.err


def test_one_stamp_for_all_images(recon3r, pack, tmp_path):
    image = np.asarray(Image.open(next(iter(sorted((pack / 'images').iterdir())))))
    bag = write_bag(tmp_path / 'bag', {'/c/image_raw': [
        image_message(10**9, image, 'rgb8') for _ in range(6)]}, step_ns=0)
    outcome = recon3r('run', '--bag', bag, '--output', tmp_path / 'o')
    assert '1 of 1 tracked, 5 skipped' in outcome.out or '0 of 1 tracked' in outcome.out
    line, = [line for line in outcome.errors if 'skipped' in line]
    assert '5 images' in line
    notes = json.loads((tmp_path / 'o' / 'report.json').read_text())['warnings']
    assert any('intrinsics unknown' in note for note in notes)
    assert sum('intrinsics unknown' in line for line in outcome.errors) == 1
