# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Windows whose predictor is told the map's poses: the scale of the map, and wrong priors.

In the corridor of `test_windows`, the first keyframe has measured depth: the map knows its metre.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.io.map_store import read_map, write_map
from recon3r_ros.models.registry import Window
from recon3r_ros.models.types import MapPrior, PosePrior, Prediction, View
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.types import TrackedFrame
from test_windows import CAMERA, depth, Encoding, error, WindowOracle

Array = NDArray[np.float64]
#: Length of what it guesses, and share of what it is told that it believes
OWN, BELIEF = 0.8, 0.97


class ToldOracle(WindowOracle):
    """
    Predicts the truth, in metres that it guesses unless metric poses tell them.

    :param wrong: windows that are told positions that are a tenth too far apart
    """

    metric = True

    def __init__(self, count: int, wrong: Sequence[int] = (), listens: bool = True) -> None:
        super().__init__(np.linspace(0, 0.4, count), Window(8, 2))
        self.told: list[float | None] = []
        self._wrong, self._listens = wrong, listens

    def predict_together(self, group: tuple[Encoding, ...], memory: Sequence[Encoding] = (),
                         priors: Sequence[MapPrior | None] = ()) -> Prediction:
        """Predict a window at the scale that it is told, in part."""
        views = [*group, *memory]
        known = [(prior.T_map_cam[:3, 3] / prior.metre, self.poses[view.number][:3, 3])
                 for prior, view in zip(priors, views)
                 if prior is not None and prior.metre is not None]
        told = None
        if len(known) > 1 and self._listens:
            given, true = (np.linalg.norm(np.diff(x, axis=0), axis=1).sum()
                           for x in map(np.stack, zip(*known)))
            told = given / true * (1.1 if len(self.told) in self._wrong else 1.0)
        self.told.append(told)
        self._scale = OWN if told is None else OWN ** (1 - BELIEF) * told ** BELIEF
        return super().predict_together(group, memory)

    def scale(self, memory: object) -> float:
        """Return the present window's."""
        return self._scale


def grown(oracle: ToldOracle, mapper: Mapper | None = None, views: range | None = None) -> Mapper:
    """
    Make a map, each view from its true pose.

    :param mapper: with the views before; None begins a map, which is finished when all are added
    """
    mapper = Mapper(oracle) if mapper is None else mapper
    T_first = se3.inverse(oracle.poses[0])
    for n in range(len(oracle.images)) if views is None else views:
        image = oracle.images[n]
        frame, gray = TrackedFrame(f'{n:03}', n * 10 ** 9, n), cv2.cvtColor(
            image, cv2.COLOR_RGB2GRAY)
        if n == 0:
            mapper.start(frame, View(image, CAMERA, depth=depth(oracle.poses[0]).astype(
                np.float32)), gray)
            continue
        T = se3.stretched(T_first @ oracle.poses[n], mapper.snapshot().metre)
        assert mapper.add(frame, View(image, CAMERA, pose=PosePrior(T, 1e-4 * np.eye(6))),
                          gray) is not None
    if views is None:
        mapper.finish()
    return mapper


@pytest.mark.parametrize('wrong', [(), (4,), (7,)])
def test_poses_tell_the_scale_and_one_wrong_window_of_ten_is_outvoted(wrong: tuple[int, ...]
                                                                     ) -> None:
    oracle = ToldOracle(11, wrong)
    mapper = grown(oracle)
    known = mapper.snapshot()
    assert len(known.keyframes) == 11 and len(oracle.told) >= 10
    assert all(t is not None for t in oracle.told[1:]), 'all windows are told metric poses'
    assert known.metric.value * known.metre == pytest.approx(1, abs=0.01)
    assert error(mapper, oracle) <= 0.01
    travelled = np.linalg.norm(known.keyframes[max(known.keyframes)].T_map_cam[:3, 3])
    true = np.linalg.norm(oracle.poses[-1][:3, 3] - oracle.poses[0][:3, 3])
    assert travelled / known.metre == pytest.approx(true, rel=0.01)


def test_a_loaded_map_tells_its_poses_in_metres(tmp_path: Path) -> None:
    oracle = ToldOracle(11)
    write_map(tmp_path / 'map.npz', grown(oracle, views=range(6)).saved(None))
    mapper = Mapper(oracle)
    mapper.restore(read_map(tmp_path / 'map.npz'))
    before = len(oracle.told)
    grown(oracle, mapper, range(6, 11))
    mapper.finish()
    assert len(mapper.keyframes) == 11
    assert len(oracle.told) > before and all(t is not None for t in oracle.told[before:])
    assert mapper.snapshot().metric.value * mapper.snapshot().metre == pytest.approx(1, abs=0.01)
    assert error(mapper, oracle) <= 0.01


def test_without_what_it_is_told_the_scale_is_its_own() -> None:
    known = grown(ToldOracle(5, listens=False)).snapshot()
    assert known.metric.value * known.metre == pytest.approx(OWN, rel=0.02)
