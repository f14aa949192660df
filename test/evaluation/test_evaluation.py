# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r eval`: numbers against those computed by hand."""

import json
import math

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.evaluation.image_errors import depth_errors, jaccard, keyframe_errors, on_grid
from recon3r_ros.evaluation.results import evaluate
from recon3r_ros.evaluation.trajectory_errors import compare
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.trajectory import read_tum, write_tum
from recon3r_ros.io.writer import ImageRecord, KeyframeRecord, ResultWriter

SECOND = 10**9


def cross(arm=1.0):
    """Return four poses at the ends of a cross in the plane z = 0, with different orientations."""
    positions = arm * np.array([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    turns = se3.so3_exp(np.array([[0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3], [0.4, 0, 0]]))
    return np.arange(4) * SECOND, se3.from_rt(turns, positions)


def moved(poses, scale, rotation_vector, shift):
    """Return poses T_map_cam of the same cameras in a map of another scale and origin."""
    R = se3.so3_exp(np.array(rotation_vector))
    positions = scale * poses[:, :3, 3] @ R.T + shift
    return se3.from_rt(R @ poses[:, :3, :3], positions)


def test_similarity_is_removed_by_sim3_alone():
    stamps, truth = cross()
    errors = compare((stamps, moved(truth, 0.25, [0.5, -1.0, 2.0], [3, 4, 5])), (stamps, truth))
    assert errors.matched == 4
    assert errors.path_length == pytest.approx(3 * math.sqrt(2))
    assert errors.extent == pytest.approx(2 * math.sqrt(2))
    assert errors.sim3.scale == pytest.approx(4)
    assert errors.sim3.ate_rmse == pytest.approx(0, abs=1e-9)
    assert errors.sim3.rpe_translation_rmse == pytest.approx(0, abs=1e-9)
    # rigidly, every arm of length 1 stays one of 0.25
    assert errors.se3.scale == 1
    assert (errors.se3.ate_rmse, errors.se3.ate_max) == pytest.approx((0.75, 0.75))
    assert errors.se3.ate_percent_of_path == pytest.approx(75 / (3 * math.sqrt(2)))
    assert errors.se3.ate_percent_of_extent == pytest.approx(75 / (2 * math.sqrt(2)))
    # and every step of length sqrt(2) is a quarter as long
    assert errors.se3.rpe_translation_rmse == pytest.approx(0.75 * math.sqrt(2))
    assert errors.se3.rpe_rotation_rmse_deg == pytest.approx(0, abs=1e-4)
    assert errors.note == ''


def test_rotation_error_of_one_step():
    stamps, truth = cross()
    estimate = truth.copy()
    estimate[3, :3, :3] = truth[3, :3, :3] @ se3.so3_exp(np.radians([0.0, 6.0, 0.0]))
    errors = compare((stamps, estimate), (stamps, truth))
    assert errors.se3.ate_rmse == pytest.approx(0, abs=1e-9)
    assert errors.sim3.rpe_rotation_rmse_deg == pytest.approx(6 / math.sqrt(3), rel=1e-3)


def test_stamps_are_matched_within_ten_milliseconds():
    stamps, truth = cross()
    estimate = truth[[0, 2, 3]]
    errors = compare((stamps[[0, 2, 3]] + 9 * 10**6, estimate), (stamps, truth))
    assert errors.matched == 3
    assert errors.se3.ate_rmse == pytest.approx(0, abs=1e-9)
    with pytest.raises(InputError, match='stamps'):
        compare((stamps + 300 * 10**6, truth), (stamps, truth))


def test_stamps_that_do_not_match_are_explained():
    stamps, truth = cross()
    with pytest.raises(InputError) as caught:
        compare((stamps + 300 * 10**6, truth), (stamps, truth))
    for text in ('0.300 to 3.300 s', '0.000 to 3.000 s', 'within 0.01 s', '0.3 s apart',
                 '--offset', '--max-diff'):
        assert text in str(caught.value)
    errors = compare((stamps + 300 * 10**6, truth), (stamps, truth), max_difference_s=0.4)
    assert errors.matched == 4


def test_lengths_are_those_of_the_matched_part():
    # along a line, by 1 m a second, true poses at 10 Hz; the estimate covers 2 s to 4 s and 7 s to
    # 8 s of 20 s, at 5 Hz
    stamps = np.arange(201) * SECOND // 10
    line = se3.from_rt(np.eye(3), stamps[:, None] / SECOND * [0.0, 0, 1])
    chosen = np.r_[20:41:2, 70:81:2]
    errors = compare((stamps[chosen], line[chosen]), (stamps, line))
    assert errors.matched == 17
    # and, after 4 s and before 7 s, one period each
    assert errors.path_length == pytest.approx(2 + 1 + 2 * 0.2)
    assert errors.extent == pytest.approx(6)
    assert errors.note == 'matched poses cover 18 % of the ground truth'
    estimate = line[chosen].copy()
    estimate[:, 0, 3] = np.where(np.arange(17) % 2, 0.1, -0.1)
    errors = compare((stamps[chosen], estimate), (stamps, line))
    assert errors.se3.ate_percent_of_path == pytest.approx(
        100 * errors.se3.ate_rmse / errors.path_length)
    assert compare((stamps[::4], line[::4]), (stamps, line)).note == ''


def test_a_single_match_has_no_path():
    stamps, truth = cross()
    errors = compare((stamps[1:2], truth[1:2]), (stamps, truth))
    assert (errors.path_length, errors.extent) == (0, 0)
    assert errors.se3.ate_percent_of_path is None


def test_no_motion_is_noted_and_has_numbers():
    stamps, truth = cross()
    still = se3.from_rt(truth[:, :3, :3], np.zeros((4, 3)))
    errors = compare((stamps, still), (stamps, truth))
    assert errors.note == 'no motion in the estimate'
    assert errors.se3.ate_rmse == pytest.approx(1)
    assert errors.sim3.ate_rmse == pytest.approx(1)
    errors = compare((stamps, truth), (stamps, still))
    assert errors.note == 'no motion in the ground truth'
    assert errors.se3.ate_rmse == pytest.approx(1)
    assert errors.sim3 is None
    assert errors.se3.ate_percent_of_path is None
    errors = compare((stamps, still), (stamps, still))
    assert errors.note == 'no motion in the ground truth, no motion in the estimate'
    assert errors.se3.ate_rmse == pytest.approx(0, abs=1e-12)


def test_no_pose_and_one_pose():
    stamps, truth = cross()
    errors = compare((stamps[:0], truth[:0]), (stamps, truth))
    assert (errors.matched, errors.se3, errors.sim3) == (0, None, None)
    assert errors.note == 'no pose was estimated'
    errors = compare((stamps[1:2], truth[1:2]), (stamps, truth))
    assert errors.se3.ate_rmse == pytest.approx(0, abs=1e-12)
    assert errors.se3.rpe_translation_rmse is None


def test_motion_along_a_line_is_aligned():
    stamps = np.arange(5) * SECOND
    line = se3.from_rt(np.eye(3), np.arange(5.0)[:, None] * [0, 0, 2.0])
    errors = compare((stamps, moved(line, 0.5, [0, 1.2, 0], [1, 0, 0])), (stamps, line))
    assert errors.sim3.scale == pytest.approx(2)
    assert errors.sim3.ate_rmse == pytest.approx(0, abs=1e-9)


def test_depth_errors_by_hand():
    # the medians are equal; the third is 20 % short, the fourth 30 % long
    truth = np.array([1.0, 2.0, 2.0, 2.0, 10.0])
    depth = np.array([1.0, 2.0, 1.6, 2.6, 10.0])
    errors = depth_errors(3 * depth, truth)
    assert errors.abs_rel == pytest.approx((0.2 + 0.3) / 5)
    assert errors.delta_125 == pytest.approx(3 / 5)  # 2 / 1.6 is not below 1.25


def test_confident_half_by_hand():
    truth = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]])
    depth = np.array([[1.0, 1.0, 1.0, 3.0], [1.0, 0.5, np.nan, 1.0]])
    confidence = np.array([[9.0, 8.0, 7.0, 1.0], [99.0, 2.0, 99.0, 3.0]])
    result = keyframe_errors(depth, confidence, truth)
    assert result.known == pytest.approx(6 / 7)
    assert result.every.abs_rel == pytest.approx((2 + 0.5) / 6)
    assert result.confident.abs_rel == pytest.approx(0)
    assert keyframe_errors(np.full((2, 4), np.nan), confidence, truth) is None


