# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Stable Diffusion's encoder against outputs of the public library, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import parity
import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.nets import checkpoints
from recon3r_ros.nets.vae_encoder import FORMAT, VaeConfig, VaeEncoder
from safetensors.torch import save_file
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

#: An epsilon of 1e-5 instead of 1e-6 in the normalisations makes 1e-4
TOLERANCE = 8e-6
TINY = VaeConfig((32, 64, 96, 96), 1)
State = dict[str, torch.Tensor]


@pytest.mark.parametrize('name', [
    'sd_vae_encoder_small', pytest.param('sd_vae_encoder_large', marks=pytest.mark.large)])
def test_parity(shared_data: SharedData, name: str) -> None:
    assert max(parity.errors(shared_data.golden(f'{name}.npz')).values()) <= TOLERANCE


def test_the_published_size_has_the_published_names(shared_data: SharedData) -> None:
    meta, _ = parity.read(shared_data.golden('sd_vae_encoder_large.npz'))
    with torch.device('meta'):
        network = VaeEncoder()
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == meta['parameters']
    assert len(shapes) == 108 and sum(p.numel() for p in network.parameters()) == 34_163_664


@pytest.fixture(scope='module')
def network() -> VaeEncoder:
    """Return a small untrained network."""
    torch.manual_seed(0)
    return VaeEncoder(TINY).eval()


def saved(state: State, folder: Path) -> Path:
    """Write tensors as the published files have them."""
    path = folder / 'diffusion_pytorch_model.safetensors'
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def decoder() -> State:
    """Return some tensors of the other half of the autoencoder."""
    return {'decoder.conv_in.weight': torch.zeros(96, 4, 3, 3),
            'post_quant_conv.weight': torch.zeros(4, 4, 1, 1)}


def with_older_names(state: State, convolutions: bool) -> State:
    """Name the attention's layers as older files do; as convolutions of one pixel, or linear."""
    older = {}
    for name, value in state.items():
        for new, old in (('to_q', 'query'), ('to_k', 'key'), ('to_v', 'value'),
                         ('to_out.0', 'proj_attn')):
            if f'.{new}.' in name:
                name = name.replace(f'.{new}.', f'.{old}.')
                value = value[:, :, None, None] if convolutions and value.ndim == 2 else value
        older[name] = value
    return older


@pytest.mark.parametrize('kind', ['present', 'older', 'convolutions'])
def test_the_network_follows_from_its_tensors(network: VaeEncoder, tmp_path: Path, kind: str
                                              ) -> None:
    state = network.state_dict()
    if kind != 'present':
        state = with_older_names(state, kind == 'convolutions')
        assert 'encoder.mid_block.attentions.0.query.weight' in state
    read = checkpoints.read(saved(state | decoder(), tmp_path), (FORMAT,)).network
    assert read.config == TINY
    for name, value in network.state_dict().items():
        assert torch.equal(read.state_dict()[name], value)


def test_other_and_damaged_files_are_refused(network: VaeEncoder, tmp_path: Path) -> None:
    state = network.state_dict()

    def refusal(state: State) -> str:
        path = saved(state, tmp_path)
        with pytest.raises(InputError) as caught:
            checkpoints.read(path, (FORMAT,))
        assert str(path) in str(caught.value) and '\n' not in str(caught.value)
        return str(caught.value)

    for missing in ('quant_conv.weight', 'encoder.conv_in.weight', 'encoder.conv_norm_out.bias',
                    'encoder.down_blocks.1.resnets.0.conv1.weight',
                    'encoder.down_blocks.2.downsamplers.0.conv.bias',
                    'encoder.mid_block.attentions.0.to_k.weight'):
        assert f'has no {missing}' in refusal({k: v for k, v in state.items() if k != missing})
    assert 'unexpected extra' in refusal(state | {'extra': torch.zeros(1)})
    odd = {'encoder.conv_in.weight': torch.zeros(33, 3, 3, 3)}
    assert 'multiple of 32' in refusal(state | odd)
    assert 'has shape' in refusal(state | {'encoder.conv_out.weight': torch.zeros(8, 96, 1, 1)})
    assert 'has no encoder.conv_in.weight' in refusal({'foreign.weight': torch.zeros(2)})
    assert 'original Stable Diffusion' in refusal(
        {'first_stage_model.encoder.down.0.block.0.norm1.weight': torch.zeros(32)})
    whole = saved(state, tmp_path).read_bytes()
    (tmp_path / 'cut.safetensors').write_bytes(whole[:len(whole) // 2])
    with pytest.raises(InputError, match='cut.safetensors: is truncated'):
        checkpoints.read(tmp_path / 'cut.safetensors', (FORMAT,))


@torch.inference_mode()
def test_images_of_any_sides_that_cells_divide(network: VaeEncoder) -> None:
    images = torch.rand(2, 3, 24, 40) * 2 - 1
    out = network(images)
    assert [level.shape[2:] for level in out.levels] == [(12, 20), (6, 10), (3, 5), (3, 5)]
    assert out.latents.shape == out.log_variance.shape == (2, 4, 3, 5)
    assert torch.allclose(network(images[1:]).middle, out.middle[1:], atol=1e-5)
    with pytest.raises(ValueError, match='multiples of 8'):
        network(torch.zeros(1, 3, 24, 36))
