# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""People whom the map's own predictor finds: out of keyframes, and in images of a live camera."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.slam.backend.executor import InProcessExecutor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.network_people import LatePeople, NetworkPeople, RETRY_S, SHARE
from recon3r_ros.slam.people import PeopleMasks
from recon3r_ros.slam.system import System
from recon3r_ros.slam.types import Frame
from simulated import as_frame, render, still_scene

FRAMES = 40


class Finding(GeometricPredictor):
    """Takes the largest object of a scene, a piece of furniture, for a person."""

    def __init__(self, frames: int = FRAMES) -> None:
        super().__init__()
        self.scene, self.frames = still_scene(3, 40), frames
        objects, sizes = np.unique(render(self.scene, 0).object_index, return_counts=True)
        self.person = int(max(zip(sizes[objects > 0], objects[objects > 0]))[1])
        self.searched = 0

    def truth(self, index: int) -> np.ndarray:
        """Return the pixels (H, W) of the person in a frame."""
        return render(self.scene, index).object_index == self.person

    def find(self, image: np.ndarray) -> tuple[np.ndarray, dict[int, float]]:
        """Return the truth."""
        self.searched += 1
        index = next(i for i in range(self.frames)
                     if np.array_equal(render(self.scene, i).image, image))
        return self.truth(index).astype(np.uint16), {1: 0.9}


def test_no_keyframe_has_depth_on_a_person_who_stands_still() -> None:
    predictor = Finding()
    system = System(predictor)
    for index in range(FRAMES):
        system.add(as_frame(predictor.scene, index))
    keyframes = system.map.keyframes.values()
    assert len(keyframes) >= 3 and predictor.searched >= len(keyframes)
    known = []
    for keyframe in keyframes:
        truth = predictor.truth(keyframe.index)
        pixels = keyframe.camera.width / truth.shape[1]
        v, u = (np.nonzero(truth) * np.array(pixels)).astype(int)
        assert keyframe.mask[v, u].mean() > 0.99 and (keyframe.inverse_depth[v, u] == 0).all()
        known.append((keyframe.inverse_depth > 0).mean())
    assert max(known) > 0.2


def test_images_that_were_searched_are_not_searched_again() -> None:
    predictor = Finding()
    executor = InProcessExecutor(Mapper(predictor))
    system, source, masks = System(executor=executor), NetworkPeople(executor), PeopleMasks()
    for index in range(0, FRAMES, 4):
        frame = as_frame(predictor.scene, index)
        people = source.people(frame)
        assert people is not None and (people.instances > 0).sum() == predictor.truth(index).sum()
        system.add(masks.masked(Frame(frame.image, frame.stamp_ns, frame.name, frame.index,
                                      frame.camera, people=people)))
    assert len(system.map.keyframes) >= 2
    assert predictor.searched == len(range(0, FRAMES, 4))


def test_a_predictor_that_finds_nobody_says_so() -> None:
    source = NetworkPeople(InProcessExecutor(Mapper(GeometricPredictor())))
    assert source.people(as_frame(still_scene(3, 40), 0)) is None


class Slow:
    """An executor whose calls are answered by the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[np.ndarray, Future[Any]]] = []

    def call(self, method: Any, image: np.ndarray) -> Future[Any]:
        """Note a call."""
        assert method is Mapper.find_people
        self.asked.append((image, Future()))
        return self.asked[-1][1]


def image(camera: str, index: int) -> Frame:
    """Make an image of one value."""
    return Frame(np.full((6, 8), index, np.uint8), index, f'{index}', index, camera_name=camera)


def test_one_image_is_searched_at_a_time_for_a_share_of_it(caplog: pytest.LogCaptureFixture
                                                            ) -> None:
    executor, now = Slow(), 0.0
    late = LatePeople(executor, lambda: now)  # type: ignore[arg-type]

    def ask(*names: str) -> int:
        """Give one image of each camera; return the number of that which is searched."""
        for number, name in enumerate(names):
            late.ask(image(name, 10 * len(executor.asked) + number))
        return int(executor.asked[-1][0][0, 0])

    assert ask('left', 'right') == 0 and ask('left', 'right') == 0
    assert len(executor.asked) == 1 and late.found() is None
    now = 2.0
    instances = np.ones((6, 8), np.uint16)
    executor.asked[0][1].set_result(((instances, {1: 0.7}), None))
    found = late.found()
    assert found is not None and (found.camera_name, found.index) == ('left', 0)
    assert found.people is not None and found.people.scores == {1: 0.7} and late.found() is None
    # A search of two seconds leaves mapping its share
    now = 2 / SHARE - 0.1
    assert ask('left', 'right') == 0
    now = 2 / SHARE
    assert ask('left', 'right') == 11, 'it is the turn of the other camera'
    # What fails, and what cannot be looked for, is nobody's absence
    executor.asked[1][1].set_exception(Recon3rError('the process has ended'))
    assert late.found() is None and 'the process has ended' in caplog.text
    assert ask('right') == 20, 'the other camera has no images any more'
    executor.asked[2][1].set_result((None, None))
    now = 100.0
    assert late.found() is None
    now = 100.0 + RETRY_S / 2
    assert ask('left', 'right') == 20
    now = 100.0 + RETRY_S
    assert ask('left', 'right') == 30
    late.forget()
    executor.asked[3][1].set_result(((instances, {}), None))
    assert late.found() is None
