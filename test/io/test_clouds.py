# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Point cloud files."""

import builtins

import numpy as np
import pytest
from recon3r_ros.errors import InputError, OutputError, Recon3rError
from recon3r_ros.io.clouds import read_ply, write_ply
from recon3r_ros.slam.types import PointCloud


def make(count):
    """Return a random cloud."""
    rng = np.random.default_rng(5)
    return PointCloud(
        rng.normal(size=(count, 3)).astype(np.float32),
        rng.integers(0, 256, (count, 3), dtype=np.uint8),
        rng.uniform(0.1, 9.0, count).astype(np.float32))


@pytest.fixture
def open3d():
    """Return Open3D, where its libraries are there."""
    return pytest.importorskip('open3d', exc_type=ImportError)


@pytest.mark.parametrize('count', [0, 1, 1000])
def test_ply_round_trip(tmp_path, open3d, count):
    cloud = make(count)
    write_ply(tmp_path / 'a.ply', cloud)
    read = read_ply(tmp_path / 'a.ply')
    for name in ('points', 'colors', 'confidences'):
        np.testing.assert_array_equal(getattr(read, name), getattr(cloud, name))
        assert getattr(read, name).dtype == getattr(cloud, name).dtype
    assert [p.name for p in tmp_path.iterdir()] == ['a.ply']


def test_ply_bytes(tmp_path):
    cloud = make(3)
    write_ply(tmp_path / 'a.ply', cloud)
    header, _, body = (tmp_path / 'a.ply').read_bytes().partition(b'end_header\n')
    properties = [line.split(b' ', 1)[1] for line in header.splitlines() if b'property' in line]
    assert properties == [b'float x', b'float y', b'float z', b'uchar red', b'uchar green',
                          b'uchar blue', b'float confidence']
    layout = np.dtype([('p', '<f4', 3), ('c', 'u1', 3), ('q', '<f4')])
    values = np.frombuffer(body, layout)
    np.testing.assert_array_equal(values['p'], cloud.points)
    np.testing.assert_array_equal(values['c'], cloud.colors)
    np.testing.assert_array_equal(values['q'], cloud.confidences)


def test_ply_of_others(tmp_path, open3d):
    (tmp_path / 'a.ply').write_text(
        'ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\n'
        'property float z\nend_header\n1 2 3\n4 5 6\n')
    cloud = read_ply(tmp_path / 'a.ply')
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(cloud.colors, np.full((2, 3), 255))
    np.testing.assert_array_equal(cloud.confidences, [1, 1])


def test_damaged_ply(tmp_path, open3d):
    write_ply(tmp_path / 'a.ply', make(1000))
    data = (tmp_path / 'a.ply').read_bytes()
    (tmp_path / 'a.ply').write_bytes(data[:5000])
    with pytest.raises(InputError, match=r'a\.ply: is too short for its 1000 points'):
        read_ply(tmp_path / 'a.ply')
    (tmp_path / 'a.ply').write_text('text')
    with pytest.raises(InputError, match='not a PLY file'):
        read_ply(tmp_path / 'a.ply')
    with pytest.raises(InputError, match='No such file'):
        read_ply(tmp_path / 'gone.ply')


def test_full_disk_keeps_the_earlier_file(tmp_path, full_disk):
    path = tmp_path / 'a.ply'
    write_ply(path, make(10))
    before = path.read_bytes()
    with full_disk(100_000), pytest.raises(OutputError, match=str(path)) as caught:
        write_ply(path, make(50_000))
    assert '\n' not in str(caught.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable(tmp_path):
    with pytest.raises(OutputError, match=r'gone/a\.ply'):
        write_ply(tmp_path / 'gone' / 'a.ply', make(3))
    with pytest.raises(OutputError, match=r'ending in \.ply'):
        write_ply(tmp_path / 'a.pcd', make(3))


def test_missing_open3d_says_what_to_install(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == 'open3d':
            raise ImportError('libusb-1.0.so.0: cannot open shared object file')
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, '__import__', without)
    write_ply(tmp_path / 'a.ply', make(3))
    with pytest.raises(Recon3rError, match='libusb-1.0-0'):
        read_ply(tmp_path / 'a.ply')
    write_ply(tmp_path / 'a.ply', make(0))
    assert len(read_ply(tmp_path / 'a.ply')) == 0
