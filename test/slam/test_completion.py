# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames that tracking passed over get a pose at the end, and only where there is evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.slam.completion import MAX_STRETCH, Stretch, stretches
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, TrackedFrame
from simulated import as_frame, error_over_path, still_scene


def posed(*indices: int) -> dict[int, TrackedFrame]:
    """Make frames with a pose."""
    return {i: TrackedFrame(f'{i}', i, i) for i in indices}


def test_stretches_lie_between_frames_with_a_pose() -> None:
    known = posed(3, 4, 7)
    assert stretches(range(10), known, ()) == [
        Stretch((0, 1, 2), None, known[3]), Stretch((5, 6), known[4], known[7]),
        Stretch((8, 9), known[7], None)]
    assert stretches([3, 4, 7], known, ()) == []
    assert stretches([1, 3, 4, 7], known, ())[0].indices == (1,), 'indices may have gaps'


def test_nothing_connects_frames_across_a_cut() -> None:
    known = posed(0, 1, 6)
    assert stretches(range(7), known, [3]) == [
        Stretch((2,), known[1], None), Stretch((3, 4, 5), None, known[6])]


def test_long_stretches_are_divided() -> None:
    found = stretches(range(2 * MAX_STRETCH + 5), {}, ())
    assert [len(s.indices) for s in found] == [MAX_STRETCH, MAX_STRETCH, 5]


SCENE = still_scene(1, 60)


def black(frame: Frame) -> Frame:
    """Switch the light off."""
    return replace(frame, image=np.zeros_like(frame.image))


def completed(frames: Iterable[Frame], again: Iterable[Frame]) -> tuple[System, set[int]]:
    """Feed frames, complete and finish; return the indices of the frames with a pose before."""
    system = System(GeometricPredictor())
    for frame in frames:
        system.add(frame)
    before = {f.index for f, _ in system.trajectory()}
    found = [s for own in system.stretches().values() for s in own]
    needed = {i for s in found for i in s.needed}
    system.complete(f for f in again if f.index in needed)
    system.finish()
    return system, before


@pytest.fixture(scope='module')
def sharp() -> list[Frame]:
    """Frames of a moving camera."""
    return [as_frame(SCENE, n) for n in range(60)]


def test_frames_before_the_map_and_lost_ones_get_a_pose(sharp: list[Frame]) -> None:
    """The light fails twice: before the map has started, and for longer than is bridged."""
    dark = {3, 4, 5, *range(45, 50)}
    dimmed = [black(f) if f.index in dark else f for f in sharp]
    system, before = completed(dimmed, dimmed)
    after = {f.index for f, _ in system.trajectory()}
    assert after >= set(range(60)) - dark and after > before
    assert not after & dark, 'a black image has no pose'
    assert error_over_path(system, SCENE) < 0.02


def test_frames_of_another_place_get_none(sharp: list[Frame]) -> None:
    """The camera looks at another room in between."""
    other = still_scene(4, 20)
    elsewhere = [replace(as_frame(other, n), index=60 + n, stamp_ns=sharp[-1].stamp_ns + (
        n + 1) * 33_000_000, camera=sharp[0].camera) for n in range(12)]
    frames = [*sharp[:45], *(replace(f, index=45 + n) for n, f in enumerate(elsewhere))]
    frames = [replace(f, stamp_ns=33_000_000 * f.index) for f in frames]
    system, _ = completed(frames, frames)
    assert max(f.index for f, _ in system.trajectory()) < 45


def test_the_pose_of_a_completed_frame_is_that_of_its_neighbours(sharp: list[Frame]) -> None:
    dark = set(range(30, 34))
    system, before = completed([black(f) if f.index in dark else f for f in sharp], sharp)
    assert not before & dark, 'they were black at first'
    poses = {f.index: T for f, T in system.trajectory()}
    assert dark <= set(poses)
    ways = [np.linalg.norm((se3.inverse(poses[n]) @ poses[n + 1])[:3, 3]) for n in range(25, 40)]
    assert max(ways) < 3 * np.median(ways)