def test_jaccard_by_hand():
    mask, truth = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    assert jaccard(mask, truth) == 1
    mask[:2], truth[1:3] = True, True
    assert jaccard(mask, truth) == pytest.approx(4 / 12)
    assert jaccard(mask, ~mask) == 0


def test_truth_on_the_grid():
    truth = np.arange(24.0).reshape(4, 6)
    source = Camera(6, 4, 5.0, 5.0, 2.5, 1.5)
    same = Camera(6, 4, 5.0, 5.0, 2.5, 1.5)
    np.testing.assert_array_equal(on_grid(truth, source, same), truth)
    # every second pixel's neighbourhood; and a grid that sees more has no truth at its border
    np.testing.assert_array_equal(on_grid(truth, source, source.resized(2, 2)),
                                  on_grid(truth, None, source.resized(2, 2)))
    wide = Camera(8, 4, 5.0, 5.0, 3.5, 1.5)
    np.testing.assert_array_equal(on_grid(truth, source, wide), np.pad(truth, ((0, 0), (1, 1))))


@pytest.fixture
def written(tmp_path):
    """Return results and truth on disk: one keyframe, two masks, depth 10 % off in one half."""
    stamps, poses = cross()
    camera = Camera(8, 6, 8.0, 8.0, 3.5, 2.5)
    depth = np.full((6, 8), 2.0, np.float32)
    depth[:, 4:] = 2.2
    confidence = np.where(depth == 2, 2, 1).astype(np.float32)
    first, second = np.zeros((6, 8), bool), np.zeros((6, 8), bool)
    first[:3] = True
    with ResultWriter(tmp_path / 'out') as writer:
        writer.trajectory(stamps[:3], moved(poses, 0.5, [0, 0, 1], [1, 2, 3])[:3])
        writer.keyframes([KeyframeRecord('a', 0, 0, np.eye(4), camera)])
        writer.depth('a', depth, confidence)
        writer.mask('a', first)
        writer.mask('b', second)
        writer.report({'frames_read': 4, 'frames_skipped': 1})
    truth = tmp_path / 'truth'
    for name in ('depth', 'masks'):
        (truth / name).mkdir(parents=True)
    write_tum(truth / 'groundtruth.txt', stamps, poses)
    # 2 m in a source image twice as large, which shows nothing in its first column
    millimetres = np.full((12, 16), 2000, np.uint16)
    cv2.imwrite(str(truth / 'depth' / 'a.png'), millimetres)
    true_mask = np.zeros((6, 8), np.uint8)
    true_mask[:2] = 255
    cv2.imwrite(str(truth / 'masks' / 'a.png'), true_mask)
    cv2.imwrite(str(truth / 'masks' / 'b.png'), 0 * true_mask)
    return tmp_path / 'out', truth


