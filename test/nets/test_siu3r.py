# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""SIU3R against its authors' outputs, what its queries may see, and its file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import sys
from types import ModuleType
from typing import Any, TYPE_CHECKING

import numpy as np
import parity
import pytest
import recipe
from recon3r_ros.errors import InputError
from recon3r_ros.models import weights
from recon3r_ros.nets.layers.mask2former import attended, MaskConfig, PixelFeatures
from recon3r_ros.nets.siu3r import MODEL, Siu3r, Siu3rConfig, Tokens
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

GOLDEN = Path(__file__).parent / 'golden'
#: Rounding alone makes 3e-5 of points that grow exponentially; elsewhere it stays below 5e-6
TOLERANCE, TOLERANCE_POINTS = 5e-6, 2e-5
SAME = 1e-5
TINY = Siu3rConfig(64, 4, 1, 64, 4, 1, 4, 8, MaskConfig(64, 32, 2, 1, 32, 3, 64, 5, 3), 1)
State = dict[str, torch.Tensor]


def agree(path: Path) -> None:
    """Compare a golden file, by the norm and by the largest difference."""
    meta, expected = parity.read(path)
    found = parity.siu3r(meta, expected, parity.CPU)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        tolerance = TOLERANCE if name not in ('pts3d', 'gaussians.covariances') else (
            TOLERANCE_POINTS)
        assert parity.relative_error(found[name], values) <= tolerance, name
        largest = np.abs(found[name] - values).max() / np.abs(values).max()
        assert largest <= 2 * tolerance, name


def test_parity() -> None:
    agree(GOLDEN / 'siu3r_small.npz')


@pytest.mark.parametrize('name', [
    pytest.param('siu3r_small_views3', marks=pytest.mark.slow),
    pytest.param('siu3r_large', marks=pytest.mark.large)])
def test_parity_of_three_views_and_of_the_published_size(shared_data: SharedData, name: str
                                                          ) -> None:
    agree(shared_data.golden(f'{name}.npz'))


def test_a_full_size_network_has_the_published_names(shared_data: SharedData) -> None:
    meta, _ = parity.read(shared_data.golden('siu3r_large.npz'))
    with torch.device('meta'):
        network = Siu3r(Siu3rConfig())
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == meta['parameters']


@pytest.fixture(scope='module')
def tiny() -> Siu3r:
    """Return a network with the recipe's weights."""
    network = Siu3r(TINY)
    network.load_state_dict({name: torch.from_numpy(recipe.parameter(name, tuple(value.shape)))
                             for name, value in network.state_dict().items()})
    return network.requires_grad_(False).eval()


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return views (V, 3, 64, 96) and their intrinsics."""
    views = np.concatenate([recipe.image(n, 1, 64, 96) for n in range(count)]) * 0.5 + 0.5
    K = torch.tensor([[1.1, 0, 0.5], [0, 1.65, 0.5], [0, 0, 1]])
    return torch.from_numpy(views), K.expand(count, 3, 3)


def decoded(network: Siu3r, tokens: Tokens, order: list[int]) -> list[torch.Tensor]:
    """Decode some of the encoded views."""
    views = [replace(tokens, values=tokens.values[n:n + 1]) for n in order]
    return network.points(views, network.decode(views))


@torch.inference_mode()
def test_a_view_is_encoded_apart_and_the_first_one_is_the_reference(tiny: Siu3r) -> None:
    tokens, features = tiny.encode(*images(3))
    alone, own = tiny.encode(*(x[1:2] for x in images(3)))
    assert parity.relative_error(alone.values[0].numpy(), tokens.values[1].numpy()) < SAME
    assert parity.relative_error(own.masks[0].numpy(), features.masks[1].numpy()) < SAME
    first, second, third = decoded(tiny, tokens, [0, 1, 2])
    assert first.shape == (1, 64, 96, 3)
    again, swapped3, swapped2 = decoded(tiny, tokens, [0, 2, 1])
    for found, expected in ((again, first), (swapped2, second), (swapped3, third)):
        assert parity.relative_error(found.numpy(), expected.numpy()) < SAME
    other, _ = decoded(tiny, tokens, [1, 0])
    assert parity.relative_error(other.numpy(), second.numpy()) > 1e-3


@torch.inference_mode()
def test_intrinsics_matter(tiny: Siu3r) -> None:
    views, K = images(2)
    wide = K.clone()
    wide[:, :2, :2] *= 0.5
    found, other = (decoded(tiny, tiny.encode(views, k)[0], [0, 1])[0] for k in (K, wide))
    assert parity.relative_error(other.numpy(), found.numpy()) > 1e-3


@torch.inference_mode()
def test_queries_are_shared_by_the_views(tiny: Siu3r) -> None:
    _, features = tiny.encode(*images(2))
    both = tiny.queries(features)
    assert both.classes.shape == (5, 4) and both.masks.shape == (5, 2, 16, 24)
    one = tiny.queries(PixelFeatures(features.masks[:1], tuple(m[:1] for m in features.levels)))
    assert parity.relative_error(one.classes.numpy(), both.classes.numpy()) > 1e-4


def test_a_query_attends_to_its_mask_or_to_everything() -> None:
    masks = torch.full((2, 2, 8, 8), -1.0)
    masks[0, 1, :4, :4] = 1
    found = attended(masks, (2, 2)).unflatten(1, (2, 2, 2))
    expected = torch.zeros(2, 2, 2, dtype=torch.bool)
    expected[1, 0, 0] = True
    assert torch.equal(found[0], expected) and found[1].all()


@torch.inference_mode()
def test_bfloat16_is_close(tiny: Siu3r) -> None:
    exact = decoded(tiny, tiny.encode(*images(2))[0], [0, 1])
    lower = Siu3r(TINY).eval()
    lower.load_state_dict(tiny.state_dict())
    lower.lower_precision(torch.bfloat16)
    tokens, features = lower.encode(*images(2))
    assert tokens.values.dtype == torch.bfloat16
    assert lower.queries(features).masks.dtype == torch.float32
    for a, b in zip(decoded(lower, tokens, [0, 1]), exact):
        assert parity.relative_error(*(x.norm(dim=-1).log1p().numpy() for x in (a, b))) < 4e-2


# The file


@pytest.fixture
def write(tmp_path: Path) -> Callable[[State], Path]:
    """Return a function that writes a file as PyTorch Lightning does."""
    def save(state: State) -> Path:
        module = ModuleType('authors_config')
        kind = type('Config', (), {'__module__': module.__name__, '__reduce__': Config.__reduce__})
        module.Config = kind  # type: ignore[attr-defined]
        sys.modules[module.__name__] = module
        try:
            torch.save({'pytorch-lightning_version': '2.5.0', 'hyper_parameters': {
                'a': kind(), 'b': Evil(tmp_path / 'evil')}, 'state_dict': state},
                       tmp_path / 'w.ckpt')
        finally:
            del sys.modules[module.__name__]
        return tmp_path / 'w.ckpt'
    return save


class Config:
    """Pickled by a call with arguments, and a state."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (), {'depth': 3, 'nested': ['a']}


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._path), 'w')


