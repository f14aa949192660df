# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MUSt3R against its authors' outputs, and what its memory must and must not do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import parity
import pytest
import recipe
from recon3r_ros.nets.dust3r import Tokens
from recon3r_ros.nets.must3r import Must3r, Must3rConfig, ViewOutput
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

GOLDEN = Path(__file__).parent / 'golden'
#: A wrong epsilon of the decoder shows at 2e-6
TOLERANCE = 2e-6
SAME = 1e-5
TINY = Must3rConfig(64, 1, 1, 64, 3, 1)


@pytest.fixture(scope='module')
def tiny() -> Must3r:
    """Return a network with the recipe's weights: none of its tokens and gains are trivial."""
    network = Must3r(TINY)
    network.load_state_dict({name: torch.from_numpy(recipe.parameter(name, tuple(value.shape)))
                             for name, value in network.state_dict().items()})
    return network.requires_grad_(False).eval()


def encoded(network: Must3r, count: int, height: int = 48, width: int = 64) -> list[Tokens]:
    """Encode views."""
    return [network.encode(torch.from_numpy(recipe.image(seed, 1, height, width)))
            for seed in range(7, 7 + count)]


def difference(found: ViewOutput, expected: ViewOutput) -> float:
    """Largest relative difference."""
    return max(parity.relative_error(getattr(found, name).numpy(), getattr(expected, name).numpy())
               for name in ('points', 'own_points', 'confidence'))


@pytest.mark.large
def test_parity_of_the_published_size(shared_data: SharedData) -> None:
    assert max(parity.errors(shared_data.golden('must3r_large.npz')).values()) <= TOLERANCE


def test_parity() -> None:
    assert max(parity.errors(GOLDEN / 'must3r_small.npz').values()) <= TOLERANCE


def test_a_full_size_network_has_the_published_names(shared_data: SharedData) -> None:
    meta, _ = parity.read(shared_data.golden('must3r_large.npz'))
    with torch.device('meta'):
        network = Must3r(Must3rConfig())
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == meta['parameters']


@torch.inference_mode()
def test_one_view_joins_as_it_is_rendered(tiny: Must3r) -> None:
    """It sees the memory only, and so do several that are rendered at once."""
    views = encoded(tiny, 4)
    _, memory = tiny.update(views[:2])
    together = tiny.render(Tokens(torch.cat([v.values for v in views]), 3, 4), memory)
    for n, view in enumerate(views):
        outputs, _ = tiny.update([view], memory)
        own = ViewOutput(together.points[n:n + 1], together.own_points[n:n + 1],
                         together.confidence[n:n + 1])
        assert difference(own, outputs[0]) < SAME


@torch.inference_mode()
def test_views_that_join_in_one_call_see_each_other(tiny: Must3r) -> None:
    """Three views: in a call with two others, and with those as a memory without feedback."""
    views = encoded(tiny, 4)
    _, memory = tiny.update(views[:1])
    (first, *_), (_, *others) = tiny.update(views[1:], memory)
    # What was remembered of the others has feedback in all layers but the last
    later, _ = tiny.update([views[1]], [*memory, *others])
    assert 1e-4 < difference(later[0], first)
    deaf = Must3r(TINY).eval()
    deaf.load_state_dict(tiny.state_dict())
    for parameter in deaf.decoder.feedback_layer.fc2.parameters():
        parameter.zero_()
    _, memory = deaf.update(views[:1])
    (first, *_), (_, *others) = deaf.update(views[1:], memory)
    later, _ = deaf.update([views[1]], [*memory, *others])
    assert difference(later[0], first) < SAME


@torch.inference_mode()
def test_the_order_of_the_others_does_not_matter(tiny: Must3r) -> None:
    views = encoded(tiny, 4)
    outputs, memory = tiny.update(views)
    order = [0, 3, 1, 2]
    permuted, remembered = tiny.update([views[n] for n in order])
    for n, output in zip(order, permuted):
        assert difference(output, outputs[n]) < SAME
    found = tiny.render(views[2], remembered)
    assert difference(found, tiny.render(views[2], memory)) < SAME
    swapped, _ = tiny.update([views[1], views[0], *views[2:]])
    assert difference(swapped[0], outputs[1]) > 1e-3, 'the first view is the reference'


@torch.inference_mode()
def test_a_memory_is_a_value(tiny: Must3r) -> None:
    views = encoded(tiny, 3)
    _, memory = tiny.update(views[:1])
    before = [m.clone() for m in memory]
    expected = tiny.render(views[2], memory)
    tiny.update(views[1:], memory)
    assert len(memory) == 1 and torch.equal(memory[0], before[0])
    assert difference(tiny.render(views[2], memory), expected) < SAME


@torch.inference_mode()
def test_one_memory_holds_views_of_different_sizes(tiny: Must3r) -> None:
    """Attention to the memory has no positions: a view's tokens are a set."""
    wide, = encoded(tiny, 1)
    high = encoded(tiny, 2, 64, 48)[1]
    outputs, memory = tiny.update([wide, high])
    assert [o.points.shape for o in outputs] == [(1, 48, 64, 3), (1, 64, 48, 3)]
    assert [m.shape for m in memory] == [(3, 1, 12, 64), (3, 1, 12, 64)]
    shuffled = [memory[0], memory[1][:, :, torch.randperm(12)]]
    assert difference(tiny.render(high, shuffled), tiny.render(high, memory)) < SAME


@torch.inference_mode()
def test_pairs_in_a_batch(tiny: Must3r) -> None:
    views = encoded(tiny, 4)
    batch = [Tokens(torch.cat([views[n].values, views[n + 2].values]), 3, 4) for n in range(2)]
    outputs, memory = tiny.update(batch)
    expected, alone = tiny.update(views[2:])
    for output, other in zip(outputs, expected):
        assert difference(ViewOutput(output.points[1:], output.own_points[1:],
                                     output.confidence[1:]), other) < SAME
    assert torch.allclose(memory[1][:, 1:], alone[1], atol=1e-5)


@torch.inference_mode()
def test_bfloat16_is_close() -> None:
    meta, _ = parity.read(GOLDEN / 'must3r_small.npz')
    exact = parity.build_must3r(meta)
    lower = parity.build_must3r(meta).lower_precision(torch.bfloat16)
    assert lower.decoder.head_dec.proj.weight.dtype == torch.float32

    def arguments(network: Must3r) -> Sequence[torch.Tensor]:
        """Arguments of the exponentials, of a view that is rendered."""
        views = encoded(network, 3, 112, 160)
        output = network.render(views[2], network.update(views[:2])[1])
        assert output.points.dtype == torch.float32
        return [output.points.norm(dim=-1).log1p(), output.own_points.norm(dim=-1).log1p(),
                (output.confidence - 1).log()]
    for a, b in zip(arguments(lower), arguments(exact)):
        assert parity.relative_error(a.numpy(), b.numpy()) < 4e-2
