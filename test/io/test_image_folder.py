# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Folders of images and packs."""

import json
import logging

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.calibrations import read_calibration
from recon3r_ros.io.image_folder import APART_NS, open_image_folder
from recon3r_ros.io.listing import natural_key
from recon3r_ros.io.masks import MaskedSequence
from recon3r_ros.io.sequences import open_sequence

pytestmark = pytest.mark.usefixtures('no_new_threads')

CAMERA = {'width': 64, 'height': 48, 'fx': 50.0, 'fy': 51.0, 'cx': 31.5, 'cy': 23.5,
          'distortion': [0.1, 0.0, 0.0, 0.0, 0.0]}


@pytest.fixture
def pack(tmp_path, save, block_image):
    """Write a pack of four images, two JPEG and two PNG."""
    images = tmp_path / 'images'
    images.mkdir()
    for i, kind in enumerate(('JPEG', 'PNG', 'JPEG', 'PNG')):
        suffix = 'jpg' if kind == 'JPEG' else 'png'
        (images / f'{i}.{suffix}').write_bytes(save(block_image(), kind))
    (tmp_path / 'frames.txt').write_text(
        '# timestamp image [source]\n'
        '1403715273.262143 0.jpg a/b c\n\n1403715273.3 1.png\n1403715274 2.jpg\n'
        '1403715274.000000001 3.png\n')
    (tmp_path / 'camera.json').write_text(json.dumps(CAMERA))
    return tmp_path


def test_pack(pack, block_image):
    sequence = open_image_folder(pack)
    frames = list(sequence)
    assert len(sequence) == 4
    assert [f.stamp_ns for f in frames] == [
        1403715273262143000, 1403715273300000000, 1403715274000000000, 1403715274000000001]
    assert [f.name for f in frames] == ['0', '1', '2', '3']
    assert [f.index for f in frames] == [0, 1, 2, 3]
    assert [sequence.file_name(f) for f in frames] == ['0.jpg', '1.png', '2.jpg', '3.png']
    assert {f.camera for f in frames} == {read_calibration(pack / 'camera.json').camera()}
    np.testing.assert_array_equal(frames[1].image, block_image())
    assert np.abs(frames[0].image.astype(int) - block_image()).mean() < 5
    assert sequence.skipped == []
    assert [f.name for f in sequence] == ['0', '1', '2', '3']


def test_in_another_order_the_place_in_the_input_is_remembered(pack):
    given = open_image_folder(pack)
    sequence = MaskedSequence(given.rearranged([2, 0, 3]), masks_beside(pack))
    frames = list(sequence)
    assert [f.name for f in frames] == ['2', '0', '3'] and len(sequence) == 3
    assert [f.index for f in frames] == [0, 1, 2]
    assert (np.diff([f.stamp_ns for f in frames]) == APART_NS).all()
    assert [sequence.file_name(f) for f in frames] == ['2.jpg', '0.jpg', '3.png']
    before = {f.name: f for f in given}
    assert [f.name for f in before.values()] == ['0', '1', '2', '3'], 'the other one stays'
    for frame in frames:
        original = sequence.original(frame)
        assert (original.index, original.stamp_ns) == (
            before[frame.name].index, before[frame.name].stamp_ns)
        assert given.original(before[frame.name]) is before[frame.name]


def masks_beside(pack):
    """Write a mask of an image of a pack; return the folder."""
    (pack / 'masks').mkdir()
    cv2.imwrite(str(pack / 'masks' / '0.png'), np.zeros((48, 64), np.uint8))
    return pack / 'masks'


def test_camera_given_or_ignored(pack):
    camera = Camera(64, 48, 10.0, 10.0, 3.0, 4.0)
    assert next(iter(open_image_folder(pack, camera))).camera == camera
    assert next(iter(open_image_folder(pack, calibrated=False))).camera is None


def test_plain_folder_in_natural_order(tmp_path, save, block_image):
    for name in ('img10.PNG', 'img9.png', 'img1.png', 'Img2.png'):
        (tmp_path / name).write_bytes(save(block_image(channels=1), 'PNG'))
    (tmp_path / 'notes.txt').write_text('x')
    (tmp_path / '._img1.png').write_text('x')
    (tmp_path / 'folder.png').mkdir()
    frames = list(open_image_folder(tmp_path, fps=10.0))
    assert [f.name for f in frames] == ['img1', 'Img2', 'img9', 'img10']
    assert [f.stamp_ns for f in frames] == [0, 100000000, 200000000, 300000000]
    assert frames[0].image.shape == (48, 64)
    assert frames[0].camera is None


