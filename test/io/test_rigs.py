# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stereo rigs in folders: a pack, EuRoC and KITTI; and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

from calibration_files import euroc_sensor
import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.slam.types import Frame

pytestmark = pytest.mark.usefixtures('no_new_threads')

#: Grey values of left and right images, by which these are told apart
LEFT, RIGHT = 50, 200
CAMERA = {'width': 64, 'height': 48, 'fx': 50.0, 'fy': 50.0, 'cx': 31.5, 'cy': 23.5,
          'distortion': []}
STAMPS = (1403715273262142976, 1403715273312143104, 1403715273362143232)


def pictures(folder: Path, value: int, *names: str) -> None:
    """Write images of 64x48."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((48, 64), value, np.uint8))


def partners(frames: list[Frame]) -> list[int | None]:
    """Grey values of the images' partners."""
    assert all(f.image.mean() == LEFT for f in frames)
    return [None if f.stereo is None else int(f.stereo.image.mean()) for f in frames]


def rig(**changes: object) -> str:
    """Return the text of a rig.json."""
    pose = np.eye(4)
    pose[0, 3] = 0.12
    return json.dumps({'left': CAMERA, 'right': {**CAMERA, 'cx': 33.5},
                       'T_left_right': pose.tolist(), **changes})


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """Write a pack of three instants, of which the second has no right image."""
    folder = tmp_path / 'pack'
    pictures(folder / 'left', LEFT, 'a.png', 'b.png', 'c.png')
    pictures(folder / 'right', RIGHT, 'a.png', 'c.png')
    (folder / 'rig.json').write_text(rig())
    (folder / 'frames.txt').write_text('1.0 a.png\n1.1 b.png\n1.2 c.png\n')
    return folder


@pytest.fixture
def euroc(tmp_path: Path) -> Path:
    """Write EuRoC; right images are 2 ms late, 20 ms late, and on time."""
    folder = tmp_path / 'V1_01_easy' / 'mav0'
    for name, value, delays in (('cam0', LEFT, (0, 0, 0)), ('cam1', RIGHT, (2, 20, 0))):
        stamps = [stamp + 1_000_000 * delay for stamp, delay in zip(STAMPS, delays)]
        pictures(folder / name / 'data', value, *(f'{stamp}.png' for stamp in stamps))
        (folder / name / 'data.csv').write_text('#timestamp [ns],filename\n' + ''.join(
            f'{stamp},{stamp}.png\n' for stamp in stamps))
        # The body's y axis is the cameras' x axis
        y = {'cam0': -0.06, 'cam1': 0.05}[name]
        (folder / name / 'sensor.yaml').write_text(
            euroc_sensor((64, 48), (50.0, 50.0, 31.5, 23.5), (0.0, 0.0, 0.0, 0.0)).replace(
                '[1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0,',
                f'[0.0, -1.0, 0.0, 0.0, 1.0, 0.0, 0.0, {y},'))
    return folder


def kitti(folder: Path, calibration: Path, row: str, images: str) -> None:
    """Write a sequence of KITTI, all four cameras, of two instants."""
    for number, value in enumerate((LEFT, RIGHT, LEFT, RIGHT)):
        pictures(folder / images.format(number), value, '000000.png', '000001.png')
    offsets = (0.0, -25.0, 3.0, -22.0)
    calibration.write_text(''.join(
        row.format(i) + f'50 0 31 {o} 0 50 23 0 0 0 1 0\n' for i, o in enumerate(offsets)))