def test_files_give_the_same_numbers(written):
    evaluation = evaluate(*written)
    assert evaluation.frames == 5
    assert evaluation.tracked_share == pytest.approx(3 / 5)
    assert evaluation.trajectory.sim3.ate_rmse == pytest.approx(0, abs=1e-7)
    # the median of 2.0 and 2.2, half each, is 2.1: the halves are 2/2.1 and 2.2/2.1 of the truth
    assert evaluation.depth.every.abs_rel == pytest.approx(0.1 / 2.1, rel=1e-5)
    assert evaluation.depth.confident.abs_rel == pytest.approx(0, abs=1e-6)
    assert evaluation.masks.masked == pytest.approx(0.25)
    assert evaluation.masks.compared == 2
    assert evaluation.masks.jaccard == pytest.approx((2 / 3 + 1) / 2)


def test_command_prints_and_writes_the_numbers(recon3r, written, tmp_path):
    outcome = recon3r('eval', *written, '--json', tmp_path / 'numbers.json')
    assert outcome.status == 0
    assert outcome.err == ''
    for text in ('ATE', 'AbsRel', 'J, mean of 2', '3 of 5'):
        assert text in outcome.out
    numbers = json.loads((tmp_path / 'numbers.json').read_text())
    assert numbers['tracked_share'] == pytest.approx(0.6)
    assert numbers['trajectory']['sim3']['scale'] == pytest.approx(2)
    assert numbers['masks']['jaccard'] == pytest.approx(5 / 6)


