# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Modes and devices of the engines: compiled and recorded networks give what eager ones give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import copy
from functools import partial
from typing import Any

import numpy as np
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.engine import Engine
from recon3r_ros.models.human_engine import HumanEngine
from recon3r_ros.models.known import KnownPose, rays_of
from recon3r_ros.models.known_engine import KnownEngine
from recon3r_ros.models.memory_engine import MemoryEngine
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import Runner
from recon3r_ros.models.siu3r_engine import Siu3rEngine
from recon3r_ros.models.window_engine import WindowEngine
from recon3r_ros.nets.dune import Decoder, DuneConfig, DuneMast3r, DuneMast3rConfig, Encoder
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig
from recon3r_ros.nets.hamst3r import Hamst3r, Hamst3rConfig, HumanDecoder, InstanceConfig
from recon3r_ros.nets.layers.mask2former import MaskConfig
from recon3r_ros.nets.mapanything import MapAnything, MapAnythingConfig
from recon3r_ros.nets.must3r import Must3r, Must3rConfig
from recon3r_ros.nets.siu3r import Siu3r, Siu3rConfig
from recon3r_ros.nets.vggt import Vggt, VggtConfig
from recon3r_ros.nets.vggt_tracks import TrackConfig, VggtWithTracks
import torch

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA device')
MODES = ('eager', 'compile', 'graphs')
Arrays = list[np.ndarray]


def images(seed: int, count: int, height: int, width: int) -> list[np.ndarray]:
    """Make noise."""
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, height, width, 3), np.uint8))


def pair_network(head: str = 'catmlp+dpt') -> Dust3r:
    """Make an untrained pair network."""
    torch.manual_seed(0)
    return Dust3r(Dust3rConfig(128, 2, 2, 64, 4, 1, head)).requires_grad_(False)


def dune_network() -> DuneMast3r:
    """Make an untrained DUNE-MASt3R."""
    torch.manual_seed(0)
    decoder = Dust3rConfig(64, 0, 1, 64, 4, 1, 'catmlp+dpt', patch=14)
    return DuneMast3r(Encoder(DuneConfig(64, 2, 1, 5)),
                      Decoder(DuneMast3rConfig(decoder))).requires_grad_(False)


def human_network() -> Hamst3r:
    """Make an untrained HAMSt3R."""
    torch.manual_seed(0)
    decoder = Hamst3rConfig(Dust3rConfig(64, 0, 1, 64, 4, 1, 'human', 8, 14),
                            instances=InstanceConfig(5, 64, 2, 96, 2, 3))
    return Hamst3r(Encoder(DuneConfig(64, 2, 1, 5)), HumanDecoder(decoder)).requires_grad_(False)


def of_people(network: Hamst3r, config: EngineConfig, seed: int) -> Arrays:
    """Run an engine on three pairs: places on bodies, and masks before the first attention."""
    engine, found = HumanEngine(copy.deepcopy(network), config), []
    tokens = [engine.encode(view) for view in images(seed, 3, 56, 84)]
    for outputs in engine.decode([(tokens[0], other) for other in tokens]):
        for view in outputs:
            found += [view.points.norm(dim=-1).log1p(), view.surface, view.surface_logits,
                      view.instances.classes]
    return [x.numpy() for x in found]


def window_network() -> Vggt:
    """Make an untrained VGGT."""
    torch.manual_seed(0)
    return Vggt(VggtConfig(64, 4, 1, 2, (0, 1, 2, 3), 8)).requires_grad_(False)


def of_pairs(network: Dust3r | DuneMast3r, config: EngineConfig, seed: int) -> Arrays:
    """Run an engine on three pairs, and again for two of other views."""
    engine, found = Engine(copy.deepcopy(network), config, attention=True), []
    shape = 4 * network.config.patch, 6 * network.config.patch
    for views in (images(seed, 3, *shape), images(seed + 1, 2, *shape)):
        tokens = [engine.encode(view) for view in views]
        for outputs in engine.decode([(tokens[0], other) for other in tokens]):
            for view in outputs:
                # Exponentials of random weights: their arguments are compared
                found += [view.points.norm(dim=-1).log1p(), (view.confidence - 1).log(),
                          view.attention.float()]
                found += [] if view.descriptors is None else [view.descriptors.float().cpu()]
    return [x.numpy() for x in found]


