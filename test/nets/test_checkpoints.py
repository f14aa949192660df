# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights files, valid and invalid: no code is run, nothing invalid is loaded."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
import hashlib
from pathlib import Path
import pickle
from typing import Any

import pytest
from recon3r_ros.errors import InputError
from recon3r_ros.models import registry, weights
from recon3r_ros.models.registry import ModelSpec, Published
from recon3r_ros.nets import checkpoints
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig
from recon3r_ros.nets.mapanything import MapAnything, MapAnythingConfig
from recon3r_ros.nets.must3r import Must3r, Must3rConfig
from recon3r_ros.nets.vggt import Vggt, VggtConfig
from safetensors.torch import save_file
import torch

CONFIG = Dust3rConfig(128, 2, 2, 64, 4, 1, 'linear')
State = dict[str, torch.Tensor]


@pytest.fixture(scope='module')
def state() -> State:
    """Return the weights of a tiny network with linear heads."""
    torch.manual_seed(0)
    return {k: v.detach() for k, v in Dust3r(CONFIG).state_dict().items()}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a .pth as the authors do."""
    def save(state: State, name: str = 'weights.pth', model: str = '') -> Path:
        torch.save({'model': state, 'args': argparse.Namespace(model=model)}, tmp_path / name)
        return tmp_path / name
    return save


def refusal(path: Path) -> str:
    """Return the error for a file, in one line that names it."""
    with pytest.raises(InputError) as caught:
        weights.read(path)
    message = str(caught.value)
    assert str(path) in message and '\n' not in message
    return message


@pytest.mark.parametrize('head', ['linear', 'dpt', 'catmlp+dpt'])
def test_the_network_follows_from_the_tensors(write: Callable[..., Path], head: str) -> None:
    config = replace(CONFIG, head=head, descriptor_dim=16 if '+' in head else 24)
    network = Dust3r(config)
    found = weights.read(write(network.state_dict()))
    assert found.network.config == config
    assert found.image_size == 512
    image = torch.zeros(1, 3, 32, 64)
    with torch.inference_mode():
        for a, b in zip(found.network(image, image), network(image, image)):
            assert torch.equal(a.points, b.points)
    assert not any(p.requires_grad or p.is_meta for p in found.network.parameters())


def test_safetensors(state: State, tmp_path: Path) -> None:
    save_file({k: v.clone() for k, v in state.items()}, tmp_path / 'model.safetensors')
    assert weights.read(tmp_path / 'model.safetensors').network.config == CONFIG
    (tmp_path / 'model.safetensors').write_bytes(
        (tmp_path / 'model.safetensors').read_bytes()[:-100])
    assert 'truncated' in refusal(tmp_path / 'model.safetensors')


def test_bare_weights_in_half_precision(state: State, tmp_path: Path) -> None:
    torch.save({k: v.half() for k, v in state.items()}, tmp_path / 'w.pth')
    network = weights.read(tmp_path / 'w.pth').network
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_one_decoder_serves_both_views(state: State, write: Callable[..., Path]) -> None:
    path = write({k: v for k, v in state.items() if not k.startswith('dec_blocks2')})
    found = weights.read(path).network.state_dict()
    assert torch.equal(found['dec_blocks2.1.norm1.weight'], found['dec_blocks.1.norm1.weight'])


@pytest.mark.parametrize('name, model, size', [
    ('w.pth', '', 512), ('DUSt3R_ViTLarge_BaseDecoder_224_linear.pth', '', 224),
    ('w.pth', 'AsymmetricCroCo3DStereo(img_size=(224, 224))', 224),
    ('w_224_.pth', "Net(patch_embed_cls='a', img_size=(512, 512))", 512)])
def test_image_size(state: State, write: Callable[..., Path], name: str, model: str, size: int
                    ) -> None:
    assert weights.read(write(state, name, model)).image_size == size


def test_its_description_is_never_evaluated(state: State, write: Callable[..., Path],
                                            tmp_path: Path) -> None:
    path = write(state, model=f"open({str(tmp_path / 'evil')!r}, 'w')")
    weights.read(path)
    assert not (tmp_path / 'evil').exists()


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return open, (str(self._path), 'w')


def test_no_code_is_run(state: State, tmp_path: Path) -> None:
    target = tmp_path / 'evil'
    torch.save({'model': state, 'args': Evil(target)}, tmp_path / 'w.pth')
    assert 'damaged' in refusal(tmp_path / 'w.pth')
    (tmp_path / 'old.pth').write_bytes(pickle.dumps({'model': Evil(target)}))
    refusal(tmp_path / 'old.pth')
    assert not target.exists()


@pytest.mark.parametrize('content', [b'', b'PK', b'<!DOCTYPE html><html>not found</html>',
                                     bytes(range(256)) * 40])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'w.pth').write_bytes(content)
    assert 'download it again' in refusal(tmp_path / 'w.pth')


@pytest.mark.parametrize('keep', [100, 0.3, 0.9, -1])
def test_a_truncated_file(state: State, write: Callable[..., Path], keep: float) -> None:
    content = (path := write(state)).read_bytes()
    size = int(keep * len(content)) if 0 < keep < 1 else int(keep)
    path.write_bytes(content[:size])
    assert 'truncated' in refusal(path)


def test_missing_and_renamed_tensors(state: State, write: Callable[..., Path]) -> None:
    def renamed(old: str, new: str) -> State:
        return {k.replace(old, new): v for k, v in state.items()}
    assert 'no enc_norm.bias' in refusal(write({
        k: v for k, v in state.items() if k != 'enc_norm.bias'}))
    assert 'no enc_norm.bias, enc_norm.weight' in refusal(write(renamed('enc_norm', 'norm')))
    assert 'no patch_embed.proj.weight' in refusal(write(renamed('', 'module.')))
    assert 'unexpected extra' in refusal(write(state | {'extra': torch.zeros(1)}))
    message = refusal(write({k: v for k, v in state.items() if 'dec_blocks2.0' not in k}))
    assert 'dec_blocks2.0' in message and 'more' in message


def test_wrong_shapes_and_values(state: State, write: Callable[..., Path]) -> None:
    def changed(name: str, value: torch.Tensor) -> Path:
        return write(state | {name: value})
    assert '(3,), expected (128,)' in refusal(changed('enc_norm.bias', torch.zeros(3)))
    assert 'not finite' in refusal(changed('enc_norm.bias', torch.full((128,), torch.nan)))
    assert 'int64' in refusal(changed('enc_norm.bias', torch.zeros(128, dtype=torch.int64)))
    assert 'multiples of 64' in refusal(changed('decoder_embed.weight', torch.zeros(100, 128)))
    assert 'multiples of 64' in refusal(changed('decoder_embed.weight', torch.tensor(1.0)))
    torch.save([1, 2], (path := changed('enc_norm.bias', torch.zeros(3))))
    assert 'list' in refusal(path)
    torch.save({'model': {'a': 1}}, path)
    assert 'no weights' in refusal(path)


def test_it_must_be_the_model_that_was_asked_for(write: Callable[..., Path]) -> None:
    linear = write(Dust3r(CONFIG).state_dict())
    assert 'dust3r' in weights.load(linear, 'dust3r').models
    for model in ('mast3r', 'monst3r'):
        with pytest.raises(InputError, match=f'{linear}.*not {model}'):
            weights.load(linear, model)
    with pytest.raises(InputError, match='holds dust3r, not geometric'):
        weights.load(linear, 'geometric')
    with pytest.raises(InputError, match='no such file'):
        weights.load(linear.with_name('none.pth'), 'dust3r')


def test_a_known_hash_is_checked(state: State, write: Callable[..., Path],
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(state)
    assert checkpoints.check_sha256(path) is None
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    beside = path.with_name('weights.pth.sha256')
    beside.write_text(f'{right.upper()}  weights.pth\n')
    assert str(beside) in str(checkpoints.check_sha256(path))
    beside.write_text(f'{"0" * 64}  weights.pth\n')
    assert right in refusal(path)
    beside.write_text('no hash\n')
    with pytest.raises(InputError, match='sha256sum'):
        weights.read(path)
    beside.unlink()
    published = Published('weights.pth', 'https://nowhere', sha256=right)
    monkeypatch.setattr(registry, 'SPECS', (
        *registry.SPECS, ModelSpec('more', '', published=(published,))))
    assert checkpoints.check_sha256(path, weights.known_sha256(path)) == 'as published'
    path.write_bytes(path.read_bytes() + b'\0')
    assert 'as published it is' in refusal(path)


@pytest.fixture(scope='module')
def vggt_state() -> State:
    """Return the weights of a tiny VGGT."""
    torch.manual_seed(0)
    return {k: v.detach() for k, v in Vggt(VggtConfig(64, 6, 1, 2, grid=9)).state_dict().items()}


@pytest.mark.parametrize('name', ['model.pt', 'model.safetensors'])
def test_vggt_follows_from_its_tensors(vggt_state: State, tmp_path: Path, name: str) -> None:
    """As published: bare weights; those of the track head are recognised and ignored."""
    state = vggt_state | {'track_head.tracker.corr_mlp.fc1.weight': torch.zeros(3, 3)}
    if name.endswith('.pt'):
        torch.save(state, tmp_path / name)
    else:
        save_file({k: v.clone() for k, v in state.items()}, tmp_path / name)
    found = weights.load(tmp_path / name, 'vggt')
    config = found.network.config
    assert (config.embed_dim, config.depth, config.dino_depth) == (64, 6, 2)
    assert config.layers == (1, 2, 4, 5), 'those of the published network, in proportion'
    assert found.image_size == 126 and found.models == ('vggt',)
    assert found.network.state_dict().keys() == vggt_state.keys()
    for key, value in found.network.state_dict().items():
        assert torch.equal(value, vggt_state[key])


def test_vggt_is_loaded_strictly(vggt_state: State, write: Callable[..., Path]) -> None:
    key = 'aggregator.global_blocks.3.attn.q_norm.weight'
    assert key in refusal(write({k: v for k, v in vggt_state.items() if k != key}))
    assert 'unexpected track' in refusal(write(vggt_state | {'track.weight': torch.zeros(1)}))
    assert 'multiple of 64' in refusal(write(
        vggt_state | {'aggregator.camera_token': torch.zeros(1, 2, 1, 65)}))
    assert 'multiple of 64' in refusal(write(
        {k: v for k, v in vggt_state.items() if k != 'aggregator.camera_token'}))
    assert key in refusal(write(vggt_state | {key: torch.full((64,), torch.nan)}))


def test_vggt_and_dust3r_are_not_mistaken_for_each_other(
        state: State, vggt_state: State, write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match='holds vggt, not dust3r; give --model vggt'):
        weights.load(write(vggt_state, 'vggt.pt'), 'dust3r')
    with pytest.raises(InputError, match='holds dust3r, not vggt; give --model dust3r'):
        weights.load(write(state), 'vggt')


@pytest.fixture(scope='module')
def must3r_content() -> dict[str, Any]:
    """Return the content of a file as published: encoder and decoder apart."""
    torch.manual_seed(0)
    network = Must3r(Must3rConfig(128, 2, 2, 64, 3, 1))
    return {part: {k: v.detach() for k, v in getattr(network, part).state_dict().items()}
            for part in ('encoder', 'decoder')} | {'args': argparse.Namespace(
                encoder="open('evil', 'w')")}


@pytest.mark.parametrize('name, size', [('MUSt3R_512.pth', 512), ('MUSt3R_224_cvpr.pth', 224)])
def test_must3r_follows_from_its_tensors(must3r_content: dict[str, Any], tmp_path: Path, name: str,
                                         size: int) -> None:
    torch.save(must3r_content, tmp_path / name)
    found = weights.load(tmp_path / name, 'must3r')
    assert found.network.config == Must3rConfig(128, 2, 2, 64, 3, 1)
    assert found.image_size == size
    for part in ('encoder', 'decoder'):
        for key, value in must3r_content[part].items():
            assert torch.equal(found.network.state_dict()[f'{part}.{key}'], value)


def test_must3r_is_loaded_strictly(must3r_content: dict[str, Any], tmp_path: Path) -> None:
    def refused(decoder: State) -> str:
        torch.save(must3r_content | {'decoder': decoder}, tmp_path / 'w.pth')
        return refusal(tmp_path / 'w.pth')
    decoder, key = must3r_content['decoder'], 'blocks_dec.2.cross_attn.projv.bias'
    assert f'has no decoder.{key}' in refused({k: v for k, v in decoder.items() if k != key})
    assert 'unexpected decoder.other' in refused(decoder | {'other': torch.zeros(1)})
    assert 'multiple of 64' in refused({
        k: v for k, v in decoder.items() if k != 'feat_embed_enc_to_dec.weight'})
    assert 'holds no weights' in refused(decoder | {'step': 3})
    with pytest.raises(InputError, match='holds must3r, not vggt; give --model must3r'):
        torch.save(must3r_content, tmp_path / 'w.pth')
        weights.load(tmp_path / 'w.pth', 'vggt')


def mapanything_state(release: str) -> State:
    """Return the weights of a tiny MapAnything."""
    torch.manual_seed(0)
    config = MapAnythingConfig(64, 1, 64, 4, release, 3)
    return {k: v.detach() for k, v in MapAnything(config).state_dict().items()}


@pytest.mark.parametrize('release', ['v1', 'v1.1'])
def test_mapanything_follows_from_its_tensors(tmp_path: Path, write: Callable[..., Path],
                                              release: str) -> None:
    """As published, and as in training, where tensors have second names."""
    state = mapanything_state(release)
    save_file({k: v.clone() for k, v in state.items()}, tmp_path / 'model.safetensors')
    head = 'dense_head.0.input_process.1.1.weight'
    second = {'dpt_feature_head.input_process.1.1.weight': state[head],
              'dense_head.0.scratch.layer2_rn.weight': state[head],
              'dense_head.0.scratch.layer_rn.1.weight': state[head],
              'dpt_regressor_head.conv1.bias': state['dense_head.1.conv1.bias']}
    for path in (tmp_path / 'model.safetensors', write(state | second)):
        found = weights.load(path, 'mapanything')
        assert found.network.config == MapAnythingConfig(64, 1, 64, 4, release, 3)
        assert found.image_size == 42 and found.models == ('mapanything',)
        assert torch.equal(found.network.state_dict()[head], state[head])


def test_mapanything_is_loaded_strictly(write: Callable[..., Path]) -> None:
    state = mapanything_state('v1.1')

    def without(*keys: str) -> State:
        return {k: v for k, v in state.items() if not k.startswith(keys)}
    for key in ('info_sharing.self_attention_blocks.2.ls2.gamma', 'scale_token',
                'depth_scale_encoder.encoder.0.0.1.bias', 'pose_head.fc_t.weight'):
        assert f'has no {key}' in refusal(write(without(key)))
    assert 'unexpected other' in refusal(write(state | {'other': torch.zeros(1)}))
    for key in ('encoder.model.pos_embed', 'info_sharing.view_pos_table'):
        assert f'{key} has 0 channels' in refusal(write(without(key)))
    assert '2 blocks, expected 4 or more' in refusal(write(without(
        *(f'info_sharing.self_attention_blocks.{n}' for n in (2, 3)))))
    with pytest.raises(InputError, match='holds mapanything, not vggt; give --model mapanything'):
        weights.load(write(state), 'vggt')