def test_natural_key_is_total():
    names = ['a', '1', 'a1', 'a01', 'a1b2', '', '12', 'é3', '٣', 'a²']
    assert len(sorted(names, key=natural_key)) == len(names)


def test_unusable_images_are_skipped_by_name(pack, save, block_image, caplog):
    images = pack / 'images'
    (images / '1.png').write_text('not an image')
    (images / '2.jpg').write_bytes(save(block_image(), 'JPEG')[:-30])
    (images / '3.png').write_bytes(b'')
    (images / '4.png').write_bytes(save(block_image(16, 32), 'PNG'))
    (images / '6.png').write_bytes(save(block_image(), 'PNG'))
    with (pack / 'frames.txt').open('a') as listing:
        listing.write('1403715275 4.png\n1403715276 gone.png\n1403715277 6.png\n')
    sequence = open_image_folder(pack)
    with caplog.at_level(logging.WARNING):
        frames = list(sequence)
    assert [(f.name, f.index) for f in frames] == [('0', 0), ('6', 6)]
    assert len(sequence) == 7
    assert sequence.skipped == [
        'images/1.png: damaged, or not a JPEG, PNG, TIFF, BMP, WebP, PNM or JPEG 2000 image',
        'images/2.jpg: is a truncated JPEG (no end-of-image marker)',
        'images/3.png: is an empty file',
        'images/4.png: has 32x16 pixels, expected 64x48 as in most images',
        'images/gone.png: no such file',
    ]
    assert [r.getMessage() for r in caplog.records] == [f'skipped {s}' for s in sequence.skipped]
    list(sequence)
    assert len(sequence.skipped) == 5


def test_first_image_may_be_unusable(pack):
    (pack / 'images' / '0.jpg').write_bytes(b'\xff\xd8\xff')
    sequence = open_image_folder(pack)
    assert [f.name for f in sequence] == ['1', '2', '3']
    assert len(sequence.skipped) == 1