def published(network: Siu3r) -> State:
    """Return the tensors of a file as published: with a prefix, a loss's network, and counters."""
    state = {f'model.{k}': v for k, v in network.state_dict().items()}
    counters = {k.replace('running_mean', 'num_batches_tracked'): torch.tensor(7)
                for k in state if k.endswith('running_mean')}
    return state | counters | {'lpips.net.slice1.0.weight': torch.zeros(3)}


def refusal(path: Path) -> str:
    """Return the error for a file, in one line that names it."""
    with pytest.raises(InputError) as caught:
        weights.load(path, MODEL)
    message = str(caught.value)
    assert str(path) in message and '\n' not in message
    return message


def test_the_network_follows_from_its_tensors(tiny: Siu3r, write: Callable[[State], Path],
                                              tmp_path: Path) -> None:
    torch.save(tiny.state_dict(), tmp_path / 'bare.pth')
    for path in (write(published(tiny)), tmp_path / 'bare.pth'):
        found = weights.load(path, MODEL)
        assert found.network.config == TINY and found.image_size == 256
        for key, value in tiny.state_dict().items():
            assert torch.equal(found.network.state_dict()[key], value)
    assert not (tmp_path / 'evil').exists()
    more = Siu3r(replace(TINY, mask_token=True)).state_dict()
    torch.save(more, tmp_path / 'bare.pth')
    assert weights.load(tmp_path / 'bare.pth', MODEL).network.config.mask_token


def test_it_is_loaded_strictly(tiny: Siu3r, write: Callable[[State], Path]) -> None:
    # Of one number each: small files
    state = {k: v if k.endswith('tracked') else torch.zeros(1).expand(v.shape)
             for k, v in published(tiny).items()}

    def without(start: str) -> State:
        return {k: v for k, v in state.items() if not k.startswith(f'model.{start}')}
    for name in ('adapter.level_embed', 'backbone.intrinsic_encoder.bias',
                 'downstream_head2.dpt.scratch.layer1_rn.weight', 'backbone.decoder_embed.weight',
                 'mask2former.class_predictor.weight', 'adapter.norm3.running_var'):
        assert f'has no {name}' in refusal(write(without(name)))
    # The authors' file of the adapter and the decoder alone
    assert 'the adapter and decoder alone' in refusal(write({
        k: v for k, v in state.items() if k.startswith(('model.adapter', 'model.mask2former'))}))
    assert 'unexpected extra' in refusal(write(state | {'model.extra': torch.zeros(1)}))
    name = 'model.mask2former.model.pixel_decoder.level_embed'
    assert 'multiple of 32' in refusal(write(state | {name: torch.zeros(3, 33)}))
    assert 'not finite' in refusal(write(state | {
        'model.adapter.norm1.bias': torch.full((64,), torch.nan)}))
    path = write(state)
    path.write_bytes(path.read_bytes()[:-1000])
    assert 'truncated' in refusal(path)
    with pytest.raises(InputError, match='holds siu3r, not vggt; give --model siu3r'):
        weights.load(write(state), 'vggt')
