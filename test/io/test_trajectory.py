# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""TUM trajectories."""

import numpy as np
import pytest
from recon3r_ros.errors import InputError, OutputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.trajectory import read_tum, write_tum


def poses(count):
    """Return random transforms (count, 4, 4)."""
    xi = np.random.default_rng(3).normal(size=(count, 6))
    return se3.exp(xi)


def test_round_trip(tmp_path):
    stamps = 1403715273262143001 + np.arange(20) * 33333333
    path = tmp_path / 't.txt'
    write_tum(path, stamps, poses(20))
    read_stamps, read_poses = read_tum(path)
    np.testing.assert_array_equal(read_stamps, stamps)
    np.testing.assert_allclose(read_poses, poses(20), atol=1e-8)
    assert [p.name for p in tmp_path.iterdir()] == ['t.txt']


def test_text(tmp_path):
    turned = np.eye(4)
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]  # 90 degrees about z
    turned[:3, 3] = 1, -2, 3
    write_tum(tmp_path / 't.txt', [1500000000], [turned])
    assert (tmp_path / 't.txt').read_text().splitlines()[1] == (
        '1.500000000 1.000000000 -2.000000000 3.000000000 '
        '0.000000000 0.000000000 0.707106781 0.707106781')


def test_empty(tmp_path):
    write_tum(tmp_path / 't.txt', [], np.zeros((0, 4, 4)))
    stamps, read = read_tum(tmp_path / 't.txt')
    assert stamps.shape == (0,)
    assert read.shape == (0, 4, 4)


def test_unnormalised_quaternions_are_taken(tmp_path):
    (tmp_path / 't.txt').write_text('0 0 0 0 0 0 0 2\n')
    np.testing.assert_allclose(read_tum(tmp_path / 't.txt')[1][0], np.eye(4))


@pytest.mark.parametrize('line, reason', [
    ('1 2 3', 'expected 8 numbers, .* got 3'),
    ('1 2 3 4 0 0 0 1 9', 'got 9'),
    ('x 0 0 0 0 0 0 1', "'x' is not a stamp"),
    ('1 0 0 0 0 0 0 y', 'could not convert'),
    ('1 0 0 nan 0 0 0 1', 'not finite'),
    ('1 0 0 0 0 0 0 0', 'quaternion is zero'),
    ('1403715273262142976 0 0 0 0 0 0 1', 'out of range'),
])
def test_malformed_lines_are_named(tmp_path, line, reason):
    path = tmp_path / 't.txt'
    path.write_text(f'# comment\n0 0 0 0 0 0 0 1\n\n{line}\n')
    with pytest.raises(InputError, match=f't.txt line 4: .*{reason}'):
        read_tum(path)


def test_unreadable(tmp_path):
    (tmp_path / 'b').write_bytes(b'\xff\xfe\x00')
    for path in (tmp_path / 'gone', tmp_path, tmp_path / 'b'):
        with pytest.raises(InputError, match=str(path)):
            read_tum(path)


def test_refuses_nonsense(tmp_path):
    with pytest.raises(OutputError, match='got 1 stamps for 2 poses'):
        write_tum(tmp_path / 't.txt', [1], poses(2))
    with pytest.raises(OutputError, match='not finite'):
        write_tum(tmp_path / 't.txt', [1], np.full((1, 4, 4), np.nan))
    with pytest.raises(OutputError, match='No such file or directory; check the folder'):
        write_tum(tmp_path / 'gone' / 't.txt', [1], poses(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['fox_object', 'sevenscenes_redkitchen'])
def test_real_ground_truth(shared_data, name):
    stamps, read = read_tum(shared_data.pack(name) / 'groundtruth.txt')
    assert len(stamps) > 5
    assert np.all(np.diff(stamps) > 0)
    np.testing.assert_allclose(np.linalg.det(read[:, :3, :3]), 1.0, atol=1e-9)
