# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A pair network as a predictor: its inputs, number of passes, and conversion of its outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from predictor_suite import PredictorSuite, vga
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.dust3r import by_token, Dust3rEncoding, Dust3rPredictor
from recon3r_ros.models.engine import Engine
from recon3r_ros.models.matching import match_reciprocally
from recon3r_ros.models.pointmaps import ALPHA, information
from recon3r_ros.models.preprocess import prepare, to_tensor
from recon3r_ros.models.registry import EngineConfig, make_predictor, Model
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE, View
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig, Tokens, ViewOutput
from simulated import TrueView
import torch

TINY = Dust3rConfig(128, 1, 2, 64, 4, 1, 'linear')


def tiny(head: str = 'linear', seed: int = 0) -> Dust3r:
    """Make an untrained network."""
    torch.manual_seed(seed)
    return Dust3r(replace(TINY, head=head)).requires_grad_(False)


class TestDust3rPredictor(PredictorSuite):
    """The common suite, with an untrained network."""

    @pytest.fixture
    def predictor(self) -> Dust3rPredictor:
        """Return the predictor."""
        return Dust3rPredictor(Engine(tiny()), 512)


def view(width: int, height: int, colour: bool = True) -> View:
    """Make noise, with a camera whose principal point is off the image's centre."""
    rng = np.random.default_rng(width * height)
    image = rng.integers(0, 256, (height, width, 3) if colour else (height, width), np.uint8)
    return View(image, Camera(width, height, 500.0, 510.0, width / 2 + 7, height / 2 - 5))


@pytest.mark.parametrize('width, height, size, expected', [
    (640, 480, 512, (512, 384)), (480, 640, 512, (384, 512)), (1920, 1080, 512, (512, 288)),
    (1241, 376, 512, (512, 144)), (300, 200, 512, (512, 336)), (512, 384, 512, (512, 384)),
    (640, 480, 224, (224, 224)), (480, 640, 224, (224, 224)), (4000, 20, 512, (512, 16))])
def test_images_are_resized_and_cropped(width: int, height: int, size: int,
                                        expected: tuple[int, int]) -> None:
    source = view(width, height)
    grid = prepare(source, size, 16)
    assert grid.image.shape == (expected[1], expected[0], 3) and grid.image.dtype == np.uint8
    assert (grid.camera.width, grid.camera.height) == expected
    # The centre of the image stays the centre, on the same ray
    rays = grid.camera.unproject(np.array([[(expected[0] - 1) / 2, (expected[1] - 1) / 2]]))
    assert np.allclose(source.camera.project(rays), [[(width - 1) / 2, (height - 1) / 2]], atol=2)
    assert grid.calibrated == source.calibrated


def test_grey_images_and_tensors() -> None:
    grid = prepare(view(64, 48, colour=False), 512, 16)
    assert grid.image.shape == (384, 512, 3)
    assert np.array_equal(grid.image[..., 0], grid.image[..., 2])
    image = np.zeros((16, 32, 3), np.uint8)
    image[3, 5] = 255, 0, 51
    batch = to_tensor([image, image], torch.device('cpu'))
    assert batch.shape == (2, 3, 16, 32) and batch.dtype == torch.float32
    assert torch.allclose(batch[1, :, 3, 5], torch.tensor([1.0, -1.0, -0.6]))


class Counted(Engine):
    """Counts passes through the network, and the views or pairs in each."""

    def __init__(self, network: Dust3r, memory: int = 99) -> None:
        super().__init__(network)
        self.max_batch = 16
        self.encoded: list[int] = []
        self.decoded: list[int] = []
        self._memory = memory
        encode, decode = self._encode, self._decode

        def counted_encode(batch: torch.Tensor):
            self.encoded.append(len(batch))
            return encode(batch)

        def counted_decode(first: torch.Tensor, *rest):
            if len(first) > self._memory:
                raise torch.OutOfMemoryError('CUDA out of memory')
            self.decoded.append(len(first))
            return decode(first, *rest)
        self._encode, self._decode = counted_encode, counted_decode


def window(predictor: Dust3rPredictor, count: int = 6, width: int = 64, height: int = 48
           ) -> list[tuple[Dust3rEncoding, ...]]:
    """Encode views and list the directed pairs of a sliding window, offsets 1 and 2."""
    rng = np.random.default_rng(5)
    camera = Camera(width, height, 60.0, 60.0, (width - 1) / 2, (height - 1) / 2)
    encodings = [predictor.encode(View(
        rng.integers(0, 256, (height, width, 3), np.uint8), camera)) for _ in range(count)]
    return [(encodings[i], encodings[j]) for i in range(count) for j in range(count)
            if abs(i - j) in (1, 2)]


