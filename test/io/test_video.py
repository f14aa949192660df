# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video files."""

import os
import re

import cv2
from mp4_boxes import changed, index_first
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.interlacing import FieldOrder
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.video import open_video

# Rows of the matrix of a track that turns it by 90 degrees, 16.16 and 2.30 fixed point
TURNED = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)

pytestmark = pytest.mark.usefixtures('no_new_threads')


def write(path, codec, count=10, fps=25.0):
    """Write frames whose red level encodes their index."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    if not writer.isOpened():
        pytest.skip(f'this OpenCV cannot write {codec}')
    for i in range(count):
        writer.write(np.full((48, 64, 3), (30, 60, 100 + 10 * i), np.uint8))
    writer.release()
    return path


def pan(count, step=4.0, height=96, width=128):
    """Return frames (H, W, 3) of a camera that pans over texture, this many pixels each."""
    noise = np.random.default_rng(5).integers(0, 255, (height, 600, 3), dtype=np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 1.5)
    moved = [np.float32([[1, 0, -step * i], [0, 1, 0]]) for i in range(count)]
    return [cv2.warpAffine(texture, M, (width, height), borderMode=cv2.BORDER_REFLECT)
            for M in moved]


def woven(frames, first=0):
    """Return interlaced frames: rows of one field from every first frame, others from the next."""
    result = [frame.copy() for frame in frames[::2]]
    for frame, later in zip(result, frames[1::2]):
        frame[1 - first::2] = later[1 - first::2]
    return result


def write_frames(path, codec, frames, fps=25.0):
    """Write frames."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    if not writer.isOpened():
        pytest.skip(f'this OpenCV cannot write {codec}')
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def mp4(tmp_path):
    """Return an MP4 of 30 frames of 128x96 at 25 Hz, as bytes."""
    return write_frames(tmp_path / 'plain.mp4', 'mp4v', pan(30)).read_bytes()


@pytest.mark.parametrize('name, codec', [('a.mp4', 'mp4v'), ('a.avi', 'MJPG')])
def test_frames_and_stamps(tmp_path, name, codec):
    camera = Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
    sequence = open_video(write(tmp_path / name, codec), camera)
    frames = list(sequence)
    assert len(sequence) == len(frames) == 10
    assert [f.name for f in frames] == [f'{i:06d}' for i in range(10)]
    assert [f.index for f in frames] == list(range(10))
    np.testing.assert_allclose([f.stamp_ns for f in frames], np.arange(10) * 4e7, atol=1e6)
    for i, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        np.testing.assert_allclose(
            frame.image.reshape(-1, 3).mean(axis=0), (100 + 10 * i, 60, 30), atol=8)
    assert frames[0].camera == camera
    assert sequence.skipped == []
    assert sequence.file_name(frames[3]) == '000003.png'


class NoTimes:
    """A capture whose container has no times."""

    def __init__(self, milliseconds):
        self.milliseconds = iter(milliseconds)

    def get(self, _):
        """Return the next time."""
        return next(self.milliseconds)


def test_stamps_always_increase(tmp_path):
    sequence = open_video(write(tmp_path / 'a.avi', 'MJPG', fps=20.0))
    capture = NoTimes([0.0, 0.0, 120.0, float('nan'), 90.0, 500.0])
    stamps = [-1]
    for i in range(6):
        stamps.append(sequence._stamp(capture, i, stamps[-1]))
    assert stamps[1:] == [0, 50000000, 120000000, 170000000, 220000000, 500000000]