def test_size_of_most_images_counts(tmp_path, save, block_image, caplog):
    (tmp_path / '00.png').write_bytes(save(block_image(96, 128), 'PNG'))
    for i in (1, 3, 4, 6):
        (tmp_path / f'{i:02d}.png').write_bytes(save(block_image(), 'PNG'))
    for i in (2, 5, 7, 8, 9):
        # As many as the others, with a name after theirs, and damaged, so that they do not count
        (tmp_path / f'{i:02d}.png').write_bytes(b'' if i > 5 else save(block_image(48, 48), 'PNG'))
    sequence = open_image_folder(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert [f.name for f in sequence] == ['01', '03', '04', '06']
    assert [r.getMessage() for r in caplog.records] == [
        'skipped 00.png: has 128x96 pixels, expected 64x48 as in most images',
        'skipped 2 images (02.png, 05.png): has 48x48 pixels, expected 64x48 as in most images',
        'skipped 3 images (07.png, 08.png, 09.png): is an empty file',
    ]
    assert len(sequence.skipped) == 6


def test_images_turned_by_exif_count_with_their_turned_size(tmp_path, save, block_image):
    for i, (kind, orientation) in enumerate([('PNG', 6), ('JPEG', 1), ('JPEG', 6), ('TIFF', 8)]):
        (tmp_path / f'{i}.{kind.lower()}').write_bytes(save(block_image(), kind, orientation))
    assert [f.name for f in open_image_folder(tmp_path)] == ['0', '2', '3']


def test_field_first_image_of_another_size(shared_data):
    sequence = open_image_folder(shared_data.field('first_image_other_size') / 'images')
    assert len(list(sequence)) == 11
    assert sequence.skipped == [
        '000.jpg: has 640x480 pixels, expected 320x240 as in most images']


def test_16_bit_images_share_one_scale(tmp_path):
    ramp = np.linspace(0, 4095, 48 * 64).astype(np.uint16).reshape(48, 64)
    cv2.imwrite(str(tmp_path / '0.png'), ramp)
    cv2.imwrite(str(tmp_path / '1.png'), ramp // 2)
    cv2.imwrite(str(tmp_path / '2.png'), np.dstack([ramp] * 3))
    frames = list(open_image_folder(tmp_path))
    assert all(f.image.dtype == np.uint8 for f in frames)
    assert frames[0].image.max() > 150
    np.testing.assert_allclose(frames[1].image, frames[0].image / 2.0, atol=1.0)
    np.testing.assert_allclose(frames[2].image, np.dstack([frames[0].image] * 3), atol=1)


def test_size_follows_exif(tmp_path, save, block_image):
    for i in range(2):
        (tmp_path / f'{i}.jpg').write_bytes(save(block_image(), 'JPEG', 6))
    assert next(iter(open_image_folder(tmp_path))).image.shape == (64, 48, 3)


@pytest.mark.parametrize('line, reason', [
    ('1403715274.000000001 4.png', 'line 7: stamp 1403715274.000000001 is not after'),
    ('1403715270 4.png', 'line 7: stamp 1403715270 is not after'),
    ('1403715280 2.png', 'line 7: 2.png and 2.jpg would both be named 2'),
    ('1403715280', 'line 7: expected a stamp and an image name'),
    ('later 4.png', "line 7: 'later' is not a stamp"),
    ('1403715280000000000 4.png', 'line 7: .* out of range for a stamp in seconds'),
    ('1403715280 /etc/passwd', 'line 7: /etc/passwd lies outside'),
])
def test_bad_listing_names_the_line(pack, line, reason):
    with (pack / 'frames.txt').open('a') as listing:
        listing.write(line + '\n')
    with pytest.raises(InputError, match=reason) as caught:
        open_image_folder(pack)
    assert 'frames.txt' in str(caught.value)


def test_negative_stamp_and_empty_listing(pack):
    (pack / 'frames.txt').write_text('-1 0.jpg\n')
    with pytest.raises(InputError, match='line 1: stamp -1 is negative'):
        open_image_folder(pack)
    (pack / 'frames.txt').write_text('# nothing\n')
    with pytest.raises(InputError, match='lists no images'):
        open_image_folder(pack)


def test_duplicate_stems(tmp_path):
    for name in ('a.png', 'a.jpg'):
        (tmp_path / name).write_text('x')
    with pytest.raises(InputError, match='a.jpg and a.png would both be named a'):
        open_image_folder(tmp_path)


def test_camera_of_another_size(pack):
    (pack / 'camera.json').write_text(json.dumps(CAMERA | {'width': 128, 'height': 90}))
    with pytest.raises(InputError, match=r'camera.json is for images of 128x90 .* has 64x48'):
        open_image_folder(pack)
    assert len(open_image_folder(pack, calibrated=False)) == 4
    with pytest.raises(InputError, match='the camera given is for images of 8x8'):
        open_image_folder(pack, Camera(8, 8, 1.0, 1.0, 1.0, 1.0))


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match='no such folder'):
        open_image_folder(tmp_path / 'gone')
    with pytest.raises(InputError, match='no images; expected'):
        open_image_folder(tmp_path)
    (tmp_path / 'a.jpg').write_text('text')
    with pytest.raises(InputError, match=r'none of its 1 images .* a.jpg: damaged'):
        open_image_folder(tmp_path)
    with pytest.raises(InputError, match='is not a folder'):
        open_image_folder(tmp_path / 'a.jpg')


@pytest.mark.parametrize('fps', [0.0, -1.0, float('nan'), float('inf')])
def test_impossible_rate(pack, fps):
    with pytest.raises(InputError, match='expected a positive number'):
        open_image_folder(pack, fps=fps)


def test_abandoned_iteration(pack):
    for _ in open_image_folder(pack):
        break


def test_exactly_one_input(pack):
    assert len(open_sequence(images=pack)) == 4
    with pytest.raises(InputError, match='0 inputs given'):
        open_sequence()
    with pytest.raises(InputError, match='2 inputs given'):
        open_sequence(images=pack, bag=pack)


@pytest.mark.parametrize('name, count, shape, first_ns', [
    ('euroc_v101_stationary', None, (480, 752), 1403715273262143000),
    ('fox_object', None, (1920, 1080, 3), 10**9),
    ('kitti_06_first51', 51, (370, 1226), 0),
    ('davis_camel', None, None, 0),
    ('strecha_fountain_p11', 11, (1024, 1536, 3), 0),
])
def test_real_packs(shared_data, name, count, shape, first_ns):
    path = shared_data.pack(name)
    sequence = open_image_folder(path)
    assert count is None or len(sequence) == count
    frames = []
    for frame in sequence:
        frames.append(frame)
        if len(frames) == 3:
            break
    assert [f.index for f in frames] == [0, 1, 2]
    assert frames[0].stamp_ns == first_ns
    assert shape is None or frames[0].image.shape == shape
    assert (frames[0].camera is None) == (not (path / 'camera.json').exists())
    assert sequence.skipped == []
