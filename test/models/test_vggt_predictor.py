# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""VGGT as a window predictor: its inputs, number of passes, and conversion of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import atan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from predictor_suite import PredictorSuite, vga
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.pointmaps import as_pair, information
from recon3r_ros.models.registry import EngineConfig, make_predictor, Model, VggtOptions
from recon3r_ros.models.types import MATCHED, NO_CONFIDENCE, View
from recon3r_ros.models.vggt import VggtEncoding, VggtPredictor
from recon3r_ros.models.window_engine import QUERIES, ViewTokens, WindowEngine, WindowOutput
from recon3r_ros.nets.vggt import Vggt, VggtConfig
from recon3r_ros.nets.vggt_tracks import TrackConfig, VggtWithTracks
from recon3r_ros.slam.backend.alignment import align_pointmaps
from simulated import TrueView
import torch

TINY = VggtConfig(64, 4, 1, 1, (0, 1, 2, 3))
SIZE = 112


def tiny(seed: int = 0) -> Vggt:
    """Make an untrained network."""
    torch.manual_seed(seed)
    network = Vggt(TINY).requires_grad_(False)
    for parameter in network.parameters():
        if not parameter.any():  # tokens and positions, which training fills
            parameter.normal_(0, 0.02)
    return network


class TestVggtPredictor(PredictorSuite):
    """The common suite, with an untrained network."""

    @pytest.fixture
    def predictor(self) -> VggtPredictor:
        """Return the predictor."""
        return VggtPredictor(WindowEngine(tiny()), SIZE)


class Counted(WindowEngine):
    """Counts passes through the network's parts, and the views in each."""

    def __init__(self, network: Vggt, memory: int = 99) -> None:
        super().__init__(network)
        self.encoded: list[int] = []
        self.looked: list[int] = []
        self.dense: list[int] = []
        encode, look, depth = self._encode, self._look, self._depth

        def counted_encode(images: torch.Tensor):
            self.encoded.append(len(images))
            return encode(images)

        def counted_look(patches: torch.Tensor, rows: int):
            if len(patches) > memory:
                raise torch.OutOfMemoryError('CUDA out of memory')
            self.looked.append(len(patches))
            return look(patches, rows)

        def counted_depth(rows: int, columns: int, *dense: torch.Tensor):
            self.dense.append(len(dense[0]))
            return depth(rows, columns, *dense)
        self._encode, self._look, self._depth = counted_encode, counted_look, counted_depth


def views(count: int, width: int = 112, height: int = 84) -> list[View]:
    """Make noise."""
    rng = np.random.default_rng(5)
    camera = Camera(width, height, 90.0, 90.0, (width - 1) / 2, (height - 1) / 2)
    return [View(rng.integers(0, 256, (height, width, 3), np.uint8), camera)
            for _ in range(count)]


def test_a_sliding_window_encodes_each_view_once() -> None:
    engine = Counted(tiny())
    predictor = VggtPredictor(engine, SIZE)
    encodings: list[VggtEncoding] = []
    for view in views(10):
        encodings.append(predictor.encode(view))
        window = encodings[-8:]
        predictor.predict_together((window[-1],), window[:-1])
    assert engine.encoded == [1] * 10, 'one DINO pass a view'
    assert engine.looked == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert sum(engine.dense) == 10, 'one dense output per requested view'


def test_context_changes_what_is_predicted() -> None:
    predictor = VggtPredictor(WindowEngine(tiny()), SIZE)
    a, b, c = (predictor.encode(v) for v in views(3))
    alone = predictor.predict_together((a, b))
    together = predictor.predict_together((a, b), (c,))
    whole = predictor.predict_together((a, b, c))
    assert len(together.pointmaps) == 2 and len(whole.pointmaps) == 3
    assert not np.allclose(alone.pointmaps[0], together.pointmaps[0], rtol=1e-4)
    for k in range(2):
        assert np.allclose(together.pointmaps[k], whole.pointmaps[k], rtol=1e-4, atol=1e-5)


