# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
HEIC files, written without an encoder: what HEVC calls PCM blocks hold the samples as they are.

A picture is cut into blocks of 16x16, a slice each, so that the arithmetic coder starts anew in
each and its bits are always the same (ITU-T H.265, sections 7.3 and 9.3; ISO/IEC 23008-12 for the
container).
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BLOCK = 16
_VPS, _SPS, _PPS, _IDR = 32, 33, 34, 19
#: Bits of the coder: part_mode 1 (2Nx2N) at its first probability for QP 26, then pcm_flag 1
_BEGIN = b'\x86\x80'
#: After the samples, where it starts again: end_of_slice_segment_flag 1
_END = b'\xfe\x80'
_MAIN, _MAIN_10 = 1, 2
_LEVEL = 93  # 3.1


class _Bits:
    """A string of bits, as the standard's descriptors u(n) and ue(v) write them."""

    def __init__(self) -> None:
        self.text = ''

    def u(self, *pairs: tuple[int, int]) -> _Bits:
        """Append values of so many bits each: (value, bits)."""
        self.text += ''.join(f'{value:0{bits}b}' for value, bits in pairs)
        return self

    def flags(self, text: str) -> _Bits:
        """Append single bits."""
        self.text += text
        return self

    def ue(self, *values: int) -> _Bits:
        """Append Exp-Golomb codes; se(v) of 0 is the same."""
        for value in values:
            code = f'{value + 1:b}'
            self.text += '0' * (len(code) - 1) + code
        return self

    def ended(self) -> bytes:
        """Return bytes, after a bit 1 and zeros."""
        text = self.text + '1'
        text += '0' * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, 'big')


def _nal(kind: int, content: bytes) -> bytes:
    """Return a NAL unit, with what keeps start codes out of it."""
    out, zeros = bytearray(), 0
    for byte in content:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes([kind << 1, 1]) + bytes(out)


def _profile(bits: int) -> tuple[int, int]:
    """Return the profile and the flags of those that it is compatible with."""
    profile = _MAIN if bits == 8 else _MAIN_10
    return profile, sum(1 << 31 - i for i in range(profile, _MAIN_10 + 1))


def _parameter_sets(width: int, height: int, bits: int, grey: bool) -> dict[int, bytes]:
    profile, compatible = _profile(bits)
    tier = ((0, 3), (profile, 5), (compatible, 32), (0b1001, 4), (0, 44), (_LEVEL, 8))
    vps = _Bits().u((0, 4), (3, 2), (0, 6), (0, 3), (1, 1), (0xFFFF, 16), *tier).flags('1')
    vps.ue(0, 0, 0).u((0, 6)).ue(0).flags('00')
    sps = _Bits().u((0, 4), (0, 3), (1, 1), *tier).ue(0, 0 if grey else 1, width, height)
    sps.flags('0').ue(bits - 8, bits - 8, 0).flags('1').ue(0, 0, 0)
    # Coding blocks of 16 pixels, transforms of 4 to 16
    sps.ue(1, 0, 0, 2, 0, 0).flags('000')
    sps.flags('1').u((bits - 1, 4), (bits - 1, 4)).ue(1, 0).flags('1')
    sps.ue(0).flags('00000')
    pps = _Bits().ue(0, 0).flags('00').u((0, 3)).flags('00').ue(0, 0, 0).flags('000').ue(0, 0)
    # Neither slices nor filters across them: deblocking is off
    pps.flags('0000000').flags('101').flags('00').ue(0).flags('00')
    return {_VPS: _nal(_VPS, vps.ended()), _SPS: _nal(_SPS, sps.ended()),
            _PPS: _nal(_PPS, pps.ended())}


