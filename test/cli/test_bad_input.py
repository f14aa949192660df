# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Input that cannot be used: one line that names it, the right exit status, no traceback."""

import json
import os
import resource
import shutil
import signal
import time

import numpy as np
from PIL import Image
import pytest
from recon3r_ros import cli
from recon3r_ros.io import sequences
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.slam.system import System

as_root = pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')


def one_error(outcome, *texts, status=2):
    """Check that a command failed with one line that contains these texts."""
    assert outcome.status == status
    line, = outcome.errors
    assert line.startswith('recon3r: ')
    for text in texts:
        assert str(text) in line
    assert outcome.out == ''


def test_empty_folder(recon3r, tmp_path):
    (tmp_path / 'empty').mkdir()
    one_error(recon3r('run', '--images', tmp_path / 'empty', '--output', tmp_path / 'o'),
              tmp_path / 'empty', 'no images')
    assert not (tmp_path / 'o').exists()


def test_missing_folder(recon3r, tmp_path):
    one_error(recon3r('run', '--images', tmp_path / 'no', '--output', tmp_path / 'o'),
              tmp_path / 'no', 'no such folder')


@pytest.mark.parametrize('damage, reason', [
    (lambda data: data[:len(data) // 2], 'truncated'),
    (lambda data: b'Dear diary\n', 'not a JPEG'),
])
def test_damaged_image_is_skipped_with_a_line(recon3r, images, tmp_path, damage, reason):
    folder = images(0, 4, 8, 12, 16, 20, 24)
    Image.open(folder / '003.png').save(tmp_path / 'x.jpg')
    (folder / '003.png').unlink()
    (folder / '003.jpg').write_bytes(damage((tmp_path / 'x.jpg').read_bytes()))
    outcome = recon3r('run', '--images', folder, '--output', tmp_path / 'o')
    assert outcome.status == 0
    line, = outcome.errors
    assert line.startswith('recon3r: warning: ')
    assert '003.jpg' in line
    assert reason in line
    assert '1 skipped' in outcome.out
    assert not (tmp_path / 'o' / 'masks' / '003.png').exists()


def test_only_damaged_images(recon3r, tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in' / 'notes.jpg').write_text('text')
    outcome = recon3r('run', '--images', tmp_path / 'in', '--output', tmp_path / 'o')
    assert outcome.status == 2
    assert 'notes.jpg' in outcome.errors[-1]


def test_other_size_is_skipped_with_a_line(recon3r, images, tmp_path):
    folder = images(0, 4, 8, 12, 16, 20, 24)
    Image.open(folder / '005.png').resize((100, 80)).save(folder / '005.png')
    outcome = recon3r('run', '--images', folder, '--output', tmp_path / 'o')
    assert outcome.status == 0
    line, = outcome.errors
    assert '005.png' in line
    assert '100x80' in line


@pytest.mark.parametrize('indices, reason', [
    ((5,), 'only one image'), ((5, 5, 5, 5), 'identical')])
def test_nothing_to_triangulate(recon3r, images, tmp_path, indices, reason):
    outcome = recon3r('run', '--images', images(*indices), '--output', tmp_path / 'o')
    line, = outcome.errors
    assert line.startswith('recon3r: warning: ')
    assert reason in line
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert (report['keyframes'], report['points']) == (0, 0)
    stamps, _ = read_tum(tmp_path / 'o' / 'trajectory.txt')
    assert outcome.status == (0 if len(stamps) > 1 else 1)
    assert len(list((tmp_path / 'o' / 'masks').iterdir())) == len(indices)


def test_images_of_other_sizes_are_a_line_each_size_and_in_the_report(recon3r, images, tmp_path):
    folder = images(0, 4, 8, 12, 16, 20, 24, 2, 6)
    for i, size in ((0, (640, 480)), (5, (100, 80)), (7, (100, 80))):
        Image.open(folder / f'{i:03d}.png').resize(size).save(folder / f'{i:03d}.png')
    outcome = recon3r('run', '--images', folder, '--output', tmp_path / 'o', '--no-map')
    assert outcome.status == 0
    first, second = outcome.errors
    assert '000.png: has 640x480 pixels' in first
    assert '2 images (005.png, 007.png): has 100x80 pixels' in second
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert (report['frames_read'], report['frames_skipped']) == (6, 3)
    assert report['skipped'] == [line.partition('skipped ')[2] for line in outcome.errors]


def test_one_usable_image_is_no_result(recon3r, images, tmp_path):
    folder = images(0, 4)
    (folder / '000.png').write_bytes(b'')
    outcome = recon3r('run', '--images', folder, '--output', tmp_path / 'o')
    assert outcome.status == 1
    assert 'empty file' in outcome.errors[0]
    assert 'only one image' in outcome.errors[1]


def test_rotating_camera_has_no_parallax(recon3r, pack, tmp_path):
    image = np.asarray(Image.open(pack / 'images' / '000000.png'))
    (tmp_path / 'in').mkdir()
    for i in range(5):  # a small rotation of a long lens shifts the whole image
        Image.fromarray(image[:, 2 * i:280 + 2 * i]).save(tmp_path / 'in' / f'{i}.png')
    outcome = recon3r('run', '--images', tmp_path / 'in', '--output', tmp_path / 'o')
    assert 'no map, but rotations' in outcome.err
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert report['points'] == 0
    assert outcome.status == (0 if report['frames_tracked'] else 1)


def test_neither_pose_nor_map(recon3r, images, tmp_path, monkeypatch):
    monkeypatch.setattr(System, 'trajectory', lambda self, limit=None, known=None: [])
    outcome = recon3r('run', '--images', images(5), '--output', tmp_path / 'o')
    assert outcome.status == 1
    assert '0 of 1 tracked' in outcome.out


def test_camera_of_another_size(recon3r, pack, tmp_path):
    camera = json.loads((pack / 'camera.json').read_text())
    (tmp_path / 'c.json').write_text(json.dumps({**camera, 'width': 640}))
    one_error(recon3r('run', '--images', pack, '--camera', tmp_path / 'c.json', '--output',
                      tmp_path / 'o'), '640x240', '320x240')


def test_calibration_in_no_known_format(recon3r, pack, tmp_path):
    (tmp_path / 'notes.txt').write_text('Dear diary,\n')
    one_error(recon3r('run', '--images', pack, '--camera', tmp_path / 'notes.txt', '--output',
                      tmp_path / 'o'), 'notes.txt', 'no known format', 'Kalibr')
    (tmp_path / 'c.txt').write_text('0.8 0.8 0.5 0.5')
    one_error(recon3r('run', '--images', pack, '--camera', tmp_path / 'c.txt', '--output',
                      tmp_path / 'o'), 'c.txt', '0.8 and 0.8 pixels', '320x240')


def test_unusual_calibration_is_a_warning_and_in_the_report(recon3r, images, tmp_path):
    (tmp_path / 'c.txt').write_text('262 262 79.5 59.5')
    outcome = recon3r('run', '--images', images(5), '--camera', tmp_path / 'c.txt', '--output',
                      tmp_path / 'o')
    unusual, alone = outcome.errors
    assert unusual.startswith('recon3r: warning: ') and '(79.5, 59.5) is far from' in unusual
    assert 'only one image' in alone
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert [f'recon3r: warning: {line}' for line in report['warnings']] == [unusual, alone]


def test_camera_file_that_is_none(recon3r, pack, tmp_path):
    (tmp_path / 'c.json').write_text('{"width": 320}')
    one_error(recon3r('run', '--images', pack, '--camera', tmp_path / 'c.json', '--output',
                      tmp_path / 'o'), tmp_path / 'c.json', 'height')


def test_bag_without_images(recon3r, tmp_path):
    rosbag2 = pytest.importorskip('rosbags.rosbag2')
    typesys = pytest.importorskip('rosbags.typesys')
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    text = store.types['std_msgs/msg/String'](data='hello')
    with rosbag2.Writer(tmp_path / 'bag', version=9) as writer:
        connection = writer.add_connection('/chatter', text.__msgtype__, typestore=store)
        writer.write(connection, 1, store.serialize_cdr(text, text.__msgtype__))
    one_error(recon3r('run', '--bag', tmp_path / 'bag', '--output', tmp_path / 'o'),
              tmp_path / 'bag', 'image')


def test_video_that_is_none(recon3r, tmp_path):
    (tmp_path / 'v.mp4').write_text('no video')
    one_error(recon3r('run', '--video', tmp_path / 'v.mp4', '--output', tmp_path / 'o'),
              tmp_path / 'v.mp4')


def test_output_that_is_a_file(recon3r, pack, tmp_path):
    (tmp_path / 'o').write_text('mine')
    one_error(recon3r('run', '--images', pack, '--output', tmp_path / 'o'), tmp_path / 'o',
              'cannot write')
    assert (tmp_path / 'o').read_text() == 'mine'


@as_root
def test_output_without_rights(recon3r, pack, tmp_path):
    (tmp_path / 'o').mkdir(mode=0o500)
    one_error(recon3r('run', '--images', pack, '--output', tmp_path / 'o'), tmp_path / 'o')


@pytest.mark.parametrize('size, written', [(400, []), (100_000, ['trajectory.txt'])])
def test_full_disk(recon3r, pack, tmp_path, size, written):
    # no file grows beyond this size, so that writes fail: masks, then depth maps
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        outcome = recon3r('run', '--images', pack, '--output', tmp_path / 'o')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    one_error(outcome, tmp_path / 'o', 'free space')
    for name in written:
        assert (tmp_path / 'o' / name).is_file()
    assert list((tmp_path / 'o').rglob('*.tmp*')) == []


@pytest.mark.parametrize('arguments', [
    [], ['run'], ['run', '--images', 'a'],
    ['run', '--images', 'a', '--video', 'b', '--output', 'o'],
    ['run', '--images', 'a', '--output', 'o', '--voxel', '-1'],
    ['run', '--images', 'a', '--output', 'o', '--fps', 'nan'],
    ['run', '--images', 'a', '--output', 'o', '--model', 'oracle'],
    ['run', '--images', 'a', '--output', 'o', '--camera', 'c', '--uncalibrated'],
    ['demo', '--frames', '0'], ['frobnicate'],
])
def test_bad_usage(recon3r, arguments):
    outcome = recon3r(*arguments)
    assert outcome.status == 2
    assert outcome.err.startswith('usage: recon3r')


@pytest.mark.parametrize('arguments, texts', [
    (['--help'], ['run', 'eval', 'bench', 'demo', '130', 'metres']),
    (['run', '--help'], ['trajectory.txt', 'keyframes.json', 'map.ply', 'depth/NAME.npz',
                         'masks/NAME.png', 'report.json', 'camera-to-world', 'pixels']),
    (['eval', '--help'], ['ATE', 'RPE', 'AbsRel', 'degrees']),
])
def test_help_explains_files_and_units(recon3r, arguments, texts):
    outcome = recon3r(*arguments)
    assert outcome.status == 0
    for text in texts:
        assert text in outcome.out


def test_a_bug_is_one_line(recon3r, pack, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError('division\nby zero')
    monkeypatch.setattr(sequences, 'open_sequence', broken)
    one_error(recon3r('run', '--images', pack, '--output', tmp_path / 'o'),
              'bug: ZeroDivisionError: division by zero', '--debug', status=70)
    with pytest.raises(ZeroDivisionError):
        cli.main(['run', '--debug', '--images', str(pack), '--output', str(tmp_path / 'o')])


def test_interruption_writes_the_results(recon3r_process, pack, tmp_path):
    folder = tmp_path / 'in' / 'images'
    folder.mkdir(parents=True)
    shutil.copy(pack / 'camera.json', folder.parent)
    for i in range(1200):  # there and back again
        j = abs(i % 48 - 24)
        (folder / f'{i:05d}.png').symlink_to(pack / 'images' / f'{j:06d}.png')
    process = recon3r_process('run', '--images', folder.parent, '--output', tmp_path / 'o')
    deadline = time.monotonic() + 60
    while not (tmp_path / 'o' / 'masks' / '00030.png').exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'Traceback' not in err
    line, = err.splitlines()
    assert 'interrupted after' in line
    assert 'tracked' in out
    report = json.loads((tmp_path / 'o' / 'report.json').read_text())
    assert report['interrupted']
    assert 30 <= report['frames_read'] < 1200
    stamps, _ = read_tum(tmp_path / 'o' / 'trajectory.txt')
    assert len(stamps) == report['frames_tracked'] > 0
    assert (tmp_path / 'o' / 'map.ply').is_file()


def test_a_second_interruption_aborts(recon3r, pack, tmp_path, monkeypatch):
    def impatient(session):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr('recon3r_ros.cli.session.Session.finish', impatient)
    before = signal.getsignal(signal.SIGINT)
    one_error(recon3r('run', '--images', pack, '--output', tmp_path / 'o'), 'interrupted',
              status=130)
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / 'o' / 'report.json').exists()
