# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed images: orientation, bit depth, damage."""

import io

import numpy as np
from PIL import Image, ImageOps
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.decode import decode_compressed, decode_image, size_in_header


def picture(kind):
    """Return an image without symmetry: grey or colour, 8 or 16 bits."""
    grey = (np.arange(24, dtype=np.uint8) * 10).reshape(4, 6)
    if kind == 'grey':
        return grey
    if kind == 'grey16':
        return grey.astype(np.uint16) * 257 + 3
    return np.dstack([grey, 255 - grey, grey // 2])


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('file_kind, kind', [
    ('PNG', 'grey'), ('PNG', 'colour'), ('PNG', 'grey16'),
    ('TIFF', 'grey'), ('TIFF', 'colour'), ('TIFF', 'grey16'),
])
def test_orientation_is_applied_exactly(save, file_kind, kind, orientation):
    data = save(picture(kind), file_kind, orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    image = decode_image(data)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(image, expected)
    if orientation > 4:
        assert image.shape[:2] == (6, 4)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('channels', [1, 3])
def test_orientation_of_jpeg(save, block_image, channels, orientation):
    data = save(block_image(channels=channels), 'JPEG', orientation, quality=98)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    image = decode_image(data)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 4


@pytest.mark.parametrize('orientation', [1, 3, 6])
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'BMP', 'WEBP', 'PPM', 'JPEG2000'])
def test_size_in_header_is_that_of_the_decoded_image(save, block_image, tmp_path, kind,
                                                     orientation):
    data = save(block_image(), kind, orientation)
    (tmp_path / 'image').write_bytes(data)
    height, width = decode_image(data).shape[:2]
    assert size_in_header(tmp_path / 'image') == (width, height)


def test_size_in_header_of_what_is_no_image(tmp_path):
    (tmp_path / 'text').write_text('text')
    assert size_in_header(tmp_path / 'text') is None
    assert size_in_header(tmp_path / 'gone') is None


def test_orientation_is_left_alone_in_messages(save):
    data = save(picture('grey'), 'PNG', 6)
    np.testing.assert_array_equal(decode_image(data, upright=False), picture('grey'))


def test_colours_are_rgb(save):
    np.testing.assert_array_equal(decode_image(save(picture('colour'), 'BMP')), picture('colour'))


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P', '1', 'L'])
def test_alpha_is_dropped_and_palettes_are_resolved(mode):
    content = io.BytesIO()
    source = Image.fromarray(picture('colour')).convert(mode)
    source.save(content, 'PNG')
    expected = source.convert('RGB') if mode in ('RGBA', 'P', 'LA') else source.convert('L')
    np.testing.assert_array_equal(decode_image(content.getvalue()), np.asarray(expected))


def test_alpha_of_16_bits_is_dropped():
    import cv2

    bgra = np.arange(96, dtype=np.uint16).reshape(4, 6, 4) * 600
    image = decode_image(cv2.imencode('.png', bgra)[1].tobytes())
    np.testing.assert_array_equal(image, bgra[:, :, 2::-1])


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'TIFF', 'BMP', 'WEBP', 'PPM', 'JPEG2000'])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(save, kind, share):
    noise = np.random.default_rng(1).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    data = save(noise, kind)
    assert decode_image(data).shape == (96, 128, 3)
    with pytest.raises(InputError):
        decode_image(data[: int(len(data) * share)])


def test_truncated_jpeg_with_an_intact_thumbnail_is_refused(save, block_image):
    thumbnail = save(block_image(16, 16), 'JPEG')
    data = save(block_image(), 'JPEG')
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    with_thumbnail = data[:2] + segment + data[2:]
    assert decode_image(with_thumbnail).shape == (48, 64, 3)
    with pytest.raises(InputError, match='truncated JPEG'):
        decode_image(with_thumbnail[:-40])


def test_jpeg_may_go_on_after_its_end(save, block_image):
    assert decode_image(save(block_image(), 'JPEG') + b'maker note').shape == (48, 64, 3)
    progressive = save(block_image(), 'JPEG', progressive=True)
    assert decode_image(progressive).shape == (48, 64, 3)


@pytest.mark.parametrize('data, reason', [
    (b'', 'empty file'),
    (b'not an image at all\n', 'not a JPEG'),
    (b'\xff\xd8\xff', 'truncated JPEG'),
    (b'\xff\xd8\xff\xe0\xff\xff', 'truncated JPEG'),
    (b'\x89PNG\r\n\x1a\n', 'truncated PNG'),
    (b'RIFF\xff\x00\x00\x00WEBPVP8 ', 'truncated WebP'),
])
def test_what_is_no_image_is_refused(data, reason):
    with pytest.raises(InputError, match=reason):
        decode_image(data)


def test_floats_are_refused():
    content = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(content, 'TIFF')
    with pytest.raises(InputError, match='float32'):
        decode_image(content.getvalue())


@pytest.mark.parametrize('image_format, swapped', [
    ('jpeg', False), ('png', False), ('', False), ('rgb8; png compressed bgr8', False),
    ('bgr8; jpeg compressed bgr8', False), ('rgb8; png compressed rgb8', True),
])
def test_colour_order_of_compressed_messages(save, image_format, swapped):
    image = decode_compressed(save(picture('colour'), 'PNG'), image_format)
    expected = picture('colour')[:, :, ::-1] if swapped else picture('colour')
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize('kind, options', [('WebP', {'lossless': True}), ('TIFF', {})])
def test_other_compressed_messages(save, kind, options):
    image = decode_compressed(save(picture('colour'), kind, **options), kind.lower())
    np.testing.assert_array_equal(image, picture('colour'))


@pytest.mark.parametrize('image_format', ['h264', 'H.265', 'hevc', 'av1'])
def test_compressed_video_is_refused(image_format):
    with pytest.raises(InputError, match='compressed video.*--video'):
        decode_compressed(b'\x00\x00\x00\x01g', image_format)


def test_compressed_depth_is_refused():
    with pytest.raises(InputError, match='depth image'):
        decode_compressed(b'', '16UC1; compressedDepth png')
