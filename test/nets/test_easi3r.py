# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics and re-weighting of attention, against the authors' outputs and full matrices."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import parity
import pytest
import recipe
from recon3r_ros.nets.dust3r import Dust3r
from recon3r_ros.nets.layers import attention
from recon3r_ros.nets.layers.attention import CrossAttention, Moving
from recon3r_ros.nets.layers.rope import rope_table
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name


@pytest.mark.slow
@pytest.mark.parametrize('name', ['easi3r_small', 'easi3r_small_window'])
def test_parity_with_all_files(shared_data: SharedData, name: str) -> None:
    errors = parity.errors(shared_data.golden(f'{name}.npz'))
    assert max(errors.values()) <= parity.TOLERANCE
    assert errors['mask'] == 0, 'the same pixels'


def layer() -> tuple[CrossAttention, tuple[torch.Tensor, ...]]:
    """Return a layer, and tokens of two views of different sizes with their positions."""
    torch.manual_seed(3)
    x, memory = torch.randn(2, 12, 32), torch.randn(2, 20, 32)
    device = torch.device('cpu')
    return CrossAttention(32, 4).requires_grad_(False), (
        x, memory, rope_table(3, 4, 8, device), rope_table(4, 5, 8, device))


def logits(cross: CrossAttention, tokens: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    """Full matrices (B, heads, N, M) of the attention logits; and the values."""
    x, memory, rope, memory_rope = tokens
    q, k, v = cross.projected(x, memory, memory)
    q, k = rope.rotate(q), memory_rope.rotate(k)
    return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), v


def test_means_are_those_of_whole_matrices() -> None:
    cross, tokens = layer()
    means: list[torch.Tensor] = []
    out = cross(*tokens, means)
    expected, _ = logits(cross, tokens)
    assert torch.allclose(means[0], expected.mean(-2), atol=1e-6)
    assert torch.equal(out, cross(*tokens)), 'statistics do not change the output'


def test_static_queries_do_not_attend_to_dynamic_keys() -> None:
    cross, tokens = layer()
    generator = torch.Generator().manual_seed(1)
    moving = Moving(torch.rand(2, 12, generator=generator) > 0.6,
                    torch.rand(2, 20, generator=generator) > 0.6)
    scores, values = logits(cross, tokens)
    weights = torch.softmax(scores, -1)
    cut = ~moving.own[:, None, :, None] & moving.other[:, None, None, :]
    expected = cross.proj((weights.masked_fill(cut, 0) @ values).transpose(1, 2).flatten(2))
    assert torch.allclose(cross(*tokens, moving=moving), expected, atol=1e-6)
    nothing = Moving(torch.zeros(2, 12, dtype=torch.bool), torch.zeros(2, 20, dtype=torch.bool))
    assert torch.allclose(cross(*tokens, moving=nothing), cross(*tokens), atol=1e-6)


def test_statistics_are_computed_where_asked_for(small: Dust3r, monkeypatch: pytest.MonkeyPatch
                                                 ) -> None:
    calls = []
    original = attention._mean_logits

    def counted(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return original(q, k)
    monkeypatch.setattr(attention, '_mean_logits', counted)
    first, second = (torch.from_numpy(recipe.image(i, 2, *shape))
                     for i, shape in ((21, (96, 128)), (22, (128, 64))))
    with torch.inference_mode():
        tokens = small.encode(first), small.encode(second)
        plain, looked = small.decode(*tokens), small.decode(*tokens, statistics=True)
    assert len(calls) == 2 * 12, 'once a step of either decoder'
    for a, b, shape in zip(plain, looked, ((6, 8), (8, 4))):
        assert a.attention is None and b.attention is not None
        assert b.attention.shape[:3] == (2, *shape)
        assert np.array_equal(a.points, b.points)
