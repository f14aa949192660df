# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Published weights: untrusted files, recognised by their tensors, loaded strictly.

A .pth of the DUSt3R family is a pickled dictionary of the weights and of an `argparse.Namespace`
whose `model` is a Python expression; others hold the weights alone. Files are unpickled as weights
only, and no expression is ever evaluated: the sizes of a network follow from the shapes of its
tensors. Each network's module defines its `Format`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
import hashlib
from pathlib import Path
import pickle
import re
from typing import Any
import zipfile

from recon3r_ros.errors import InputError
import torch
from torch import nn, Tensor

#: Channels of an attention head, in all networks of the family: no tensor's shape determines it
HEAD_SIZE = 64
#: Names under which a file may hold the parts of a network, each with its tensors by name
PARTS = ('encoder', 'decoder')
#: Number of keys that an error names
_NAMED = 4
_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, OSError, KeyError, ValueError,
               TypeError, AttributeError, IndexError, ImportError, zipfile.BadZipFile)
#: What a file of PyTorch Lightning has: its version, and the weights
_LIGHTNING, _STATE = 'pytorch-lightning_version', 'state_dict'


@dataclass(frozen=True, eq=False)
class Built:
    """
    A network built for the tensors of a file.

    :param network: on the meta device
    :param state: its tensors by name
    :param models: names as in --model; files of several models may have the same shapes
    :param image_size: longer side of the input images, pixels; square images where it is 224
    :param part: what of the models' network the file holds; '' for all of it
    """

    network: nn.Module
    state: dict[str, Tensor]
    models: tuple[str, ...]
    image_size: int
    part: str = ''


@dataclass(frozen=True, eq=False)
class Format:
    """
    The file format of a network.

    :param recognises: whether tensors by name belong to this network
    :param build: builds the network from the file's path, its tensors, and its description of the
        network; raises InputError, which names the file, where the tensors do not fit
    """

    recognises: Callable[[Mapping[str, Tensor]], bool]
    build: Callable[[Path, dict[str, Tensor], str], Built]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """
    A network with the weights of a file.

    :param network: on the CPU, in float32, for inference
    :param models: names as in --model
    :param image_size: longer side of the input images, pixels
    :param part: what of the models' network the file holds; '' for all of it
    """

    network: Any
    models: tuple[str, ...]
    image_size: int
    part: str = ''


def read(path: Path, formats: Sequence[Format], known_sha256: str | None = None) -> Checkpoint:
    """
    Read the network that a file holds.

    :param formats: of all networks; the first one reports what is missing in a file that none of
        them recognises
    :param known_sha256: of the file as published, where it is known
    :raises InputError: in one line that names the file and what is wrong with it
    """
    if not path.is_file():
        raise InputError(f'{path}: no such file; recon3r weights lists the published files')
    check_sha256(path, known_sha256)
    state, description = _tensors(path)
    chosen = next((f for f in formats if f.recognises(state)), formats[0])
    with torch.device('meta'):
        built = chosen.build(path, state, description)
    _check(path, built.network.state_dict(), built.state)
    built.network.load_state_dict({k: v.float() for k, v in built.state.items()}, assign=True)
    return Checkpoint(built.network.requires_grad_(False).eval(), built.models, built.image_size,
                      built.part)


def check_sha256(path: Path, published: str | None = None) -> str | None:
    """
    Compare a file with its known SHA-256: as published, or from FILE.sha256 beside it.

    :param published: the SHA-256 of the file as published, where it is known
    :return: the source of the known hash; None where none is known
    :raises InputError: where it differs
    """
    known, origin = published, 'as published'
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
    """Return a file's tensors by name, and its description of the network."""
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file
            return load_file(path), ''
        content = _unpickled(path)
    except ImportError:
        raise InputError(f'{path}: the package safetensors is not installed: pip install '
                         'safetensors') from None
    except Exception as error:
        if not isinstance(error, _UNREADABLE) and type(error).__name__ != 'SafetensorError':
            raise
        reason = str(error).strip().split('\n')[0][:120] or type(error).__name__
        raise InputError(f'{path}: is truncated, damaged or not a weights file ({reason}); '
                         'download it again') from None
    if not isinstance(content, Mapping):
        raise InputError(f'{path}: holds a {type(content).__name__}, expected weights by name')
    state = content.get(_STATE if _LIGHTNING in content else 'model', content)
    if isinstance(state, Mapping) and all(isinstance(state.get(p), Mapping) for p in PARTS):
        # The parts of MUSt3R's network by name
        state = {f'{part}.{k}': v for part in PARTS for k, v in state[part].items()}
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f'{path}: holds no weights by name under `model`')
    # DUNE's decoder states the name of its encoder, others what builds the network
    described = content.get('dune_backbone_name', getattr(content.get('args'), 'model', ''))
    return dict(state), str(described)


class Inert:
    """An object of a class that is not known: it has no content, and runs nothing."""

    def __new__(cls, *_: object, **__: object) -> Inert:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _unpickled(path: Path) -> Any:
    """
    Unpickle weights only.

    A file of PyTorch Lightning also holds objects of its authors' classes, such as the training's
    configuration: they become inert.
    """
    known: list[Callable[..., Any]] = [argparse.Namespace]
    try:
        with torch.serialization.safe_globals([*known]):
            return torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        if not zipfile.is_zipfile(path):
            raise
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        inert = [type(name.rpartition('.')[2], (Inert,), {'__module__': name.rpartition('.')[0]})
                 for name in names]
        with torch.serialization.safe_globals([*known, *inert]):
            content = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
        if not isinstance(content, Mapping) or _LIGHTNING not in content:
            raise
        return content


def depth_of(state: Iterable[str], blocks: str) -> int:
    """Count the blocks that tensors by name have under a name."""
    found = (re.match(rf'{re.escape(blocks)}\.(\d+)\.', key) for key in state)
    return 1 + max((int(match.group(1)) for match in found if match), default=-1)


def _check(path: Path, expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and types; every difference is an error."""
    for what, names in (('has no', expected.keys() - got.keys()),
                        ('has unexpected', got.keys() - expected.keys())):
        if names:
            raise InputError(f'{path}: {what} {_listed(names)}; it is damaged, or another network')
    for name, tensor in expected.items():
        if got[name].shape != tensor.shape:
            raise InputError(f'{path}: {name} has shape {tuple(got[name].shape)}, expected '
                             f'{tuple(tensor.shape)}')
        if not got[name].is_floating_point():
            raise InputError(f'{path}: {name} holds {got[name].dtype}, expected floating '
                             'point numbers')
    if broken := {n for n, tensor in got.items() if not torch.isfinite(tensor).all()}:
        raise InputError(f'{path}: {_listed(broken)} has values that are not finite; the file is '
                         'damaged: download it again')


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
    return ', '.join(names[:_NAMED]) + more
