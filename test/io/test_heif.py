# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""HEIC images: pixels, orientation, EXIF data, damage."""

from __future__ import annotations

import logging
import math
import sys

from heic import heic
import numpy as np
from PIL import Image
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.decode import decode_image, size_in_header
from recon3r_ros.io.exif import focal_prior
from recon3r_ros.io.image_folder import open_image_folder

ORIENTATION, EXIF, FILM = 0x0112, 0x8769, 0xA405

pytestmark = pytest.mark.usefixtures('no_new_threads')


@pytest.fixture
def library():
    """Skip the test where the optional package is absent."""
    return pytest.importorskip('pi_heif', reason='pi-heif is not installed: extra heic')


@pytest.mark.usefixtures('library')
@pytest.mark.parametrize('bits', [8, 10])
@pytest.mark.parametrize('channels', [1, 3])
def test_pixels(block_image, channels, bits):
    """Of 8 and of 10 bits: to rounding, twice where colours are converted."""
    image = block_image(channels=channels)
    found = decode_image(heic(image, bits))
    assert found.dtype == np.uint8 and found.shape == image.shape and found.flags.writeable
    assert np.abs(found.astype(int) - image).max() <= (3 if channels == 3 else 1)


@pytest.mark.usefixtures('library')
@pytest.mark.parametrize('mirrored', [False, True])
@pytest.mark.parametrize('turns', range(4))
def test_orientation_is_that_of_the_boxes(tmp_path, block_image, turns, mirrored):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # phones state it twice: it must not be applied twice
    image = block_image()
    data = heic(image, turns=turns, mirrored=mirrored, exif=exif)
    expected = np.rot90(image, turns)
    expected = expected[:, ::-1] if mirrored else expected
    found = decode_image(data)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 3
    (tmp_path / 'a.heic').write_bytes(data)
    assert size_in_header(tmp_path / 'a.heic') == (expected.shape[1], expected.shape[0])


@pytest.mark.usefixtures('library')
def test_focal_length_of_exif_data(tmp_path, block_image):
    exif = Image.Exif()
    exif.get_ifd(EXIF)[FILM] = 26
    for name, data in (('a.HEIC', heic(block_image(), turns=3, exif=exif)),
                       ('b.HEIC', heic(block_image(), turns=3))):
        (tmp_path / name).write_bytes(data)
    frames = list(open_image_folder(tmp_path))
    assert [f.name for f in frames] == ['a', 'b']
    assert frames[0].image.shape == (64, 48, 3)
    assert frames[0].focal_prior == pytest.approx(26 * 80 / math.hypot(24, 36))
    assert focal_prior(tmp_path / 'b.HEIC', 48, 64) is None


@pytest.mark.usefixtures('library')
@pytest.mark.parametrize('share', [0.004, 0.05, 0.5, 0.99])
def test_damaged(tmp_path, block_image, share):
    data = heic(block_image())
    with pytest.raises(InputError, match='damaged, or no HEIC image|cannot be decoded'):
        decode_image(data[:int(len(data) * share)])
    (tmp_path / 'a.heic').write_bytes(data[:int(len(data) * share)])
    assert focal_prior(tmp_path / 'a.heic', 64, 48) is None


@pytest.mark.usefixtures('library')
def test_coder_that_is_not_known(block_image):
    data = heic(block_image()).replace(b'ftypheic', b'ftypmif1').replace(b'hvc1', b'av01')
    with pytest.raises(InputError, match='cannot be decoded|no HEIC image'):
        decode_image(data)


def test_without_the_library_the_extra_is_named(tmp_path, block_image, save, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, 'pi_heif', None)
    for i in range(3):
        (tmp_path / f'IMG_{i}.HEIC').write_bytes(heic(block_image()))
    with pytest.raises(InputError, match=r'none of its 3 images .* IMG_0.HEIC: a HEIC image needs '
                       r'the Python package pi_heif, .*: pip install "recon3r_ros\[heic\]"'):
        open_image_folder(tmp_path)
    (tmp_path / 'other.png').write_bytes(save(block_image(), 'PNG'))
    sequence = open_image_folder(tmp_path)
    assert [frame.name for frame in sequence] == ['other']
    assert '3 images (IMG_0.HEIC, IMG_1.HEIC, IMG_2.HEIC): a HEIC image needs' in caplog.text


def test_images_that_were_converted_are_taken_instead(tmp_path, block_image, save, caplog):
    for i in range(2):
        (tmp_path / f'IMG_{i}.HEIC').write_bytes(heic(block_image()))
        (tmp_path / f'IMG_{i}.jpg').write_bytes(save(block_image(), 'JPEG'))
    with caplog.at_level(logging.INFO):
        frames = list(open_image_folder(tmp_path))
    assert [f.name for f in frames] == ['IMG_0', 'IMG_1']
    assert '2 files (IMG_0.HEIC, IMG_1.HEIC) left out' in caplog.text
