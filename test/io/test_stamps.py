# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stamps in text."""

import pytest
from recon3r_ros.io.stamps import format_seconds, parse_seconds, stamp_at_rate


@pytest.mark.parametrize('text, stamp_ns', [
    ('1403715273.262143', 1403715273262143000),
    ('1403715273.262142976', 1403715273262142976),
    ('0', 0), ('0.041667', 41667000), ('1e3', 10**12), ('.5', 5 * 10**8), ('-1.5', -15 * 10**8),
    ('0.1234567891', 123456789), ('9000000000', 9 * 10**18),
])
def test_exact(text, stamp_ns):
    assert parse_seconds(text) == stamp_ns
    assert parse_seconds(format_seconds(stamp_ns)) == stamp_ns


@pytest.mark.parametrize('text', ['', 'x', 'nan', 'inf', '1403715273262142976', '1e999999999'])
def test_refused(text):
    with pytest.raises(ValueError, match='stamp in seconds'):
        parse_seconds(text)


def test_format():
    assert format_seconds(-1) == '-0.000000001'
    assert format_seconds(1403715273262143000) == '1403715273.262143000'


def test_rate():
    assert [stamp_at_rate(i, 30.0) for i in (0, 1, 3, 30 * 86400)] == [
        0, 33333333, 100000000, 86400 * 10**9]
