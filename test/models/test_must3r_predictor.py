# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MUSt3R as a window predictor: its passes, its memory, and conversion of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from predictor_suite import PredictorSuite, vga
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.procrustes import weighted_procrustes
from recon3r_ros.models.memory_engine import MemoryEngine, Seen
from recon3r_ros.models.must3r import COVERED, Must3rEncoding, Must3rPredictor, overlap, ViewMemory
from recon3r_ros.models.pointmaps import as_pair, information, through
from recon3r_ros.models.registry import EngineConfig, Window
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE, Prediction, View
from recon3r_ros.nets.dust3r import Tokens
from recon3r_ros.nets.must3r import Must3r, Must3rConfig
from recon3r_ros.slam.system import System
from simulated import absolute_error, as_frame, path_length, still_scene, TrueView
import torch

SIZE = 112


def tiny(seed: int = 0) -> Must3r:
    """Make an untrained network."""
    torch.manual_seed(seed)
    network = Must3r(Must3rConfig(64, 1, 1, 64, 3, 1)).requires_grad_(False)
    network.decoder.image2_embed.normal_(0, 0.02)
    return network


class TestMust3rPredictor(PredictorSuite):
    """The common suite, with an untrained network."""

    @pytest.fixture
    def predictor(self) -> Must3rPredictor:
        """Return the predictor."""
        return Must3rPredictor(MemoryEngine(tiny()), SIZE)


class Counted(MemoryEngine):
    """
    Records the calls of the network: numbers of views, and of remembered ones.

    :param room: largest number of views of a call
    """

    def __init__(self, network: Must3r, room: int = 99) -> None:
        super().__init__(network)
        self.encoded = 0
        self.joined: list[tuple[int, int]] = []
        self.rendered: list[tuple[int, int]] = []
        encode, join, render = self._encode, self._join, self._render

        def counted_encode(images: torch.Tensor):
            self.encoded += len(images)
            return encode(images)

        def counted_join(sizes, *tensors: torch.Tensor):
            if len(sizes) > room:
                raise torch.OutOfMemoryError('CUDA out of memory')
            self.joined.append((len(sizes), len(tensors) - len(sizes)))
            return join(sizes, *tensors)

        def counted_render(rows: int, columns: int, values: torch.Tensor, *memory: torch.Tensor):
            if len(values) > room:
                raise torch.OutOfMemoryError('CUDA out of memory')
            self.rendered.append((len(values), len(memory)))
            return render(rows, columns, values, *memory)
        self._encode, self._join, self._render = counted_encode, counted_join, counted_render


def views(count: int, width: int = 112, height: int = 80) -> list[View]:
    """Make noise."""
    rng = np.random.default_rng(5)
    camera = Camera(width, height, 90.0, 90.0, (width - 1) / 2, (height - 1) / 2)
    return [View(rng.integers(0, 256, (height, width, 3), np.uint8), camera)
            for _ in range(count)]


def remembered(predictor: Must3rPredictor, encodings: Sequence[Must3rEncoding]
               ) -> list[ViewMemory]:
    """Remember views in order."""
    memory: list[ViewMemory] = []
    for encoding in encodings:
        memory.append(predictor.remember(encoding, memory))
    return memory


def differ(a: Prediction, b: Prediction) -> bool:
    """Whether the last views' points differ."""
    return not np.allclose(a.pointmaps[-1], b.pointmaps[-1], rtol=1e-3, atol=1e-4)


def test_a_view_is_rendered_against_the_memory_before_it_is_remembered() -> None:
    engine = Counted(tiny())
    predictor = Must3rPredictor(engine, SIZE)
    memory: list[ViewMemory] = []
    seen: list[Must3rEncoding] = []
    for view in views(5):
        seen.append(predictor.encode(view))
        predictor.predict_together(tuple(seen[-2:]), memory[::-1])
        memory.append(predictor.remember(seen[-1], memory))
    assert engine.encoded == 5
    held = [sum(m.tokens is not None for m in memory[:n]) for n in range(5)]
    assert held[1] == 1, 'the first view is always remembered'
    assert engine.joined[0] == (1, 0), 'predicted with an empty memory'
    assert engine.joined[1:] == [(1, n) for n in held], 'each view joins once'
    assert engine.rendered == [(2, n) for n in held[1:]]


