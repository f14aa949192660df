# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MapAnything as a window predictor: what it is told, its passes, conversion of its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from predictor_suite import PredictorSuite, vga
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera, pixel_grid
from recon3r_ros.models.known import along_rays, given_poses, KnownPose, rays_of
from recon3r_ros.models.known_engine import KnownEngine, KnownOutput, KnownTokens, SeenDepth
from recon3r_ros.models.mapanything import (
    depth_on,
    grid_size,
    MapAnythingEncoding,
    MapAnythingPredictor,
)
from recon3r_ros.models.pointmaps import as_pair
from recon3r_ros.models.preprocess import covering
from recon3r_ros.models.registry import EngineConfig, KnownWindow
from recon3r_ros.models.types import MapPrior, NO_CONFIDENCE, View
from recon3r_ros.nets.mapanything import MapAnything, MapAnythingConfig
from simulated import TrueView
import torch

SIZE = 112
Array = NDArray[np.float64]


def tiny(release: str = 'v1.1') -> MapAnything:
    """Make an untrained network, which sees no sky."""
    torch.manual_seed(0)
    network = MapAnything(MapAnythingConfig(64, 1, 64, 4, release, 8)).requires_grad_(False)
    for parameter in network.parameters():
        if not parameter.any():  # tokens and positions, which training fills
            parameter.normal_(0, 0.02)
    network.dense_head[1]['conv2'][2].bias[5] = 9
    return network


class TestMapAnythingPredictor(PredictorSuite):
    """The common suite, with an untrained network."""

    @pytest.fixture
    def predictor(self) -> MapAnythingPredictor:
        """Return the predictor."""
        return MapAnythingPredictor(KnownEngine(tiny()), SIZE)


class Counted(KnownEngine):
    """Counts passes through the network's parts, and the views in each."""

    def __init__(self, memory: int = 99) -> None:
        super().__init__(tiny())
        self.passes: dict[str, list[int]] = {}
        for name in ('_encode', '_encode_rays', '_encode_depth', '_look'):
            setattr(self, name, self._counted(name, getattr(self, name), memory))

    def _counted(self, name: str, function, memory: int):
        passes = self.passes[name] = []

        def counted(values: torch.Tensor, *others: torch.Tensor):
            if len(values) > memory:
                raise torch.OutOfMemoryError('CUDA out of memory')
            passes.append(len(values))
            return function(values, *others)
        return counted


def views(count: int, depth: bool = True, calibrated: bool = True) -> list[View]:
    """Make noise with depth."""
    rng = np.random.default_rng(5)
    camera = Camera(112, 84, 90.0, 90.0, 55.5, 41.5)
    return [View(rng.integers(0, 256, (84, 112, 3), np.uint8), camera, calibrated,
                 depth=rng.uniform(1, 3, (84, 112)).astype(np.float32) if depth else None)
            for _ in range(count)]


def test_a_sliding_window_encodes_each_view_and_what_is_known_once() -> None:
    engine = Counted()
    predictor = MapAnythingPredictor(engine, SIZE)
    encodings: list[MapAnythingEncoding] = []
    for view in views(10):
        encodings.append(predictor.encode(view))
        window = encodings[-8:]
        predictor.predict_together((window[-1],), window[:-1])
    assert engine.passes == {
        '_encode': [1] * 10, '_encode_rays': [1] * 10, '_encode_depth': [1] * 10,
        '_look': [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]}


@pytest.mark.parametrize('priors, calibrated, encoded', [
    ('rays,depth,poses', True, (1, 1)), ('rays', True, (1, 0)), ('depth', True, (0, 1)),
    ('none', True, (0, 0)), ('rays,depth,poses', False, (0, 0))])
def test_it_is_told_what_is_chosen_and_known(priors: str, calibrated: bool,
                                             encoded: tuple[int, int]) -> None:
    """Depth cannot be put onto unknown rays."""
    engine = Counted()
    MapAnythingPredictor(engine, SIZE, KnownWindow(use_priors=priors)).encode(
        views(1, calibrated=calibrated)[0])
    assert (len(engine.passes['_encode_rays']), len(engine.passes['_encode_depth'])) == encoded
    blank = replace(views(1)[0], depth=np.full((84, 112), np.nan, np.float32))
    MapAnythingPredictor(engine, SIZE).encode(blank)
    assert len(engine.passes['_encode_depth']) == encoded[1], 'no pixel is known'