def test_truth_as_a_file_of_poses(recon3r, written):
    output, truth = written
    evaluation = evaluate(output, truth / 'groundtruth.txt')
    assert evaluation.depth is None
    assert evaluation.trajectory.matched == 3
    assert evaluation.masks.jaccard is None


@pytest.mark.parametrize('damage, culprit', [
    (lambda out, truth: (out / 'trajectory.txt').unlink(), 'trajectory.txt'),
    (lambda out, truth: (out / 'depth' / 'a.npz').write_bytes(b'PK'), 'a.npz'),
    (lambda out, truth: (out / 'keyframes.json').write_text('[{}]'), 'keyframes.json'),
    (lambda out, truth: (out / 'keyframes.json').write_text('{'), 'keyframes.json'),
    (lambda out, truth: (truth / 'groundtruth.txt').write_text('1 2 3'), 'groundtruth.txt'),
    (lambda out, truth: (truth / 'groundtruth.txt').write_text(''), 'groundtruth.txt'),
    (lambda out, truth: (truth / 'depth' / 'a.png').write_text('no'), 'a.png'),
    (lambda out, truth: cv2.imwrite(str(truth / 'masks' / 'a.png'), np.zeros((3, 3))), 'a.png'),
])
def test_unusable_file_is_named_in_one_line(recon3r, written, damage, culprit):
    damage(*written)
    outcome = recon3r('eval', *written)
    assert outcome.status == 2
    line, = outcome.errors
    assert line.startswith('recon3r: error: ')
    assert culprit in line


def test_truth_without_anything(recon3r, written, tmp_path):
    (tmp_path / 'nothing').mkdir()
    assert 'neither groundtruth.txt' in recon3r('eval', written[0], tmp_path / 'nothing').err
    assert 'no such file' in recon3r('eval', written[0], tmp_path / 'gone').err


@pytest.fixture
def line(tmp_path):
    """Return results of 12 images, all but the first with poses along a line, and the poses."""
    stamps = np.arange(12) * SECOND // 10
    poses = se3.from_rt(np.eye(3), np.arange(12.0)[:, None] ** 2 * [0, 0, 1.0])
    with ResultWriter(tmp_path / 'out') as writer:
        writer.trajectory(stamps[1:], poses[1:])
        writer.images(ImageRecord(int(s), f'{i:06d}.png', i) for i, s in enumerate(stamps))
        writer.report({'frames_read': 12, 'frames_skipped': 0})
    return tmp_path / 'out', poses


def kitti(path, poses):
    """Write poses as KITTI does."""
    path.write_text(''.join(' '.join(f'{n:.6e}' for n in p.ravel()[:12]) + '\n' for p in poses))
    return path


def test_poses_of_kitti_belong_to_images_by_position(line, tmp_path):
    output, poses = line
    trajectory = evaluate(output, kitti(tmp_path / 'k.txt', poses)).trajectory
    assert (trajectory.matched, trajectory.note) == (11, '')
    assert trajectory.se3.ate_rmse == pytest.approx(0, abs=1e-4)
    with pytest.raises(InputError, match='no stamps, to which an offset could be added'):
        evaluate(output, tmp_path / 'k.txt', offset_s=0.1)


