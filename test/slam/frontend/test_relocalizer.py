# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a lost camera, which are placed outwards from the keyframe that was found."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from keyframes_by_hand import at_x, keyframe, TRACKING, tracking_image
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.slam.frontend import relocalizer
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.relocalizer import MAX_LOST, PATIENCE, Relocalizer
from recon3r_ros.slam.frontend.steps import Placed
from recon3r_ros.slam.frontend.tracking import Track
from recon3r_ros.slam.types import Keyframe, TrackedFrame
from simulated import degrees_between

Array = NDArray[np.float64]


def frame(n: int) -> TrackedFrame:
    """Make frame n, a tenth of a second after the one before."""
    return TrackedFrame(f'{n:06}', n * 10 ** 8, n)


def found_at(n: int) -> Keyframe:
    """Make keyframe 7 of frame n."""
    return replace(keyframe(7), stamp_ns=n * 10 ** 8, index=n)


class ShortSighted:
    """
    A tracker that finds its keyframe only from near where it is.

    A frame's image holds its number n; it stands n decimetres along a line.

    :param at: number of the keyframe's frame
    :param blind: frames that see nothing
    """

    def __init__(self, at: int, blind: tuple[int, ...] = ()) -> None:
        self._at, self._blind = at, blind
        self.looked: list[int] = []
        self.resumed: Array | None = None

    def truth(self, n: int) -> Array:
        """T_cam_keyframe of a frame."""
        return se3.inverse(at_x(0.1 * (n - self._at)))

    def locate(self, gray: NDArray[np.uint8], T_cam_reference: Array) -> Track:
        """Find the keyframe where it is no farther than one and a half steps from the guess."""
        n = int(gray[0, 0])
        self.looked.append(n)
        T = self.truth(n)
        pixels, found = np.full((3, 2), n, np.float32), np.array([True, True, False])
        if n in self._blind or np.linalg.norm((T - T_cam_reference)[:3, 3]) > 0.15:
            return Track(pixels, found, None)
        inliers = np.array([True, False, False])
        return Track(pixels, found, PnPResult(T, inliers, n * np.eye(6), 0.1))

    def resume(self, T_cam_reference: Array) -> None:
        """Take note."""
        self.resumed = T_cam_reference


def lost(numbers: range) -> Relocalizer:
    """Lose frames."""
    out = Relocalizer()
    for n in numbers:
        out.add(frame(n), np.full((1, 1), n, np.uint8))
    return out


def placed(known: Relocalizer, at: int, tracker: ShortSighted) -> list[Placed]:
    """Place what is lost by the keyframe made of frame `at`."""
    return known.placed(found_at(at), cast(KeyframeTracker, tracker))


def indices(found: list[Placed]) -> list[int]:
    """Return the frames' numbers."""
    return [p.frame.index for p in found]


def test_frames_are_placed_outwards_in_both_directions_of_time() -> None:
    """Each from the one beside it: from the keyframe itself most are too far away."""
    tracker = ShortSighted(4)
    found = placed(lost(range(9)), 4, tracker)
    assert indices(found) == [3, 2, 1, 0, 5, 6, 7, 8] == tracker.looked
    for p in found:
        n = p.frame.index
        assert p.frame.keyframe == 7 and p.frame.name == f'{n:06}'
        assert np.allclose(p.frame.T_keyframe_cam, at_x(0.1 * (n - 4)))
        assert np.allclose(p.pose.T_cam_world, tracker.truth(n))
        assert np.array_equal(p.pixels, np.full((3, 2), n)) and p.mask is None
        assert p.found.tolist() == [True, False, False], 'what agrees with the pose'
    assert tracker.resumed is not None and np.allclose(tracker.resumed, tracker.truth(8))


@pytest.mark.parametrize('blind, expected, resumed', [
    ((2,), [3, 5, 6, 7, 8], 8), ((6,), [3, 2, 1, 0, 5], 5), ((3, 5), [], 4),
    ((0, 8), [3, 2, 1, 5, 6, 7], 7)])
