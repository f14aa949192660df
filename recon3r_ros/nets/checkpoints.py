# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Published weights: read without trust, recognised by their tensors, loaded strictly.

A .pth of the DUSt3R family is a pickled dictionary of the weights and of an `argparse.Namespace`
whose `model` is a Python expression; VGGT's model.pt holds the weights alone. Files are unpickled
as weights only, and no expression is ever evaluated: the sizes of a network follow from the shapes
of its tensors.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import hashlib
from math import isqrt
from pathlib import Path
import pickle
import re
from typing import Generic, TypeVar
import zipfile

from recon3r_ros.errors import InputError
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig, HeadName
from recon3r_ros.nets.vggt import Vggt, VggtConfig
import torch
from torch import Tensor

#: Channels of an attention head, in all networks of the family: no tensor's shape tells
HEAD_SIZE = 64
#: Longer side of the images a network was trained with, where its file does not say
IMAGE_SIZE = 512
#: Parts of published files that belong to what is left out here
LEFT_OUT = 'track_head.'
#: Heads that each model comes with
HEADS: dict[str, tuple[HeadName, ...]] = {
    'dust3r': ('dpt', 'linear'), 'monst3r': ('dpt',), 'mast3r': ('catmlp+dpt',)}
#: Keys that an error names
_NAMED = 4
_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError,
               TypeError, AttributeError, IndexError, ImportError, zipfile.BadZipFile)
_NAVER = 'https://download.europe.naverlabs.com/ComputerVision'


@dataclass(frozen=True)
class Published:
    """
    A checkpoint and where its authors publish it.

    :param model: that it is for, as in --model
    :param sha256: of the file, where it is known
    """

    model: str
    file: str
    url: str
    licence: str = 'CC BY-NC-SA 4.0, non-commercial'
    sha256: str | None = None


PUBLISHED = (
    Published('dust3r', 'DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth',
              f'{_NAVER}/DUSt3R/DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth'),
    Published('dust3r', 'DUSt3R_ViTLarge_BaseDecoder_512_linear.pth',
              f'{_NAVER}/DUSt3R/DUSt3R_ViTLarge_BaseDecoder_512_linear.pth'),
    Published('dust3r', 'DUSt3R_ViTLarge_BaseDecoder_224_linear.pth',
              f'{_NAVER}/DUSt3R/DUSt3R_ViTLarge_BaseDecoder_224_linear.pth'),
    Published('monst3r', 'MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt.pth',
              'https://huggingface.co/Junyi42/MonST3R_PO-TA-S-W_ViTLarge_BaseDecoder_512_dpt'),
    Published('mast3r', 'MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric.pth',
              f'{_NAVER}/MASt3R/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric.pth'),
    Published('vggt', 'model.pt', 'https://huggingface.co/facebook/VGGT-1B',
              'CC BY-NC 4.0, non-commercial'),
    Published('vggt', 'model.safetensors', 'https://huggingface.co/facebook/VGGT-1B',
              'CC BY-NC 4.0, non-commercial'),
)


Network = TypeVar('Network', Dust3r, Vggt, covariant=True)


@dataclass(frozen=True, eq=False)
class Checkpoint(Generic[Network]):
    """
    A network with the weights of a file.

    :param network: on the CPU, in float32, for inference
    :param models: what it is, as in --model; MonST3R's file has the shapes of DUSt3R's
    :param image_size: longer side of the images it takes, pixels; 224 means square ones
    """

    network: Network
    models: tuple[str, ...]
    image_size: int


def load_dust3r(path: str | Path, model: str) -> Checkpoint[Dust3r]:
    """
    Read the weights of a network of DUSt3R's family.

    :param path: .pth as published, or .safetensors
    :param model: what they are expected to be: dust3r, monst3r or mast3r
    :raises InputError: in one line that names the file and what is wrong with it
    """
    if model not in HEADS:
        raise InputError(f'model {model!r} is none of {", ".join(HEADS)}')
    checkpoint = read(Path(path))
    if isinstance(checkpoint.network, Dust3r) and model in checkpoint.models:
        return Checkpoint(checkpoint.network, checkpoint.models, checkpoint.image_size)
    raise _another(path, checkpoint, model)


