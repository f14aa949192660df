# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Engines on a GPU that is not there, and in lower precision.

Tensors without content, on a CUDA device, go through every engine: operations on tensors of
several devices are errors, as is what a recorded graph cannot do. Needs no GPU, nor a CUDA build
of torch. The compiler does not take such tensors: what it is given is traced on the CPU. What all
this cannot find is listed in docs/limits.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models import runtime
from recon3r_ros.models.engine import Engine
from recon3r_ros.models.h3r import H3rEngine, PosedImage
from recon3r_ros.models.human_engine import HumanEngine
from recon3r_ros.models.known import KnownPose, rays_of
from recon3r_ros.models.known_engine import KnownEngine
from recon3r_ros.models.memory_engine import MemoryEngine
from recon3r_ros.models.registry import EngineConfig
from recon3r_ros.models.runtime import Runner
from recon3r_ros.models.siu3r_engine import Siu3rEngine
from recon3r_ros.models.window_engine import WindowEngine
from recon3r_ros.models.xfeat import XFeatFeatures
from recon3r_ros.nets.h3r import H3r, H3rConfig
from recon3r_ros.nets.layers import deformable, mask2former, position, rope
from recon3r_ros.nets.vae_encoder import VaeConfig
from recon3r_ros.nets.vggt_tracks import VggtWithTracks
from recon3r_ros.nets.xfeat import XFeat
from test_engines import (
    Arrays,
    dune_network,
    human_network,
    images,
    known_network,
    memory_network,
    NETWORKS,
    of_tracks,
    pair_network,
    siu3r_network,
    TRACKING,
    window_network,
    worst,
)
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes, TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device('cuda', 0)


class OnCuda(TorchFunctionMode):
    """Does with fake tensors what a CPU build of torch has no CUDA code for."""

    def __init__(self, fakes: FakeTensorMode) -> None:
        super().__init__()
        self._fakes = fakes
        self._recording = False

    @contextmanager
    def recording(self, *_: Any, **__: Any) -> Iterator[None]:
        """Record a CUDA graph."""
        self._recording = True
        try:
            with Recording():
                yield
        finally:
            self._recording = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function of torch."""
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.to and CUDA.type in str(
                [a for a in (*args[1:], kwargs.get('device')) if not isinstance(a, torch.Tensor)]):
            return self._moved(*args, **kwargs)
        if func is torch.Tensor.__getitem__ and args[0].device == CUDA:
            return _indexed(*args)
        if func is torch.Tensor.numpy and isinstance(args[0], FakeTensor):
            assert args[0].device.type == 'cpu', 'NumPy sees the CPU alone'
            with _disable_current_modes():
                return torch.zeros(args[0].shape, dtype=args[0].dtype).numpy()
        if func is torch.Tensor.copy_ and args[0].device == CUDA:
            assert args[1].device == CUDA and args[1].shape == args[0].shape
            return args[0]
        if func is torch.Tensor.contiguous and args[0].device == CUDA:
            return args[0].clone()
        if func is torch.nn.functional.interpolate and args[0].device == CUDA:
            # The decomposition that fake tensors use asks for a CUDA build
            with _disable_current_modes():
                content = func(torch.empty_like(args[0], device='meta'), *args[1:], **kwargs)
            return FakeTensor(self._fakes, content, CUDA)
        if func is torch.nn.functional.grid_sample and args[0].device == CUDA:
            # Likewise
            assert args[1].device == CUDA and args[0].dtype == args[1].dtype
            with _disable_current_modes():
                content = torch.empty((*args[0].shape[:2], *args[1].shape[1:3]), device='meta',
                                      dtype=args[0].dtype)
            return FakeTensor(self._fakes, content, CUDA)
        if func is torch.nn.functional.scaled_dot_product_attention:
            q, k, v = args
            assert q.dtype == k.dtype == v.dtype, 'attention takes one data type'
            logits, seen = q @ k.transpose(-1, -2), kwargs.get('attn_mask')
            if seen is not None:
                logits = logits.masked_fill(seen.logical_not(), -torch.inf)
            return logits.softmax(-1) @ v
        return func(*args, **kwargs)

    def _moved(self, tensor: torch.Tensor, device: Any = None, dtype: Any = None, *_: Any,
               **__: Any) -> torch.Tensor:
        """Move a tensor to CUDA."""
        assert tensor.device == CUDA or not self._recording, 'a recorded graph copies to the GPU'
        with _disable_current_modes():
            content = torch.empty_like(tensor, device='meta', dtype=(
                dtype if isinstance(dtype, torch.dtype) else tensor.dtype))
        return FakeTensor(self._fakes, content, CUDA)


def _indexed(x: torch.Tensor, index: Any) -> torch.Tensor:
    """Index by the operations that Python's indexing consists of."""
    aten = torch.ops.aten
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(part is ... for part in parts):
        at = next(n for n, part in enumerate(parts) if part is ...)
        used = sum(part is not None and part is not ... for part in parts)
        parts[at:at + 1] = [slice(None)] * (x.ndim - used)
    axis, tensors = 0, []
    for part in parts:
        if part is None:
            x = aten.unsqueeze(x, axis)
        elif isinstance(part, int):
            x = aten.select(x, axis, part)
            continue
        elif isinstance(part, slice):
            x = aten.slice(x, axis, part.start, part.stop, part.step or 1)
        else:
            tensors += [None] * (axis - len(tensors)) + [torch.as_tensor(part)]
        axis += 1
    return aten.index.Tensor(x, tensors) if tensors else x


