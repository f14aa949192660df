# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""HAMSt3R as a predictor, and the people of windows: with a network that knows the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from predictor_suite import PredictorSuite
import pytest
from recon3r_ros.errors import DeviceMemoryError, Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import pixel_grid
from recon3r_ros.models.fallback import WithPeople
from recon3r_ros.models.hamst3r import Hamst3rPredictor
from recon3r_ros.models.human_engine import HumanEngine
from recon3r_ros.models.registry import DuneOptions, make_predictor, Model
from recon3r_ros.models.types import NO_CONFIDENCE, PeopleFinder, View
from recon3r_ros.nets.dune import Dune, DuneConfig
from recon3r_ros.nets.dust3r import Dust3rConfig, Tokens
from recon3r_ros.nets.hamst3r import Hamst3rConfig, HumanDecoder, HumanOutput, InstanceOutput
from recon3r_ros.sim import SceneConfig, SimulatedSequence
from recon3r_ros.sim.people_truth import people_truth
from test_engines import human_network
import torch

SIDE = 168
SURE = 12.0


class TestHamst3rPredictor(PredictorSuite):
    """The common suite, with an untrained network."""

    @pytest.fixture
    def predictor(self) -> Hamst3rPredictor:
        """Return the predictor."""
        return Hamst3rPredictor(HumanEngine(human_network()), 280)