def load_vggt(path: str | Path) -> Checkpoint[Vggt]:
    """
    Read VGGT's weights.

    :param path: .pt as published, or .safetensors
    :raises InputError: in one line that names the file and what is wrong with it
    """
    checkpoint = read(Path(path))
    if isinstance(checkpoint.network, Vggt):
        return Checkpoint(checkpoint.network, checkpoint.models, checkpoint.image_size)
    raise _another(path, checkpoint, 'vggt')


def _another(path: str | Path, checkpoint: Checkpoint[Dust3r] | Checkpoint[Vggt], model: str
             ) -> InputError:
    found = checkpoint.models[0]
    return InputError(f'{path}: holds {found}, not {model}; give --model {found} or the file of '
                      f'{model}')


def read(path: Path) -> Checkpoint[Dust3r] | Checkpoint[Vggt]:
    """
    Read whatever network a file holds.

    :raises InputError: in one line that names the file and what is wrong with it
    """
    if not path.is_file():
        raise InputError(f'{path}: there is no such file; recon3r weights lists what is '
                         'published')
    check_sha256(path)
    state, description = _tensors(path)
    if any(key.startswith('aggregator.') for key in state):
        state = {k: v for k, v in state.items() if not k.startswith(LEFT_OUT)}
        with torch.device('meta'):
            vggt = Vggt(_vggt_config(path, state))
        return Checkpoint(_filled(path, vggt, state), ('vggt',), vggt.config.image_size)
    state = _completed(state)
    with torch.device('meta'):
        dust3r = Dust3r(_dust3r_config(path, state))
    models = tuple(m for m, heads in HEADS.items() if dust3r.config.head in heads)
    return Checkpoint(_filled(path, dust3r, state), models, _image_size(path, description))


def _filled(path: Path, network: Network, state: dict[str, Tensor]) -> Network:
    """Give a network its weights, strictly."""
    _check(path, network.state_dict(), state)
    network.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    return network.requires_grad_(False).eval()


def check_sha256(path: Path) -> str | None:
    """
    Compare a file with its known SHA-256: as published, or as FILE.sha256 beside it says.

    :return: where the hash is from; None where none is known
    :raises InputError: where it differs
    """
    known = {p.file: p.sha256 for p in PUBLISHED}.get(path.name)
    origin = 'as published'
    beside = path.with_name(f'{path.name}.sha256')
    if known is None and beside.is_file():
        words = beside.read_text(encoding='utf-8', errors='replace').split()
        if not words or not re.fullmatch('[0-9a-fA-F]{64}', words[0]):
            raise InputError(f'{beside}: holds no SHA-256; write it with sha256sum')
        known, origin = words[0].lower(), f'in {beside}'
    if known is None:
        return None
    got = sha256(path)
    if got != known:
        raise InputError(f'{path}: SHA-256 is {got}, {origin} it is {known}; download it again')
    return origin


def sha256(path: Path) -> str:
    """Hash a file."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return a file's tensors by name, and what it says of its network."""
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file
            return load_file(path), ''
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except ImportError:
        raise InputError(f'{path}: the package safetensors is not installed: pip install '
                         'safetensors') from None
    except Exception as error:
        if not isinstance(error, _UNREADABLE) and type(error).__name__ != 'SafetensorError':
            raise
        reason = str(error).strip().split('\n')[0][:120] or type(error).__name__
        raise InputError(f'{path}: is truncated, damaged or no file of weights ({reason}); '
                         'download it again') from None
    if not isinstance(content, Mapping):
        raise InputError(f'{path}: holds a {type(content).__name__}, expected weights by name')
    state = content.get('model', content)
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f'{path}: holds no weights by name under `model`')
    return dict(state), str(getattr(content.get('args'), 'model', ''))