class Recording(TorchDispatchMode):
    """Refuses what the recording of a CUDA graph does: tensors that are not on the GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, out)):
            assert not isinstance(tensor, torch.Tensor) or tensor.device == CUDA or (
                tensor.ndim == 0), f'{func} in a recorded graph, of a tensor on {tensor.device}'
        return out


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run engines as on a GPU, on tensors without content; what they fetch are zeros."""
    fakes = FakeTensorMode(allow_non_fake_inputs=True)

    def make(self: Runner, config: EngineConfig) -> None:
        self.device, self.precision = CUDA, getattr(torch, config.precision)
        self._mode, self._stream = config.mode, None

    def fetched(self: Runner, tensors: Sequence[Any]) -> list[Any]:
        assert all(t is None or t.device == CUDA for t in tensors)
        with _disable_current_modes():
            return [None if t is None else torch.zeros(t.shape, dtype=t.dtype) for t in tensors]
    def apply(module: nn.Module, function: Callable[[Any], Any], *_: Any) -> nn.Module:
        # torch's own swaps contents, which these tensors do not have
        for child in module.modules():
            for tensors in (child._parameters, child._buffers):
                tensors |= {k: function(t) for k, t in tensors.items() if t is not None}
        return module
    monkeypatch.setattr(nn.Module, '_apply', apply)
    monkeypatch.setattr(Runner, '__init__', make)
    monkeypatch.setattr(Runner, 'fetched', fetched)
    monkeypatch.setattr(runtime.torch.cuda, 'empty_cache', lambda: None)
    monkeypatch.setattr(runtime.torch.cuda, 'current_stream', lambda *_: SimpleNamespace(
        synchronize=lambda: None))
    monkeypatch.setattr(runtime.torch.cuda, 'CUDAGraph', lambda: SimpleNamespace(
        replay=lambda: None))
    on_cuda = OnCuda(fakes)
    monkeypatch.setattr(runtime.torch.cuda, 'graph', on_cuda.recording)
    tables = (position._embedding, position._sine_pairs, rope._cos_and_sin, mask2former._waves,
              deformable._grid_centres)
    for table in tables:
        table.cache_clear()
    try:
        with fakes, on_cuda:
            yield
    finally:
        for table in tables:  # they hold tensors without content
            table.cache_clear()


