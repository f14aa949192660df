# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""When a person starts and goes on, with networks that say what the test wants; real ones too."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
from recon3r_ros.models.pose_networks import PoseNetworks, SIDE
from recon3r_ros.slam.model_people import MEMORY_S, ModelPeople
from recon3r_ros.slam.types import Frame

HEIGHT, WIDTH = 224, 224
#: Cell of the detector's first grid at 4.5, 14.5 and 24.5 of 28
CELLS = (4, 14, 24)


class Networks:
    """Finds people in columns: gives their scores, and the presence of the one looked at."""

    def __init__(self):
        self.scores: dict[int, float] = {}
        self.presence = 1.0
        self.looked = 0

    def detector(self, square):
        values, logits = np.zeros((1, 2254, 12), np.float32), np.full((1, 2254, 1), -50, 'f4')
        for cell, score in self.scores.items():
            n = 2 * (28 * 14 + cell)
            logits[0, n] = np.log(score / (1 - score))
            values[0, n, :8] = [0, 0, 40, 80, 0, 0, 0, -30]
        return [logits, values]

    def landmarks(self, square):
        self.looked += 1
        mask = np.full((1, SIDE, SIDE, 1), -20, np.float32)
        mask[0, 40:216, 90:166] = 20
        return [mask, np.zeros((1, 195), np.float32), np.array([[self.presence]], np.float32)]


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture
def find(networks):
    source = ModelPeople(PoseNetworks(networks.detector, networks.landmarks))

    def find(seconds, scores, presence=1.0, camera='camera'):
        networks.scores, networks.presence = dict(zip(CELLS, scores)), presence
        return source.people(Frame(np.zeros((HEIGHT, WIDTH), np.uint8), round(seconds * 1e9), 'a',
                                   0, camera_name=camera))
    return find


@pytest.mark.parametrize('score, presence, starts', [
    (0.85, 0.98, True), (0.75, 0.98, False), (0.85, 0.96, False)])
def test_a_person_starts_with_certainty(find, score, presence, starts):
    assert find(0, [score], presence).ids == ([1] if starts else [])


def test_in_a_video_certainty_has_to_last(find):
    assert find(0, []).ids == []
    # Certain in two images, less so in the third, and certain in three
    seen = [find(0.1 * n, [score]).ids for n, score in enumerate(
        (0.9, 0.9, 0.7, 0.9, 0.9, 0.9, 0.6), start=1)]
    assert seen == [[], [], [], [], [], [1], [1]]


def test_a_person_goes_on_with_less(find):
    found = find(0, [0.9])
    assert found.scores[1] == pytest.approx(1)
    assert find(0.1, [0.6], 0.6).scores == {1: pytest.approx(0.6)}
    assert find(0.2, [0.6], 0.4).ids == []
    # Missed for a while, not forgotten
    assert find(0.3, [0.6], 0.6).ids == [1]
    assert find(0.3 + MEMORY_S + 0.01, [0.6], 0.6).ids == []


def test_another_place_another_camera_and_the_past_start_anew(find):
    find(0, [0.9])
    # Two and a half of a body's length away; and the same place
    assert find(0.1, [0.001, 0.001, 0.6]).ids == []
    assert find(0.1, [0.6], camera='other').ids == []
    assert find(0.1, [0.6]).ids == [1]
    assert find(-5, [0.6]).ids == []


def test_bodies_that_cannot_start_are_not_looked_at(find, networks):
    find(0, [0.6, 0.7, 0.6])
    assert networks.looked == 0


def test_each_person_has_pixels_and_landmarks_of_its_own(find):
    found = find(0, [0.9, 0.001, 0.95])
    assert found.ids == [1, 2] and found.instances.shape == (HEIGHT, WIDTH)
    for instance, cell in ((1, 24), (2, 4)):  # the best first
        rows, columns = np.nonzero(found.instances == instance)
        side = 2.5 * 30 / SIDE
        assert len(rows) == pytest.approx(176 * 76 * side ** 2, rel=0.1)
        assert columns.mean() == pytest.approx((cell + 0.5) / 28 * WIDTH - 0.5, abs=0.6)
        assert found.keypoints[instance].shape == (33, 3)


def test_real_networks_find_a_dancer_and_no_camel(shared_data):
    """Only where the user has their files: the variable names a .task file, or a folder."""
    path = os.environ.get('RECON3R_PEOPLE_MODEL')
    if not path:
        pytest.skip('RECON3R_PEOPLE_MODEL names no files of networks that find people')
    pytest.importorskip('ai_edge_litert', reason='LiteRT is not installed')
    networks, values = PoseNetworks.open(path), []
    dancer, camel = (shared_data.pack(f'davis_{name}') for name in ('dance_twirl', 'camel'))
    source = ModelPeople(networks)
    for n, image in enumerate(sorted((dancer / 'images').iterdir())[:20]):
        truth = cv2.imread(str(dancer / 'masks' / f'{image.stem}.png'), 0) > 0
        own = source.people(frame(image, n)).instances > 0
        values.append((own & truth).sum() / (own | truth).sum())
    assert np.mean(values) > 0.8
    source = ModelPeople(networks)
    assert not any(source.people(frame(image, n)).ids
                   for n, image in enumerate(sorted((camel / 'images').iterdir())[:20]))


def frame(path, index: int) -> Frame:
    return Frame(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), round(index / 24 * 1e9),
                 path.stem, index)
