# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r run` on a small simulated pack: the files it writes, and their content."""

from dataclasses import replace
import json
import shutil

import numpy as np
from PIL import Image
import pytest
from recon3r_ros.cli.reconstruction import reconstruct, RunOptions
from recon3r_ros.cli.report import RunReport, Timings
from recon3r_ros.errors import InputError
from recon3r_ros.evaluation.results import evaluate
from recon3r_ros.io.clouds import read_ply
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.trajectory import read_tum

FRAMES = 25


def test_all_files_are_there(results):
    keyframes = json.loads((results / 'keyframes.json').read_text())
    names = {f'{i:06d}' for i in range(FRAMES)}
    assert {p.stem for p in (results / 'masks').iterdir()} == names
    assert {p.stem for p in (results / 'depth').iterdir()} == {k['name'] for k in keyframes}
    assert len(keyframes) >= 2
    assert {p.name for p in results.iterdir()} == {
        'cameras.json', 'colmap', 'depth', 'masks', 'frames.txt', 'keyframes.json', 'map.npz',
        'map.ply', 'report.json', 'trajectory.txt'}


def test_masks_have_the_size_of_the_source_and_two_values(results):
    for path in (results / 'masks').iterdir():
        mask = np.asarray(Image.open(path))
        assert mask.shape == (240, 320)
        assert set(np.unique(mask)) <= {0, 255}


def test_depth_is_that_of_the_grid(results):
    for keyframe in json.loads((results / 'keyframes.json').read_text()):
        with np.load(results / 'depth' / f'{keyframe["name"]}.npz') as content:
            depth, confidence = content['depth'], content['confidence']
        assert depth.shape == confidence.shape == (keyframe['height'], keyframe['width'])
        assert depth.dtype == confidence.dtype == np.float32
        known = np.isfinite(depth)
        assert known.any()
        assert (depth[known] > 0).all()
        assert (confidence > 0).all()


def test_trajectory_is_sorted_and_has_the_stamps_of_the_pack(results, pack):
    stamps, poses = read_tum(results / 'trajectory.txt')
    true_stamps, _ = read_tum(pack / 'groundtruth.txt')
    assert (np.diff(stamps) > 0).all()
    assert set(stamps) <= set(true_stamps)
    assert len(stamps) > 0.9 * FRAMES
    assert poses.shape == (len(stamps), 4, 4)


def test_report_counts(results):
    report = json.loads((results / 'report.json').read_text())
    stamps, _ = read_tum(results / 'trajectory.txt')
    assert report['frames_read'] == FRAMES
    assert report['frames_tracked'] == len(stamps)
    assert report['frames_skipped'] == 0
    assert report['keyframes'] == len(json.loads((results / 'keyframes.json').read_text()))
    assert report['points'] == len(read_ply(results / 'map.ply')) > 0
    assert report['model'] == 'geometric'
    assert report['scale'] == 'unknown'
    assert not report['focal_estimated']
    assert report['focal_pixels'] == pytest.approx(262.6, abs=0.1)
    assert report['sequence_s'] == pytest.approx((FRAMES - 1) / 12)
    times = report['timings']
    assert 0 < times['track_median_ms'] < 1e3 * times['total_s']
    assert 0 < times['track_cpu_median_ms'] < times['frame_cpu_median_ms']
    assert times['frame_cpu_median_ms'] < times['keyframe_cpu_median_ms']
    assert 25 <= report['landmarks_median'] <= 320
    assert times['read_s'] + times['finish_s'] + times['write_s'] < times['total_s']
    assert report['peak_memory_mb'] > 50
    assert report['warnings'] == []
    assert not report['interrupted']


def test_reconstruction_is_right(results, pack):
    evaluation = evaluate(results, pack)
    assert evaluation.trajectory.sim3.ate_percent_of_path < 3
    assert evaluation.depth.confident.abs_rel < 0.1


def test_colmap_model_has_every_tracked_image(results):
    lines = (results / 'colmap' / 'images.txt').read_text().splitlines()
    names = [line.split()[-1] for line in lines if line.endswith('.png')]
    assert len(names) == len(read_tum(results / 'trajectory.txt')[0])
    assert names[0] == '000000.png'
    assert 'PINHOLE 320 240' in (results / 'colmap' / 'cameras.txt').read_text()


def test_summary_names_counts_and_folder(recon3r, pack, tmp_path):
    outcome = recon3r('run', '--images', pack, '--output', tmp_path / 'o', '--uncalibrated')
    assert outcome.status == 0
    assert f'of {FRAMES} tracked' in outcome.out
    assert str(tmp_path / 'o') in outcome.out
    assert outcome.err == ''
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert report['focal_estimated']
    assert report['focal_pixels'] == pytest.approx(262.6, rel=0.4)


def test_voxels_thin_the_map(pack, tmp_path):
    report = reconstruct(open_sequence(images=pack), tmp_path / 'o', RunOptions(voxel_size=0.3))
    assert 0 < report.points < 3000


