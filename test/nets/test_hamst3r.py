# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""HAMSt3R's heads and file. There are no published weights, hence no golden outputs."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sin
from pathlib import Path

import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.nets import checkpoints
from recon3r_ros.nets.dune import DuneConfig, Encoder
from recon3r_ros.nets.dune import FORMAT as DUNE
from recon3r_ros.nets.dust3r import Dust3rConfig
from recon3r_ros.nets.hamst3r import (
    attended,
    FORMAT,
    found_people,
    Hamst3r,
    Hamst3rConfig,
    HumanDecoder,
    InstanceConfig,
    InstanceOutput,
    Instances,
    QueryAttention,
)
from recon3r_ros.nets.layers.position import sine_pairs
import torch

CPU = torch.device('cpu')
TINY = Hamst3rConfig(Dust3rConfig(64, 0, 1, 64, 2, 1, 'human', 8, 14),
                     instances=InstanceConfig(5, 64, 2, 96, 2, 3))
SURE = 20.0


def network() -> Hamst3r:
    torch.manual_seed(0)
    return Hamst3r(Encoder(DuneConfig(64, 2, 1, 6)), HumanDecoder(TINY)).eval()


def test_the_full_size_head_has_the_parameters_of_its_paper() -> None:
    with torch.device('meta'):
        head = Instances(InstanceConfig(), 768)
        decoder = HumanDecoder(Hamst3rConfig())
    assert sum(p.numel() for p in head.parameters()) == pytest.approx(9.9e6, rel=0.01)
    shapes = {k: tuple(v.shape) for k, v in decoder.state_dict().items()}
    for side in (1, 2):
        known = f'mast3r.downstream_head{side}.'
        assert shapes[f'{known}proj.weight'] == (4 * 14 ** 2, 768)
        assert shapes[f'{known}densepose.proj.weight'] == (4 * 14 ** 2, 768)
        assert shapes[f'{known}head_local_features.fc2.weight'] == (25 * 14 ** 2, 4 * 1536)
        assert shapes[f'{known}instances.pixel_proj.weight'] == (256 * 16, 768)
    assert not [k for k in shapes if 'dpt' in k] and 'norm.weight' in shapes