def of_windows(network: Vggt, config: EngineConfig, seed: int) -> Arrays:
    """Run an engine on two windows of different views."""
    engine, found = WindowEngine(copy.deepcopy(network), config), []
    for views in (images(seed, 3, 56, 84), images(seed + 1, 3, 56, 84)):
        output = engine.look([engine.encode(view) for view in views], 2)
        found.append(output.cameras)
        for depth, confidence in output.dense:
            found += [np.log(depth), np.log(confidence - 1)]
    return found


def memory_network() -> Must3r:
    """Make an untrained MUSt3R."""
    torch.manual_seed(0)
    return Must3r(Must3rConfig(128, 2, 2, 64, 4, 1)).requires_grad_(False)


def of_memories(network: Must3r, config: EngineConfig, seed: int) -> Arrays:
    """Run an engine on two memories of two calls each, and render views against them."""
    engine, found = MemoryEngine(copy.deepcopy(network), config), []
    for views in (images(seed, 4, 64, 96), images(seed + 1, 4, 64, 96)):
        tokens = [engine.encode(view) for view in views]
        joined = engine.join(tokens[:2], ())
        memory = [remembered for _, remembered in joined]
        joined += engine.join(tokens[2:3], memory)
        memory.append(joined[-1][1])
        for seen in [seen for seen, _ in joined] + engine.render(tokens, memory):
            found += [np.log1p(np.linalg.norm(seen.points, axis=-1)),
                      np.log1p(np.linalg.norm(seen.own_points, axis=-1)),
                      np.log(seen.confidence - 1)]
        found += [m.float().cpu().numpy() for m in memory]
    return found


def tracking_network() -> VggtWithTracks:
    """Make an untrained VGGT with a track head, whose coarsest level is one pixel high."""
    torch.manual_seed(0)
    return VggtWithTracks(VggtConfig(64, 4, 1, 2, (0, 1, 2, 3), 8),
                          TrackConfig(16, 32, 1, 8, 5, 5, 2)).requires_grad_(False)


def of_tracks(network: VggtWithTracks, config: EngineConfig, seed: int) -> Arrays:
    """Track points of two views of a window through both, and of one of them alone."""
    engine, found = WindowEngine(copy.deepcopy(network), config), []
    tokens = [engine.encode(view) for view in images(seed, 3, 56, 84)]
    points = np.random.default_rng(seed).uniform(0, 55, (70, 2)).astype(np.float32)
    for queries in ((points, points[:20]), (points[:30],)):
        for positions, probability in engine.look(tokens, len(queries), queries).tracks:
            found += [positions, probability]
    return found


def of_features(network: VggtWithTracks, config: EngineConfig, seed: int) -> Arrays:
    """Compute features to track points in: with random weights, errors of tracks would grow."""
    engine = WindowEngine(copy.deepcopy(network), config)
    with torch.inference_mode():
        tokens = torch.stack([engine.encode(view).values for view in images(seed, 3, 56, 84)])
        steps = engine.network.aggregate(tokens, 4)
        return [engine._features(4, 6, *steps.dense)[0].cpu().numpy()]


#: Positions of tracks are embedded as they are refined: with sines that are no tables
TRACKING = (tracking_network, of_features)
def known_network() -> MapAnything:
    """Make an untrained MapAnything."""
    torch.manual_seed(0)
    return MapAnything(MapAnythingConfig(64, 1, 64, 4, grid=8)).requires_grad_(False)


def of_known_windows(network: MapAnything, config: EngineConfig, seed: int) -> Arrays:
    """Run an engine on two windows of different views, with rays, depth and poses of some."""
    engine, found = KnownEngine(copy.deepcopy(network), config), []
    rays = rays_of(Camera(84, 56, 80.0, 80.0, 41.5, 27.5))
    rng = np.random.default_rng(seed)
    for views in (images(seed, 3, 56, 84), images(seed + 1, 3, 56, 84)):
        depth = rng.uniform(1, 3, (56, 84)).astype(np.float32)
        tokens = [engine.encode(view, rays if n else None, depth if n == 1 else None)
                  for n, view in enumerate(views)]
        poses = [KnownPose(rng.normal(size=4), rng.normal(size=3), True) for _ in views]
        output = engine.look(tokens, 2, poses)
        found.append(output.poses)
        for seen in output.dense:
            # Of random weights logarithms are near 0: their relative errors say nothing
            found += [seen.rays, seen.depth, seen.confidence - 1]
    return found