def test_a_view_is_encoded_once_and_pairs_are_decoded_in_one_batch() -> None:
    engine = Counted(tiny())
    predictor = Dust3rPredictor(engine, 224)
    groups = window(predictor)
    assert len(groups) == 18
    assert sum(engine.encoded) == 6, 'one encoder pass a view'
    predictor.predict(groups[:7])
    assert engine.decoded == [7], 'all pairs in one batch'
    predictor.predict(groups)
    assert sum(engine.decoded) == 7 + 18, 'one decoder pass a directed pair'
    assert sum(engine.encoded) == 6


def test_pairs_of_different_shapes_are_grouped() -> None:
    engine = Counted(tiny())
    predictor = Dust3rPredictor(engine, 512)
    wide, tall = view(512, 64), view(64, 512)
    a, b, c, d = (predictor.encode(v) for v in (wide, tall, wide, tall))
    groups = [(a, b), (b, a), (c, d), (a, c), (c, a), (d,)]
    together = predictor.predict(groups)
    assert sorted(engine.decoded) == [1, 1, 2, 2]
    for prediction, group in zip(together, groups):
        alone, = predictor.predict([group])
        assert [p.shape for p in prediction.pointmaps] == [e.image.shape for e in group]
        for x, y in zip(prediction.pointmaps, alone.pointmaps):
            assert np.allclose(x, y, rtol=1e-3, atol=1e-4)


def test_out_of_memory_halves_the_batch(caplog: pytest.LogCaptureFixture) -> None:
    plenty = Dust3rPredictor(Counted(tiny()), 224)
    engine = Counted(tiny(), memory=3)
    little = Dust3rPredictor(engine, 224)
    got, expected = (p.predict(window(p)) for p in (little, plenty))
    assert engine.max_batch == 2 and max(engine.decoded) == 2
    assert sum(engine.decoded) == len(got) == len(expected) == 18
    assert all(np.allclose(x.pointmaps[1], y.pointmaps[1], atol=1e-4)
               for x, y in zip(got, expected))
    assert [r.getMessage() for r in caplog.records] == [
        'out of memory with 16 at once; going on with 8',
        'out of memory with 8 at once; going on with 4',
        'out of memory with 4 at once; going on with 2']
    with pytest.raises(Recon3rError, match='too little memory for a single pair'):
        predictor = Dust3rPredictor(Counted(tiny(), memory=0), 224)
        predictor.predict(window(predictor))


@pytest.mark.parametrize('config, word', [
    (EngineConfig('cuda:99'), 'cuda:99'), (EngineConfig('abacus'), 'abacus'),
    (EngineConfig('cpu', 'int4'), 'int4'), (EngineConfig('cpu', mode='graphs'), 'CUDA'),
    (EngineConfig('cpu', mode='fast'), 'fast'), (EngineConfig('meta'), 'meta')])
def test_an_engine_that_cannot_be(config: EngineConfig, word: str) -> None:
    with pytest.raises(Recon3rError, match=word):
        Engine(tiny(), config)


def test_lower_precision_gives_float32_points() -> None:
    predictor = Dust3rPredictor(Engine(tiny('dpt'), EngineConfig('cpu', 'bfloat16')), 224)
    groups = window(predictor, 2)
    assert groups[0][0].tokens.values.dtype == torch.bfloat16
    assert predictor.predict(groups)[0].pointmaps[0].dtype == np.float32


@pytest.mark.parametrize('model, word', [
    (Model('dust3r'), 'recon3r weights'), (Model('oracle'), 'geometric, dust3r'),
    (Model('geometric', 'w.pth'), 'no weights'), (Model('mast3r', '/none.pth'), '/none.pth')])
def test_a_model_that_cannot_be(model: Model, word: str) -> None:
    with pytest.raises(Recon3rError, match=word):
        make_predictor(model)