@torch.inference_mode()
def test_shapes_of_portrait_and_landscape() -> None:
    images = torch.rand(2, 3, 56, 84), torch.rand(2, 3, 84, 56)
    for view, image in zip(network()(*images), images):
        height, width = image.shape[2:]
        assert view.points.shape == view.surface.shape == (2, height, width, 3)
        assert view.surface_logits.shape == view.confidence.shape == (2, height, width)
        assert view.descriptors is not None and view.descriptors.shape == (2, height, width, 8)
        assert view.instances.classes.shape == (2, 5, 2)
        assert view.instances.masks.shape == (2, 5, 3 * height // 14, 3 * width // 14)
        assert view.earlier == ()
    training = network().train()
    assert len(training(*images)[0].earlier) == 2


@torch.inference_mode()
def test_a_batch_gives_what_its_parts_give() -> None:
    made = network()
    first, second = torch.rand(2, 3, 56, 84), torch.rand(2, 3, 56, 84)
    both, one = made(first, second), made(first[1:], second[1:])
    for found, expected in zip(both, one):
        for name in ('surface', 'surface_logits', 'points'):
            assert torch.allclose(getattr(found, name)[1:], getattr(expected, name), atol=1e-4)
        assert torch.allclose(found.instances.masks[1:], expected.instances.masks, atol=1e-4)


@torch.inference_mode()
def test_equal_views_have_equal_people() -> None:
    """As far as the two decoders are equal: here they share their weights."""
    made = network()
    state = made.state_dict()
    for name in list(state):
        for one, two in (('dec_blocks.', 'dec_blocks2.'), ('head1.', 'head2.')):
            if one in name:
                state[name.replace(one, two)] = state[name]
    made.load_state_dict(state)
    image = torch.rand(1, 3, 56, 84)
    first, second = made(image, image)
    assert torch.equal(first.instances.masks, second.instances.masks)
    assert torch.equal(first.surface, second.surface)


def test_a_query_attends_to_the_tokens_in_its_mask() -> None:
    masks = torch.full((1, 3, 4, 6), -1.0)  # tokens of 2 x 2 cells: 2 rows, 3 columns
    masks[0, 0, :2, 2:4] = 1
    masks[0, 1, 2, 0] = 5  # a cell that lifts the mean of its token above 0
    expected = torch.zeros(1, 3, 6, dtype=torch.bool)
    expected[0, 0, 1] = expected[0, 1, 3] = True
    expected[0, 2] = True  # nowhere: everywhere
    assert torch.equal(attended(masks, 2, 3), expected)


@torch.inference_mode()
def test_masked_attention_is_a_softmax_over_what_is_seen() -> None:
    torch.manual_seed(1)
    attention = QueryAttention(8, 2)
    queries, keys, values = torch.rand(1, 3, 8), torch.rand(1, 5, 8), torch.rand(1, 5, 8)
    seen = torch.tensor([[[1, 1, 0, 0, 1], [0, 0, 0, 1, 0], [1] * 5]], dtype=torch.bool)
    q, k, v = (layer(x)[0].view(-1, 2, 4) for layer, x in (
        (attention.projq, queries), (attention.projk, keys), (attention.projv, values)))
    rows = []
    for n in range(3):
        heads = []
        for h in range(2):
            weights = ((q[n, h] @ k[:, h].T) / 2).exp() * seen[0, n]
            heads.append(weights @ v[:, h] / weights.sum())
        rows.append(torch.cat(heads))
    expected = attention.proj(torch.stack(rows))
    assert torch.allclose(attention(queries, keys, values, seen)[0], expected, atol=1e-6)


@torch.inference_mode()
def test_what_a_query_does_not_see_does_not_matter() -> None:
    """Of the layer itself: a token outside the mask changes no query that has a mask."""
    torch.manual_seed(2)
    layer = Instances(TINY.instances, 64).layers[0]
    x, embed, memory = torch.rand(1, 5, 64), torch.rand(5, 64), torch.rand(1, 6, 64)
    seen = torch.zeros(1, 5, 6, dtype=torch.bool)
    seen[..., :3] = True
    changed = memory.clone()
    changed[:, 3:] += 1
    found = layer(x, embed, memory, memory, seen)
    assert torch.equal(found, layer(x, embed, changed, changed, seen))
    changed[:, 0] += 1
    assert not torch.allclose(found, layer(x, embed, changed, changed, seen))


def test_position_embedding() -> None:
    """Channels of the row, then of the column: pairs of sine and cosine."""
    table = sine_pairs(8, 3, 5, CPU).view(3, 5, 8)
    row, column = 2 * pi * 2 / 3, 2 * pi * 4 / 5  # of the second row and the fourth column
    assert table[1, 3].tolist() == pytest.approx(
        [sin(row), cos(row), sin(row / 100), cos(row / 100),
         sin(column), cos(column), sin(column / 100), cos(column / 100)], abs=1e-6)


def people_in(*masks: torch.Tensor, person: tuple[float, ...] = ()) -> InstanceOutput:
    logits = torch.stack([torch.where(m, SURE, -SURE) for m in masks])
    person = person or (SURE,) * len(masks)
    return InstanceOutput(torch.tensor([[p, 0.0] for p in person]), logits)


def box(rows: slice, columns: slice) -> torch.Tensor:
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


def test_people_are_sure_large_and_mostly_their_own() -> None:
    left, right = box(slice(0, 20), slice(0, 10)), box(slice(0, 20), slice(12, 22))
    small = box(slice(30, 37), slice(30, 39))  # 63 pixels
    found = found_people(people_in(left, right, small, person=(1, -1, 9)), 40, 40)
    assert len(found.scores) == 1 and torch.equal(found.labels == 1, left)
    assert found.scores.tolist() == pytest.approx([1 / (1 + 2.718281828 ** -1)])
    # Two queries for one person: the better one has the pixels, the other less than four fifths
    found = found_people(people_in(left, left, right, person=(2, 3, 2)), 40, 40)
    assert len(found.scores) == 2 and found.labels.max() == 2
    assert torch.equal(found.labels == 1, left) and torch.equal(found.labels == 2, right)
    nobody = found_people(people_in(left, person=(-1,)), 40, 40)
    assert not nobody.labels.any() and nobody.masks.shape == (0, 40, 40)


def saved(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    path = tmp_path / 'hamst3r.pth'
    torch.save({'model': state, 'dune_backbone_name': 'dune_vitsmall14_448'}, path)
    return path


def test_a_file_gives_the_network_back(tmp_path: Path) -> None:
    decoder = HumanDecoder(TINY)
    path = saved(tmp_path, {f'module.{k}': v for k, v in decoder.state_dict().items()})
    found = checkpoints.read(path, (FORMAT, DUNE))
    assert found.network.config == replace(TINY, encoder_file='dune_vitsmall14_448')
    assert (found.models, found.part, found.image_size) == (('hamst3r',), 'decoder', 518)
    state = found.network.state_dict()
    assert state.keys() == decoder.state_dict().keys()
    assert all(torch.equal(state[k], v) for k, v in decoder.state_dict().items())


@pytest.mark.parametrize('name', [
    'norm.bias', 'mast3r.downstream_head1.densepose.proj.weight',
    'mast3r.downstream_head1.instances.query_feat',
    'mast3r.downstream_head2.instances.layers.1.cross_attn.projk.bias'])
def test_a_file_without_a_tensor_is_refused(name: str, tmp_path: Path) -> None:
    state = HumanDecoder(TINY).state_dict()
    del state[name]
    with pytest.raises(InputError, match=f'has no {name}'):
        checkpoints.read(saved(tmp_path, state), (FORMAT, DUNE))


def test_a_file_with_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    state = HumanDecoder(TINY).state_dict() | {'mast3r.extra': torch.zeros(1)}
    with pytest.raises(InputError, match='unexpected mast3r.extra'):
        checkpoints.read(saved(tmp_path, state), (FORMAT, DUNE))
