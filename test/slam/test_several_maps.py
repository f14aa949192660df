# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images of another place begin another map; maps of one place become one again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.models.types import View
from recon3r_ros.sim import SimulatedSequence
from recon3r_ros.slam.backend.executor import InProcessExecutor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.driver import Driver
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame, Map, TrackedFrame, Update
from simulated import as_frame, render, still_scene

HERE, THERE, ELSEWHERE = (still_scene(seed, 60) for seed in (1, 4, 2))
Way = Sequence[tuple[SimulatedSequence, int]]


def frames(way: Way) -> list[Frame]:
    """Join images of several scenes into one video of one camera."""
    return [replace(as_frame(scene, n), index=i, name=f'{i:06d}', stamp_ns=i * 33_000_000)
            for i, (scene, n) in enumerate(way)]


class Record:
    """A sink that remembers what happened, in order."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.events: list[str] = []

    def update(self, update: Update, frame: Frame | None) -> None:
        """Take note of a keyframe's map."""
        if update.keyframe is not None:
            self.events.append(f'keyframe of map {self.system.map.number}')

    def reset(self) -> None:
        """Take note."""
        self.events.append('reset')


def run(way: Way) -> tuple[Driver, Record]:
    """Process a video."""
    record = Record(System(GeometricPredictor()))
    driver = Driver(record.system, record)
    for frame in frames(way):
        driver.add(frame)
    return driver, record


def error(system: System, known: Map, way: Way) -> float:
    """Root mean square error of a map's positions, over their extent."""
    system.activate(known.number)
    posed = system.trajectory()
    found = np.stack([T[:3, 3] for _, T in posed])
    true = np.stack([render(*way[f.index]).T_world_cam[:3, 3] for f, _ in posed])
    S = weighted_procrustes(found, true, np.ones(len(true)))
    off = np.linalg.norm(found @ S[:3, :3].T + S[:3, 3] - true, axis=1)
    return float(np.sqrt(np.mean(off ** 2)) / np.linalg.norm(np.ptp(true, axis=0)))


AWAY = tuple([(HERE, n) for n in range(40)] + [(THERE, n) for n in range(60)])
BACK = (*AWAY, *((HERE, n) for n in range(20, 60)))


def test_another_place_is_another_map() -> None:
    driver, _ = run(AWAY)
    system = driver.system
    driver.finish()
    first, second = system.maps
    assert (first.number, second.number) == (0, 1)
    assert not set(first.keyframes) & set(second.keyframes), 'ids are unique'
    for known, inside in ((first, range(40)), (second, range(40, 100))):
        assert error(system, known, AWAY) < 0.02
        assert {f.index for f, _ in system.trajectory()} <= set(inside)
        assert len(system.trajectory()) > 15
        assert set(driver.saved().map.keyframes) == set(known.keyframes)
        assert len(driver.saved_earlier()) == 1
    driver.reset()
    assert system.maps == [] and not system.map.keyframes


def test_back_in_the_first_place_its_map_goes_on() -> None:
    driver, record = run(BACK)
    assert record.events.count('reset') in (1, 2), 'to the second map, and perhaps back'
    before = record.events.index('reset')
    assert set(record.events[:before]) == {'keyframe of map 0'}
    assert record.events[before + 1] == 'keyframe of map 1'
    driver.finish()
    system = driver.system
    first, second = system.maps
    assert error(system, first, BACK) < 0.02
    seen = {f.index for f, _ in system.trajectory()}
    assert seen >= set(range(40)) and seen & set(range(120, 140))
    assert not seen & set(range(40, 100))
    assert error(system, second, BACK) < 0.02


def test_stills_of_another_place_begin_a_map() -> None:
    """Seconds apart, each is recalled in the first map before it is tried in a first pair."""
    system = System(GeometricPredictor())
    for frame in frames(AWAY):
        system.add(replace(frame, stamp_ns=frame.index * 10**9))
    system.finish()
    assert len(system.maps) == 2
    for known, inside in zip(system.maps, (range(40), range(40, 100))):
        assert error(system, known, AWAY) < 0.02
        posed = {f.index for f, _ in system.trajectory()}
        assert len(posed) > 15 and posed <= set(inside)


def test_a_short_interruption_begins_no_map() -> None:
    """A third of a second of something else: the map is found again."""
    way = ([(HERE, n) for n in range(40)] + [(THERE, n) for n in range(10)]
           + [(HERE, n) for n in range(36, 60)])
    driver, _ = run(way)
    assert [known.number for known in driver.system.maps] == [0]


def test_an_earlier_map_outlives_its_mapper() -> None:
    """A mapper that is started again has the present map alone; what was known stays."""
    mapper = Mapper(GeometricPredictor())
    system = System(executor=InProcessExecutor(mapper))
    for frame in frames(AWAY):
        system.add(frame)
    assert [known.number for known in system.maps] == [0, 1]
    mapper.recover(mapper.snapshot(), mapper.views)
    system.finish()
    assert [known.number for known in system.maps] == [0, 1]
    assert not system.activate(0) and len(system.trajectory()) > 15
    with pytest.raises(Recon3rError, match='mapping process has ended'):
        system.saved()
    assert system.activate(1) and system.saved().map.keyframes


def test_what_was_forgotten_lends_its_number_and_ids_to_no_other_map() -> None:
    """Frames may still refer to its keyframes, and what was saved of it has its number."""
    mapper = Mapper(GeometricPredictor())

    def begin(scene: SimulatedSequence) -> int:
        for count, n in enumerate((0, 30)):
            image = as_frame(scene, n).image
            view, gray = View(image, scene.camera), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            frame = TrackedFrame(f'{n}', n, n)
            assert (mapper.start if count == 0 else mapper.add)(frame, view, gray) is not None
        return mapper.snapshot().number

    assert [begin(scene) for scene in (HERE, THERE, ELSEWHERE)] == [0, 1, 2]
    ids = set(mapper.keyframes).union(*(known.keyframes for known in mapper.others()))
    assert len(ids) == 6
    mapper.activate(0)
    mapper.forget_map(2)
    mapper.forget_map(2)  # it is gone
    mapper.forget_map(0)  # it goes on
    assert mapper.snapshot().number == 0
    assert [known.number for known in mapper.others()] == [1]
    assert begin(ELSEWHERE) == 3
    assert min(mapper.keyframes) > max(ids)
    mapper.clear()
    assert begin(HERE) == 0
