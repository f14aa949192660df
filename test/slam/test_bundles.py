# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles of a rig's images, for sequences of stamps and arrivals."""

from __future__ import annotations

import random

import pytest
from recon3r_ros.slam.bundles import Bundle, Bundler

MS = 1_000_000
PERIOD = 33 * MS
BEGIN = 1_000 * MS


def images(camera: str, count: int, period: int = PERIOD, begin: int = BEGIN, shift: int = 0,
           delay: int = 10 * MS) -> list[tuple[int, str, int]]:
    """Return (arrival, camera, stamp) of images: `shift` is in the stamps alone."""
    return [(begin + i * period + delay, camera, begin + i * period + shift)
            for i in range(count)]


def bundled(bundler: Bundler[int], *streams: list[tuple[int, str, int]]
            ) -> list[tuple[int, Bundle[int]]]:
    """Feed images in the order of their arrival; return bundles with the time of their release."""
    released = []
    for arrival, camera, stamp in sorted(sum(streams, [])):
        released += [(arrival, b) for b in bundler.add(camera, stamp, stamp, arrival)]
    return released


def rig(**options) -> Bundler[int]:
    return Bundler(('left', 'right'), **options)


def complete(released) -> list[Bundle[int]]:
    return [b for _, b in released if len(b.items) == 2]


def test_every_image_is_released_once_and_in_order():
    """Whatever comes: jitter, losses, delays."""
    rng = random.Random(3)
    left = [(a + rng.randrange(40) * MS, c, s + rng.randrange(3) * MS)
            for a, c, s in images('left', 200) if rng.random() < 0.8]
    right = [(a + rng.randrange(20) * MS, c, s) for a, c, s in images('right', 200)
             if rng.random() < 0.7]
    # Of one camera they come in order
    for stream in (left, right):
        arrivals = sorted(a for a, _, _ in stream)
        stream[:] = [(a, c, s) for a, (_, c, s) in zip(arrivals, stream)]
    bundler = rig()
    found = [b for _, b in bundled(bundler, left, right)] + bundler.flush()
    for camera, stream in (('left', left), ('right', right)):
        assert [b.items[camera] for b in found if camera in b.items] == [s for _, _, s in stream]
    both = [b for b in found if len(b.items) == 2]
    assert len(both) > 0.9 * len({s for _, _, s in left} & {s for _, _, s in right})
    assert all(abs(b.items['left'] - b.items['right']) <= 5 * MS for b in both)
    counts = bundler.counts
    assert counts.complete == len(both)
    assert counts.without == {'left': sum('left' not in b.items for b in found),
                              'right': sum('right' not in b.items for b in found)}


def test_a_pair_is_released_with_its_second_image():
    found = bundled(rig(), images('left', 20), images('right', 20, delay=25 * MS))
    assert [a - b.stamp_ns for a, b in found] == [25 * MS] * 20
    assert len(complete(found)) == 20


def test_three_cameras():
    bundler = Bundler(('left', 'right', 'rear'))
    found = bundled(bundler, images('left', 20), images('right', 20), images('rear', 10, 66 * MS))
    assert sum(len(b.items) == 3 for _, b in found) == 10
    assert sum(set(b.items) == {'left', 'right'} for _, b in found) >= 9


def test_an_image_without_partner_goes_on():
    right = images('right', 40)
    del right[20]
    found = bundled(rig(), images('left', 40), right)
    lonely = [(a - b.stamp_ns, b) for a, b in found if len(b.items) == 1]
    assert len(lonely) == 1 and lonely[0][0] <= PERIOD + 10 * MS


def test_a_camera_dies_and_comes_back():
    """Dead, it is not waited for: images are not delayed."""
    bundler = rig()
    back = images('right', 50, begin=BEGIN + 100 * PERIOD)
    found = bundled(bundler, images('left', 150), images('right', 50), back)
    delays = [a - b.stamp_ns for a, b in found if len(b.items) == 1]
    assert len(complete(found)) >= 98
    assert sorted(delays)[-6] == 10 * MS and max(delays) <= 110 * MS
    assert bundler.counts.without['right'] in (50, 51)


def test_last_images_are_released_by_the_clock():
    bundler = rig()
    bundled(bundler, images('left', 12), images('right', 12))
    assert bundler.add('left', BEGIN + 12 * PERIOD, 0, BEGIN + 12 * PERIOD) == []
    assert bundler.poll(BEGIN + 12 * PERIOD + 30 * MS) == []
    assert len(bundler.poll(BEGIN + 12 * PERIOD + 90 * MS)) == 1


def test_different_rates_do_not_delay():
    bundler = rig()
    found = bundled(bundler, images('left', 100), images('right', 50, 2 * PERIOD))
    assert len(complete(found)) == 50
    delays = [a - b.stamp_ns for a, b in found[25:] if 'right' not in b.items]
    assert delays and max(delays) == 10 * MS


def test_cameras_start_at_different_times():
    found = bundled(rig(), images('left', 60), images('right', 30, begin=BEGIN + 30 * PERIOD))
    assert len(complete(found)) >= 29
    early = [a - b.stamp_ns for a, b in found[6:30]]
    assert max(early) == 10 * MS


@pytest.mark.parametrize('period', [PERIOD, 50 * MS, 100 * MS])
@pytest.mark.parametrize('shift', [30 * MS, -30 * MS, 12 * MS])
def test_a_constant_offset_is_named_and_not_paired(period, shift):
    """At 30 Hz an offset of 30 ms puts an image beside the next one: arrivals tell."""
    bundler = rig()
    found = bundled(bundler, images('left', 100, period), images('right', 100, period,
                                                                 shift=shift))
    assert complete(found) == []
    offset = bundler.counts.offsets['right']
    assert abs(offset.ns - shift) <= MS
    late = [a - b.stamp_ns for a, b in found[60:] if 'left' in b.items]
    assert max(late) == 10 * MS
    bundler = rig(corrections_ns={'right': -shift})
    found = bundled(bundler, images('left', 100, period), images('right', 100, period,
                                                                 shift=shift))
    assert len(complete(found)) == 100
    assert found[0][1].stamp_ns == BEGIN


def test_stamps_of_one_trigger_are_believed_though_one_camera_is_delayed():
    found = bundled(rig(), images('left', 60), images('right', 60, delay=43 * MS))
    assert len(complete(found)) >= 58


def test_cameras_without_a_common_clock_have_no_constant_offset():
    bundler = rig()
    found = bundled(bundler, images('left', 300), images('right', 290, 34 * MS))
    assert bundler.counts.offsets == {}
    assert all(abs(b.items['left'] - b.items['right']) <= 5 * MS for b in complete(found))


def test_a_recording_is_played_again():
    bundler = rig()
    again = [(a + 5000 * MS, c, s) for a, c, s in images('left', 40) + images('right', 40)]
    first = images('left', 120) + images('right', 120)
    found = bundled(bundler, first, again)
    assert len(complete(found)) >= 159
    assert len(found) + len(bundler.flush()) <= 161