def test_the_memory_changes_what_is_predicted() -> None:
    predictor = Must3rPredictor(MemoryEngine(tiny()), SIZE)
    a, b, c = (predictor.encode(v) for v in views(3))
    memory = remembered(predictor, [a])
    one = predictor.predict_together((a, c), memory)
    two = predictor.predict_together((a, c), [*memory, remembered(predictor, [b])[0]])
    assert differ(one, two)
    assert not differ(one, predictor.predict_together((a, c), memory)), 'it is a value'


def test_views_that_are_not_remembered_see_each_other() -> None:
    """A loop's old view and the new one: neither is in the memory of the window."""
    engine = Counted(tiny())
    predictor = Must3rPredictor(engine, SIZE)
    a, b, c = (predictor.encode(v) for v in views(3))
    memory = remembered(predictor, [a])
    engine.joined.clear()
    group = predictor.predict_together((a, b, c), memory)
    assert engine.joined == [(2, 1)] and engine.rendered == [(1, 1)]
    assert differ(group, predictor.predict_together((a, c), memory))


def test_out_of_memory_renders_fewer_at_once(caplog: pytest.LogCaptureFixture) -> None:
    engine = Counted(tiny(), room=2)
    predictor = Must3rPredictor(engine, SIZE)
    group = [predictor.encode(v) for v in views(4)]
    memory = [remembered(predictor, [view])[0] for view in group]
    got = predictor.predict_together(tuple(group), memory)
    expected = Must3rPredictor(MemoryEngine(tiny()), SIZE).predict_together(tuple(group), memory)
    assert [n for n, _ in engine.rendered] == [2, 2] and len(caplog.records) == 1
    for a, b in zip(got.pointmaps, expected.pointmaps):
        assert np.allclose(a, b, rtol=1e-4, atol=1e-5)
    with pytest.raises(Recon3rError, match='too little memory'):
        predictor.predict_together(tuple(group))


def test_views_of_different_sizes_share_a_memory() -> None:
    predictor = Must3rPredictor(MemoryEngine(tiny()), SIZE)
    wide, high = predictor.encode(views(1)[0]), predictor.encode(views(1, 80, 112)[0])
    memory = remembered(predictor, [wide])
    prediction = predictor.predict_together((wide, high), memory)
    assert [p.shape for p in prediction.pointmaps] == [(80, 112, 3), (112, 80, 3)]
    pair, = predictor.predict([(high, wide)])
    assert [p.shape for p in pair.pointmaps] == [(112, 80, 3), (80, 112, 3)]


@dataclass(eq=False)
class Truth:
    """
    Stands in for an engine: the outputs of a network that implies another camera.

    :param focal: of that camera; 0 for the true one
    :param noise: standard deviation of the points' errors in the reference's frame, relative to
        their distance
    """

    views: list[TrueView]
    focal: float = 0.0
    noise: float = 0.0
    encodings: list[Must3rEncoding] = field(default_factory=list)
    joined: list[tuple[list[int], list[int]]] = field(default_factory=list)

    def encode(self, image: np.ndarray) -> Tokens:
        """Give each view its number, in order."""
        return Tokens(torch.tensor(len(self.encodings)), 1, 1)

    def join(self, tokens: Sequence[Tokens], memory: Sequence[torch.Tensor]
             ) -> list[tuple[Seen, torch.Tensor]]:
        """Return ground truth, and the numbers as a memory."""
        numbers = [int(t.values) for t in tokens]
        self.joined.append((numbers, [int(m) for m in memory]))
        reference = int(memory[0]) if memory else numbers[0]
        return [(self._seen(n, reference), t.values) for n, t in zip(numbers, tokens)]

    def render(self, tokens: Sequence[Tokens], memory: Sequence[torch.Tensor]) -> list[Seen]:
        """Return ground truth."""
        return [self._seen(int(t.values), int(memory[0])) for t in tokens]

    def _seen(self, number: int, reference: int) -> Seen:
        true, camera = self.views[number], self.encodings[number].camera
        own = true.points_on(camera)
        if self.focal:
            own = through(own.astype(np.float32), camera, Camera(
                camera.width, camera.height, self.focal, self.focal, (camera.width - 1) / 2,
                (camera.height - 1) / 2))
        T = se3.inverse(self.views[reference].T_world_cam) @ true.T_world_cam
        points = se3.transform(T, own.reshape(-1, 3)).reshape(own.shape)
        rng = np.random.default_rng(number)
        away = np.linalg.norm(own, axis=-1, keepdims=True)
        points = points + self.noise * away * rng.normal(size=own.shape)
        return Seen(points.astype(np.float32), own.astype(np.float32),
                    np.full(own.shape[:2], 5.0, np.float32))