def test_poses_of_kitti_belong_to_images_by_number(line, tmp_path):
    output, poses = line
    many = np.concatenate([poses, np.tile(poses[:1], (4, 1, 1))])
    trajectory = evaluate(output, kitti(tmp_path / 'k.txt', many)).trajectory
    assert trajectory.matched == 11
    assert trajectory.se3.ate_rmse == pytest.approx(0, abs=1e-4)
    assert trajectory.note == '12 of 16 true poses matched by the numbers of the images'
    with pytest.raises(InputError, match='has 5 poses without stamps for the 12 images'):
        evaluate(output, kitti(tmp_path / 'k.txt', poses[:5]))


def test_poses_of_kitti_with_times(line, tmp_path):
    output, poses = line
    (output / 'frames.txt').unlink()
    truth = kitti(tmp_path / 'k.txt', poses)
    with pytest.raises(InputError, match='k.txt: has no stamps, and .* no frames.txt'):
        evaluate(output, truth)
    (tmp_path / 'times.txt').write_text(''.join(f'{i / 10:e}\n' for i in range(12)))
    assert evaluate(output, truth).trajectory.matched == 11
    (tmp_path / 'times.txt').write_text('0.0\n')
    with pytest.raises(InputError, match='times.txt: has 1 stamps for the 12 poses'):
        evaluate(output, truth)


def test_offset_and_difference_of_stamps(recon3r, line, tmp_path):
    output, poses = line
    truth = tmp_path / 'late.txt'
    write_tum(truth, np.arange(12) * SECOND // 10 + 16 * 10**6, poses)
    outcome = recon3r('eval', output, truth)
    message, = outcome.errors
    assert outcome.status == 2
    for text in (truth, '0.016 s apart', '--offset', '--max-diff'):
        assert str(text) in message
    for arguments in (('--offset', '-0.016'), ('--max-diff', '0.02')):
        outcome = recon3r('eval', output, truth, *arguments)
        assert (outcome.status, outcome.err) == (0, '')
        assert '11' in outcome.out
    assert recon3r('eval', output, truth, '--max-diff', '0').status == 2
    assert recon3r('eval', output, truth, '--offset', 'nan').status == 2


def test_poses_of_the_body_are_noted(line, tmp_path):
    output, poses = line
    quats = se3.quat_xyzw_from_matrix(poses[:, :3, :3])
    (tmp_path / 'data.csv').write_text(
        '#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], '
        'q_RS_z []\n' + ''.join(
            ','.join(map(str, (i * SECOND // 10, *p[:3, 3], q[3], *q[:3]))) + '\n'
            for i, (p, q) in enumerate(zip(poses, quats))))
    trajectory = evaluate(output, tmp_path / 'data.csv').trajectory
    assert trajectory.matched == 11
    assert trajectory.note == "the true poses are the body's, not the camera's"


@pytest.mark.parametrize('name, offset_s', [
    ('bom.txt', 0), ('csv_tum.csv', 0), ('euroc.csv', 0), ('kitti.txt', 0), ('tabs_header.txt', 0),
    ('offset20ms.txt', -0.016), ('nonoverlap.txt', -1403715273.26)])
def test_field(shared_data, tmp_path, name, offset_s):
    stamps, poses = read_tum(shared_data.pack('sevenscenes_redkitchen') / 'groundtruth.txt')
    stamps, poses = stamps[:120], poses[:120]
    with ResultWriter(tmp_path / 'out') as writer:
        writer.trajectory(stamps[20:80], moved(poses, 0.5, [0, 0, 1], [1, 2, 3])[20:80])
        writer.images(ImageRecord(int(s), f'{i}.png', i) for i, s in enumerate(stamps))
        writer.report({'frames_read': 120, 'frames_skipped': 0})
    truth = shared_data.field('groundtruth') / name
    if offset_s:
        with pytest.raises(InputError, match=f'{name}: no stamp of the 60 .* --offset'):
            evaluate(tmp_path / 'out', truth)
    trajectory = evaluate(tmp_path / 'out', truth, offset_s=offset_s).trajectory
    assert trajectory.matched == 60
    assert trajectory.sim3.ate_rmse == pytest.approx(0, abs=1e-5)
    assert 'matched poses cover 50 % of the ground truth' in trajectory.note
