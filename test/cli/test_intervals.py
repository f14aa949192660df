# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images without a pose are named, with the cause that was measured."""

from __future__ import annotations

from recon3r_ros.cli.intervals import Interval, intervals, lines

NAMES = {i: f'{i:03d}.png' for i in range(0, 40, 2)}


def test_intervals_have_the_most_frequent_cause() -> None:
    causes = {0: 'blur', 2: 'blur', 4: 'contrast', 20: 'lost', 38: ''}
    posed = set(NAMES) - {0, 2, 4, 20, 38}
    assert intervals(NAMES, posed, causes) == [
        Interval('000.png', '004.png', 3, 'blur'), Interval('020.png', '020.png', 1, 'lost'),
        Interval('038.png', '038.png', 1, 'unknown cause')]
    assert intervals(NAMES, set(NAMES), causes) == []


def test_the_longest_ones_are_told_and_the_others_counted() -> None:
    found = [Interval(f'{n}.png', f'{n}x.png', n, 'blur') for n in range(1, 9)]
    told = list(lines(found))
    assert told[0] == 'no pose: 8.png to 8x.png (8 images): blur'
    assert len(told) == 6 and told[-1].startswith('no pose: 6 more images in 3 intervals')
    assert list(lines(found[:1])) == ['no pose: 1.png: blur']
    assert list(lines([])) == []