@dataclass(eq=False)
class TruthByImage(Truth):
    """Recognises the views of a sequence by their images."""

    def encode(self, image: np.ndarray) -> Tokens:
        """Give each view the number of its frame."""
        return Tokens(torch.tensor(self.numbers[image.tobytes()]), 1, 1)

    def __post_init__(self) -> None:
        self.numbers = {true.view.image.tobytes(): n for n, true in enumerate(self.views)}
        self.encodings = [Must3rEncoding(
            v.view.camera, True, v.view.image, np.zeros((0, 2), np.int32),
            Tokens(torch.tensor(n), 1, 1))
                          for n, v in enumerate(self.views)]


def truth(frames: Sequence[int], focal: float = 0.0, noise: float = 0.0,
          trajectory: str = 'orbit') -> tuple[Truth, Must3rPredictor, tuple[Must3rEncoding, ...]]:
    """Return what stands in for a network, a predictor with it, and encodings of its views."""
    scene = vga(trajectory, 3)
    engine = Truth([TrueView.of(scene, n) for n in frames], focal, noise)
    predictor = Must3rPredictor(engine, 512)
    for true in engine.views:
        engine.encodings.append(predictor.encode(true.view))
    return engine, predictor, tuple(engine.encodings)


@pytest.mark.parametrize('focal', [0.0, 700.0])
def test_poses_and_points_are_metric(focal: float) -> None:
    """In the first view's frame, which is not that of the memory."""
    engine, predictor, group = truth((0, 15, 30), focal)
    memory = remembered(predictor, group[:1])
    prediction = predictor.predict_together(group[1:], memory)
    assert prediction.learned and prediction.metric
    expected = se3.inverse(engine.views[1].T_world_cam) @ engine.views[2].T_world_cam
    assert np.allclose(prediction.T_first_view[0], np.eye(4))
    assert np.allclose(prediction.T_first_view[1], expected, atol=1e-4)
    assert prediction.focal == pytest.approx(focal or group[1].camera.fx, rel=1e-2)
    depth = engine.views[1].points_on(group[1].camera)[..., 2]
    assert np.allclose(prediction.pointmaps[0][..., 2], depth, rtol=1e-4)
    for i, j in ((0, 1), (1, 0)):
        pair = as_pair(prediction, group[1:], i, j)
        pixels, visible = engine.views[j + 1].seen_in(
            group[j + 1].camera, engine.views[i + 1], group[i + 1].camera)
        seen = group[i + 1].camera.project(pair.pointmaps[1].reshape(-1, 3)).reshape(pixels.shape)
        if focal:  # what it implies is not quite one rigid scene
            continue
        assert np.abs(seen - pixels)[visible].max() < 1.0
        sure = pair.confidences[1] >= MATCHED
        assert sure[visible].mean() > 0.98
        assert not sure[~np.isfinite(pixels).all(-1)].any()


