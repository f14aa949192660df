# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Label images and people beside a sequence's images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.clouds import read_ply, write_ply
from recon3r_ros.io.labels import LabelSequence
from recon3r_ros.io.masks import Wrapped
from recon3r_ros.io.people import PeopleFolder
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.slam.types import PointCloud


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder with two images."""
    folder = tmp_path / 'images'
    folder.mkdir()
    for n in range(2):
        cv2.imwrite(str(folder / f'{n}.png'), np.full((24, 32, 3), 40 * n, np.uint8))
    return folder


def write(folder: Path, pixels: np.ndarray, name: str = '0.png') -> Path:
    """Write an image into a folder, which is made."""
    folder.mkdir(exist_ok=True, parents=True)
    cv2.imwrite(str(folder / name), pixels)
    return folder


def test_labels_come_with_their_images(images, tmp_path):
    folder = write(tmp_path / 'labels', np.full((24, 32), 7, np.uint8))
    write(folder / 'confidence', np.full((24, 32), 51, np.uint8))
    write(folder / 'instances', np.full((24, 32), 300, np.uint16))
    (folder / 'classes.txt').write_text('wall\nfloor\n')
    sequence = LabelSequence(open_sequence(images=images), folder)
    first, second = sequence
    assert sequence.class_names == Wrapped(sequence).class_names == ('wall', 'floor')
    assert open_sequence(images=images).class_names is None
    assert second.labels is None
    assert (first.labels.classes == 7).all() and (first.labels.instances == 300).all()
    assert np.allclose(first.labels.confidence, 0.2)


@pytest.mark.parametrize('pixels, message', [
    (np.zeros((12, 32), np.uint8), '32x12 for an image of 32x24'),
    (np.zeros((24, 32, 3), np.uint8), 'one channel'),
    (np.full((24, 32), 256, np.uint16), '8 bits'),
])
def test_labels_that_do_not_fit_are_refused(images, tmp_path, pixels, message):
    folder = write(tmp_path / 'labels', pixels)
    with pytest.raises(InputError, match=message):
        list(LabelSequence(open_sequence(images=images), folder))


def test_people_are_those_of_the_folder(images, tmp_path, caplog):
    mask = np.zeros((24, 32), np.uint16)
    mask[3:9, 4:8], mask[3:9, 10:14] = 1, 700
    frames = list(open_sequence(images=images))
    source = PeopleFolder(write(tmp_path / 'people', mask))
    found = source.people(frames[0])
    assert found.ids == [1, 700] and source.people(frames[1]) is None
    (tmp_path / 'people' / '0.png').write_bytes(b'\x89PNG')
    assert source.people(frames[0]) is None
    assert '0.png' in caplog.text
    with pytest.raises(InputError, match='no such folder of masks of people'):
        PeopleFolder(tmp_path / 'none')


def test_a_cloud_with_labels_is_read_as_it_was_written(tmp_path):
    cloud = PointCloud(np.arange(12, dtype=np.float32).reshape(4, 3),
                       np.full((4, 3), 9, np.uint8), np.ones(4, np.float32),
                       np.array([0, 3, 255, 1], np.uint8), np.array([0, 9, 65535, 1], np.uint16))
    write_ply(tmp_path / 'map.ply', cloud)
    found = read_ply(tmp_path / 'map.ply')
    assert (found.labels == cloud.labels).all() and (found.instances == cloud.instances).all()
    assert (found.points == cloud.points).all()
