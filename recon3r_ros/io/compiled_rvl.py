# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""RVL decompression (Wilson, 'Fast Lossless Depth Image Compression', ISS 2017, section 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled


@compiled()
def _number(words: NDArray[np.uint32], at: int) -> tuple[int, int]:
    """Return a number of variable length that begins at a nibble, and where it ends; -1: none."""
    value, shift = 0, 0
    while True:
        if at >= 8 * len(words) or shift > 30:
            return 0, -1
        nibble = (words[at // 8] >> np.uint32(28 - 4 * (at % 8))) & np.uint32(15)
        at += 1
        value |= int(nibble & np.uint32(7)) << shift
        if nibble < 8:
            return value, at
        shift += 3


@compiled('b1(u4[::1], u2[::1])')
def unpacked(words: NDArray[np.uint32], samples: NDArray[np.uint16]) -> bool:
    """
    Unpack runs of zeros and of differences from the sample before.

    :param words: nibbles, the highest first
    :param samples: (N,) zeros, to be filled
    :return: whether the words hold all of them
    """
    at, filled, last = 0, 0, 0
    while filled < len(samples):
        zeros, at = _number(words, at)
        if at < 0:
            return False
        run, at = _number(words, at)
        if at < 0 or zeros + run == 0 or zeros + run > len(samples) - filled:
            return False
        filled += zeros
        for _ in range(run):
            folded, at = _number(words, at)
            if at < 0:
                return False
            # 0, -1, 1, -2 ... are folded to 0, 1, 2, 3 ...
            last += (folded >> 1) if folded % 2 == 0 else -((folded + 1) >> 1)
            if not 0 <= last <= 65535:
                return False
            samples[filled] = last
            filled += 1
    return True