@pytest.mark.parametrize('words', ['', 'ray', 'rays,none', 'rays, depth'])
def test_unknown_priors_are_refused(words: str) -> None:
    with pytest.raises(Recon3rError, match='use_priors.*rays, depth, poses'):
        KnownWindow(use_priors=words).check()
    KnownWindow(use_priors='none').check()


def test_poses_guide_unless_they_are_switched_off() -> None:
    rng = np.random.default_rng(0)
    known = [MapPrior(se3.exp(rng.normal(0, 0.3, 6)), metre=1.0) for _ in range(3)]
    for use, differ in (('rays,depth,poses', True), ('rays,depth', False)):
        predictor = MapAnythingPredictor(KnownEngine(tiny()), SIZE, KnownWindow(use_priors=use))
        group = tuple(predictor.encode(v) for v in views(3))
        free, told = (predictor.predict_together(group[:2], group[2:], priors)
                      for priors in ((), known))
        assert np.allclose(free.pointmaps[1], told.pointmaps[1], rtol=1e-4) != differ


def test_out_of_memory_drops_context() -> None:
    predictor = MapAnythingPredictor(Counted(memory=3), SIZE)
    encodings = [predictor.encode(v) for v in views(6)]
    got = predictor.predict_together(tuple(encodings[:2]), encodings[2:])
    expected = MapAnythingPredictor(KnownEngine(tiny()), SIZE).predict_together(
        tuple(encodings[:2]), encodings[2:3])
    assert np.allclose(got.pointmaps[1], expected.pointmaps[1], rtol=1e-4, atol=1e-5)
    with pytest.raises(Recon3rError, match='too little memory'):
        predictor.predict_together(tuple(encodings[:4]))


def test_lower_precision_gives_float32_points() -> None:
    engine = KnownEngine(tiny('v1'), EngineConfig('cpu', 'bfloat16'))
    predictor = MapAnythingPredictor(engine, SIZE)
    a, b = (predictor.encode(v) for v in views(2))
    prediction, = predictor.predict([(a, b)])
    assert prediction.pointmaps[1].dtype == np.float32 and prediction.metric


@pytest.mark.parametrize('width, height, expected', [
    (640, 480, (518, 392)), (1920, 1080, (518, 294)), (500, 500, (518, 518)),
    (480, 640, (392, 518)), (4000, 1000, (518, 168)), (100, 400, (252, 518))])
def test_grids_are_those_of_training(width: int, height: int, expected: tuple[int, int]) -> None:
    """Images are resized until they cover the grid, and their centres stay."""
    assert grid_size(width, height, 518) == expected
    camera = Camera(width, height, 300.0, 300.0, (width - 1) / 2, (height - 1) / 2)
    grid = covering(View(np.zeros((height, width), np.uint8), camera), *expected)
    assert grid.image.shape == (expected[1], expected[0], 3)
    centre = [[(side - 1) / 2 for side in expected]]
    assert np.allclose(camera.project(grid.camera.unproject(centre)), [[camera.cx, camera.cy]],
                       atol=0.6 * max(width / expected[0], height / expected[1]))


def test_rays_of_a_fisheye_camera() -> None:
    """Any central camera may tell its rays; pixels that see nothing have none."""
    camera = Camera(112, 112, 30.0, 30.0, 55.5, 55.5, (0.01, 0.0, 0.0, 0.0), 'equidistant')
    rays = rays_of(camera)
    lengths = np.linalg.norm(rays, axis=-1)
    seen = lengths > 0
    assert np.allclose(lengths[seen], 1, atol=1e-6) and 0.4 < seen.mean() < 1
    assert rays[..., 2][seen].min() < 0.1, 'nearly 90 degrees off the axis'
    assert np.allclose(camera.project(rays[seen]), pixel_grid(112, 112)[seen], atol=1e-2)
    depth = np.full((112, 112), 2, np.float32)
    depth[0] = -1
    along = along_rays(depth, rays)
    assert np.allclose((along[..., None] * rays)[along > 0][:, 2], 2, rtol=1e-5)
    assert (along[~seen] == 0).all() and (along[0] == 0).all()