def test_beyond_the_first_frame_that_cannot_be_placed_none_is(
        blind: tuple[int, ...], expected: list[int], resumed: int) -> None:
    """In its direction; the tracker goes on from the newest frame that was placed."""
    tracker = ShortSighted(4, blind)
    assert indices(placed(lost(range(9)), 4, tracker)) == expected
    assert tracker.resumed is not None and np.allclose(tracker.resumed, tracker.truth(resumed))


def test_the_newest_frame_itself_was_found() -> None:
    """All others are earlier; tracking goes on from the keyframe, not from the oldest of them."""
    tracker = ShortSighted(5)
    assert indices(placed(lost(range(6)), 5, tracker)) == [4, 3, 2, 1, 0]
    assert tracker.resumed is not None and np.allclose(tracker.resumed, np.eye(4))


def test_where_nothing_is_lost_the_tracker_goes_on_at_the_keyframe() -> None:
    tracker = ShortSighted(5)
    assert placed(Relocalizer(), 5, tracker) == []
    assert tracker.resumed is not None and np.allclose(tracker.resumed, np.eye(4))


def test_each_frame_is_placed_once() -> None:
    known = lost(range(4))
    assert len(placed(known, 2, ShortSighted(2, (0,)))) == 2
    assert placed(known, 2, ShortSighted(2)) == [], 'what could not be placed has gone, too'


def test_frames_go_where_tracking_goes_on_by_itself() -> None:
    known = lost(range(4))
    known.clear()
    assert placed(known, 2, ShortSighted(2)) == []


def test_only_the_newest_frames_are_kept() -> None:
    count = MAX_LOST + 10
    tracker = ShortSighted(count)
    found = placed(lost(range(count)), count, tracker)
    assert indices(found) == list(range(count - 1, count - 1 - MAX_LOST, -1))


def test_nothing_waits_before_the_first_attempt() -> None:
    assert not Relocalizer().waits


def test_after_an_attempt_in_vain_it_waits_some_times_as_long(
        monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(relocalizer, 'perf_counter', lambda: now[0])
    known = Relocalizer()
    assert not known.waits
    known.reject(begin=98.0)
    for moment, waits in ((100.0, True), (100.0 + 2 * PATIENCE - 0.01, True),
                          (100.0 + 2 * PATIENCE, False), (200.0, False)):
        now[0] = moment
        assert known.waits == waits, moment
    known.reject(begin=199.9)
    now[0] = 200.0 + 0.1 * PATIENCE + 0.01
    assert not known.waits, 'a quick attempt is soon repeated'


def test_frames_are_placed_in_a_room() -> None:
    """A camera drives past a keyframe, lost all the time, and is tracked on from there."""
    place = at_x(0.3, yaw=0.05)
    known, way = Relocalizer(), [at_x(0.06 * (n - 6), 0.01 * n, yaw=0.01 * n) for n in range(14)]
    for n, T in enumerate(way[:12]):
        blank = np.full((TRACKING.height, TRACKING.width), 90, np.uint8)
        known.add(frame(n), blank if n == 2 else tracking_image(place @ T))
    tracker = KeyframeTracker(TRACKING)
    here = replace(keyframe(7, place @ way[6], step=4, textured=True), stamp_ns=6 * 10 ** 8)
    tracker.follow(here, None)
    found = known.placed(here, tracker)
    assert indices(found) == [5, 4, 3, 7, 8, 9, 10, 11]
    for p in found:
        truth = se3.inverse(way[6]) @ way[p.frame.index]
        assert np.linalg.norm((p.frame.T_keyframe_cam - truth)[:3, 3]) < 0.012
        assert degrees_between(p.frame.T_keyframe_cam[:3, :3], truth[:3, :3]) < 0.2
    for n in (12, 13):
        track = tracker.track(tracking_image(place @ way[n]))
        assert track.pose is not None
        truth = se3.inverse(way[6]) @ way[n]
        assert np.linalg.norm((tracker.T_keyframe_cam(track.pose) - truth)[:3, 3]) < 0.012