def siu3r_network() -> Siu3r:
    """Make an untrained SIU3R."""
    torch.manual_seed(0)
    masks = MaskConfig(64, 32, 2, 1, 32, 3, 64, 5, 3)
    return Siu3r(Siu3rConfig(64, 4, 1, 64, 4, 1, 4, 8, masks, 1)).requires_grad_(False)


def of_scenes(network: Siu3r, config: EngineConfig, seed: int) -> Arrays:
    """Run an engine on two pairs, and again on one of other views."""
    engine, found = Siu3rEngine(copy.deepcopy(network), config), []
    K = np.float32([[1.1, 0, 0.5], [0, 1.65, 0.5], [0, 0, 1]])
    for views in (images(seed, 3, 64, 96), images(seed + 1, 2, 64, 96)):
        first, *others = [engine.encode(view, K) for view in views]
        for seen in engine.decode([(first, other) for other in others]):
            found += [np.log1p(np.linalg.norm(p, axis=-1)) for p in seen.points]
            found += [seen.queries.classes.numpy(), seen.queries.masks.numpy()]
    return found


NETWORKS = [(pair_network, of_pairs), (window_network, of_windows),
            (memory_network, of_memories), (known_network, of_known_windows),
            (dune_network, of_pairs), (siu3r_network, of_scenes), (human_network, of_people)]


def worst(found: Arrays, expected: Arrays) -> float:
    """Largest relative error of an array."""
    assert len(found) == len(expected)
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(found, expected))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute convolutions of float32 in float32 on a GPU, too."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    yield


@pytest.mark.gpu
@on_gpu
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('make, run', [*NETWORKS, TRACKING])
def test_a_gpu_gives_what_a_cpu_gives(make: Callable[[], Any], run: Callable[..., Arrays],
                                      mode: str, exact: None) -> None:
    network = make()
    expected = run(network, EngineConfig('cpu'), 1)
    assert worst(run(network, EngineConfig('cuda', 'float32', mode), 1), expected) < 1e-4
    assert worst(run(network, EngineConfig('cuda', 'bfloat16', mode), 1), expected) < 5e-2


@pytest.mark.gpu
@on_gpu
def test_work_on_a_gpu_is_ordered() -> None:
    """After what the caller's stream does, and before what it does next."""
    runner = Runner(EngineConfig('cuda'))
    for _ in range(3):
        x = torch.zeros(1 << 26, device='cuda')
        torch.cuda.synchronize()
        torch.cuda._sleep(50_000_000)
        x += 1
        with runner.on_stream():
            torch.cuda._sleep(50_000_000)
            x *= 3
        assert float((x + 1).max()) == 4.0


def test_memory_is_released_where_it_ran_out_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Releasing it takes a GPU milliseconds."""
    runner, released = Runner(EngineConfig('cpu')), []
    monkeypatch.setattr(runner, 'free', lambda: released.append(1))

    def work(batch: list[int], memory: int = 9) -> list[int]:
        if len(batch) > memory:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return [-n for n in batch]
    assert runner.halving(list(range(10)), 4, work) == ([-n for n in range(10)], 4)
    assert not released
    assert runner.halving(list(range(10)), 4, partial(work, memory=2))[1] == 2
    assert len(released) == 1


def test_outputs_are_not_changed_by_later_calls() -> None:
    network = pair_network()
    engine = Engine(network)
    tokens = [engine.encode(view) for view in images(0, 3, 64, 96)]
    (first, _), = engine.decode([(tokens[0], tokens[1])])
    before = first.points.clone(), first.confidence.clone()
    engine.decode([(tokens[1], tokens[2])])
    assert torch.equal(first.points, before[0]) and torch.equal(first.confidence, before[1])