def test_sparse_depth_keeps_all_its_points() -> None:
    rng = np.random.default_rng(0)
    camera = Camera(640, 480, 500.0, 500.0, 319.5, 239.5)
    depth = np.full((480, 640), np.nan, np.float32)
    at = rng.permutation(np.stack(np.mgrid[5:475:10, 70:570:10], -1).reshape(-1, 2))[:200]
    depth[tuple(at.T)] = rng.uniform(1, 4, 200)
    depth[5, 65] = 20.0  # beyond the sensor's range
    view = View(np.zeros((480, 640, 3), np.uint8), camera, depth=depth)
    found = depth_on(view, covering(view, 112, 84))
    assert (found > 0).sum() > 190, 'a pixel of the grid is a third as fine as their distances'
    assert set(found[found > 0]) <= set(depth[np.isfinite(depth)]) - {20.0}


@pytest.mark.parametrize('missing', ['first', 'all but the first', 'none apart', 'finite'])
def test_poses_that_tell_nothing_are_not_given(missing: str) -> None:
    T = [se3.exp(np.array([0.1 * n, 0, 0, 0.5 * n, 0, 0])) for n in range(3)]
    poses: list[KnownPose | None] = [KnownPose.of(t, True) for t in T]
    if missing == 'first':
        poses[0] = None
    elif missing == 'all but the first':
        poses[1:] = [None, None]
    elif missing == 'none apart':
        poses = [KnownPose.of(se3.from_rt(t[:3, :3], np.ones(3)), True) for t in T]
    else:
        poses[2] = KnownPose(np.array([0, 0, 0, 1.0]), np.array([np.nan, 0, 0]), True)
    given = given_poses(poses)
    assert not given.numbers.any() and given.log_length == 0


def test_poses_are_relative_and_of_mean_length_one() -> None:
    rng = np.random.default_rng(1)
    world = se3.exp(rng.normal(size=6))
    T = [se3.exp(rng.normal(size=6)) for _ in range(4)]
    given = given_poses([KnownPose.of(world @ t, False) for t in T[:3]] + [None])
    lengths = []
    for row, t in zip(given.numbers, T[:3]):
        relative = se3.inverse(T[0]) @ t
        assert np.allclose(se3.matrix_from_quat_xyzw(row[:4]), relative[:3, :3], atol=1e-6)
        lengths.append(np.linalg.norm(relative[:3, 3]))
        assert np.allclose(row[4:7] * np.exp(given.log_length), relative[:3, 3], atol=1e-5)
    assert np.exp(given.log_length) == pytest.approx(np.mean(lengths[1:]))
    assert given.numbers[:, 7].tolist() == [1, 1, 1, 0] and not given.numbers[:, 8].any()


