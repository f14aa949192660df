# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Ground truth as data sets write it."""

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.ground_truth import read_truth

POSES = se3.exp(np.random.default_rng(3).normal(size=(3, 6)))
STAMPS = [1403715273262142976, 1403715273312143104, 1403715273362142976]


def rows(order='xyzw', nanoseconds=False, separator=' ', more=0):
    """Return the poses as lines: stamp, position, quaternion in this order, and zeros."""
    quats = se3.quat_xyzw_from_matrix(POSES[:, :3, :3])
    lines = []
    for stamp, pose, quat in zip(STAMPS, POSES, quats):
        seconds = f'{stamp // 10**9}.{stamp % 10**9:09d}'
        numbers = [*pose[:3, 3], *quat[['xyzw'.index(axis) for axis in order]], *([0] * more)]
        lines.append(separator.join([str(stamp) if nanoseconds else seconds,
                                     *(f'{n:.12f}' for n in numbers)]))
    return '\n'.join(lines) + '\n'


EUROC = ('#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], '
         'q_RS_z [], v_RS_R_x [m s^-1], b_w_RS_S_x [rad s^-1]\n')


@pytest.mark.parametrize('text', [
    rows(),
    '\ufeff' + rows(),
    rows(separator='\t'),
    rows(separator=','),
    rows(separator='; '),
    rows(separator=' , ').replace('\n', ',\r\n'),
    '# ground truth trajectory\n# timestamp tx ty tz qx qy qz qw\n\n' + rows(),
    'timestamp\ttx\tty\ttz\tqx\tqy\tqz\tqw\n' + rows(separator='\t'),
    'timestamp,tx,ty,tz,qw,qx,qy,qz\n' + rows('wxyz', separator=','),
    '# poses with qx qy qz qw at the end of a line\n' + rows(),
])
def test_tum(tmp_path, text):
    (tmp_path / 't.txt').write_text(text, encoding='utf-8')
    truth = read_truth(tmp_path / 't.txt')
    np.testing.assert_array_equal(truth.stamps_ns, STAMPS)
    np.testing.assert_allclose(truth.T_world_cam, POSES, atol=1e-9)
    assert not truth.of_body


@pytest.mark.parametrize('text', [
    EUROC + rows('wxyz', True, ',', 2),
    EUROC.replace('timestamp', 'timestamp [ns]') + rows('wxyz', True, ', ', 2),
    rows('wxyz', True, ',', 9),
    rows('wxyz', True, ','),
])
def test_euroc(tmp_path, text):
    (tmp_path / 'data.csv').write_text(text)
    truth = read_truth(tmp_path / 'data.csv')
    np.testing.assert_array_equal(truth.stamps_ns, STAMPS)
    np.testing.assert_allclose(truth.T_world_cam, POSES, atol=1e-9)
    assert truth.of_body


def test_euroc_that_starts_at_zero(tmp_path):
    (tmp_path / 'data.csv').write_text(EUROC + '0,1,2,3,1,0,0,0,0,0\n33333000,1,2,3,1,0,0,0,0,0\n')
    truth = read_truth(tmp_path / 'data.csv')
    assert truth.stamps_ns.tolist() == [0, 33333000]
    np.testing.assert_allclose(truth.T_world_cam[0, :3, :3], np.eye(3))


@pytest.mark.parametrize('numbers', [12, 16])
def test_kitti(tmp_path, numbers):
    (tmp_path / '00.txt').write_text(''.join(
        ' '.join(f'{n:.6e}' for n in pose.ravel()[:numbers]) + '\n' for pose in POSES))
    truth = read_truth(tmp_path / '00.txt')
    assert truth.stamps_ns is None
    np.testing.assert_allclose(truth.T_world_cam, POSES, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(truth.T_world_cam[:, :3, :3]), 1, atol=1e-12)


@pytest.mark.parametrize('line, reason', [
    ('1 2 3', 'line 4: got 3 numbers, but 8 in line 2'),
    ('1 2 3 4 0 0 0 1 9', 'line 4: got 9 numbers'),
    ('x 0 0 0 0 0 0 1', "line 4: 'x' is not a stamp"),
    ('1 0 0 0 0 0 0 y', 'line 4: could not convert'),
    ('1 0 0 nan 0 0 0 1', 'line 4: a number is not finite'),
    ('1 0 0 0 0 0 0 0', 'line 4: the quaternion is zero'),
    # The order of the quaternion is unknown where there are no commas
    ('1403715273262142976 0 0 0 0 0 0 1', 'line 4: .* out of range for a stamp in seconds'),
])
def test_malformed_lines_are_named(tmp_path, line, reason):
    (tmp_path / 't.txt').write_text(f'# comment\n0 0 0 0 0 0 0 1\n\n{line}\n')
    with pytest.raises(InputError, match=f't.txt {reason}'):
        read_truth(tmp_path / 't.txt')


@pytest.mark.parametrize('text, reason', [
    ('', 'holds no pose; expected 8 numbers'),
    ('# stamp tx ty tz qx qy qz qw\n', 'holds no pose'),
    ('Dear diary\n', 'holds no pose'),
    ('1 2 3\n', 'line 1: got 3 numbers; expected 8 numbers'),
    ('1 2 3 4 5 6 7 8 9\n', 'line 1: got 9 numbers; expected 8 numbers'),
    ('1 0 0 0 0 1 0 0 0 0 2 0\n', 'line 1: the first three of every four .* no rotation'),
    ('1 0 0 0 0 1 0 0 0 0 -1 0\n', 'line 1: .* no rotation'),
    (EUROC + '1.5,1,2,3,1,0,0,0,0,0\n', "line 2: '1.5' is not a stamp in nanoseconds"),
])
def test_other_files(tmp_path, text, reason):
    (tmp_path / 't.txt').write_text(text)
    with pytest.raises(InputError, match=f't.txt:? {reason}'):
        read_truth(tmp_path / 't.txt')


def test_unreadable(tmp_path):
    (tmp_path / 'b').write_bytes(b'\xff\xfe\x00')
    for path in (tmp_path / 'gone', tmp_path, tmp_path / 'b'):
        with pytest.raises(InputError, match=f'{path}: cannot be read'):
            read_truth(path)


def test_field(shared_data):
    folder = shared_data.field('groundtruth')
    expected = read_truth(folder / 'bom.txt').T_world_cam
    for name in ('csv_tum.csv', 'euroc.csv', 'kitti.txt', 'tabs_header.txt', 'nonoverlap.txt'):
        np.testing.assert_allclose(read_truth(folder / name).T_world_cam, expected, atol=1e-5)