def _slices(planes: list[NDArray[np.uint16]], bits: int) -> list[bytes]:
    """Return a slice for each block; chroma has half the size of luma."""
    rows, columns = (side // _BLOCK for side in planes[0].shape)
    slices = []
    for number, (row, column) in enumerate(product(range(rows), range(columns))):
        header = _Bits().flags('10' if number == 0 else '00').ue(0)
        if number:
            header.u((number, (rows * columns - 1).bit_length()))
        samples = _Bits()
        for i, plane in enumerate(planes):
            side = _BLOCK if i == 0 else _BLOCK // 2
            block = plane[side * row:side * (row + 1), side * column:side * (column + 1)]
            samples.u(*((int(value), bits) for value in block.ravel()))
        packed = int(samples.text, 2).to_bytes(len(samples.text) // 8, 'big')
        slices.append(_nal(_IDR, header.ue(2, 0).ended() + _BEGIN + packed + _END))
    return slices


def _box(kind: bytes, *contents: bytes) -> bytes:
    content = b''.join(contents)
    return (8 + len(content)).to_bytes(4, 'big') + kind + content


def _big(*values: tuple[int, int]) -> bytes:
    """Return big-endian integers: (value, bytes)."""
    return b''.join(value.to_bytes(size, 'big') for value, size in values)


def _configuration(sets: dict[int, bytes], bits: int, grey: bool) -> bytes:
    profile, compatible = _profile(bits)
    return _box(b'hvcC', _big(
        (1, 1), (profile, 1), (compatible, 4), (0b1001 << 44, 6), (_LEVEL, 1), (0xF000, 2),
        (0xFC, 1), (0xFC | (not grey), 1), (0xF8 | bits - 8, 1), (0xF8 | bits - 8, 1), (0, 2),
        (0x0F, 1), (len(sets), 1)), *(
            _big((0x80 | kind, 1), (1, 2), (len(nal), 2)) + nal for kind, nal in sets.items()))


def heic(image: NDArray[np.uint8], bits: int = 8, turns: int = 0, mirrored: bool = False,
         exif: Image.Exif | None = None) -> bytes:
    """
    Return a HEIC file.

    :param image: (H, W) grey or (H, W, 3) RGB; sides are multiples of 16
    :param bits: of its samples: 8, or 10
    :param turns: quarters that the picture is to be turned to the left to be upright (irot)
    :param mirrored: whether left and right are to be exchanged after that (imir)
    """
    height, width = image.shape[:2]
    colours = [image] if image.ndim == 2 else [
        np.asarray(Image.fromarray(image).convert('YCbCr'))[..., i] for i in range(3)]
    planes = [np.rint(c * ((2 ** bits - 1) / 255.0)).astype(np.uint16) for c in colours]
    planes[1:] = [plane[::2, ::2] for plane in planes[1:]]
    sets = _parameter_sets(width, height, bits, image.ndim == 2)
    items = [b''.join(_big((len(nal), 4)) + nal for nal in _slices(planes, bits))]
    kinds = [b'hvc1']
    if exif is not None:
        items.append(_big((6, 4)) + exif.tobytes())
        kinds.append(b'Exif')
    properties = [
        _configuration(sets, bits, image.ndim == 2),
        _box(b'ispe', _big((0, 4), (width, 4), (height, 4))),
        # sRGB, BT.601, full range, as Pillow converts
        _box(b'colr', b'nclx', _big((1, 2), (13, 2), (6, 2), (0x80, 1)))]
    if turns:
        properties.append(_box(b'irot', _big((turns, 1))))
    if mirrored:
        properties.append(_box(b'imir', _big((1, 1))))
    entries = [_box(b'infe', _big((2 << 24, 4), (i, 2), (0, 2)), kind, b'\0')
               for i, kind in enumerate(kinds, start=1)]

    def meta(begin: int) -> bytes:
        offsets = [begin + sum(map(len, items[:i])) for i in range(len(items))]
        locations = b''.join(_big((i, 2), (0, 2), (1, 2), (offset, 4), (len(item), 4))
                             for i, (offset, item) in enumerate(zip(offsets, items), start=1))
        return _box(
            b'meta', bytes(4), _box(b'hdlr', bytes(8), b'pict', bytes(13)),
            _box(b'pitm', _big((0, 4), (1, 2))),
            _box(b'iloc', _big((0, 4), (0x44, 1), (0, 1), (len(items), 2)), locations),
            _box(b'iinf', _big((0, 4), (len(items), 2)), *entries),
            *([_box(b'iref', bytes(4), _box(b'cdsc', _big((2, 2), (1, 2), (1, 2))))]
              if exif is not None else []),
            _box(b'iprp', _box(b'ipco', *properties), _box(b'ipma', _big(
                (0, 4), (1, 4), (1, 2), (len(properties), 1),
                *((0x80 | i, 1) for i in range(1, len(properties) + 1))))))
    head = _box(b'ftyp', b'heic', bytes(4), b'mif1heic')
    begin = len(head) + len(meta(0)) + 8
    return head + meta(begin) + _box(b'mdat', *items)
