# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DUSt3R and MASt3R against their authors' outputs, and against plain arithmetic."""

from __future__ import annotations

import math
from pathlib import Path
import time
from typing import TYPE_CHECKING

import numpy as np
import parity
import pytest
import recipe
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig, ViewOutput
from recon3r_ros.nets.layers import attention
from recon3r_ros.nets.layers.rope import BASE, rope_table
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

CPU = torch.device('cpu')
GOLDEN = Path(__file__).parent / 'golden'
NAMES = ['dust3r_small_dpt_landscape', 'dust3r_small_dpt_odd_rows',
         'dust3r_small_dpt_portrait_mixed', 'dust3r_small_linear', 'mast3r_small_landscape']


def outputs(view: ViewOutput) -> list[np.ndarray]:
    """Points and confidences."""
    return [view.points.float().numpy(), view.confidence.float().numpy()]


def pair(small: Dust3r, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of different shapes."""
    return (torch.from_numpy(recipe.image(21, batch, 96, 128)),
            torch.from_numpy(recipe.image(22, batch, 128, 64)))


@pytest.mark.parametrize('path', sorted(GOLDEN.glob('dust3r*.npz')), ids=lambda p: p.stem)
def test_parity(path: Path) -> None:
    assert max(parity.errors(path).values()) <= parity.TOLERANCE


@pytest.mark.parametrize('name', [
    *(n for n in NAMES if not (GOLDEN / f'{n}.npz').is_file()),
    pytest.param('dust3r_large_dpt_512x384', marks=pytest.mark.large)])
def test_parity_with_all_files(shared_data: SharedData, name: str) -> None:
    assert max(parity.errors(shared_data.golden(f'{name}.npz')).values()) <= parity.TOLERANCE


def test_a_wrong_number_is_noticed() -> None:
    """The tolerance is tight enough: one wrong epsilon fails the comparison."""
    meta, expected = parity.read(GOLDEN / 'dust3r_small_linear.npz')
    network = parity.build(meta)
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    with torch.inference_mode():
        view, _ = network(*parity.images(meta))
    step = meta['stride']
    assert parity.relative_error(view.points[:, ::step, ::step].numpy(),
                                 expected['view1.pts3d']) > parity.TOLERANCE


def test_full_size_networks_have_the_published_names(shared_data: SharedData) -> None:
    meta, _ = parity.read(shared_data.golden('dust3r_large_dpt_512x384.npz'))
    begin = time.perf_counter()
    with torch.device('meta'):
        network = Dust3r(Dust3rConfig())
    assert time.perf_counter() - begin < 1.0
    assert Dust3rConfig(**meta['config'], head=meta['head']) == Dust3rConfig()
    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert found == meta['parameters']
    assert sum(p.numel() for p in network.parameters()) > 500e6


def test_a_batch_is_its_single_pairs(small: Dust3r) -> None:
    images = pair(small, 3)
    with torch.inference_mode():
        together = small(*images)
        for i in range(3):
            alone = small(*(image[i:i + 1] for image in images))
            for a, b in zip(together, alone):
                for x, y in zip(outputs(a), outputs(b)):
                    assert parity.relative_error(x[i:i + 1], y) < 1e-5


def test_cached_tokens_give_what_fresh_ones_give(small: Dust3r) -> None:
    first, second = pair(small)
    with torch.inference_mode():
        tokens = small.encode(first), small.encode(second)
        for a, b in zip(small.decode(*tokens), small(first, second)):
            assert all(np.array_equal(x, y) for x, y in zip(outputs(a), outputs(b)))


def test_bfloat16_is_close() -> None:
    meta, _ = parity.read(GOLDEN / 'dust3r_small_dpt_portrait_mixed.npz')
    exact, lower = parity.build(meta), parity.build(meta).lower_precision(torch.bfloat16)
    assert lower.downstream_head1.dpt.head['0'].weight.dtype == torch.float32
    images = parity.images(meta)
    # The recipe's random weights make points of up to 1e6 by their exponential: its argument is
    # compared, as are confidences, which are of order one
    with torch.inference_mode():
        for a, b in zip(exact(*images), lower(*images)):
            for x, y in ((a.points.norm(dim=-1).log1p(), b.points.norm(dim=-1).log1p()),
                         ((a.confidence - 1).log(), (b.confidence - 1).log())):
                assert parity.relative_error(y.numpy(), x.numpy()) < 3e-2


def test_fused_attention_is_a_softmax(small: Dust3r, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pair(small)
    with torch.inference_mode():
        fused = small(*images)
        calls = []

        def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            calls.append(q.shape)
            return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1) @ v
        monkeypatch.setattr(attention, 'scaled_dot_product_attention', plain)
        explicit = small(*images)
    assert len(calls) == 2 * 3 + 2 * 2 * 12, 'two encoders, two decoders with two each'
    for a, b in zip(fused, explicit):
        assert all(parity.relative_error(x, y) < 1e-5 for x, y in zip(outputs(a), outputs(b)))


def test_rope_rotates_by_row_and_column() -> None:
    """Against rotations of pairs of channels as complex numbers, written out."""
    rows, columns, size = 3, 5, 16
    x = torch.randn(2, 4, rows * columns, size, generator=torch.Generator().manual_seed(0))
    turned = rope_table(rows, columns, size, CPU).rotate(x)
    half, quarter = size // 2, size // 4
    for token in range(rows * columns):
        for offset, position in ((0, token // columns), (half, token % columns)):
            for k in range(quarter):
                pair = [x[..., token, offset + k], x[..., token, offset + quarter + k]]
                angle = position * BASE ** (-2 * k / half)
                cos, sin = math.cos(angle), math.sin(angle)
                expected = [cos * pair[0] - sin * pair[1], sin * pair[0] + cos * pair[1]]
                for place, value in zip((k, quarter + k), expected):
                    assert torch.allclose(turned[..., token, offset + place], value, atol=1e-5)


def test_rope_tables_are_made_once() -> None:
    first, again, other = (rope_table(rows, columns, 16, CPU).cos.data_ptr()
                           for rows, columns in ((3, 5), (3, 5), (5, 3)))
    assert first == again and first != other


def test_attention_depends_on_relative_positions_only() -> None:
    """RoFormer, equation 16: products of rotated queries and keys depend on the difference."""
    table = rope_table(6, 6, 16, CPU)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(1))
    q, k = (table.rotate(x.expand(1, 1, 36, 16))[0, 0] for x in (q, k))
    scores = (q @ k.T).reshape(6, 6, 6, 6)
    assert torch.allclose(scores[0, 0, 2, 3], scores[3, 2, 5, 5], atol=1e-4)
    assert not torch.allclose(scores[0, 0, 2, 3], scores[0, 0, 3, 2], atol=1e-2)


def test_a_point_at_the_origin_is_finite() -> None:
    from recon3r_ros.nets.dust3r import points_and_confidence
    out = points_and_confidence(torch.zeros(1, 4, 2, 2))
    assert torch.equal(out.points, torch.zeros(1, 2, 2, 3))
    assert torch.equal(out.confidence, torch.full((1, 2, 2), 2.0))