def pairs(network: Any, config: EngineConfig) -> None:
    """Encode views of two sizes, decode their pairs, and again with masks."""
    engine, n = Engine(network, config, attention=True), network.config.patch
    wide, high = (4 * n, 6 * n), (6 * n, 4 * n)
    a, b, c = (engine.encode(image) for image in (*images(0, 2, *wide), *images(0, 1, *high)))
    engine.decode([(a, b), (b, a), (a, c)])
    masks = np.zeros((4, 6), bool), np.ones((4, 6), bool)
    engine.decode([(a, b)], [masks])


def people(network: Any, config: EngineConfig) -> None:
    """Encode views of two sizes, and decode their pairs."""
    engine = HumanEngine(network, config)
    a, b, c = (engine.encode(image) for image in (*images(0, 2, 56, 84), *images(0, 1, 84, 56)))
    engine.decode([(a, b), (b, a), (a, c)])


def windows(network: Any, config: EngineConfig) -> None:
    """Process windows; track points where the network does."""
    engine = WindowEngine(network, config)
    tokens = [engine.encode(image) for image in images(0, 3, 56, 84)]
    points = [np.ones((70, 2), np.float32)] * 2 if isinstance(
        network, VggtWithTracks) else []
    for wanted in (1, 2):
        out = engine.look(tokens, wanted, points[:wanted])
        assert len(out.dense) == wanted and len(out.tracks) == len(points[:wanted])


def known_windows(network: Any, config: EngineConfig) -> None:
    """Process windows of which something is known."""
    engine = KnownEngine(network, config)
    rays = rays_of(Camera(84, 56, 80.0, 80.0, 41.5, 27.5))
    tokens = [engine.encode(image, rays if n else None, np.ones((56, 84), np.float32) if n == 1
                            else None) for n, image in enumerate(images(0, 3, 56, 84))]
    poses = [KnownPose.of(np.eye(4), True), None, KnownPose.of(np.eye(4), False)]
    for wanted in (1, 2):
        assert len(engine.look(tokens, wanted, poses).dense) == wanted


def memories(network: Any, config: EngineConfig) -> None:
    """Join views of two sizes, and render them."""
    engine = MemoryEngine(network, config)
    views = [engine.encode(image) for image in (*images(0, 2, 64, 96), *images(0, 1, 96, 64))]
    memory = [remembered for _, remembered in engine.join(views[:2], ())]
    memory += [remembered for _, remembered in engine.join(views[2:], memory)]
    engine.render(views, memory)


def scenes(network: Any, config: EngineConfig) -> None:
    """Encode views, decode their pairs, and look for objects."""
    engine = Siu3rEngine(network, config)
    a, b = (engine.encode(image, np.eye(3, dtype=np.float32)) for image in images(0, 2, 64, 96))
    assert len(engine.decode([(a, b), (b, a)])) == 2


def features(network: Any, config: EngineConfig) -> None:
    """Detect features as far as their number does not depend on the image."""
    found = XFeatFeatures(network, config)
    found._dense(torch.zeros(1, 1, 64, 96).to(found._runner.device))


def posed_windows(network: Any, config: EngineConfig) -> None:
    """Make Gaussians of posed images, always in float32 and eager mode, as far as they count."""
    engine = H3rEngine(network, config.device)
    camera, image = Camera(48, 32, 40.0, 40.0, 23.5, 15.5), np.zeros((32, 48, 3), np.uint8)
    engine.gaussians([PosedImage(image, camera, se3.exp([0.1 * i, 0, 0, 0, 0, 0]), 1.0, 5.0,
                                 np.ones((32, 48), bool)) for i in range(3)])