def test_results_survive_an_error_on_the_way(pack, tmp_path):
    sequence = open_sequence(images=pack)

    class Breaking:
        name, file_name, original = sequence.name, sequence.file_name, sequence.original
        skipped, notes, class_names = sequence.skipped, sequence.notes, None

        def __len__(self):
            return len(sequence)

        def __iter__(self):
            for frame in sequence:
                if frame.index == 20:
                    raise InputError('the disk fell off')
                yield frame

    with pytest.raises(InputError, match='fell off'):
        reconstruct(Breaking(), tmp_path / 'o')
    assert len(read_tum(tmp_path / 'o' / 'trajectory.txt')[0]) > 15
    assert len(read_ply(tmp_path / 'o' / 'map.ply')) > 0
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert report['warnings'][0] == 'stopped early: the disk fell off'


def masks_in(folder):
    """Masks of a run, in order."""
    return [np.asarray(Image.open(path)) > 0 for path in sorted((folder / 'masks').iterdir())]


@pytest.mark.slow
def test_dynamic_objects_are_detected_in_every_mode(recon3r, pack, tmp_path):
    shares = {}
    for motion in ('online', 'offline', 'off'):
        outcome = recon3r('run', '--images', pack, '--motion', motion, '--output',
                          tmp_path / motion)
        assert outcome.status == 0, outcome.err
        shares[motion] = [float(mask.mean()) for mask in masks_in(tmp_path / motion)]
        assert len(shares[motion]) == FRAMES
    assert max(shares['off']) == 0 and max(shares['online']) > 0
    assert np.mean(np.array(shares['offline'][:10]) > 0) > 0.8, 'from the first frames on'


def test_masks_of_the_user_count(recon3r, pack, tmp_path):
    folder = tmp_path / 'masks'
    folder.mkdir()
    for path in (pack / 'images').iterdir():
        with Image.open(path) as image:
            mask = np.zeros(image.size[::-1], np.uint8)
        mask[-40:] = 255
        Image.fromarray(mask).save(folder / f'{path.stem}.png')
    outcome = recon3r('run', '--images', pack, '--masks', folder, '--motion', 'off', '--output',
                      tmp_path / 'o')
    assert outcome.status == 0, outcome.err
    for written in masks_in(tmp_path / 'o'):
        assert written[-40:].all() and not written[:-60].any()
    for path in (tmp_path / 'o' / 'depth').iterdir():
        with np.load(path) as file:
            depth = file['depth']
        rows = depth.shape[0] * 40 // len(mask)
        assert np.isnan(depth[-rows + 1:]).all() and np.isfinite(depth[:-rows]).any()


def test_measured_depth_gives_metres_from_the_first_image_on(recon3r, pack, tmp_path):
    """Depth of every fifth image; the trajectory is in metres, as the truth is."""
    folder = tmp_path / 'depth'
    folder.mkdir()
    for path in sorted((pack / 'depth').iterdir())[::5]:
        shutil.copy(path, folder)
    outcome = recon3r('run', '--images', pack, '--depth', folder, '--output', tmp_path / 'o')
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert 'metres, from the depth' in report['scale'] and report['frames_tracked'] == 25
    estimated, true = (np.loadtxt(file)[:, 1:4] for file in (
        tmp_path / 'o' / 'trajectory.txt', pack / 'groundtruth.txt'))
    way, true_way = (np.linalg.norm(p[-1] - p[0]) for p in (estimated, true))
    assert way == pytest.approx(true_way, rel=0.02)


@pytest.mark.parametrize('arguments, words', [
    (['--mask-refiner', 'sam2'], ['sam2', 'grabcut']),
    (['--masks', '/no/such/folder'], ['/no/such/folder'])])
def test_motion_options_that_cannot_be_used(recon3r, pack, tmp_path, arguments, words):
    outcome = recon3r('run', '--images', pack, '--output', tmp_path / 'o', *arguments)
    assert outcome.status == 2 and all(word in outcome.err for word in words)
    assert not (tmp_path / 'o').exists()


def test_report_is_empty_without_pose_and_map():
    times = Timings(1.0, 0.1, None, None, None, None, 0.0, 0.0, 0.0, 0.1, None, None, None, None)
    report = RunReport('0', 'm', 'in', 3, 0, 0, None, 0, 0, (), (), 0.0, 'lost', 'unknown', None,
                       True, 0.1, times, 99.0, False, False, False, (), ())
    assert report.is_empty
    assert replace(report, frames_read=1, frames_tracked=1).is_empty
    assert not replace(report, frames_tracked=1).is_empty
    assert not replace(report, masks_alone=True).is_empty
    assert replace(report, masks_alone=True, frames_read=1).is_empty
    assert not replace(report, frames_read=1, frames_tracked=1, points=9).is_empty
