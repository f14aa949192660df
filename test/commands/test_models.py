# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks from the command line: weights listed and verified, a run with each."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from recon3r_ros import cli
from recon3r_ros.io.clouds import read_ply
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.models import registry
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig
from recon3r_ros.nets.vggt import Vggt, VggtConfig
import torch


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> dict[str, Path]:
    """Return files of small networks that have learned nothing."""
    folder = tmp_path_factory.mktemp('weights')
    torch.manual_seed(0)
    for model, head in (('dust3r', 'linear'), ('mast3r', 'catmlp+dpt')):
        network = Dust3r(Dust3rConfig(128, 1, 2, 64, 4, 1, head))
        torch.save({'model': network.state_dict(), 'args': argparse.Namespace(
            model='Network(img_size=(224, 224))')}, folder / f'{model}.pth')
    vggt = Vggt(VggtConfig(64, 4, 1, 2, (0, 1, 2, 3), 8))
    torch.save(vggt.state_dict(), folder / 'vggt.pt')
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize('model', ['dust3r', 'mast3r', 'vggt'])
def test_run_on_a_real_sequence(recon3r, weights, shared_data, tmp_path, model):
    """It knows nothing, so nothing can be right; but it is all there, and finite."""
    pack = shared_data.pack('strecha_fountain_p11')
    outcome = recon3r('run', '--images', pack, '--model', model, '--weights', weights[model],
                      '--output', tmp_path)
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['model'] == model and report['frames_read'] == 11
    assert ('metres' in report['scale']) == (model == 'mast3r')
    keyframes = json.loads((tmp_path / 'keyframes.json').read_text())
    assert len(keyframes) >= 1, 'one view is enough'
    for keyframe in keyframes:
        with np.load(tmp_path / 'depth' / f'{keyframe["name"]}.npz') as file:
            known = np.isfinite(file['depth'])
            assert (file['depth'][known] > 0).all() and np.isfinite(file['confidence']).all()
    _, poses = read_tum(tmp_path / 'trajectory.txt')
    assert len(poses) >= 1 and np.isfinite(poses).all()
    assert np.isfinite(read_ply(tmp_path / 'map.ply').points).all()


def test_weights_are_listed(recon3r):
    outcome = recon3r('weights')
    assert outcome.status == 0
    for word in ('DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth', 'https://', 'non-commercial',
                 '--model mast3r', '--model monst3r', 'model.safetensors', '--model vggt'):
        assert word in outcome.out


def test_weights_are_verified(recon3r, weights):
    outcome = recon3r('weights', weights['dust3r'])
    assert outcome.status == 0
    assert '--model dust3r' in outcome.out and 'mast3r' not in outcome.out
    assert '224 pixels' in outcome.out and 'SHA-256' in outcome.out


def test_weights_of_vggt_are_verified(recon3r, weights):
    outcome = recon3r('weights', weights['vggt'])
    assert outcome.status == 0
    assert '--model vggt' in outcome.out and '112 pixels' in outcome.out


@pytest.mark.parametrize('arguments, words', [
    (['--model', 'dust3r', '--weights', '{vggt}'], ['{vggt}', '--model vggt']),
    (['--model', 'vggt', '--weights', '{mast3r}'], ['{mast3r}', '--model mast3r']),
    (['--model', 'vggt', '--weights', '{vggt}', '--window', '3', '--overlap', '3'],
     ['window of 3', 'overlap']),
    (['--model', 'dust3r'], ['recon3r weights']),
    (['--model', 'dust3r', '--weights', 'none.pth'], ['none.pth', 'no such file']),
    (['--weights', 'none.pth'], ['none.pth', 'geometric']),
    (['--model', 'monst3r', '--weights', '{dust3r}'], ['{dust3r}', 'not monst3r']),
    (['--model', 'dust3r', '--weights', '{mast3r}'], ['{mast3r}', '--model mast3r']),
    (['--model', 'dust3r', '--weights', '{dust3r}', '--device', 'abacus'], ['abacus']),
    (['--model', 'dust3r', '--weights', '{dust3r}', '--device', 'cpu', '--mode', 'graphs'],
     ['graphs', 'CUDA'])])
def test_models_that_cannot_be_used(recon3r, weights, pack, tmp_path, arguments, words):
    outcome = recon3r('run', '--images', pack, '--output', tmp_path / 'o',
                      *(a.format(**weights) for a in arguments))
    assert outcome.status == 2
    line, = outcome.errors
    for word in words:
        assert word.format(**weights) in line
    assert not (tmp_path / 'o').exists()


def test_a_file_that_holds_no_weights(recon3r, tmp_path):
    (tmp_path / 'w.pth').write_bytes(b'nothing')
    outcome = recon3r('weights', tmp_path / 'w.pth')
    assert outcome.status == 2 and str(tmp_path / 'w.pth') in outcome.err


def test_models_are_the_same_everywhere():
    from recon3r_ros.nets.checkpoints import HEADS, PUBLISHED
    assert {*HEADS, 'vggt'} == {*registry.MODELS} - {'geometric'} == {p.model for p in PUBLISHED}
    assert set(HEADS) == set(registry.PAIR_NETWORKS)


def test_help_loads_no_network(recon3r_process):
    outcome = recon3r_process('run', '--help')
    out, _ = outcome.communicate(timeout=30)
    assert outcome.returncode == 0 and '--weights' in out
    assert cli.MODELS == registry.MODELS
