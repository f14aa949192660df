# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""VGGT's track head against its authors' outputs, invariances, and its file format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import parity
import pytest
import recipe
from recon3r_ros.errors import InputError
from recon3r_ros.nets import checkpoints, vggt, vggt_tracks
from recon3r_ros.nets.vggt import Steps, Vggt, VggtConfig
from recon3r_ros.nets.vggt_tracks import TrackConfig, TrackHead, VggtWithTracks
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

#: In float64: every slip shows above 1e-2 in the displacements
TOLERANCE = 1e-6
#: In float32, of the first iteration; rounding of the later ones grows with random weights
SINGLE = 5e-5
ROWS, COLUMNS = 10, 11
TINY = VggtConfig(64, 4, 1, 1, (0, 1, 2, 3))
TRACK = TrackConfig(16, 32, 2, 4, 3, 7, 2)


@pytest.fixture(scope='module')
def head() -> TrackHead:
    """Return a head with the recipe's weights, in float64."""
    head = TrackHead(TINY, TRACK)
    head.load_state_dict({name: torch.from_numpy(recipe.parameter(name, tuple(value.shape)))
                          for name, value in head.state_dict().items()})
    return head.requires_grad_(False).double()


def steps(views: int) -> Steps:
    """Make tokens."""
    dense = tuple(50 * torch.from_numpy(recipe.parameter(
        f'tokens.{k}', (views, ROWS * COLUMNS, 128))).double() for k in range(4))
    return Steps(dense, dense[0][:, 0], ROWS, COLUMNS)


def queries(count: int) -> torch.Tensor:
    """Make points of the first view, two of them outside."""
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor(
        [14 * COLUMNS - 1, 14 * ROWS - 1])
    points[:2] = torch.tensor([[-5.0, 20.5], [14 * COLUMNS + 30, 3.0]])
    return points


@pytest.mark.parametrize('name', [
    'vggt_tracks_small', pytest.param('vggt_tracks_large', marks=pytest.mark.large)])
def test_parity(shared_data: SharedData, name: str) -> None:
    path = shared_data.golden(f'{name}.npz')
    with parity.double():
        exact = parity.errors(path)
    assert {'displacement', 'visibility', 'update_input_2'} < exact.keys()
    assert max(exact.values()) <= TOLERANCE
    assert max(parity.errors(path).values()) <= SINGLE


def test_a_full_size_network_has_the_published_names(shared_data: SharedData) -> None:
    published = [parity.read(shared_data.golden(f'{name}.npz'))[0]['parameters']
                 for name in ('vggt_large', 'vggt_tracks_large')]
    with torch.device('meta'):
        network = VggtWithTracks(VggtConfig())
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == (
        published[0] | published[1])
    own = list(network.track_head.parameters())
    assert len(own) == 394 and sum(p.numel() for p in own) == pytest.approx(65.9e6, rel=1e-3)


def test_the_order_of_views_and_of_points_does_not_matter(head: TrackHead) -> None:
    given, points = steps(4), queries(9)
    with torch.inference_mode():
        features = head.feature_extractor(given)
        plain = head.tracker(features, points)
        views, order = [0, 2, 3, 1], torch.randperm(9, generator=torch.Generator().manual_seed(1))
        other = head.tracker(features[views], points[order])
        alone = head.feature_extractor(given.of(slice(2, 3)))
        single = head.tracker(features[:1], points)
    assert torch.allclose(other.positions, plain.positions[views][:, order], atol=1e-6)
    assert torch.allclose(other.visibility, plain.visibility[views][:, order], atol=1e-6)
    assert torch.allclose(alone, features[2:3]), 'features depend on a view alone'
    assert torch.equal(plain.positions[0], points) and torch.equal(single.positions[0], points)
    assert (plain.positions[1:] - points).abs().max() > 0.1


def test_blocks_of_correlations_give_what_all_at_once_give(
        head: TrackHead, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        features, points = head.feature_extractor(steps(2)), queries(9)
        whole = head.tracker(features, points)
        monkeypatch.setattr(vggt_tracks, '_BLOCK', 2 * 16 * 36 * 4)
        blocks = head.tracker(features, points)
    assert torch.allclose(blocks.positions, whole.positions, atol=1e-8)


@pytest.mark.parametrize('height, width', [(5, 7), (1, 3), (2, 1), (1, 1)])
def test_correlation_by_definition(height: int, width: int) -> None:
    """Interpolated products one by one, inside, at the border, and far outside of the map."""
    generator = torch.Generator().manual_seed(5)
    maps, t = (torch.randn(*shape, generator=generator, dtype=torch.float64)
               for shape in ((1, height, width, 4), (1, 6, 4)))
    c = torch.tensor([[1.25, 0.5], [0.0, 0.0], [-0.75, height - 0.5], [width + 1.5, 2.0],
                      [1e30, -1e30], [width - 1, height - 1]], dtype=torch.float64)
    found = vggt_tracks.correlation(maps, t, c[None], 2)[0]

    def share(position: float, cell: int, size: int) -> float:
        return 1.0 if size == 1 else max(0.0, 1 - abs(position - cell))
    for n in range(6):
        expected = [sum(share(float(c[n, 0]) + dx, x, width)
                        * share(float(c[n, 1]) + dy, y, height) * float(maps[0, y, x] @ t[0, n])
                        for y in range(height) for x in range(width)) / 2
                    for dx in range(-2, 3) for dy in range(-2, 3)]
        assert torch.allclose(found[n], torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_files_are_loaded_with_tracks_on_request(tmp_path: Path) -> None:
    torch.manual_seed(0)
    track = TrackConfig(16, 32, 1, 8, 5, 7)
    whole, without = tmp_path / 'whole.pt', tmp_path / 'without.pt'
    torch.save(VggtWithTracks(TINY, track).state_dict(), whole)
    torch.save(Vggt(TINY).state_dict(), without)
    for path in (whole, without):
        assert type(checkpoints.read(path, [vggt.FORMAT]).network) is Vggt
    loaded = checkpoints.read(whole, [vggt_tracks.FORMAT])
    assert loaded.network.track_head.config == track and loaded.models == ('vggt',)
    with pytest.raises(InputError, match='without.pt: has no track head; .* leave tracks off'):
        checkpoints.read(without, [vggt_tracks.FORMAT])
    state = torch.load(whole)
    del state['track_head.tracker.vis_predictor.0.bias']
    torch.save(state, whole)
    with pytest.raises(InputError, match='whole.pt: has no track_head.tracker.vis_predictor'):
        checkpoints.read(whole, [vggt_tracks.FORMAT])
    assert type(checkpoints.read(whole, [vggt.FORMAT]).network) is Vggt