@dataclass(frozen=True, eq=False)
class Truth:
    """Stands in for an engine: the outputs of a network that implies another camera."""

    views: list[TrueView]
    focal: float
    descriptors: list[NDArray[np.float32]] | None = None
    config: Dust3rConfig = TINY

    def encode(self, image: NDArray[np.uint8]) -> Tokens:
        """Give each view its number, in order."""
        count = len(self.numbered)
        self.numbered.append(image.shape[:2])
        return Tokens(torch.tensor([count]), 1, 1)

    @property
    def numbered(self) -> list[tuple[int, ...]]:
        """Shapes of the views so far."""
        return self.__dict__.setdefault('_numbered', [])

    def decode(self, pairs: list[tuple[Tokens, Tokens]], moving: list | None = None
               ) -> list[tuple[ViewOutput, ViewOutput]]:
        """Return ground truth."""
        return [(self._points(a, a), self._points(b, a))
                for a, b in (((int(t.values) for t in pair)) for pair in pairs)]

    def _points(self, i: int, frame: int) -> ViewOutput:
        own, first = self.views[i], self.views[frame]
        grid = prepare(own.view, 512, 16).camera
        T = se3.inverse(first.T_world_cam) @ own.T_world_cam
        points = se3.transform(T, own.points_on(grid).reshape(-1, 3))
        # The projections in the first camera, unprojected by the implied camera
        camera = prepare(first.view, 512, 16).camera
        pixels, z = camera.project(points), points[:, 2:]
        middle = np.array([(camera.width - 1) / 2, (camera.height - 1) / 2])
        points = np.hstack([(pixels - middle) / self.focal * z, z])
        shape = (grid.height, grid.width)
        described = None if self.descriptors is None else torch.from_numpy(self.descriptors[i])
        return ViewOutput(torch.from_numpy(points.reshape(*shape, 3).astype(np.float32)),
                          torch.full(shape, 5.0), described,
                          None if described is None else torch.ones(shape))


@pytest.fixture(scope='module')
def pair() -> list[TrueView]:
    """Return two views with parallax, with principal points off the images' centres."""
    scene = vga('orbit', 3)
    return [TrueView.of(scene, i).cropped(30, 10, 600, 450) for i in (0, 15)]


def predicted(truth: Truth) -> tuple[tuple[Dust3rEncoding, ...], list]:
    """Predict the pair both ways."""
    predictor = Dust3rPredictor(truth, 512)
    a, b = (predictor.encode(v.view) for v in truth.views)
    return (a, b), predictor.predict([(a, b), (b, a), (a,)])


@pytest.mark.parametrize('focal', [300.0, 470.0, 900.0])
def test_points_come_onto_the_true_rays(pair: list[TrueView], focal: float) -> None:
    (a, b), (forward, _, alone) = predicted(Truth(pair, focal))
    assert forward.focal == pytest.approx(focal, rel=1e-3)
    assert forward.learned and not forward.metric
    own = pair[0].points_on(a.camera)
    assert np.allclose(forward.pointmaps[0], own, rtol=1e-3, atol=1e-3)
    assert np.allclose(alone.pointmaps[0], own, rtol=1e-3, atol=1e-3) and len(
        alone.pointmaps) == 1
    # The second view's points project correctly, whatever camera the network implies
    pixels, visible = pair[1].seen_in(b.camera, pair[0], a.camera)
    seen = a.camera.project(forward.pointmaps[1].reshape(-1, 3)).reshape(pixels.shape)
    assert np.abs(seen - pixels)[visible].max() < 0.2
    confident = forward.confidences[1] >= MATCHED
    assert confident[visible].mean() > 0.99
    inside = ((pixels > -0.6) & (pixels < [a.camera.width - 0.4, a.camera.height - 0.4])).all(-1)
    assert not confident[~np.isfinite(pixels).all(-1) | ~inside].any()
    assert (forward.confidences[0] == information(np.float32([5.0]))[0]).all()


def test_confidence_is_an_inverse_variance() -> None:
    """C converges to alpha over the error; without information it is 1."""
    error = np.float32([0.01, 0.02, 0.1])
    assert np.allclose(information(ALPHA / error), error ** -2.0, rtol=0.3)
    assert information(np.float32([1.0, np.nan])) == pytest.approx([NO_CONFIDENCE] * 2)
    assert np.isfinite(information(np.float32([np.inf, 1e30]))).all()


def test_points_that_overflow_are_no_points() -> None:
    class Overflowing(Truth):
        def _points(self, i: int, frame: int) -> ViewOutput:
            out = super()._points(i, frame)
            out.points[:40] = torch.inf
            out.points[40:80] = torch.nan
            out.points[80:90] = 1e30
            return out
    scene = vga('orbit', 3)
    _, predictions = predicted(Overflowing([TrueView.of(scene, i) for i in (0, 15)], 400.0))
    for prediction in predictions:
        for points, confidence in zip(prediction.pointmaps, prediction.confidences):
            assert np.isfinite(points).all() and np.isfinite(confidence).all()
            assert (confidence[:90] == np.float32(NO_CONFIDENCE)).all()
            assert (confidence[100:] > 1).mean() > 0.5