ENGINES = {
    'linear': (partial(pair_network, 'linear'), pairs),
    'dpt': (partial(pair_network, 'dpt'), pairs),
    'catmlp+dpt': (pair_network, pairs), 'dune-mast3r': (dune_network, pairs),
    'hamst3r': (human_network, people),
    'vggt': (window_network, windows),
    'vggt with tracks': (TRACKING[0], windows), 'must3r': (memory_network, memories),
    'mapanything': (known_network, known_windows), 'siu3r': (siu3r_network, scenes),
    'xfeat': (XFeat, features),
    'h3r': (partial(H3r, H3rConfig(VaeConfig((32, 32, 32), 1), 32, 4, 4, 4, 8, 64, 1, 16)),
            posed_windows)}


@pytest.mark.parametrize('mode, precision', [('eager', 'float32'), ('graphs', 'bfloat16')])
@pytest.mark.parametrize('name', ENGINES)
def test_engines_on_a_gpu_that_is_not_there(
        name: str, mode: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, run = ENGINES[name]
    network = make()
    with pretended_gpu(monkeypatch):
        run(network, EngineConfig('cuda', precision, mode))


@pytest.mark.parametrize('spoilt, modes', [
    (lambda x: x + torch.ones(3), ('eager', 'graphs')),  # on the CPU
    (lambda x: x + torch.ones(3).to(x.device), ('graphs',)),  # a copy
    (lambda x: x if x.sum().item() > 0 else -x, ('eager', 'graphs'))])  # waits
def test_what_a_gpu_cannot_do_is_found(
        spoilt: Callable[[torch.Tensor], torch.Tensor], modes: tuple[str, ...],
        monkeypatch: pytest.MonkeyPatch) -> None:
    for mode in ('eager', 'graphs'):
        with pretended_gpu(monkeypatch):
            runner = Runner(EngineConfig('cuda', 'float32', mode))
            call = runner.prepared(lambda x: (spoilt(x),))
            x = torch.zeros(2, 3).to(CUDA)
            with pytest.raises(Exception) if mode in modes else nullcontext():
                call(x)


@pytest.mark.parametrize('make, run', [*NETWORKS, TRACKING])
def test_bfloat16_on_a_cpu(make: Callable[[], Any], run: Callable[..., Arrays]) -> None:
    """
    Errors of rounding alone: 0.8 to 1.3 % of each array, the heads' exponentials undone.

    A rounding to 8 bits errs by up to 2 ** -9. About 64 in a row, in six to eight blocks, add up
    as a random walk: 8 times that, 1.6 %. Twice as much is let pass; a part that is in the wrong
    type, or not in float32 where it has to be, errs by far more.
    """
    network = make()
    exact, lower = (run(network, EngineConfig('cpu', precision), 1)
                    for precision in ('float32', 'bfloat16'))
    assert worst(lower, exact) < 2 * 8 * 2 ** -9


@pytest.mark.parametrize('make, run', [
    *(pytest.param(*pair, marks=pytest.mark.large) if pair[0] is siu3r_network else pair
      for pair in NETWORKS), pytest.param(TRACKING[0], of_tracks, marks=pytest.mark.large)])
def test_compiled_on_a_cpu(make: Callable[[], Any], run: Callable[..., Arrays],
                           monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What is traced for the compiler computes the same, and no tables.

    Position embeddings are constants of it: on a GPU each would be a copy from the CPU.
    """
    graphs: list[torch.fx.GraphModule] = []

    def backend(module: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        graphs.append(module)
        return module.forward
    monkeypatch.setattr(torch, 'compile', partial(torch.compile, backend=backend, fullgraph=True))
    network = make()
    traced, eager = (run(network, EngineConfig('cpu', 'bfloat16', mode), 1)
                     for mode in ('compile', 'eager'))
    assert worst(traced, eager) < 1e-5
    called = {getattr(node.target, '__name__', node.target) for graph in graphs
              for node in graph.graph.nodes if node.op.startswith('call')}
    assert 'scaled_dot_product_attention' in called
    if run is not of_tracks:  # which takes sines of where points are
        assert not called & {'meshgrid', 'linspace', 'cos', 'sin'}, called
