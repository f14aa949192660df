# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Video files."""

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.io.video import open_video

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
