# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""DUNE and DUNE-MASt3R against their authors' outputs, and their two files."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
import logging
from pathlib import Path
from typing import Any, TYPE_CHECKING

import numpy as np
import parity
import pytest
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.models import weights
from recon3r_ros.models.registry import DuneOptions, make_predictor, Model
from recon3r_ros.nets.dune import (
    Decoder,
    Dune,
    DuneConfig,
    DuneMast3r,
    DuneMast3rConfig,
    Encoder,
    MODEL,
)
from recon3r_ros.nets.dust3r import Dust3rConfig
import torch

if TYPE_CHECKING:
    from conftest import SharedData  # several folders have a conftest: not to be imported by name

#: Of the encoder in float32; of DUNE-MASt3R in float64, where a wrong epsilon shows at 1.5e-6
ENCODER_TOLERANCE, TOLERANCE = 2e-6, 3e-7
TINY = DuneConfig(64, 2, 1, 6, teacher_dim=32)
TINY_DECODER = DuneMast3rConfig(Dust3rConfig(64, 0, 1, 64, 4, 1, 'catmlp+dpt', 8, 14))
State = dict[str, torch.Tensor]


def largest(path: Path) -> float:
    """
    Largest error of an array of a golden file.

    Both the norm of the difference, relative to that of the array, and the largest difference,
    relative to the largest value.
    """
    meta, expected = parity.read(path)
    found = parity.NETWORKS[meta['model']](meta, expected, parity.CPU)
    assert found.keys() == expected.keys()
    by_value = [np.abs(found[k] - expected[k]).max() / np.abs(expected[k]).max()
                for k in expected]
    return max(*by_value, *(parity.relative_error(found[k], expected[k]) for k in expected))


@pytest.mark.parametrize('name', [
    'dune_small', pytest.param('dune_base', marks=pytest.mark.large)])
def test_parity_of_the_encoder(shared_data: SharedData, name: str) -> None:
    assert largest(shared_data.golden(f'{name}.npz')) <= ENCODER_TOLERANCE


def test_parity(shared_data: SharedData) -> None:
    with parity.double():
        assert largest(shared_data.golden('dune_mast3r_small.npz')) <= TOLERANCE


def test_a_full_size_encoder_has_the_published_names(shared_data: SharedData) -> None:
    meta, _ = parity.read(shared_data.golden('dune_base.npz'))
    with torch.device('meta'):
        network = Dune(DuneConfig())
    assert {k: list(v.shape) for k, v in network.state_dict().items()} == meta['parameters']


