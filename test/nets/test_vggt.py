# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""VGGT against its authors' outputs, and invariances of its architecture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import parity
import pytest
import recipe
from recon3r_ros.nets.layers.position import sine_embedding
from recon3r_ros.nets.layers.rope import rope_table
from recon3r_ros.nets.vggt import Steps, Vggt, VggtConfig
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

CPU = torch.device('cpu')
GOLDEN = Path(__file__).parent / 'golden'
TOLERANCE = 1e-5
ROWS, COLUMNS = 4, 6
TINY = VggtConfig(64, 4, 2, 2, (0, 1, 2, 3))


@pytest.fixture(scope='module')
def tiny() -> Vggt:
    """Return a network with the recipe's weights: none of its tokens and gains are trivial."""
    network = Vggt(TINY)
    network.load_state_dict({name: torch.from_numpy(recipe.parameter(name, tuple(value.shape)))
                             for name, value in network.state_dict().items()})
    return network.requires_grad_(False).eval()


def images(count: int, rows: int = ROWS, columns: int = COLUMNS) -> torch.Tensor:
    """Make views in [0, 1]."""
    return torch.from_numpy(recipe.image(7, count, 14 * rows, 14 * columns)) * 0.5 + 0.5


def outputs(network: Vggt, steps: Steps) -> list[torch.Tensor]:
    """All outputs of the heads."""
    return [network.cameras(steps), *network.depth(steps), *network.points(steps)]


def differences(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Largest relative difference."""
    return max(parity.relative_error(a.numpy(), b.numpy()) for a, b in zip(found, expected))


@pytest.mark.parametrize('name', [
    'vggt_small_single_view', pytest.param('vggt_large', marks=pytest.mark.large)])
def test_parity_with_all_files(shared_data: SharedData, name: str) -> None:
    assert max(parity.errors(shared_data.golden(f'{name}.npz')).values()) <= TOLERANCE


def test_parity() -> None:
    assert max(parity.errors(GOLDEN / 'vggt_small.npz').values()) <= TOLERANCE


def test_a_full_size_network_has_the_published_names(shared_data: SharedData) -> None:
    meta, _ = parity.read(shared_data.golden('vggt_large.npz'))
    with torch.device('meta'):
        network = Vggt(VggtConfig())
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == meta['parameters']
    assert tuple(meta['config']['layers']) == network.config.layers
    assert sum(p.numel() for p in network.parameters()) > 1.1e9


def test_cached_tokens_give_what_fresh_ones_give(tiny: Vggt) -> None:
    """A view's tokens depend on no other view."""
    views = images(3)
    with torch.inference_mode():
        together = tiny.encode(views)
        cached = torch.cat([tiny.encode(view[None]) for view in views])
        assert differences(outputs(tiny, tiny.aggregate(cached, ROWS)),
                           outputs(tiny, tiny.aggregate(together, ROWS))) < TOLERANCE


def test_the_order_of_the_others_does_not_matter(tiny: Vggt) -> None:
    views, order = images(4), [0, 3, 1, 2]
    with torch.inference_mode():
        tokens = tiny.encode(views)
        plain = outputs(tiny, tiny.aggregate(tokens, ROWS))
        permuted = outputs(tiny, tiny.aggregate(tokens[order], ROWS))
        assert differences(permuted, [x[order] for x in plain]) < TOLERANCE
        other_reference = outputs(tiny, tiny.aggregate(tokens[[1, 0, 2, 3]], ROWS))
    assert differences(other_reference, [x[[1, 0, 2, 3]] for x in plain]) > 1e-3, (
        'the first view is the reference')


def test_views_attend_to_each_other(tiny: Vggt) -> None:
    with torch.inference_mode():
        tokens = tiny.encode(images(3))
        steps = tiny.aggregate(tokens, ROWS)
        alone = tiny.aggregate(tokens[:1], ROWS)
        assert differences(outputs(tiny, steps.of(slice(0, 1)))[1:],
                           outputs(tiny, alone)[1:]) > 1e-3
        # But dense outputs of some views do not need those of the others
        assert differences(outputs(tiny, steps.of(slice(1, 2)))[1:],
                           [x[1:2] for x in outputs(tiny, steps)[1:]]) < TOLERANCE


def test_bfloat16_is_close() -> None:
    meta, _ = parity.read(GOLDEN / 'vggt_small.npz')
    exact, lower = parity.build_vggt(meta), parity.build_vggt(meta).lower_precision(torch.bfloat16)
    assert lower.depth_head.norm.weight.dtype == torch.float32
    views = torch.from_numpy(recipe.image(meta['seed'], 2, *meta['shape'])) * 0.5 + 0.5
    with torch.inference_mode():
        found, expected = (outputs(n, n.aggregate(n.encode(views), meta['shape'][0] // 14))
                           for n in (lower, exact))
    assert found[0].dtype == torch.float32
    # Depth is the exponential of the head's output
    for a, b in ((found[0], expected[0]), (found[1].log(), expected[1].log()),
                 ((found[2] - 1).log(), (expected[2] - 1).log())):
        assert parity.relative_error(a.numpy(), b.numpy()) < 4e-2


def test_positions_in_the_image() -> None:
    """Against the formula, written out."""
    channels, height, width, aspect = 8, 3, 4, 1.5
    found = sine_embedding(channels, height, width, aspect, CPU)
    for row in range(height):
        for column in range(width):
            u, v = (0.0 if n == 1 else (2 * x / (n - 1) - 1) * (n - 1) / n * side / math.sqrt(
                aspect ** 2 + 1)
                for x, n, side in ((column, width, aspect), (row, height, 1)))
            expected = [0.1 * f(x * 100 ** (-k / 2))
                        for x in (u, v) for f in (math.sin, math.cos) for k in range(2)]
            assert torch.allclose(found[:, row, column], torch.tensor(expected), atol=1e-7)
    assert torch.isfinite(sine_embedding(4, 1, 1, 1.0, CPU)).all()


def test_special_tokens_are_not_rotated() -> None:
    x = torch.randn(1, 2, 5 + 6, 16)
    turned = rope_table(2, 3, 16, CPU, 5).rotate(x)
    assert torch.equal(turned[..., :5, :], x[..., :5, :])
    # The grid begins at (1, 1): its first token turns as the one at (1, 1) of a plain grid
    plain = rope_table(3, 4, 16, CPU).rotate(x[..., 5:6, :].expand(-1, -1, 12, -1))
    assert torch.allclose(turned[..., 5, :], plain[..., 5, :], atol=1e-6)
