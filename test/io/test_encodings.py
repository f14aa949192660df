# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages to arrays, byte for byte."""

from array import array

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.encodings import ENCODINGS, image_to_array

# two rows of two pixels, as (R, G, B)
RGB = [[(10, 20, 30), (40, 50, 60)], [(70, 80, 90), (100, 110, 120)]]


def message(rows, pad=0):
    """Return (step, data) of rows of bytes, padded with bytes that must not appear."""
    return len(rows[0]) + pad, b''.join(bytes(row) + b'\xee' * pad for row in rows)


def flatten(order):
    """Return the rows of RGB with samples in the given order; 'a' is alpha."""
    sample = {'r': lambda p: p[0], 'g': lambda p: p[1], 'b': lambda p: p[2], 'a': lambda p: 7}
    return [[sample[c](pixel) for pixel in row for c in order] for row in RGB]


@pytest.mark.parametrize('pad', [0, 3])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8'])
def test_colour(encoding, pad):
    step, data = message(flatten(encoding[:-1]), pad)
    image = image_to_array(2, 2, encoding, step, False, data)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, np.array(RGB))


@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
@pytest.mark.parametrize('pad', [0, 5])
def test_mono8(encoding, pad):
    step, data = message([[1, 2, 3], [4, 5, 6]], pad)
    image = image_to_array(2, 3, encoding, step, False, data)
    np.testing.assert_array_equal(image, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
@pytest.mark.parametrize('pad', [0, 1, 2])
@pytest.mark.parametrize('big', [False, True])
def test_mono16_in_both_byte_orders_and_odd_steps(encoding, pad, big):
    rows = [[0x12, 0x34, 0x00, 0x01], [0xFF, 0xFE, 0x80, 0x00]]
    step, data = message(rows, pad)
    image = image_to_array(2, 2, encoding, step, big, data)
    expected = [[0x1234, 0x0001], [0xFFFE, 0x8000]] if big else [[0x3412, 0x0100], [0xFEFF, 0x80]]
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'])
@pytest.mark.parametrize('pad', [0, 4])
def test_yuv_against_bt601(encoding, pad):
    y0, y1, u, v = 90, 150, 100, 180
    quad = [y0, u, y1, v] if 'yuy' in encoding else [u, y0, v, y1]
    step, data = message([quad, quad], pad)
    image = image_to_array(2, 2, encoding, step, False, data)
    for column, y in enumerate((y0, y1)):
        luma, blue, red = 1.164383 * (y - 16), u - 128, v - 128
        expected = (
            luma + 1.596027 * red,
            luma - 0.391762 * blue - 0.812968 * red,
            luma + 2.017232 * blue,
        )
        np.testing.assert_allclose(image[:, column], [expected, expected], atol=1.0)


@pytest.mark.parametrize('pad', [0, 6])
@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_bayer_of_a_uniform_colour(pattern, pad):
    colour = {'r': 200, 'g': 100, 'b': 50}
    first = [colour[pattern[0]], colour[pattern[1]]] * 4
    second = [colour[pattern[2]], colour[pattern[3]]] * 4
    step, data = message([first, second] * 3, pad)
    image = image_to_array(6, 8, f'bayer_{pattern}8', step, False, data)
    np.testing.assert_array_equal(image, np.full((6, 8, 3), (200, 100, 50)))


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, lambda d: array('B', d),
                                  lambda d: np.frombuffer(d, np.uint8)])
def test_every_buffer_and_no_copy(kind):
    data = kind(bytes(range(12)))
    image = image_to_array(2, 2, 'rgb8', 6, False, data)
    np.testing.assert_array_equal(image.reshape(-1), range(12))
    assert np.shares_memory(image, np.frombuffer(data, np.uint8))


#: A picture of smooth colours, (H, W, 3) RGB, of which chroma and Bayer patterns lose little
PICTURE = np.stack(np.broadcast_arrays(
    np.linspace(40, 200, 24)[:, None], np.linspace(60, 180, 32)[None], 110), -1).astype(np.uint8)