def test_out_of_memory_drops_context(caplog: pytest.LogCaptureFixture) -> None:
    engine = Counted(tiny(), memory=3)
    predictor = VggtPredictor(engine, SIZE)
    encodings = [predictor.encode(v) for v in views(8)]
    got = predictor.predict_together(tuple(encodings[:2]), encodings[2:])
    expected = VggtPredictor(WindowEngine(tiny()), SIZE).predict_together(tuple(encodings[:2]))
    assert np.allclose(got.pointmaps[1], expected.pointmaps[1], rtol=1e-4, atol=1e-5)
    assert [r.getMessage() for r in caplog.records] == [
        'out of memory with 8 views at once; going on with 4',
        'out of memory with 4 views at once; going on with 2']
    engine.looked.clear()
    predictor.predict_together(tuple(encodings[:2]), encodings[2:])
    assert engine.looked == [2], 'it does not try again'
    with pytest.raises(Recon3rError, match='too little memory'):
        predictor.predict_together(tuple(encodings[:4]))


def test_views_of_different_sizes_are_refused() -> None:
    predictor = VggtPredictor(WindowEngine(tiny()), SIZE)
    a, b = (predictor.encode(views(1, *size)[0]) for size in ((112, 84), (112, 56)))
    with pytest.raises(ValueError, match='one size'):
        predictor.predict_together((a,), (b,))


@pytest.mark.parametrize('width, height, expected', [
    (640, 480, (112, 84)), (480, 640, (112, 112)), (1920, 1080, (112, 56)), (70, 70, (112, 112))])
def test_grids(width: int, height: int, expected: tuple[int, int]) -> None:
    """As wide as in training, and never higher: portrait images are cropped at top and bottom."""
    source = views(1, width, height)[0]
    encoding = VggtPredictor(WindowEngine(tiny()), SIZE).encode(source)
    camera = encoding.camera
    assert (camera.width, camera.height) == expected == encoding.image.shape[1::-1]
    rays = camera.unproject(np.array([[(expected[0] - 1) / 2, (expected[1] - 1) / 2]]))
    assert np.allclose(source.camera.project(rays), [[(width - 1) / 2, (height - 1) / 2]],
                       atol=width / expected[0])


def test_lower_precision_gives_float32_points() -> None:
    predictor = VggtPredictor(WindowEngine(tiny(), EngineConfig('cpu', 'bfloat16')), SIZE)
    a, b = (predictor.encode(v) for v in views(2))
    assert a.tokens.values.dtype == torch.bfloat16
    assert predictor.predict([(a, b)])[0].pointmaps[1].dtype == np.float32


def tracking() -> VggtWithTracks:
    """Make an untrained network with a track head."""
    torch.manual_seed(0)
    network = VggtWithTracks(TINY, TrackConfig(16, 32, 1, 8, 5, 7)).requires_grad_(False)
    network.load_state_dict(tiny().state_dict(), strict=False)
    return network


