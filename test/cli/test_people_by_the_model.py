# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`recon3r run` with a model that finds people: one network for depth and people, loaded once."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import cv2
from finding_model import FindingModel
import numpy as np
import pytest
from recon3r_ros.io.sequences import open_sequence
from recon3r_ros.nets.dune import Dune, DuneConfig
from recon3r_ros.nets.dust3r import Dust3rConfig
from recon3r_ros.nets.hamst3r import Hamst3rConfig, HumanDecoder
import torch

ROOT = Path(__file__).resolve().parents[2]
#: Every Python that starts lists its process where it opens a file of weights
LISTING = """
import os, sys


def listed(event, arguments):
    if event == 'open' and str(arguments[0]).endswith('.pth'):
        with open(os.environ['OPENED'], 'a') as file:
            print(os.getpid(), arguments[0], file=file)


sys.addaudithook(listed)
"""
LOAD = """
import sys
from recon3r_ros.models.registry import DuneOptions, make_predictor, Model
make_predictor(Model('hamst3r', sys.argv[1], options=DuneOptions(sys.argv[2])))
"""


@pytest.fixture
def weights(tmp_path: Path) -> tuple[Path, Path]:
    """Return files of a small untrained network: heads and encoder."""
    torch.manual_seed(0)
    decoder = HumanDecoder(Hamst3rConfig(Dust3rConfig(64, 0, 1, 64, 2, 1, 'human', 8, 14)))
    encoder = Dune(DuneConfig(64, 2, 1, 6, teacher_dim=32))
    files = tmp_path / 'heads.pth', tmp_path / 'dune.pth'
    for file, network in zip(files, (decoder, encoder)):
        torch.save({'model': network.state_dict()}, file)
    return files


@pytest.mark.large
def test_the_weights_are_loaded_once(weights: tuple[Path, Path], images, tmp_path: Path) -> None:
    (tmp_path / 'site').mkdir()
    (tmp_path / 'site' / 'sitecustomize.py').write_text(LISTING)
    heads, encoder = map(str, weights)
    opened = {}
    for name, words in (('load', ('-c', LOAD, heads, encoder)),
                        ('run', ('-m', 'recon3r_ros.cli', 'run', '--images', str(images(0, 4)),
                                 '--model', 'hamst3r', '--weights', heads, '--encoder-weights',
                                 encoder, '--output', str(tmp_path / 'out')))):
        listed = tmp_path / f'{name}.txt'
        result = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, text=True, capture_output=True,
            env={**os.environ, 'OPENED': str(listed), 'PYTHONPATH': os.pathsep.join(
                (str(tmp_path / 'site'), str(ROOT)))})
        assert result.returncode == 0, result.stderr
        opened[name] = [line.split(' ', 1) for line in listed.read_text().splitlines()]
    assert len({process for process, _ in opened['run']}) == 1
    assert [file for _, file in opened['run']] == [file for _, file in opened['load']]


def test_people_of_the_model_are_masked(pack: Path, tmp_path: Path) -> None:
    frames = list(open_sequence(pack))
    truth = {frame.name: cv2.imread(str(pack / 'masks' / f'{frame.name}.png'),
                                    cv2.IMREAD_GRAYSCALE) > 0 for frame in frames}
    model = FindingModel(tmp_path, ((frame.image, truth[frame.name]) for frame in frames))
    result = subprocess.run(
        [sys.executable, '-m', 'recon3r_ros.cli', 'run', '--images', str(pack), '--model',
         'finding', '--weights', str(model.weights), '--motion', 'off', '--output',
         str(tmp_path / 'out')], text=True, capture_output=True,
        env={**os.environ, 'PYTHONPATH': model.python_path})
    assert result.returncode == 0, result.stderr
    assert max(person.mean() for person in truth.values()) > 0.02
    for name, person in truth.items():
        mask = cv2.imread(str(tmp_path / 'out' / 'masks' / f'{name}.png'),
                          cv2.IMREAD_GRAYSCALE) == 255
        assert mask[person].all() and mask.mean() < 2 * person.mean() + 0.05
    for file in (tmp_path / 'out' / 'depth').glob('*.npz'):
        with np.load(file) as depth:
            known = np.isfinite(depth['depth'])
        own = cv2.resize(truth[file.stem].astype(np.uint8), known.shape[::-1],
                         interpolation=cv2.INTER_NEAREST) > 0
        assert known.mean() > 0.2 and known[own].mean() < 0.001
    assert model.made == 1