def _completed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give both decoders the blocks of the one that the file has, where it has but one."""
    if any(k.startswith('dec_blocks2.') for k in state):
        return state
    return state | {k.replace('dec_blocks.', 'dec_blocks2.', 1): v for k, v in state.items()
                    if k.startswith('dec_blocks.')}


def _dust3r_config(path: Path, state: Mapping[str, Tensor]) -> Dust3rConfig:
    try:
        enc = state['patch_embed.proj.weight'].shape[0]
        dec = state['decoder_embed.weight'].shape[0]
    except KeyError as missing:
        raise InputError(f'{path}: has no {missing.args[0]}: it holds another network, or its '
                         'tensors were renamed') from None
    except IndexError:
        enc = dec = 0
    if min(enc, dec) < HEAD_SIZE or enc % HEAD_SIZE or dec % HEAD_SIZE:
        raise InputError(f'{path}: tokens have {enc} and {dec} channels, expected multiples of '
                         f'{HEAD_SIZE}: it holds another network')
    head: HeadName = 'linear'
    descriptor_dim = Dust3rConfig.descriptor_dim
    local = state.get('downstream_head1.head_local_features.fc2.weight')
    if local is not None:
        head, descriptor_dim = 'catmlp+dpt', local.shape[0] // 16 ** 2 - 1
    elif any(k.startswith('downstream_head1.dpt.') for k in state):
        head = 'dpt'
    return Dust3rConfig(enc, _depth(state, 'enc_blocks'), enc // HEAD_SIZE, dec,
                        _depth(state, 'dec_blocks'), dec // HEAD_SIZE, head, descriptor_dim)


def _vggt_config(path: Path, state: Mapping[str, Tensor]) -> VggtConfig:
    token = state.get('aggregator.camera_token')
    width = token.shape[-1] if token is not None and token.ndim == 4 else 0
    if width < HEAD_SIZE or width % HEAD_SIZE:
        raise InputError(f'{path}: aggregator.camera_token has {width} channels, expected a '
                         f'multiple of {HEAD_SIZE}: it is damaged, or another network')
    depth = _depth(state, 'aggregator.frame_blocks')
    # No tensor tells which turns the heads read: those of the published network, in proportion
    known = VggtConfig()
    layers = [round(n * (depth - 1) / (known.depth - 1)) for n in known.layers]
    positions = state.get('aggregator.patch_embed.pos_embed')
    grid = known.grid if positions is None else isqrt(max(positions.numel() // width - 1, 1))
    return VggtConfig(width, depth, width // HEAD_SIZE,
                      _depth(state, 'aggregator.patch_embed.blocks'),
                      (layers[0], layers[1], layers[2], layers[3]), grid)


def _depth(state: Iterable[str], blocks: str) -> int:
    found = (re.match(rf'{re.escape(blocks)}\.(\d+)\.', key) for key in state)
    return 1 + max((int(match.group(1)) for match in found if match), default=-1)


def _check(path: Path, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and types; every difference counts."""
    for what, names in (('has no', expected.keys() - got.keys()),
                        ('has unexpected', got.keys() - expected.keys())):
        if names:
            raise InputError(f'{path}: {what} {_listed(names)}; it is damaged, or another network')
    for name, tensor in expected.items():
        if got[name].shape != tensor.shape:
            raise InputError(f'{path}: {name} has shape {tuple(got[name].shape)}, expected '
                             f'{tuple(tensor.shape)}')
        if not got[name].is_floating_point():
            raise InputError(f'{path}: {name} holds {got[name].dtype}, expected numbers with '
                             'fractions')
    if broken := {n for n, tensor in got.items() if not torch.isfinite(tensor).all()}:
        raise InputError(f'{path}: {_listed(broken)} has values that are not finite; the file is '
                         'damaged: download it again')


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
    return ', '.join(names[:_NAMED]) + more


def _image_size(path: Path, description: str) -> int:
    """Longer side of the training images, from the file's description or its name."""
    found = re.search(r'img_size=\(?(\d+)\D+(\d+)', description)
    if found:
        return max(int(found.group(1)), int(found.group(2)))
    return 224 if '_224_' in path.name else IMAGE_SIZE