@dataclass(eq=False)
class Truth:
    """
    Stands in for an engine: the truth, of another scale where no metric pose tells it.

    :param views: true views, in the order in which they are encoded
    :param own: scale of its own guess
    :param told: share of what metric poses tell that it believes
    """

    views: list[TrueView]
    own: float = 0.8
    told: float = 0.95
    sky: bool = False
    encoded: int = 0
    poses: list[Sequence[KnownPose | None]] = field(default_factory=list)

    def encode(self, image: NDArray[np.uint8], rays: NDArray[np.float32] | None = None,
               depth: NDArray[np.float32] | None = None) -> KnownTokens:
        """Give each view its number, in order."""
        self.encoded += 1
        return KnownTokens(torch.tensor(self.encoded - 1), torch.zeros(1), *(
            side // 14 for side in image.shape[:2]))

    def look(self, tokens: Sequence[KnownTokens], wanted: int,
             poses: Sequence[KnownPose | None] = ()) -> KnownOutput:
        """Return the truth, in a frame near the first view's, and of its own scale."""
        self.poses.append(poses)
        numbers = [int(t.patches) for t in tokens]
        true = [self.views[n].T_world_cam for n in numbers]
        scale = self.own ** (1 - self.told) * self._told(poses, true) ** self.told
        near = se3.from_rt(se3.so3_exp([0.01, -0.02, 0.005]), [0.02, 0.01, -0.03])
        encoded, dense = [], []
        for k, (token, T) in enumerate(zip(tokens, true)):
            relative = near @ se3.inverse(true[0]) @ T
            encoded.append(np.append(scale * relative[:3, 3],
                                     se3.quat_xyzw_from_matrix(relative[:3, :3])))
            if k < wanted:
                view = self.views[numbers[k]]
                grid = covering(view.view, 14 * token.columns, 14 * token.rows).camera
                rays = rays_of(grid)
                depth = along_rays(view.depth_on(grid)[0], rays) * np.float32(scale)
                valid = depth > 0
                valid[:10] = not self.sky
                dense.append(SeenDepth(rays, depth, np.full(depth.shape, 5, np.float32), valid))
        return KnownOutput(np.stack(encoded).astype(np.float32), tuple(dense))

    def _told(self, poses: Sequence[KnownPose | None], true: list[Array]) -> float:
        """Length of the given metric poses over the true one; its own where none is given."""
        known = [(p.position, T[:3, 3]) for p, T in zip(poses, true) if p is not None and p.metric]
        if len(known) < 2:
            return self.own
        given, expected = (np.linalg.norm(np.ptp(np.stack(x), axis=0)) for x in zip(*known))
        return float(given / expected) if expected > 1e-6 else self.own


def truth(count: int, calibrated: bool = True, **options: float
          ) -> tuple[Truth, MapAnythingPredictor, tuple[MapAnythingEncoding, ...]]:
    """Return what stands in for a network, a predictor with it, and encodings of its views."""
    scene = vga('orbit', 3)
    engine = Truth([TrueView.of(scene, 15 * n) for n in range(count)], **options)
    predictor = MapAnythingPredictor(engine, 518)
    return engine, predictor, tuple(
        predictor.encode(replace(v.view, calibrated=calibrated)) for v in engine.views)


def test_metric_priors_tell_the_scale_and_sky_is_no_depth() -> None:
    engine, predictor, group = truth(3, sky=True)
    metre = 2.5
    known = [MapPrior(se3.stretched(v.T_world_cam, metre), metre=metre) for v in engine.views]
    for priors, expected in ((known, engine.own ** 0.05), ([replace(k, metre=None) for k in known],
                                                           engine.own), ((), engine.own)):
        prediction = predictor.predict_together(group, (), priors)
        for k, encoding in enumerate(group):
            T = se3.inverse(engine.views[0].T_world_cam) @ engine.views[k].T_world_cam
            found = prediction.T_first_view[k]
            assert np.allclose(found[:3, :3], T[:3, :3], atol=1e-5)
            assert np.allclose(found[:3, 3], expected * T[:3, 3], atol=1e-4)
            own = se3.transform(T, engine.views[k].points_on(encoding.camera).reshape(-1, 3))
            assert np.allclose(prediction.pointmaps[k].reshape(-1, 3), expected * own, rtol=1e-3,
                               atol=1e-3)
            assert (prediction.confidences[k][:10] == np.float32(NO_CONFIDENCE)).all()
            assert (prediction.confidences[k][10:] > 1).mean() > 0.99
    assert prediction.metric and prediction.learned
    assert [p.metric for p in engine.poses[0]] == [True] * 3
    assert [p.metric for p in engine.poses[1]] == [False] * 3
    assert engine.poses[2] == [None] * 3


def test_rays_tell_the_camera_where_it_is_unknown() -> None:
    engine, predictor, group = truth(2, calibrated=False)
    true = group[0].camera
    wrong = [replace(e, camera=replace(e.camera, fx=1.3 * e.camera.fx, fy=1.3 * e.camera.fy))
             for e in group]
    prediction = predictor.predict_together(tuple(wrong))
    for name in ('fx', 'fy', 'cx', 'cy'):
        assert getattr(prediction.cameras[0], name) == pytest.approx(getattr(true, name), rel=1e-3)
    assert prediction.focal == pytest.approx(true.fx, rel=1e-3)
    pair = as_pair(prediction, wrong, 0, 1)
    assert np.allclose(pair.pointmaps[0][..., 2],
                       engine.own * engine.views[0].points_on(true)[..., 2], rtol=2e-3)


@pytest.mark.parametrize('broken', [
    lambda o: o.poses.__setitem__((1, slice(3, 7)), 0),
    lambda o: o.poses.__setitem__((1, 0), np.nan),
    lambda o: o.dense[1].depth.fill(np.inf)])
def test_outputs_that_are_not_finite_have_no_confidence(broken) -> None:
    engine, predictor, group = truth(2)
    look = engine.look

    def spoilt(*given) -> KnownOutput:
        broken(out := look(*given))
        return out
    engine.look = spoilt
    prediction = predictor.predict_together(group)
    assert (prediction.confidences[1] == np.float32(NO_CONFIDENCE)).all()
    assert all(np.isfinite(p).all() for p in prediction.pointmaps)
