# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A small simulated pack, the results of a run on it, and the command in a separate process."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest
from recon3r_ros import cli
from recon3r_ros.bench.simulated import simulated_pack
from recon3r_ros.sim import SceneConfig
import recon3r_ros.slam.system  # noqa: F401  compiles the loops, which commands would report

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 25


@pytest.fixture
def recon3r_process() -> Callable[..., subprocess.Popen[str]]:
    """Return a function that starts the command in a separate process."""
    def start(*arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, '-m', 'recon3r_ros.cli', *(str(a) for a in arguments)], cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': str(ROOT)}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
    return start


@pytest.fixture(scope='session')
def pack(tmp_path_factory) -> Path:
    """Return a simulated pack of 25 images of 320x240, a sideways sweep past a static room."""
    folder = tmp_path_factory.mktemp('simulated') / 'pack'
    simulated_pack(SceneConfig(seed=3, frames=FRAMES, width=320, height=240, fps=12.0,
                               trajectory='sweep', moving_objects=1), folder)
    return folder


@pytest.fixture(scope='session')
def results(pack, tmp_path_factory) -> Path:
    """Return the results of a run on the simulated pack."""
    output = tmp_path_factory.mktemp('results') / 'out'
    assert cli.main(['run', '--images', str(pack), '--output', str(output), '--colmap']) == 0
    return output


@pytest.fixture
def images(pack, tmp_path) -> Callable[..., Path]:
    """Return a function that makes a folder of some of the pack's images, in this order."""
    def make(*indices: int) -> Path:
        folder = tmp_path / 'images'
        folder.mkdir()
        for position, index in enumerate(indices):
            shutil.copy(pack / 'images' / f'{index:06d}.png', folder / f'{position:03d}.png')
        return folder
    return make
