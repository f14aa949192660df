# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Depth images beside a sequence's images."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.calibrations import read_calibration
from recon3r_ros.io.depths import DepthImages
from recon3r_ros.io.image_folder import open_image_folder
from recon3r_ros.io.sequences import open_sequence

pytestmark = pytest.mark.usefixtures('no_new_threads')

VALUES = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)


def write(path: Path, values: NDArray[np.generic] = VALUES) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Write four images of 64x48."""
    for i in range(4):
        write(tmp_path / 'images' / f'{i:03d}.png', np.full((48, 64, 3), 60 * i, np.uint8))
    return tmp_path / 'images'


def test_millimetres_by_name(images: Path, tmp_path: Path,
                             caplog: pytest.LogCaptureFixture) -> None:
    """Not every image has depth; one file is cut off."""
    for name in ('000', '002', '003', '007'):
        write(tmp_path / 'depth' / f'{name}.png')
    cut = tmp_path / 'depth' / '003.png'
    cut.write_bytes(cut.read_bytes()[:-20])
    sequence = open_sequence(images=images, depth=tmp_path / 'depth')
    depths = [frame.depth for frame in sequence]
    assert [d is not None for d in depths] == [True, False, True, False]
    assert depths[0] is not None and depths[0].dtype == np.float32
    assert np.isnan(depths[0][0, 0]) and np.isfinite(depths[0]).sum() == 48 * 64 - 1
    np.testing.assert_allclose(depths[0][1:], VALUES[1:] / 1000, rtol=1e-6)
    assert len(list(sequence)) == 4
    line, = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert '003.png' in line.getMessage() and 'truncated' in line.getMessage()


def test_a_folder_of_other_names_is_reported(images: Path, tmp_path: Path,
                                             caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / 'depth' / 'a.png')
    assert all(f.depth is None for f in open_image_folder(images, depth=tmp_path / 'depth'))
    line, = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert 'no depth image belongs' in line.getMessage()


@pytest.mark.parametrize('values, words', [
    (VALUES.astype(np.uint8), ['uint8', '16-bit']),
    (np.zeros((48, 64, 3), np.uint8), ['3 channels', '16-bit'])])
def test_other_images_are_refused(tmp_path: Path, values: NDArray[np.generic], words: list[str]
                                  ) -> None:
    write(tmp_path / '000.png', values)
    with pytest.raises(InputError) as error:
        DepthImages.named(tmp_path).of('000')
    assert all(word in str(error.value) for word in words)


def test_folders_that_cannot_be_used(images: Path, tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    for folder in ('missing', 'empty'):
        with pytest.raises(InputError, match=folder):
            open_sequence(images=images, depth=tmp_path / folder)
    with pytest.raises(InputError, match='folder of images'):
        open_sequence(video=tmp_path / 'film.mp4', depth=images)


def test_tum_rgbd_is_associated_by_stamps(tmp_path: Path) -> None:
    """Within 20 ms; a depth file that is listed may be missing."""
    stamps = {'rgb': ('1.500', '1.600', '1.700', '1.800'),
              'depth': ('1.481', '1.512', '1.621', '1.715', '1.801')}
    for kind, all_stamps in stamps.items():
        (tmp_path / f'{kind}.txt').write_text('# timestamp filename\n' + ''.join(
            f'{s} {kind}/{s}.png\n' for s in all_stamps))
        for n, s in enumerate(all_stamps):
            write(tmp_path / kind / f'{s}.png', np.full((48, 64), 1000 * (n + 1), np.uint16)
                  if kind == 'depth' else np.full((48, 64, 3), 60, np.uint8))
    (tmp_path / 'depth' / '1.801.png').unlink()
    depths = [f.depth for f in open_image_folder(tmp_path)]
    # Of 1.5 s that of 12 ms later; of 1.6 s one is 21 ms away
    assert [None if d is None else float(d[5, 5]) for d in depths] == [
        pytest.approx(2000 / 5000), None, pytest.approx(4000 / 5000), None]


CAMERA = {'width': 64, 'height': 48, 'fx': 60.0, 'fy': 60.0, 'cx': 31.5, 'cy': 23.5}
POSE = [[1, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def calibration(path: Path, **values: object) -> Path:
    path.write_text(json.dumps({**CAMERA, **values}))
    return path


def test_depth_of_a_camera_beside(images: Path, tmp_path: Path) -> None:
    """It is 0.1 m to the right, so that a wall at 2 m is seen 3 pixels further right."""
    write(tmp_path / 'depth' / '000.png', np.full((48, 64), 2000, np.uint16))
    camera = read_calibration(calibration(tmp_path / 'camera.json'))
    beside = calibration(tmp_path / 'beside.json', T_color_depth=POSE)
    first, *_ = open_sequence(images=images, camera=camera, depth=tmp_path / 'depth',
                              depth_camera=beside)
    assert first.depth is not None
    np.testing.assert_array_equal(np.isnan(first.depth[24]), np.arange(64) < 3)
    np.testing.assert_allclose(first.depth[:, 3:], 2.0, rtol=1e-6)


@pytest.mark.parametrize('values, given, message', [
    ({}, True, 'T_color_depth is missing'), ({'T_color_depth': [1, 2]}, True, '2 numbers'),
    ({'T_color_depth': POSE}, False, '--camera'),
    ({'T_color_depth': POSE, 'width': 64, 'height': 64}, True, '64x64.*64x48')])
def test_what_a_depth_camera_lacks_is_named(
        values: dict[str, object], given: bool, message: str, images: Path, tmp_path: Path
        ) -> None:
    write(tmp_path / 'depth' / '000.png')
    camera = read_calibration(calibration(tmp_path / 'other.json'))
    with pytest.raises(InputError, match=message):
        list(open_sequence(
            images=images, camera=camera if given else None, depth=tmp_path / 'depth',
            depth_camera=calibration(tmp_path / 'beside.json', **values)))
