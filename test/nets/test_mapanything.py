# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""MapAnything against its authors' outputs, and invariances of its architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import parity
import pytest
import recipe
from recon3r_ros.models.known import given_poses, KnownPose
from recon3r_ros.nets.mapanything import Given, MapAnything, MapAnythingConfig
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

GOLDEN = Path(__file__).parent / 'golden'
#: Largest error of an array, relative to its largest value; in float64, images are normalised in
#: float32
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-6}
V1 = MapAnythingConfig(1024, 24, 768, 24, 'v1')
ROWS, COLUMNS = 4, 6


def largest_error(path: Path, dtype: torch.dtype) -> float:
    """Largest error of all arrays of a golden file, each relative to its largest value."""
    meta, expected = parity.read(path)
    found = parity.mapanything(meta, expected, parity.CPU, dtype)
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[name] - values).max() / np.abs(values).max())
               for name, values in expected.items())


@pytest.mark.parametrize('dtype', [
    torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize('path', sorted(GOLDEN.glob('mapanything*.npz')), ids=lambda p: p.stem)
def test_parity(path: Path, dtype: torch.dtype) -> None:
    """A wrong epsilon of a norm may hide in the rounding of float32."""
    assert largest_error(path, dtype) <= TOLERANCES[dtype]


@pytest.mark.parametrize('name', [
    'mapanything_small', 'mapanything_small_single_view',
    pytest.param('mapanything_large', marks=pytest.mark.large)])
def test_parity_with_all_files(shared_data: SharedData, name: str) -> None:
    assert largest_error(shared_data.golden(f'{name}.npz'), torch.float32) <= 1e-5


@pytest.mark.parametrize('config, tensors, millions, taps', [
    (MapAnythingConfig(), 736, 1228.5, (7, 11)), (V1, 804, 563.3, (11, 17))])
def test_full_size_networks_are_as_published(config: MapAnythingConfig, tensors: int,
                                             millions: float, taps: tuple[int, int]) -> None:
    with torch.device('meta'):
        state = MapAnything(config).state_dict()
    assert len(state) == tensors and config.taps == taps and config.image_size == 518
    assert sum(x.numel() for x in state.values()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_a_full_size_network_has_the_published_names(shared_data: SharedData) -> None:
    meta, _ = parity.read(shared_data.golden('mapanything_large.npz'))
    with torch.device('meta'):
        state = MapAnything(MapAnythingConfig()).state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == meta['parameters']


@pytest.fixture(scope='module')
def tiny() -> MapAnything:
    """Return a network with the recipe's weights: none of its tokens and gains are trivial."""
    network = MapAnything(MapAnythingConfig(64, 1, 64, 4, grid=8))
    network.load_state_dict({name: torch.from_numpy(recipe.parameter(name, tuple(value.shape)))
                             for name, value in network.state_dict().items()})
    return network.requires_grad_(False).eval()


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether tensors differ by rounding only."""
    return parity.relative_error(a.numpy(), b.numpy()) < 1e-4


def test_only_what_is_metric_has_a_length(tiny: MapAnything) -> None:
    """Depth and poses are divided by their means, which are given for metres alone."""
    rng = np.random.default_rng(0)
    depth = torch.from_numpy(rng.uniform(1, 3, (1, 14 * ROWS, 14 * COLUMNS)).astype(np.float32))
    depth[:, ::3] = 0
    for metric in (0.0, 1.0):
        flag = torch.tensor([metric])
        same = close(tiny.encode_depth(depth, flag), tiny.encode_depth(2 * depth, flag))
        assert same == (metric == 0)
    patches = torch.zeros(3, ROWS * COLUMNS, 64)
    for metric in (False, True):
        fused = []
        for length in (1.0, 2.0):
            given = given_poses([KnownPose(np.array([0, 0, 0, 1.0]), length * position, metric)
                                 for position in np.diag([1.0, 2.0, 3.0])])
            fused.append(tiny.fuse(patches, Given.of(
                torch.from_numpy(given.numbers), torch.tensor([given.log_length]))))
        assert close(*fused) == (not metric)


def test_what_is_not_given_has_no_effect(tiny: MapAnything) -> None:
    numbers = torch.ones(2, 9)
    numbers[:, 7:] = 0
    patches = torch.from_numpy(np.random.default_rng(0).normal(
        size=(2, ROWS * COLUMNS, 64)).astype(np.float32))
    expected = tiny.fusion_norm_layer(patches)
    assert close(tiny.fuse(patches, Given.of(numbers, torch.tensor([3.0]))), expected)


def test_a_window_depends_on_which_view_is_the_first(tiny: MapAnything) -> None:
    """Other views may come in any order."""
    patches, classes = tiny.encode(torch.from_numpy(
        recipe.image(7, 3, 14 * ROWS, 14 * COLUMNS)) * 0.5 + 0.5)
    given = Given.of(torch.zeros(3, 9), torch.zeros(1))
    poses = {order: tiny.poses(tiny.share(tiny.fuse(patches, given)[list(order)],
                                          classes[list(order)]))
             for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2))}
    assert close(poses[0, 1, 2], poses[0, 2, 1][[0, 2, 1]])
    assert not close(poses[0, 1, 2], poses[1, 0, 2][[1, 0, 2]])