#: Y, U, V of R, G, B in BT.601, video range; without their offsets 16, 128, 128
YUV_OF_RGB = np.array([[0.257, 0.504, 0.098], [-0.148, -0.291, 0.439], [0.439, -0.368, -0.071]])
GREYS = ('mono8', '8UC1', 'mono16', '16UC1', '32FC1')


def packed(encoding, picture=PICTURE):
    """Return the rows of bytes, (rows, bytes), in which a camera sends a picture (H, W, 3)."""
    height, width = picture.shape[:2]
    if encoding in GREYS:
        kind = {'8': 'u1', '6': '<u2', 'C': '<u2'}.get(encoding[-1], 'u1')
        kind = {'mono8': 'u1', '8UC1': 'u1', '32FC1': '<f4'}.get(encoding, '<u2')
        return picture[..., 1].astype(kind).view(np.uint8).reshape(height, -1)
    if encoding.startswith('bayer'):
        channels = ['rgb'.index(c) for c in encoding[6:10]]
        grid = np.zeros((height, width), np.uint8)
        for n, channel in enumerate(channels):
            grid[n // 2::2, n % 2::2] = picture[n // 2::2, n % 2::2, channel]
        kind = 'u1' if encoding.endswith('r8') or encoding[10:] == '8' else '<u2'
        return (grid.astype(kind) * (1 if kind == 'u1' else 256)).view(np.uint8).reshape(
            height, -1)
    yuv = np.round(picture @ YUV_OF_RGB.T + (16, 128, 128)).astype(np.uint8)
    y, uv = yuv[..., 0], yuv[..., 1:]
    vu = uv[..., ::-1] if encoding in ('nv21', 'nv61', 'nv42') else uv
    if encoding in ('nv12', 'nv21'):
        return np.concatenate([y, vu[::2, ::2].reshape(-1, width)])
    if encoding in ('nv16', 'nv61'):
        return np.concatenate([y, vu[:, ::2].reshape(-1, width)])
    if encoding in ('nv24', 'nv42'):
        return np.concatenate([y, vu.reshape(-1, width)])
    chroma = uv[:, ::2].reshape(height, width)
    if encoding in ('yuyv', 'yuv422_yuy2'):
        return np.stack([y, chroma], -1).reshape(height, -1)
    if encoding in ('uyvy', 'yuv422'):
        return np.stack([chroma, y], -1).reshape(height, -1)
    order = {'8UC3': 'bgr', '16UC3': 'bgr', '8UC4': 'bgra', '16UC4': 'bgra'}.get(
        encoding, encoding.rstrip('0123456789'))
    pixels = np.dstack([picture, np.full((height, width), 9, np.uint8)])[
        ..., ['rgba'.index(c) for c in order]]
    kind = '<u2' if '16' in encoding else 'u1'
    return np.ascontiguousarray(pixels.astype(kind)).view(np.uint8).reshape(height, -1)


def sent(encoding, pad=0, big=False):
    """Return (step, data) of the picture."""
    rows = packed(encoding)
    if big:
        size = 4 if encoding == '32FC1' else 2
        rows = rows.reshape(len(rows), -1, size)[..., ::-1].reshape(len(rows), -1)
    if encoding in ('nv24', 'nv42'):  # two rows of the plane of chroma are one of the pixels'
        assert pad == 0
    return rows.shape[1] + pad, np.pad(rows, ((0, 0), (0, pad)), constant_values=0xEE).tobytes()


def eight_bits(image):
    """Return an image without the scale of wide samples."""
    wide = image.dtype == np.uint16 and image.max() > 255
    return image.astype(float) / (256 if wide else 1)


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('pad', [0, 2, 5])
def test_a_picture_in_every_encoding(encoding, pad):
    if encoding in ('nv24', 'nv42'):
        pad = 0
    step, data = sent(encoding, pad)
    image = image_to_array(24, 32, encoding, step, False, data)
    assert image.flags.c_contiguous
    if encoding in GREYS:
        np.testing.assert_array_equal(image, PICTURE[..., 1])
        return
    assert image.shape == PICTURE.shape
    if encoding.startswith('bayer'):
        difference = (eight_bits(image) - PICTURE)[2:-2, 2:-2]  # interpolated at the border
        assert np.abs(difference).max() <= 6
    elif encoding.startswith(('nv', 'yu', 'uy')):
        assert np.abs(eight_bits(image) - PICTURE).max() <= 8
        assert np.abs(eight_bits(image) - PICTURE).mean() < 2.5
    else:
        np.testing.assert_array_equal(image, PICTURE)


@pytest.mark.parametrize('encoding', [e for e in ENCODINGS if '16' in e[-2:] or e[-1] in '134'
                                      and e[:2] in ('16', '32')])
def test_both_byte_orders(encoding):
    if encoding == 'nv16':
        return
    step, data = sent(encoding)
    little = image_to_array(24, 32, encoding, step, False, data)
    step, data = sent(encoding, 2, big=True)
    np.testing.assert_array_equal(image_to_array(24, 32, encoding, step, True, data), little)
    assert little.dtype == (np.float32 if encoding == '32FC1' else np.uint16)


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_last_row_without_padding(encoding):
    pad = 0 if encoding in ('nv24', 'nv42') else 2
    step, data = sent(encoding, pad)
    whole = image_to_array(24, 32, encoding, step, False, data)
    cut = data[:len(data) - pad]
    np.testing.assert_array_equal(image_to_array(24, 32, encoding, step, False, cut), whole)
    with pytest.raises(InputError, match='expected at least'):
        image_to_array(24, 32, encoding, step, False, cut[:-1])


@pytest.mark.parametrize('encoding, height, step', [
    ('nv12', 36, 32), ('nv12', 24, 48), ('nv21', 36, 32), ('nv16', 48, 32), ('nv24', 24, 96)])
def test_drivers_that_count_both_planes(encoding, height, step):
    """Some give the rows, or the bytes of a row, of luma and chroma together."""
    own_step, data = sent(encoding)
    expected = image_to_array(24, 32, encoding, own_step, False, data)
    np.testing.assert_array_equal(
        image_to_array(height, 32, encoding, step, False, data), expected)


def test_float_samples_keep_their_values():
    values = np.array([[0.0, 0.5], [np.nan, 7.25]], np.float32)
    image = image_to_array(2, 2, '32FC1', 8, False, values.tobytes())
    np.testing.assert_array_equal(image, values)


@pytest.mark.parametrize('arguments, reason', [
    ((2, 2, '32FC3', 24, False, bytes(48)), "'32FC3' is not one of"),
    ((2, 2, '8UC2', 4, False, bytes(8)), "'8UC2' is not one of"),
    ((3, 2, 'nv12', 2, False, bytes(9)), 'odd side'),
    ((2, 2, 'nv12', 1, False, bytes(6)), 'step is 1'),
    ((2, 2, '', 2, False, bytes(4)), "'' is not one of"),
    ((2, 2, 'rgb8', 5, False, bytes(12)), 'step is 5'),
    ((0, 2, 'rgb8', 6, False, b''), 'no pixels'),
    ((2, 0, 'mono8', 0, False, b''), 'no pixels'),
    ((2, 3, 'yuv422', 6, False, bytes(12)), 'odd side'),
    ((3, 2, 'bayer_rggb8', 2, False, bytes(6)), 'odd side'),
    ((2, 2, 'mono8', 2, False, b''), '0 bytes, expected at least 4'),
])
def test_impossible_messages_are_refused(arguments, reason):
    with pytest.raises(InputError, match=reason):
        image_to_array(*arguments)