@pytest.mark.parametrize('width, decoder, encoder', [(768, 1325, 420), (384, 1234, 109)])
def test_published_files_have_the_sizes_of_these_networks(width: int, decoder: int, encoder: int
                                                          ) -> None:
    """In MiB of float32; `layer_rn` counts once, as in files that share tensors."""
    with torch.device('meta'):
        sizes = replace(DuneMast3rConfig().decoder, enc_embed_dim=width)
        found = [Decoder(DuneMast3rConfig(sizes)),
                 Dune(DuneConfig(width, heads=width // 64))]
    for network, expected in zip(found, (decoder, encoder)):
        assert 4 * sum(p.numel() for p in network.parameters()) / 2 ** 20 == pytest.approx(
            expected, abs=1)


def test_features_depend_on_where_a_patch_is(shared_data: SharedData) -> None:
    """At the trained size positions are used unchanged; the resampled ones are close to them."""
    meta, _ = parity.read(shared_data.golden('dune_small.npz'))
    encoder = parity.build_dune(meta).encoder
    side = encoder.config.grid
    known = encoder.pos_embed[:, 1:]
    assert torch.equal(encoder._positions(side, side), known)
    twice = encoder._positions(2 * side, side)
    assert twice.shape == (1, 2 * side ** 2, known.shape[2])
    # Cells 2 n and 2 n + 1 lie around cell n, but for the factor's offset
    smooth = torch.linspace(0, 1, side).repeat_interleave(side)[None, :, None]
    encoder.pos_embed[:, 1:] = smooth
    rows = encoder._positions(2 * side, side)[0, :, 0].unflatten(0, (2 * side, side))
    between = (rows[0::2] + rows[1::2])[1:-1, 0] / 2
    assert torch.allclose(between, torch.linspace(0, 1, side)[1:-1], atol=0.5 / side)


def parts() -> tuple[Dune, Decoder]:
    """Make untrained networks of both files."""
    torch.manual_seed(0)
    return Dune(TINY), Decoder(TINY_DECODER)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a file as the authors do."""
    def save(state: State, name: str, **more: Any) -> Path:
        torch.save({'model': state, **more}, tmp_path / name)
        return tmp_path / name
    return save


@pytest.fixture
def files(write: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """Return the encoder's file and the decoder's, which holds code that is not to be run."""
    encoder, decoder = parts()
    prefixed = {f'module._orig_mod.{k}': v for k, v in encoder.state_dict().items()}
    return (write(prefixed, 'dune_vitbase14_448_paper.pth', iter=3,
                  args=argparse.Namespace(arch='vit')),
            write(decoder.state_dict(), 'decoder.pth',
                  dune_backbone_name='dune_vitbase_14_448_paper_encoder',
                  mast3r_model_str=f"open({str(tmp_path / 'evil')!r}, 'w')"))


def test_networks_follow_from_their_tensors(files: tuple[Path, Path], tmp_path: Path) -> None:
    encoder, decoder = (weights.read(path) for path in files)
    assert (encoder.part, decoder.part) == ('encoder', 'decoder')
    assert encoder.network.config == TINY and encoder.image_size == 84
    assert decoder.network.config == replace(
        TINY_DECODER, encoder_file='dune_vitbase_14_448_paper_encoder')
    assert decoder.image_size == 518 and decoder.models == encoder.models == (MODEL,)
    for found, expected in zip((encoder, decoder), parts()):
        for name, value in expected.state_dict().items():
            assert torch.equal(found.network.state_dict()[name], value)
    assert not (tmp_path / 'evil').exists()


def asked(decoder: Path | str, encoder: Path | str) -> Model:
    """Ask for a network of two files."""
    return Model(MODEL, str(decoder), options=DuneOptions(str(encoder)))


def test_both_files_make_a_predictor(files: tuple[Path, Path]) -> None:
    encoder, decoder = files
    predictor = make_predictor(asked(decoder, encoder))
    assert predictor.network.engine.config.patch == 14
    for model, words in ((asked(decoder, ''), 'encoder_weights'),
                         (asked(decoder, decoder), 'holds the decoder of dune-mast3r'),
                         (asked(encoder, encoder), 'holds the encoder of dune-mast3r'),
                         (asked(decoder, 'none.pth'), 'none.pth: no such file'),
                         (Model('mast3r', str(decoder)), 'holds dune-mast3r, not mast3r')):
        with pytest.raises(Recon3rError, match=words):
            make_predictor(model)


def test_an_encoder_that_is_not_the_decoders_is_refused(
        files: tuple[Path, Path], write: Callable[..., Path], caplog: pytest.LogCaptureFixture
        ) -> None:
    wide = write(Dune(DuneConfig(128, 1, 2, 6)).state_dict(), 'dune_vitbase14_448_paper.pth')
    with pytest.raises(InputError, match='128 channels, and a decoder of 64'):
        make_predictor(asked(files[1], wide))
    other = write(parts()[0].state_dict(), 'dune_vitbase14_448.pth')
    with pytest.raises(InputError, match='give dune_vitbase14_448_paper.pth'):
        make_predictor(asked(files[1], other))
    renamed = other.rename(other.with_name('mine.pth'))
    with caplog.at_level(logging.WARNING):
        make_predictor(asked(files[1], renamed))
    assert 'mine.pth' in caplog.text


def test_files_are_loaded_strictly(write: Callable[..., Path]) -> None:
    encoder, decoder = (network.state_dict() for network in parts())

    def refusal(state: State) -> str:
        path = write(state, 'w.pth')
        with pytest.raises(InputError) as caught:
            weights.read(path)
        assert str(path) in str(caught.value) and '\n' not in str(caught.value)
        return str(caught.value)

    for state, missing in ((encoder, 'encoder.norm.bias'), (encoder, 'encoder.pos_embed'),
                           (encoder, 'encoder.cls_token'), (decoder, 'norm.weight'),
                           (decoder, 'mast3r.decoder_embed.weight'),
                           (decoder, 'mast3r.dec_blocks2.3.norm1.bias')):
        assert f'has no {missing}' in refusal({k: v for k, v in state.items() if k != missing})
    assert 'unexpected extra' in refusal(decoder | {'extra': torch.zeros(1)})
    assert 'multiple of 64' in refusal(encoder | {'encoder.cls_token': torch.zeros(1, 1, 65)})
    assert 'not finite' in refusal(encoder | {'encoder.norm.bias': torch.full((64,), torch.nan)})
    no_registers = {k: v for k, v in encoder.items() if k != 'encoder.register_tokens'}
    assert weights.read(write(no_registers, 'w.pth')).network.config.registers == 0


@torch.inference_mode()
def test_portrait_and_landscape_and_lower_precision() -> None:
    encoder, decoder = parts()
    network = DuneMast3r(encoder.encoder, decoder)
    images = torch.rand(1, 3, 56, 84), torch.rand(1, 3, 84, 56)
    for view, image in zip(network(*images), images):
        assert view.points.shape[1:3] == image.shape[2:]
        assert view.descriptors is not None and view.descriptors.shape[3] == 8
    exact = [view.confidence for view in network(*images)]
    lower = network.lower_precision(torch.bfloat16)
    assert lower.mast3r.downstream_head1.dpt.head['0'].weight.dtype == torch.float32
    for found, expected in zip(lower(*images), exact):
        assert parity.relative_error(found.confidence.numpy(), expected.numpy()) < 4e-2


def test_without_registers() -> None:
    encoder = Encoder(replace(TINY, registers=0))
    assert encoder(torch.rand(1, 3, 28, 42)).shape == (1, 7, 64)
    assert encoder.patches(encoder(torch.rand(1, 3, 28, 42))).shape == (1, 6, 64)
