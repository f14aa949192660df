# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Exact conversion of stamps between decimal seconds in text and integer nanoseconds."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

NS_PER_S = 1_000_000_000


def parse_seconds(text: str) -> int:
    """
    Return integer nanoseconds from decimal seconds; digits beyond nanoseconds are rounded.

    :raises ValueError: where the text is not a number, or does not fit into 63 bits
    """
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        raise ValueError(f'{text!r} is not a stamp in seconds') from None
    if not seconds.is_finite() or seconds.copy_abs() >= 2**63 // NS_PER_S:
        raise ValueError(f'{text!r} is out of range for a stamp in seconds')
    return int((seconds * NS_PER_S).to_integral_value())


def format_seconds(stamp_ns: int) -> str:
    """Return decimal seconds with all nine digits, which `parse_seconds` reads back exactly."""
    sign = '-' if stamp_ns < 0 else ''
    seconds, nanoseconds = divmod(abs(int(stamp_ns)), NS_PER_S)
    return f'{sign}{seconds}.{nanoseconds:09d}'


def stamp_at_rate(index: int, fps: float) -> int:
    """Return integer nanoseconds of image `index` at `fps` images a second."""
    return round(index * NS_PER_S / fps)