class TrueEngine:
    """Knows the truth of some views; numbers people differently in each pair."""

    config = SimpleNamespace(patch=14, head='human')

    def __init__(self, views: Sequence[tuple[Any, Any]]) -> None:
        self._views = views
        rng = np.random.default_rng(0)
        self._waves = rng.normal(0, 6, (3, 16))
        self.missed: set[tuple[int, int]] = set()

    def encode(self, image: np.ndarray) -> Tokens:
        index = next(n for n, (_, frame) in enumerate(self._views)
                     if np.array_equal(frame.image, image))
        return Tokens(torch.full((1, (SIDE // 14) ** 2, 1), float(index)), SIDE // 14, SIDE // 14)

    def decode(self, pairs: Sequence[tuple[Tokens, Tokens]], moving: Any = None
               ) -> list[tuple[HumanOutput, HumanOutput]]:
        found = []
        for n, pair in enumerate(pairs):
            a, b = (int(tokens.values[0, 0, 0]) for tokens in pair)
            found.append((self._output(a, a, n), self._output(b, a, n + 1)))
        return found

    decode_people = decode

    def _output(self, view: int, first: int, turn: int) -> HumanOutput:
        sequence, frame = self._views[view]
        truth = people_truth(sequence, frame)
        rays = sequence.camera.unproject(pixel_grid(SIDE, SIDE)) * frame.depth[..., None]
        world = se3.transform(frame.T_world_cam, rays)
        T_first_world = se3.inverse(self._views[first][1].T_world_cam)
        waves = world @ self._waves
        described = np.concatenate([np.cos(waves), np.sin(waves)], -1) / 4
        numbers = [n for n in (1, 2) if (view, n) not in self.missed]
        masks = np.stack([np.where(truth.instances == n, SURE, -SURE)
                          for n in np.roll(numbers, turn)] + [np.full((SIDE, SIDE), -SURE)])
        classes = torch.tensor([[SURE, 0.0]] * len(numbers) + [[-SURE, 0.0]])
        return HumanOutput(
            torch.from_numpy(se3.transform(T_first_world, world)).float(),
            torch.full((SIDE, SIDE), 3.0), torch.from_numpy(described).float(),
            torch.ones(SIDE, SIDE), surface=torch.from_numpy(truth.surface),
            surface_logits=torch.from_numpy(np.where(truth.part > 0, SURE, -SURE)).float(),
            instances=InstanceOutput(classes, torch.from_numpy(masks).float()))


@pytest.fixture(scope='module')
def views() -> list[tuple[Any, Any]]:
    """Three cameras side by side that see a walker and who stands behind."""
    sequence = SimulatedSequence(SceneConfig(
        seed=1, frames=60, width=SIDE, height=SIDE, moving_objects=0, people=2, noise=0))
    cameras = []
    for shift in (0.0, 0.25, 0.5):
        T = np.eye(4)
        T[0, 3] = shift
        other = sequence.seen_by(T)
        cameras.append((other, other.render(40)))
    return cameras


@pytest.fixture
def engine(views: list[tuple[Any, Any]]) -> TrueEngine:
    return TrueEngine(views)


def encoded(engine: Any, views: list[tuple[Any, Any]]) -> tuple[Hamst3rPredictor, list[Any]]:
    predictor = Hamst3rPredictor(engine, SIDE)
    return predictor, [predictor.encode(View(frame.image, s.camera)) for s, frame in views]


def test_a_person_has_one_number_in_all_views(engine: TrueEngine, views: list[tuple[Any, Any]]
                                              ) -> None:
    predictor, encodings = encoded(engine, views)
    people = predictor.people(encodings)
    truths = [people_truth(s, frame) for s, frame in views]
    names = [{n: int(np.bincount(p.labels[t.instances == n]).argmax()) for n in (1, 2)}
             for p, t in zip(people, truths)]
    assert names[0] == names[1] == names[2] and set(names[0].values()) == {1, 2}
    for found, truth, (_, frame) in zip(people, truths, views):
        assert ((found.labels > 0) == (truth.instances > 0)).mean() > 0.999
        assert min(found.scores.values()) > 0.99 and len(found.scores) == 2
        body = truth.part > 0
        assert np.abs(found.surface - truth.surface)[body].max() < 1e-4
        assert (found.surface_mask > 0.5)[body].all() and (found.surface_mask[~body] < 0.5).all()
        # Points are in the camera's own frame, whatever pairs it was part of
        assert np.abs(found.points[..., 2] - frame.depth).max() < 1e-3
        for number in (1, 2):
            points = found.points_of(number)
            assert len(points) > 100 and np.ptp(points[:, 2]) < 1.2


def test_a_person_whom_a_view_misses_is_still_the_same_in_others(
        engine: TrueEngine, views: list[tuple[Any, Any]]) -> None:
    engine.missed = {(1, 2)}
    predictor, encodings = encoded(engine, views)
    people = predictor.people(encodings)
    assert [len(p.scores) for p in people] == [2, 1, 2]
    truth = people_truth(*views[0]).instances, people_truth(*views[2]).instances
    first, last = (int(np.bincount(p.labels[t == 2]).argmax())
                   for p, t in zip((people[0], people[2]), truth))
    assert first == last > 0


def test_windows_of_one_view_and_none(engine: TrueEngine, views: list[tuple[Any, Any]]) -> None:
    predictor, encodings = encoded(engine, views)
    alone, = predictor.people(encodings[:1])
    assert sorted(alone.scores) == [1, 2]
    assert predictor.people([]) == []


def test_points_of_people_are_not_in_the_map(engine: TrueEngine, views: list[tuple[Any, Any]]
                                             ) -> None:
    predictor, (first, second, _) = encoded(engine, views)
    pair, alone = predictor.predict([(first, second), (first,)])
    masks = [people_truth(*view).instances > 0 for view in views[:2]]
    for confidence, mask in zip((*pair.confidences, *alone.confidences), (*masks, masks[0])):
        assert (confidence[mask] == np.float32(NO_CONFIDENCE)).all()
        # The second view has some that the first does not see
        assert (confidence[~mask] > NO_CONFIDENCE).mean() > 0.7
    assert pair.metric


def test_people_of_a_frame_of_any_size_and_crop(views: list[tuple[Any, Any]]) -> None:
    """The network's grid is cropped and of another size; labels are of the frame's pixels."""
    class Left(Hamst3rPredictor):
        """Sees a person in the left half of its grid."""

        def people(self, views: Sequence[Any]) -> list[Any]:
            height, width = views[0].image.shape[:2]
            labels = np.zeros((height, width), np.uint16)
            labels[:, :width // 2] = 1
            return [SimpleNamespace(labels=labels, scores={1: 0.9})]
    finder = Left(SimpleNamespace(  # type: ignore[arg-type]
        config=TrueEngine.config, encode=lambda image: None), 84)
    for shape in ((203, 300, 3), (300, 203)):
        labels, scores = finder.find(np.zeros(shape, np.uint8))
        assert labels.shape == shape[:2] and labels.dtype == np.uint16 and scores == {1: 0.9}
        half = shape[1] / 2
        assert labels[:, :int(half - 3)].all() and not labels[:, int(half + 3):].any()


def test_a_predictor_that_finds_people_is_made_of_two_files(tmp_path: Path) -> None:
    config = Hamst3rConfig(Dust3rConfig(64, 0, 1, 64, 2, 1, 'human', 8, 14))
    torch.save({'model': HumanDecoder(config).state_dict()}, tmp_path / 'heads.pth')
    encoder = Dune(DuneConfig(64, 2, 1, 6, teacher_dim=32))
    torch.save({'model': encoder.state_dict()}, tmp_path / 'dune.pth')
    model = Model('hamst3r', str(tmp_path / 'heads.pth'),
                  options=DuneOptions(str(tmp_path / 'dune.pth')))
    predictor = make_predictor(model)
    assert isinstance(predictor.network, Hamst3rPredictor)  # type: ignore[attr-defined]
    assert isinstance(predictor, PeopleFinder)
    assert not isinstance(make_predictor(Model()), PeopleFinder)
    found = predictor.find(np.zeros((80, 120, 3), np.uint8))
    assert found is not None and found[0].shape == (80, 120)
    for asked, words in ((Model('hamst3r'), 'needs a weights file'),
                         (Model('dune-mast3r', model.weights, options=model.options),
                          'holds hamst3r, not dune-mast3r'),
                         (Model('hamst3r', model.options.encoder_weights, options=model.options),
                          'holds dune-mast3r, not hamst3r')):
        with pytest.raises(Recon3rError, match=words):
            make_predictor(asked)


def test_without_memory_nobody_is_looked_for() -> None:
    """It is not said that there is nobody; the map goes on with the geometric model."""
    class Full(Hamst3rPredictor):
        """Has no memory left."""

        def find(self, image: np.ndarray) -> tuple[np.ndarray, dict[int, float]]:
            raise DeviceMemoryError('no memory')
    predictor = WithPeople(Full(HumanEngine(human_network()), 280))
    for _ in range(2):
        assert predictor.find(np.zeros((80, 120, 3), np.uint8)) is None
    assert predictor.network is None
