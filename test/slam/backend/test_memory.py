# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
A network's memory of a window's views is a value of the map's state.

A toy that predicts ground truth from its memory alone: each part of its memory says which views it
was made of, so that a part which should have gone, or was made in another order, shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
from recon3r_ros.models.registry import Window
from recon3r_ros.models.types import PosePrior, Prediction, View
from recon3r_ros.slam.backend import appearance, map_state, upkeep
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.options import MappingOptions
from recon3r_ros.slam.types import TrackedFrame
from test_windows import CAMERA, Encoding, error, walk, WindowOracle

ANGLES = np.linspace(0, 0.5, 14)


@dataclass(frozen=True)
class Remembered:
    """
    What the toy keeps of a view.

    :param number: of the view
    :param after: of those that it remembered when it saw it
    """

    number: int
    after: tuple[int, ...]


class MemoryOracle(WindowOracle):
    """Predicts views from its memory of the window; it does not keep their images."""

    def __init__(self, window: Window) -> None:
        super().__init__(ANGLES, window)
        self.used: list[tuple[Remembered, ...]] = []
        self.made: list[Remembered] = []

    def remember(self, view: Encoding, memory: Sequence[Remembered]) -> Remembered:
        """Note the view, and what was remembered before it."""
        self.made.append(Remembered(view.number, tuple(m.number for m in memory)))
        return self.made[-1]

    def predict_together(self, group: tuple[Encoding, ...], memory: Sequence[Remembered] = (),
                         priors: object = ()) -> Prediction:
        """Predict ground truth, and record the memory."""
        self.used.append(tuple(memory))
        return super().predict_together(group)


def grow(mapper: Mapper, oracle: MemoryOracle, numbers: Sequence[int]) -> list[int | None]:
    """Add views, each from where it truly is."""
    added: list[int | None] = []
    for n in numbers:
        image, frame = oracle.images[n], TrackedFrame(f'{n:03}', n * 10 ** 9, n)
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        last = mapper.keyframes[max(mapper.keyframes)].T_map_cam if mapper.keyframes else None
        if last is None:
            added.append(mapper.start(frame, View(image, CAMERA), gray))
        else:
            added.append(mapper.add(
                frame, View(image, CAMERA, pose=PosePrior(last, np.eye(6))), gray))
    return added


def chain(*numbers: int) -> tuple[Remembered, ...]:
    """Memory of views that came in this order, newest first."""
    return tuple(Remembered(n, numbers[:k]) for k, n in enumerate(numbers))[::-1]


def test_each_view_is_remembered_once_after_those_before_it():
    oracle = MemoryOracle(Window(16, 2))
    mapper = walk(oracle)
    assert error(mapper, oracle) <= 0.005
    assert oracle.made == list(reversed(chain(*range(13)))), 'the newest is not needed yet'
    assert oracle.used[-1] == chain(*range(13))


def test_a_new_window_begins_with_the_views_that_it_shares():
    oracle = MemoryOracle(Window(6, 2))
    grow(Mapper(oracle), oracle, range(9))
    assert chain(0, 1, 2, 3, 4) in oracle.used
    assert oracle.used[-1] == chain(4, 5, 6, 7), 'made anew: of views 4 and 5 without the others'


def test_a_rejected_keyframe_is_not_remembered():
    oracle = MemoryOracle(Window(16, 2))
    mapper = Mapper(oracle)
    grow(mapper, oracle, range(5))
    usual, mapper.options = mapper.options, MappingOptions(min_agreement=2.0)
    assert grow(mapper, oracle, [5]) == [None]
    mapper.options = usual
    grow(mapper, oracle, [6, 7])
    assert oracle.used[-1] == chain(0, 1, 2, 3, 4, 6)


def test_a_culled_keyframe_is_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(map_state, 'WINDOW', 2)
    monkeypatch.setattr(upkeep, 'ANCHORS', 0)
    oracle = MemoryOracle(Window(16, 2))
    mapper = Mapper(oracle, MappingOptions(6))
    grow(mapper, oracle, range(10))
    known = list(mapper.keyframes)
    assert len(known) == 6 and known[0] == 0 and known[-1] == 9
    grow(mapper, oracle, [10])
    assert [m.number for m in oracle.used[-1]] == known[::-1]
    grow(mapper, oracle, [11, 12, 13])
    assert mapper._state.graph.size <= 2 * len(mapper.keyframes), 'the pose graph forgets them'


def test_a_loaded_map_is_remembered_as_it_was():
    """Nothing of a memory is saved: it is computed again from the images of the keyframes."""
    before = MemoryOracle(Window(16, 2))
    mapper = Mapper(before)
    grow(mapper, before, range(8))
    after = MemoryOracle(Window(16, 2))
    loaded = Mapper(after)
    loaded.restore(mapper.saved(None))
    grow(mapper, before, [8])
    grow(loaded, after, [8])
    assert after.used[-1] == before.used[-1] == chain(*range(8))
    assert sorted(after.encoded) == list(range(9)), 'each view is encoded once'


def test_a_map_taken_over_from_an_ended_process_is_remembered():
    before = MemoryOracle(Window(16, 2))
    mapper = Mapper(before)
    grow(mapper, before, range(6))
    after = MemoryOracle(Window(16, 2))
    heir = Mapper(after)
    heir.recover(mapper.snapshot(), mapper.views)
    grow(heir, after, [6])
    assert after.used[-1] == chain(*range(6))


def test_each_camera_has_a_window_of_its_own(monkeypatch):
    # The images are blank
    monkeypatch.setattr(appearance, 'likeness', lambda *_: appearance.Likeness(1.0, 0.1))
    oracle = MemoryOracle(Window(6, 2))
    mapper = Mapper(oracle)
    grow(mapper, oracle, range(4))
    for n in range(4, 10):
        image = oracle.images[n]
        last = mapper.keyframes[max(mapper.keyframes)].T_map_cam
        frame = replace(TrackedFrame(f'{n}', n * 10 ** 9, n),
                        camera_name='left' if n % 2 else 'right')
        # A camera joins by relocalisation
        pose = None if n < 6 else PosePrior(last, np.eye(6))
        assert mapper.add(frame, View(image, CAMERA, pose=pose),
                          cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) is not None
    assert chain(4, 6) in oracle.used and chain(5, 7) in oracle.used
    assert sorted(oracle.encoded) == list(range(10)), 'no window displaces the other'
