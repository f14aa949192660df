# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
DUNE-MASt3R as a `Predictor`: MASt3R's decoder on DUNE's encoder, from two files.

It is a pair network as those of `dust3r`, with patches of 14 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
import logging
from pathlib import Path
import re
from typing import Any, TypeVar

from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.models import registry, weights
from recon3r_ros.models.dust3r import Dust3rPredictor
from recon3r_ros.models.engine import Engine
from recon3r_ros.models.fallback import WithFallback
from recon3r_ros.models.registry import Model
from recon3r_ros.models.runtime import resolve
from recon3r_ros.nets.dune import DECODER, DuneMast3r, ENCODER, Encoder, MODEL

_log = logging.getLogger(__name__)
Network = TypeVar('Network')


def make(model: Model) -> WithFallback:
    """
    Load the network of a model.

    :raises Recon3rError: where one of the two files or the device cannot be used
    """
    network, image_size = load(model, DuneMast3r)
    return WithFallback(Dust3rPredictor(
        Engine(network, model.engine, attention=True), image_size))


def load(model: Model, join: Callable[[Encoder, Any], Network]) -> tuple[Network, int]:
    """
    Load a network from the files of its decoder and of DUNE.

    :param join: makes it of both
    :return: the network, and the longer side of its images, pixels
    :raises Recon3rError: where one of the two files or the device cannot be used
    """
    resolve(model.engine)  # before a large file is read
    if not model.options.encoder_weights:
        raise Recon3rError(f'model {model.name} needs the file of its encoder, too: give '
                           'encoder_weights; recon3r weights lists the published files')
    path = Path(model.options.encoder_weights)
    decoder = weights.load(model.weights, model.name, part=DECODER)
    check_names(path, decoder.network.config.encoder_file)
    encoder = weights.load(path, MODEL, part=ENCODER)
    try:
        return join(encoder.network.encoder, decoder.network), decoder.image_size
    except ValueError as error:
        raise InputError(f'{path}: does not belong to {model.weights}: {error}; give the encoder '
                         'that the decoder was trained on') from None


def check_names(path: Path, stated: str) -> None:
    """
    Check that an encoder is the one that a decoder was trained on; shapes alone do not tell.

    :param path: of the encoder's file
    :param stated: name of the encoder in the decoder's file; '' where it states none
    :raises InputError: where the file has the name of another published encoder
    """
    if not stated or _plain(path.stem) == _plain(stated):
        return
    published = {Path(p.file).stem for spec in registry.SPECS for p in spec.published}
    if path.stem in published:
        known = next((name for name in published if _plain(name) == _plain(stated)), stated)
        raise InputError(f'{path}: is not the encoder of this decoder; give {known}.pth')
    _log.warning('%s: the decoder was trained on %s; whether this is it, its name does not tell',
                 path, stated)


def _plain(name: str) -> str:
    """Reduce names of an encoder's file, and of the encoder, to what they have in common."""
    return re.sub('[^a-z0-9]', '', name.lower()).removesuffix('encoder')