def test_keypoints_of_each_view_are_tracked_through_the_group() -> None:
    source = views(4, 168, 140)
    predictor = VggtPredictor(WindowEngine(tracking()), 168, VggtOptions(tracks='keypoints'))
    group = tuple(replace(view, keypoints=view.keypoints[:QUERIES + 20 * n])
                  for n, view in enumerate(map(predictor.encode, source)))
    assert len({len(view.keypoints) for view in group}) == 4
    prediction = predictor.predict_together(group[:3], group[3:])
    for n, (view, tracks) in enumerate(zip(group, prediction.tracks)):
        assert tracks.positions.shape == (3, len(view.keypoints), 2)
        assert tracks.probability.shape == (3, len(view.keypoints))
        assert np.array_equal(tracks.positions[n], view.keypoints), 'exact in their own view'
        for other in {0, 1, 2} - {n}:
            assert not np.allclose(tracks.positions[other], view.keypoints, atol=1e-3)
    assert prediction.moving.shape == (3, 140, 168)
    pair = as_pair(prediction, group, 0, 2)
    assert np.array_equal(pair.tracks[0].positions[0], prediction.tracks[2].positions[0])
    plain = VggtPredictor(WindowEngine(tiny()), 168).predict_together(group[:3], group[3:])
    assert plain.tracks is None and plain.moving is None
    assert np.allclose(plain.pointmaps[1], prediction.pointmaps[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('part', ['_features', '_track'])
def test_without_memory_for_tracks_the_rest_goes_on(
        part: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = WindowEngine(tracking())
    predictor = VggtPredictor(engine, 168, VggtOptions(tracks='keypoints'))
    a, b = (predictor.encode(view) for view in views(2, 168, 140))
    assert predictor.predict_together((a, b)).tracks is not None
    calls = []

    def broken(*_: object) -> None:
        calls.append(1)
        raise torch.OutOfMemoryError('CUDA out of memory')
    setattr(engine, part, broken)
    for _ in range(2):
        found = predictor.predict_together((a, b))
        assert found.tracks is None and found.moving is None and len(found.pointmaps) == 2
    assert len(calls) == 1, 'it does not try again'
    assert [r.getMessage() for r in caplog.records] == [
        'out of memory: no points are tracked any more']


def test_what_cannot_be_tracked_has_no_tracks() -> None:
    options = VggtOptions(tracks='keypoints')
    small = VggtPredictor(WindowEngine(tracking()), SIZE, options)
    a, b = (small.encode(view) for view in views(2))
    assert small.predict_together((a, b)).tracks is None, 'the coarsest level would vanish'
    large = VggtPredictor(WindowEngine(tracking()), 168, options)
    a, b = (large.encode(view) for view in views(2, 168, 140))
    blank = replace(b, keypoints=np.empty((0, 2), np.int32))
    assert large.predict_together((a,)).tracks is None
    assert large.predict_together((a, blank)).tracks is None


def test_the_track_head_is_loaded_on_request(tmp_path: Path) -> None:
    torch.save(tracking().state_dict(), tmp_path / 'model.pt')
    for tracks, kind in (('none', Vggt), ('keypoints', VggtWithTracks)):
        model = Model('vggt', str(tmp_path / 'model.pt'), EngineConfig('cpu'),
                      VggtOptions(tracks=tracks))
        assert type(make_predictor(model).network.engine.network) is kind


def test_it_is_a_window_predictor() -> None:
    predictor = VggtPredictor(WindowEngine(tiny()), SIZE)
    assert predictor.together is predictor
    assert make_predictor(Model()).together is None


@dataclass(eq=False)
class Truth:
    """Stands in for an engine: the outputs of a network that implies another camera."""

    views: list[TrueView]
    focal: float
    scale: float = 0.3
    confidence: float = 5.0
    encodings: list[VggtEncoding] = field(default_factory=list)

    def encode(self, image: NDArray[np.uint8]) -> ViewTokens:
        """Give each view its number, in order."""
        return ViewTokens(torch.tensor(len(self.encodings)), 1, 1)

    def look(self, tokens: Sequence[ViewTokens], wanted: int, queries: object = ()
             ) -> WindowOutput:
        """Return ground truth, in a frame near the first view's and of another scale."""
        numbers = [int(t.values) for t in tokens]
        near = se3.from_rt(se3.so3_exp([0.01, -0.02, 0.005]), [0.02, 0.01, -0.03])
        T_frame_world = near @ se3.inverse(self.views[numbers[0]].T_world_cam)
        cameras, dense = [], []
        for n, number in enumerate(numbers):
            grid, true = self.encodings[number].camera, self.views[number]
            T = se3.inverse(T_frame_world @ true.T_world_cam)
            cameras.append(np.concatenate([
                self.scale * T[:3, 3], 1.7 * se3.quat_xyzw_from_matrix(T[:3, :3]),
                [2 * atan(grid.height / 2 / self.focal), 2 * atan(grid.width / 2 / self.focal)]]))
            if n < wanted:
                depth = self.scale * true.points_on(grid)[..., 2]
                dense.append((depth.astype(np.float32), np.full(
                    depth.shape, self.confidence, np.float32)))
        return WindowOutput(np.stack(cameras).astype(np.float32), tuple(dense))


def truth(count: int, focal: float = 0.0, calibrated: bool = True
          ) -> tuple[Truth, VggtPredictor, tuple[VggtEncoding, ...]]:
    """Return what stands in for a network, a predictor with it, and encodings of its views."""
    scene = vga('orbit', 3)
    engine = Truth([TrueView.of(scene, 15 * i) for i in range(count)], focal)
    predictor = VggtPredictor(engine, 518)
    for true in engine.views:
        engine.encodings.append(predictor.encode(
            View(true.view.image, true.view.camera, calibrated)))
    if not focal:
        engine.focal = engine.encodings[0].camera.fx
    return engine, predictor, tuple(engine.encodings)


@pytest.mark.parametrize('focal', [250.0, 900.0])
def test_known_intrinsics_replace_estimated_ones(focal: float) -> None:
    engine, predictor, group = truth(3, focal)
    prediction = predictor.predict_together(group)
    assert prediction.cameras == tuple(e.camera for e in group)
    for k, encoding in enumerate(group):
        T = prediction.T_first_view[k]
        expected = se3.inverse(engine.views[0].T_world_cam) @ engine.views[k].T_world_cam
        assert np.allclose(T[:3, :3], expected[:3, :3], atol=1e-5)
        assert np.allclose(T[:3, 3], engine.scale * expected[:3, 3], atol=1e-5)
        own = engine.views[k].points_on(encoding.camera)
        points = se3.transform(expected, own.reshape(-1, 3)).reshape(own.shape)
        assert np.allclose(prediction.pointmaps[k], engine.scale * points, rtol=1e-3, atol=1e-4)
    assert prediction.learned and not prediction.metric


@pytest.mark.parametrize('calibrated', [True, False])
def test_any_two_views_of_a_window_make_a_pair(calibrated: bool) -> None:
    engine, predictor, group = truth(3, calibrated=calibrated)
    if not calibrated:  # the view's default focal length is wrong
        true = [e.camera for e in group]
        group = tuple(VggtEncoding(
            Camera(e.camera.width, e.camera.height, 1.3 * e.camera.fx, 1.3 * e.camera.fy,
                   e.camera.cx, e.camera.cy), False, e.image, e.keypoints, e.tokens)
            for e in group)
    else:
        true = [e.camera for e in group]
    prediction = predictor.predict_together(group)
    assert prediction.focal == pytest.approx(engine.focal, rel=1e-3)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        pair = as_pair(prediction, group, i, j)
        own = engine.scale * engine.views[i].points_on(true[i])
        assert np.allclose(pair.pointmaps[0][..., 2], own[..., 2], rtol=1e-3)
        pixels, visible = engine.views[j].seen_in(true[j], engine.views[i], true[i])
        seen = group[i].camera.project(pair.pointmaps[1].reshape(-1, 3)).reshape(pixels.shape)
        # The network's image centre is half a pixel off ours
        assert np.abs(seen - pixels)[visible].max() < 1.0
        sure = pair.confidences[1] >= MATCHED
        assert sure[visible].mean() > 0.98
        assert not sure[~np.isfinite(pixels).all(-1)].any()
        assert pair.confidences[0].max() == pytest.approx(
            float(information(np.float32([5.0]))[0]))


def test_windows_that_share_views_are_aligned_by_them() -> None:
    """Two windows of different scale: one view's points give the similarity between them."""
    engine, predictor, group = truth(3)
    first = predictor.predict_together(group[:2])
    engine.scale = 1.1
    second = predictor.predict_together(group[1:])
    S, _ = align_pointmaps(second.pointmaps[0], second.confidences[0], first.pointmaps[1],
                           first.confidences[1])
    expected = se3.inverse(engine.views[0].T_world_cam) @ engine.views[1].T_world_cam
    assert np.allclose(S[:3, :3], 0.3 / 1.1 * expected[:3, :3], atol=1e-3)
    assert np.allclose(S[:3, 3], 0.3 * expected[:3, 3], atol=1e-3)


@pytest.mark.parametrize('broken', [
    lambda o: o.cameras.__setitem__((1, slice(3, 7)), 0),
    lambda o: o.cameras.__setitem__((1, 0), np.nan),
    lambda o: o.cameras.__setitem__((0, 2), np.inf)])
def test_invalid_cameras_have_no_confidence(broken) -> None:
    engine, predictor, group = truth(2)
    look = engine.look

    def spoilt(tokens: Sequence[ViewTokens], wanted: int, queries: object) -> WindowOutput:
        broken(out := look(tokens, wanted))
        return out
    engine.look = spoilt
    prediction = predictor.predict_together(group)
    assert (prediction.confidences[1] == np.float32(NO_CONFIDENCE)).all()
    assert all(np.isfinite(p).all() for p in prediction.pointmaps)
    pair, = predictor.predict([group])
    assert all(np.isfinite(p).all() for p in pair.pointmaps)


def test_depths_that_overflow_are_no_depths() -> None:
    engine, predictor, group = truth(2)
    look = engine.look

    def spoilt(tokens: Sequence[ViewTokens], wanted: int, queries: object) -> WindowOutput:
        out = look(tokens, wanted)
        out.dense[0][0][:40], out.dense[0][0][40:80] = np.inf, np.nan
        return out
    engine.look = spoilt
    pair, = predictor.predict([group])
    assert all(np.isfinite(p).all() for p in pair.pointmaps)
    assert (pair.confidences[0][:80] == np.float32(NO_CONFIDENCE)).all()
    assert (pair.confidences[0][80:] > 1).all()