def test_pointmaps_that_disagree_are_not_believed() -> None:
    """The network is sure, but its two points of a pixel are a tenth apart."""
    _, predictor, group = truth((0, 15))
    exact = predictor.predict_together(group)
    assert np.median(exact.confidences[1]) == information(np.float32([5.0]))[0]
    _, predictor, group = truth((0, 15), noise=0.1)
    noisy = predictor.predict_together(group)
    assert np.median(noisy.confidences[1]) < 100


def test_a_view_that_shows_nothing_new_is_not_remembered() -> None:
    engine, predictor, group = truth((0, 0, 1, 60, 60))
    memory = remembered(predictor, group)
    assert [m.tokens is not None for m in memory] == [True, False, False, True, False]
    assert engine.joined[-1] == ([4], [0, 3])
    shares = [overlap(m.placed, [memory[0].placed]) for m in memory]
    assert shares[0] == shares[1] == 1.0
    assert shares[1] >= shares[2] > COVERED > shares[3] > 0.1


@pytest.mark.parametrize('broken', [np.nan, np.inf, 0.0])
def test_points_that_are_no_points_have_no_confidence(broken: float) -> None:
    """In the reference's frame, everywhere: there is no pose."""
    engine, predictor, group = truth((0, 15))
    seen = engine._seen

    def spoilt(number: int, reference: int) -> Seen:
        out = seen(number, reference)
        if number == 1:
            out.points[:] = broken
        return out
    engine._seen = spoilt
    prediction = predictor.predict_together(group)
    assert (prediction.confidences[1] == np.float32(NO_CONFIDENCE)).all()
    assert (prediction.confidences[0] > 1).all()
    pair, = predictor.predict([group[::-1]])
    assert all(np.isfinite(p).all() for p in pair.pointmaps)
    assert all((c == np.float32(NO_CONFIDENCE)).all() for c in pair.confidences)
    memory = remembered(predictor, group)
    assert memory[1].tokens is None, 'nothing is built on it'


def test_some_points_that_overflow_are_no_points() -> None:
    engine, predictor, group = truth((0, 15))
    seen = engine._seen

    def spoilt(number: int, reference: int) -> Seen:
        out = seen(number, reference)
        out.points[:40], out.own_points[40:80] = np.inf, np.nan
        return out
    engine._seen = spoilt
    pair, = predictor.predict([group])
    assert all(np.isfinite(p).all() for p in pair.pointmaps)
    assert (pair.confidences[0][:80] == np.float32(NO_CONFIDENCE)).all()
    assert (pair.confidences[0][80:] > 1).all()


def test_lower_precision_gives_float32_points() -> None:
    predictor = Must3rPredictor(MemoryEngine(tiny(), EngineConfig('cpu', 'bfloat16')), SIZE)
    a, b = (predictor.encode(v) for v in views(2))
    memory = remembered(predictor, [a])
    assert memory[0].tokens.dtype == torch.bfloat16
    assert predictor.predict_together((a, b), memory).pointmaps[1].dtype == np.float32


def test_a_map_in_metres() -> None:
    """Of several memories in turn, each bounded."""
    count, size = 60, 3
    scene = still_scene(3, count, 'sweep')
    engine = TruthByImage([TrueView.of(scene, n) for n in range(count)], noise=0.01)
    system = System(Must3rPredictor(engine, scene.camera.width, Window(size, 1)))
    for n in range(count):
        system.add(as_frame(scene, n))
    system.finish()
    poses = {frame.index: T[:3, 3] for frame, T in system.trajectory()}
    assert len(poses) == count
    true = np.stack([engine.views[n].T_world_cam[:3, 3] for n in poses])
    found = np.stack(list(poses.values()))
    assert absolute_error(found, true) < 0.01 * path_length(true)
    scale = system.metric('model')
    assert scale is not None
    S = weighted_procrustes(found, true, np.ones(count))
    assert scale.value == pytest.approx(np.cbrt(np.linalg.det(S[:3, :3])), rel=0.02)
    assert {len(memory) for _, memory in engine.joined} == {0, 1}, 'a window of three with one new'
    assert len({memory[0] for _, memory in engine.joined if memory}) > 1
