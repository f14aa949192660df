# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights files, and the models that they fit."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from recon3r_ros.errors import InputError
from recon3r_ros.models import registry
from recon3r_ros.nets import checkpoints, h3r, vae_encoder
from recon3r_ros.nets.checkpoints import Checkpoint, Format
from recon3r_ros.nets.h3r import H3r
from recon3r_ros.nets.siu3r import Siu3r

_MAKES_GAUSSIANS = ("Gaussians by a network need SIU3R's file, or one of H3R's kind such as "
                    'scripts/train_gaussians.py makes, of which no trained weights are published')


def formats() -> tuple[Format, ...]:
    """Return the file formats of all networks, each once."""
    found: dict[int, Format] = {}
    for known in registry.SPECS:
        if known.net:
            own = import_module(known.net).FORMAT
            found.setdefault(id(own), own)
    return tuple(found.values())


def known_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a published file of this name; None where it is unknown."""
    return {p.file: p.sha256 for known in registry.SPECS for p in known.published}.get(path.name)


def read(path: Path) -> Checkpoint:
    """
    Read the network that a file holds.

    :raises InputError: in one line that names the file and what is wrong with it
    """
    return checkpoints.read(path, formats(), known_sha256(path))


def load(path: str | Path, model: str, formats: Sequence[Format] = (), part: str = ''
         ) -> Checkpoint:
    """
    Read the weights of a model.

    :param formats: that the file may have, where not those of all networks
    :param part: of the model's network that the file has to hold; '' for all of it
    :raises InputError: in one line that names the file and what is wrong with it
    """
    path = Path(path)
    checkpoint = (checkpoints.read(path, formats, known_sha256(path)) if formats else read(path))
    if model not in checkpoint.models:
        found = checkpoint.models[0]
        raise InputError(f'{path}: holds {found}, not {model}; give --model {found} or the file '
                         f'of {model}')
    if checkpoint.part != part:
        raise InputError(f'{path}: holds the {checkpoint.part} of {model}, expected its {part}')
    return checkpoint


def read_gaussian_network(path: str | Path) -> H3r | Siu3r:
    """
    Read a network that makes Gaussians: which one, its tensors tell.

    :raises InputError: in one line that names the file and what is wrong with it
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'{path}: no such file; {_MAKES_GAUSSIANS}')
    found = checkpoints.read(path, (h3r.FORMAT, vae_encoder.FORMAT, *formats()),
                             known_sha256(path))
    network = found.network
    if not isinstance(network, (H3r, Siu3r)):
        raise InputError(f'{path}: holds {found.models[0]}; {_MAKES_GAUSSIANS}')
    return network