def described(shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Make distinct descriptors."""
    values = np.random.default_rng(seed).normal(size=(*shape, 24)).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def of_the_surface(view: TrueView) -> NDArray[np.float32]:
    """Make descriptors of the scene's points, the same in all views."""
    rng = np.random.default_rng(6)
    grid = prepare(view.view, 512, 16).camera
    points = se3.transform(view.T_world_cam, view.points_on(grid).reshape(-1, 3))
    waves = np.cos(points @ rng.normal(0, 8, (3, 24)) + rng.uniform(0, 6, 24))
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    return waves.reshape(grid.height, grid.width, 24).astype(np.float32)


@pytest.mark.slow
def test_descriptors_tell_other_places(pair: list[TrueView]) -> None:
    """Two views whose descriptor matches disagree with the points do not overlap."""
    mast3r = replace(TINY, head='catmlp+dpt')
    descriptors = [of_the_surface(view) for view in pair]
    _, (forward, backward, _) = predicted(Truth(pair, 470.0, descriptors, mast3r))
    for prediction in (forward, backward):
        assert (prediction.confidences[0] > 1).all() and prediction.metric
    descriptors[1] = described(descriptors[1].shape[:2], 1)
    _, (forward, backward, alone) = predicted(Truth(pair, 470.0, descriptors, mast3r))
    for prediction in (forward, backward):
        assert all((c == np.float32(NO_CONFIDENCE)).all() for c in prediction.confidences)
    assert (alone.confidences[0] > 1).all()


def test_reciprocal_matches() -> None:
    """Against the full similarity matrix: mutual nearest neighbours, from all starting pixels."""
    first = described((20, 30), 2)
    shift = np.roll(first, (3, 4), (0, 1))
    noise = 0.1 * described((20, 30), 3)
    second = (shift + noise) / np.linalg.norm(shift + noise, axis=-1, keepdims=True)
    one, two = match_reciprocally(torch.from_numpy(first), torch.from_numpy(second), 2)
    similarity = first.reshape(-1, 24) @ second.reshape(-1, 24).T
    index1, index2 = one[:, 1] * 30 + one[:, 0], two[:, 1] * 30 + two[:, 0]
    assert np.array_equal(similarity[index1].argmax(1), index2)
    assert np.array_equal(similarity[:, index2].argmax(0), index1)
    assert len(one) == 10 * 15
    assert np.array_equal((one + [4, 3]) % [30, 20], two)


def test_reciprocal_matching_iterates() -> None:
    """Only one pixel has a match: many starting pixels converge to it, which is listed once."""
    rng = np.random.default_rng(4)
    grid = pixel_grid(16, 16).reshape(-1, 2) / 16
    descriptors = np.hstack([np.cos(grid), np.sin(grid), rng.normal(0, 1e-3, (256, 2))])
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    first = torch.from_numpy(descriptors.reshape(16, 16, 6).astype(np.float32))
    one, two = match_reciprocally(first, first[7:8, 9:10], 4)
    assert one.tolist() == [[9, 7]] and two.tolist() == [[0, 0]]
    none, _ = match_reciprocally(first, -first[7:8, 9:10], 99)
    assert none.shape == (0, 2)


def test_attention_and_the_second_pass() -> None:
    """Pairs have statistics; static tokens do not attend to dynamic ones."""
    engine = Engine(tiny(), attention=True)
    predictor = Dust3rPredictor(engine, 224)
    (a, b), *_ = window(predictor)
    pair, alone = predictor.predict([(a, b), (a,)])
    assert alone.attention is None and pair.attention is not None
    rows, columns = a.features.shape[:2]
    assert pair.attention.first.shape[:2] == (rows, columns)
    assert pair.attention.first.dtype == np.float16
    static = np.zeros(a.image.shape[:2], bool)
    moving = static.copy()
    moving[:40, :50] = True
    same, other = predictor.predict([(a, b), (a, b)], [(static, static), (static, moving)])
    assert same.attention is None, 'the second pass has no statistics'
    assert np.allclose(same.pointmaps[0], pair.pointmaps[0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(other.pointmaps[0], pair.pointmaps[0], rtol=1e-4, atol=1e-5)
    # Attention of dynamic queries to dynamic keys is unchanged
    every, = predictor.predict([(a, b)], [(~static, moving)])
    assert np.allclose(every.pointmaps[0], pair.pointmaps[0], rtol=1e-4, atol=1e-5)


def test_tokens_of_a_mask() -> None:
    mask = np.zeros((32, 48), bool)
    mask[17, 40] = True
    assert np.argwhere(by_token(mask, 2, 3)).tolist() == [[1, 2]]