def test_a_pack(pack: Path) -> None:
    frames = list(open_image_folder(pack))
    assert partners(frames) == [RIGHT, None, RIGHT]
    assert [f.stamp_ns for f in frames] == [1_000_000_000, 1_100_000_000, 1_200_000_000]
    first = frames[0]
    assert first.camera == Camera(64, 48, 50.0, 50.0, 31.5, 23.5)
    assert first.stereo is not None and first.stereo.camera.cx == 33.5
    assert first.stereo.T_cam_other[0, 3] == 0.12
    for alone in (open_image_folder(pack, stereo=False), open_image_folder(pack / 'left'),
                  open_image_folder(pack, calibrated=False)):
        assert partners(list(alone)) == [None, None, None]
    shutil.rmtree(pack / 'right')
    alone = open_image_folder(pack)
    assert partners(list(alone)) == [None, None, None]
    assert next(iter(alone)).camera == first.camera


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'T_left_right': np.eye(4).tolist()}, 'baseline'),
    ({'T_left_right': (2 * np.eye(4)).tolist()}, 'rigid'),
    ({'T_left_right': [1, 2]}, 'expected the 16 numbers'),
    ({'T_left_right': None}, 'expected the 16 numbers'),
    ({'right': {'fx': 50.0}}, 'missing'),
    ({'right': 3}, 'expected width'),
    ({'right': {**CAMERA, 'height': 99}}, 'is for images of 64x99'),
])
def test_a_rig_that_cannot_be_used(pack: Path, changes: dict[str, object], reason: str) -> None:
    (pack / 'rig.json').write_text(rig(**changes))
    with pytest.raises(InputError, match=reason) as caught:
        open_image_folder(pack)
    assert str(pack / 'rig.json') in str(caught.value) and '--no-stereo' in str(caught.value)
    assert partners(list(open_image_folder(pack, stereo=False))) == [None, None, None]


def test_damaged_right_images(pack: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pack / 'right' / 'c.png').write_bytes(b'no image')
    assert partners(list(open_image_folder(pack))) == [RIGHT, None, None]
    assert sum('c.png' in r.message for r in caplog.records) == 1
    (pack / 'right' / 'a.png').write_bytes(b'no image')
    sequence = open_image_folder(pack)
    assert partners(list(sequence)) == [None, None, None]
    assert any('used alone' in note for note in sequence.notes)


def test_euroc(euroc: Path) -> None:
    frames = list(open_image_folder(euroc.parent))
    assert partners(frames) == [RIGHT, None, RIGHT]
    assert frames[0].stereo is not None
    np.testing.assert_allclose(frames[0].stereo.T_cam_other[:3, 3], (0.11, 0, 0), atol=1e-12)
    assert partners(list(open_image_folder(euroc / 'cam0'))) == [None, None, None]
    sensor = euroc / 'cam1' / 'sensor.yaml'
    sensor.write_text(sensor.read_text().replace('T_BS', 'T_other'))
    sequence = open_image_folder(euroc)
    assert partners(list(sequence)) == [None, None, None]
    assert any(str(sensor) in note for note in sequence.notes)


@pytest.mark.parametrize('cameras', ['in colour', 'grey'])
def test_kitti_odometry(tmp_path: Path, cameras: str) -> None:
    folder = tmp_path / '00'
    folder.mkdir()
    kitti(folder, folder / 'calib.txt', 'P{}: ', 'image_{}')
    if cameras == 'grey':
        for number in (2, 3):
            shutil.rmtree(folder / f'image_{number}')
    (folder / 'times.txt').write_text('0.0\n0.1\n')
    frames = list(open_image_folder(folder))
    assert partners(frames) == [RIGHT, RIGHT]
    assert frames[0].stereo is not None
    np.testing.assert_allclose(frames[0].stereo.T_cam_other[:3, 3], (0.5, 0, 0), atol=1e-12)
    assert partners(list(open_image_folder(folder / 'image_0'))) == [None, None]


@pytest.mark.parametrize('rectified', [True, False])
def test_kitti_raw(tmp_path: Path, rectified: bool) -> None:
    folder = tmp_path / '2011_09_26_drive_0001_sync'
    folder.mkdir()
    calibration = tmp_path / 'calib_cam_to_cam.txt'
    kitti(folder, calibration, 'P_rect_{:02d}: ', 'image_{:02d}/data')
    size = '6.400000e+01 4.800000e+01'
    other = '7.000000e+01 5.000000e+01'
    with calibration.open('a') as file:
        for i in range(4):
            file.write(f'S_rect_{i:02d}: {size if rectified else other}\n'
                       f'S_{i:02d}: {other if rectified else size}\n'
                       f'K_{i:02d}: 50 0 31 0 50 23 0 0 1\nD_{i:02d}: 0 0 0 0 0\n')
    for i in range(4):
        (folder / f'image_{i:02d}' / 'timestamps.txt').write_text(
            '2011-09-26 13:02:25.9\n2011-09-26 13:02:26.0\n')
    expected = RIGHT if rectified else None
    assert partners(list(open_image_folder(folder))) == [expected, expected]
