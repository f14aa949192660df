# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Messages of compressed_depth_image_transport, against a small encoder of this file."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from PIL import Image
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.io.compressed_depth import decode_compressed_depth, depth_of_message

Samples = NDArray[np.uint16]

#: Quantisation of inverse depth to 100 at most 10 m away
QUANTUM, FARTHEST = 100.0, 10.0
A = QUANTUM * (QUANTUM + 1)
B = 1 - A / FARTHEST


def samples(rng: np.random.Generator) -> Samples:
    """Millimetres with holes, a run of one value, and the extremes."""
    out = rng.integers(1, 65536, (48, 64)).astype(np.uint16)
    out[rng.random(out.shape) < 0.3] = 0
    out[10, :] = 0
    out[11, :] = 2000
    out[0, :3], out[-1, -3:] = (65535, 1, 65535), 0
    return out


def png(values: Samples) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, 'PNG')
    return file.getvalue()


def rvl(values: Samples) -> bytes:
    """Wilson 2017, section 3, written as strings of hexadecimal digits."""
    digits: list[str] = []

    def put(number: int) -> None:
        while number > 7:
            digits.append('89abcdef'[number & 7])
            number >>= 3
        digits.append('01234567'[number])

    flat, at, last = values.ravel().tolist(), 0, 0
    while at < len(flat):
        begin = at
        while at < len(flat) and flat[at] == 0:
            at += 1
        put(at - begin)
        begin = at
        while at < len(flat) and flat[at] != 0:
            at += 1
        put(at - begin)
        for value in flat[begin:at]:
            difference = value - last
            put(2 * difference if difference >= 0 else -2 * difference - 1)
            last = value
    text = ''.join(digits)
    text += '0' * (-len(text) % 8)
    words = [int(text[i:i + 8], 16) for i in range(0, len(text), 8)]
    return struct.pack('<2i', values.shape[1], values.shape[0]) + struct.pack(
        f'<{len(words)}I', *words)


CODERS = {'png': png, 'rvl': rvl}


@pytest.mark.parametrize('coder', CODERS)
@pytest.mark.parametrize('name', [' png', ' rvl', ''])
def test_millimetres(coder: str, name: str) -> None:
    if name.strip() not in (coder, '' if coder == 'png' else coder):
        pytest.skip('older versions of the transport name no coder, and write PNG')
    values = samples(np.random.default_rng(1))
    data = struct.pack('<i2f', 0, 0.0, 0.0) + CODERS[coder](values)
    depth = decode_compressed_depth(data, f'16UC1; compressedDepth{name}')
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(depth), values == 0)
    np.testing.assert_allclose(depth[values > 0], values[values > 0] / 1000, rtol=1e-6)


@pytest.mark.parametrize('coder', CODERS)
def test_quantised_inverse_depth(coder: str) -> None:
    rng = np.random.default_rng(2)
    true = rng.uniform(0.4, 9.5, (48, 64))
    true[rng.random(true.shape) < 0.3] = np.nan
    quantised = np.where(np.isnan(true), 0, A / true + B).astype(np.uint16)
    data = struct.pack('<i2f', 0, A, B) + CODERS[coder](quantised)
    depth = decode_compressed_depth(memoryview(data), f'32FC1; compressedDepth {coder}')
    np.testing.assert_array_equal(np.isnan(depth), np.isnan(true))
    # One step of A / z + B is z^2 / A metres
    known = np.isfinite(true)
    assert (np.abs(depth - true)[known] <= 1.02 * true[known] ** 2 / A).all()


@pytest.mark.parametrize('image_format, change, message', [
    ('bgr8; jpeg compressed bgr8', None, 'no compressed depth'),
    ('8UC1; compressedDepth png', None, 'no compressed depth'),
    ('16UC1; compressedDepth png', lambda d: d[:9], '9 bytes'),
    ('16UC1; compressedDepth png', lambda d: d[:-20], 'truncated'),
    ('16UC1; compressedDepth png', lambda d: d[:12] + b'x' * 40, 'no PNG'),
    ('16UC1; compressedDepth rvl', lambda d: d[:12] + rvl(np.ones((4, 40), np.uint16))[:-4],
     'damaged or truncated'),
    ('16UC1; compressedDepth rvl', lambda d: d[:12] + struct.pack('<2i', -3, 4) + b'abcd',
     '-3x4'),
    ('16UC1; compressedDepth rvl', lambda d: d[:12] + struct.pack('<2i', 40, 4) + b'\xff' * 99,
     'damaged'),
    ('32FC1; compressedDepth png', None, 'quantisation')])
def test_what_is_wrong_is_named(image_format: str, change, message: str) -> None:
    data = struct.pack('<i2f', 0, 0.0, 0.0) + png(samples(np.random.default_rng(3)))
    with pytest.raises(InputError, match=message):
        decode_compressed_depth(data if change is None else change(data), image_format)


def test_noise_raises_nothing_else() -> None:
    rng = np.random.default_rng(4)
    for length in range(0, 120, 3):
        for name in ('png', 'rvl'):
            noise = struct.pack('<i2f2i', 0, A, B, 9, 7) + rng.bytes(length)
            try:
                decode_compressed_depth(noise, f'32FC1; compressedDepth {name}')
            except InputError:
                continue


def test_the_kind_of_a_message_decides() -> None:
    values = samples(np.random.default_rng(5))
    raw = SimpleNamespace(height=48, width=64, encoding='16UC1', step=128, is_bigendian=0,
                          data=values.astype('<u2').tobytes())
    packed = SimpleNamespace(format='16UC1; compressedDepth rvl',
                             data=struct.pack('<i2f', 0, 0.0, 0.0) + rvl(values))
    np.testing.assert_array_equal(depth_of_message(raw), depth_of_message(packed))
    with pytest.raises(InputError, match='rgb8'):
        depth_of_message(SimpleNamespace(encoding='rgb8'))
