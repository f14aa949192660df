# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Image messages to arrays, byte for byte."""

from array import array

import numpy as np
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.encodings import ENCODINGS, image_to_array, ToneMap

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


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('pad', [0, 2])
def test_every_encoding_takes_a_last_row_without_padding(encoding, pad):
    step = 4 * 8 + pad
    two_bytes = ('mono16', '16UC1', 'yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv')
    colours = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4}
    row = 8 * colours.get(encoding, 2 if encoding in two_bytes else 1)
    image = image_to_array(4, 8, encoding, step, False, bytes(3 * step + row))
    assert image.shape[:2] == (4, 8)
    with pytest.raises(InputError, match='expected at least'):
        image_to_array(4, 8, encoding, step, False, bytes(3 * step + row - 1))


@pytest.mark.parametrize('arguments, reason', [
    ((2, 2, '32FC1', 8, False, bytes(16)), "'32FC1' is not one of"),
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


def test_tone_map_uses_the_range_of_the_first_image():
    first = np.linspace(1000, 3000, 10000).astype(np.uint16).reshape(100, 100)
    tone = ToneMap()
    low, high = tone(first)[0, 0], tone(first)[-1, -1]
    # half the range is reserved on either side for later images
    assert 62 <= low <= 66
    assert 189 <= high <= 193


def test_tone_map_does_not_flicker():
    tone = ToneMap()
    tone(np.linspace(0, 4095, 4096).astype(np.uint16).reshape(64, 64))
    dark = tone(np.full((4, 4), 500, np.uint16))
    mixed = tone(np.array([[500, 4095, 60000]], np.uint16))
    assert mixed[0, 0] == dark[0, 0]
    assert mixed[0, 0] < mixed[0, 1] < mixed[0, 2] == 255


def test_tone_map_is_monotonic_over_full_range():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = ToneMap()(values).reshape(-1).astype(int)
    assert image[0] == 0
    assert image[-1] == 255
    np.testing.assert_allclose(image, np.arange(65536) / 257, atol=0.51)


def test_tone_map_of_a_uniform_image_amplifies_nothing():
    image = ToneMap()(np.array([[700, 701, 702]], np.uint16)).astype(int)
    assert np.ptp(image) <= 2


def test_tone_map_leaves_8_bits_alone_and_refuses_floats():
    image = np.zeros((2, 2), np.uint8)
    assert ToneMap()(image) is image
    with pytest.raises(InputError, match='float32'):
        ToneMap()(image.astype(np.float32))