def test_video_that_ends_early(tmp_path):
    path = write(tmp_path / 'a.avi', 'MJPG', count=30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    sequence = open_video(path)
    if len(sequence) != 30:
        pytest.skip('this OpenCV counts the frames that are there')
    frames = list(sequence)
    assert 0 < len(frames) < 25
    assert sequence.skipped == [f'{path}: ends after {len(frames)} of 30 frames']


def test_abandoned(tmp_path):
    for _ in open_sequence(video=write(tmp_path / 'a.avi', 'MJPG')):
        break


def test_unreadable(tmp_path):
    text = tmp_path / 'text1.mp4'
    text.write_text('not a video')
    for path in (text, tmp_path / 'gone.mp4', tmp_path):
        with pytest.raises(InputError, match=str(path)):
            open_video(path)
    empty = write(tmp_path / 'empty.avi', 'MJPG', count=0)
    with pytest.raises(InputError, match='empty.avi'):
        open_video(empty)


def test_camera_of_another_size(tmp_path):
    path = write(tmp_path / 'a.avi', 'MJPG')
    with pytest.raises(InputError, match=r'images of 8x8 pixels, but a.avi has 64x48'):
        open_video(path, Camera(8, 8, 1.0, 1.0, 1.0, 1.0))


def big_endian(*values):
    """Return 32-bit integers as in a box."""
    return b''.join(value.to_bytes(4, 'big', signed=True) for value in values)


def test_turned_video(tmp_path, mp4):
    path = tmp_path / 'turned.mp4'
    path.write_bytes(changed(mp4, {b'tkhd': lambda c: c[:40] + big_endian(*TURNED) + c[76:]}))
    camera = Camera(96, 128, 90.0, 90.0, 47.5, 63.5)
    first = next(iter(open_video(path, camera)))
    assert first.image.shape == (128, 96, 3)
    upright = next(iter(open_video(tmp_path / 'plain.mp4'))).image
    np.testing.assert_array_equal(first.image, np.rot90(upright, -1))
    with pytest.raises(InputError, match='128x96 pixels, but turned.mp4 has 96x128'):
        open_video(path, Camera(128, 96, 90.0, 90.0, 63.5, 47.5))


def test_edit_list_is_no_damage(tmp_path, mp4):
    path = tmp_path / 'edited.mp4'
    # 0.8 s from the tenth frame on
    path.write_bytes(changed(mp4, {
        b'elst': lambda c: c[:8] + big_endian(800, 10 * 512) + c[16:]}))
    sequence = open_video(path)
    frames = list(sequence)
    if len(frames) == 30:
        pytest.skip('this OpenCV ignores edit lists')
    assert len(frames) == 20
    assert frames[0].stamp_ns == 0
    assert sequence.skipped == []


def test_delayed_video_is_no_damage(tmp_path, mp4):
    path = tmp_path / 'delayed.mp4'
    # after 5 s of nothing
    path.write_bytes(changed(mp4, {
        b'elst': lambda c: c[:4] + big_endian(2, 5000, -1, 1 << 16) + c[8:]}))
    sequence = open_video(path)
    assert len(list(sequence)) == 30
    assert sequence.skipped == []


def test_cut_off_file_is_reported(tmp_path, mp4):
    path = tmp_path / 'cut.mp4'
    path.write_bytes(index_first(mp4))
    sequence = open_video(path)
    assert len(list(sequence)) == 30 and sequence.skipped == []
    path.write_bytes(path.read_bytes()[:len(mp4) * 2 // 3])
    sequence = open_video(path)
    count = len(list(sequence))
    assert 5 < count < 25
    assert sequence.skipped == [f'{path}: ends after {count} of 30 frames']


def test_variable_rate(tmp_path, mp4):
    path = tmp_path / 'variable.mp4'
    # 10 frames of 40 ms, then 20 of 80 ms
    path.write_bytes(changed(mp4, {
        b'stts': lambda c: c[:4] + big_endian(2, 10, 512, 20, 1024),
        b'elst': lambda c: c[:8] + big_endian(2000) + c[12:]}))
    sequence = open_video(path)
    steps = np.diff([f.stamp_ns for f in sequence])
    np.testing.assert_allclose(steps, [4e7] * 10 + [8e7] * 19, atol=1e6)
    assert sequence.skipped == []


def flagged(data, first=0):
    """Return an MPEG-2 video whose frames from one byte on are flagged as interlaced."""
    result = bytearray(data)
    for match in re.finditer(b'\x00\x00\x01\xb5', data):
        i = match.end()
        if data[i] >> 4 == 1:  # of the sequence: progressive_sequence
            result[i + 1] &= ~0x08
        elif data[i] >> 4 == 8 and i >= first:  # of a picture: chroma_420_type, progressive_frame
            result[i + 3] &= ~0x01
            result[i + 4] &= ~0x80
    return bytes(result)


@pytest.mark.parametrize('name', ['a.mpg', 'a.ts', 'a.avi'])
def test_frames_flagged_as_interlaced(tmp_path, name, capfd):
    path = write_frames(tmp_path / name, 'mpg2', pan(24))
    capfd.readouterr()
    frames = list(open_video(path))
    assert len(frames) == 24
    path.write_bytes(flagged(path.read_bytes()))
    try:
        again = list(open_video(path))
    except InputError as error:
        assert re.search(f'{name}: is interlaced; .* ffmpeg -i {name} -vf bwdif', str(error))
    else:  # an OpenCV that converts them
        assert np.abs(again[5].image.astype(int) - frames[5].image).mean() < 1
    assert capfd.readouterr().err == ''


@pytest.mark.parametrize('name', ['a.mpg', 'a.ts', 'a.avi'])
@pytest.mark.parametrize('count', [60, 120])
def test_frames_flagged_as_interlaced_later(tmp_path, name, count):
    path = write_frames(tmp_path / name, 'mpg2', pan(count))
    data = path.read_bytes()
    path.write_bytes(flagged(data, len(data) * 2 // 3))
    sequence = open_video(path)
    frames = []
    try:
        for frame in sequence:
            frames.append(frame.image)
    except InputError as error:
        assert 'is interlaced' in str(error)
        assert 0.4 * count < len(frames) < 0.8 * count
    assert all(not np.array_equal(a, b) for a, b in zip(frames, frames[1:]))


@pytest.mark.parametrize('name, codec', [
    ('a.avi', 'MJPG'), ('a.mp4', 'mp4v'), ('a.mpg', 'mpg2'), ('a.ts', 'mpg2')])
@pytest.mark.parametrize('times', [2, 4, 40])
def test_repeated_images_are_no_error(tmp_path, name, codec, times):
    """A rate that was raised, and a camera at rest; coded losslessly enough to be equal."""
    path = write_frames(tmp_path / name, codec, [f for f in pan(6) for _ in range(times)])
    assert [f.index for f in open_video(path)] == list(range(6 * times))


def test_reading_leaves_standard_error_to_other_threads(tmp_path, monkeypatch):
    """It is that of the whole process; also where images repeat, and are looked at again."""
    sequence = open_video(write_frames(
        tmp_path / 'a.avi', 'MJPG', [f for f in pan(6) for _ in range(20)]))
    opened, where = [], []
    open_file = cv2.VideoCapture

    class Reader:
        def __init__(self, *arguments):
            opened.append(open_file(*arguments))
            self.capture = opened[-1]

        def __getattr__(self, name):
            where.append(os.fstat(2))
            return getattr(self.capture, name)
    monkeypatch.setattr(cv2, 'VideoCapture', Reader)
    assert len(list(sequence)) == 120
    assert len(opened) > 1, 'no second reader was used'
    assert all(os.path.samestat(os.fstat(2), stat) for stat in where)


@pytest.mark.parametrize('codec, name', [('MJPG', 'a.avi'), ('mp4v', 'a.mp4'), ('mpg2', 'a.ts')])
@pytest.mark.parametrize('first', [0, 1])
def test_interlaced_frames_that_can_be_decoded(tmp_path, codec, name, first):
    path = write_frames(tmp_path / name, codec, woven(pan(40, 3.0), first))
    with pytest.raises(InputError, match='is interlaced'):
        open_video(path)


def test_interlaced_frames_of_a_camera_that_stands_at_first(tmp_path):
    frames = woven(pan(60, 3.0))
    path = write_frames(tmp_path / 'a.avi', 'MJPG', 25 * frames[:1] + frames)
    sequence = open_video(path)
    read = []
    with pytest.raises(InputError, match='is interlaced'):
        for frame in sequence:
            read.append(frame)
    assert 25 < len(read) < 45


@pytest.mark.parametrize('frames', [
    pan(30, 3.0),
    30 * [woven(pan(2, 3.0))[0]],  # fine rows, but no motion
    [np.roll(f, i, axis=0) for i, f in enumerate(30 * pan(1))],  # by one row each
    [np.where(np.arange(96)[:, None, None] % 2, f, 0).astype(np.uint8) for f in pan(30, 3.0)],
])
def test_progressive_video_is_not_interlaced(tmp_path, frames):
    for name, codec in (('a.avi', 'MJPG'), ('a.mp4', 'mp4v')):
        assert len(list(open_video(write_frames(tmp_path / name, codec, frames)))) == 30


@pytest.mark.parametrize('name', [
    'davis_camel', 'davis_kite_surf', 'sevenscenes_redkitchen', 'kitti_06_first51', 'fox_object',
    'euroc_v101_stationary'])
def test_real_images_are_not_interlaced_until_they_are_woven(shared_data, name):
    paths = sorted((shared_data.pack(name) / 'images').iterdir())[:48]
    frames = [cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_2) for path in paths]
    for images, interlaced in ((frames, False), (woven(frames), name != 'euroc_v101_stationary')):
        fields = FieldOrder()
        for image in images:
            fields.add(image)
        assert fields.is_interlaced == interlaced


def test_field_interlaced(shared_data, capfd):
    path = shared_data.field('interlaced') / 'interlaced.mpg'
    try:
        frames = list(open_video(path))
    except InputError as error:
        assert 'ffmpeg -i interlaced.mpg -vf bwdif' in str(error)
    else:
        assert any(frame.image.any() for frame in frames)
    assert capfd.readouterr().err == ''
