# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measurements of networks, with small ones."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from recon3r_ros.bench import known_windows, memories, memory_growth, network, windows
from recon3r_ros.bench.device_memory import peak_mb, release
from recon3r_ros.models.engine import Engine
from recon3r_ros.models.registry import EngineConfig, Model
from recon3r_ros.nets.dust3r import Dust3r, Dust3rConfig
from recon3r_ros.nets.mapanything import MapAnything, MapAnythingConfig
from recon3r_ros.nets.must3r import Must3r, Must3rConfig
from recon3r_ros.nets.vggt import Vggt, VggtConfig
import torch

RNG = np.random.default_rng(0)


def test_windows_of_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, 'SIZES', {'cpu': (1, 2)})
    images = [RNG.integers(0, 256, (56, 84, 3), np.uint8) for _ in range(2)]
    small = Vggt(VggtConfig(64, 4, 1, 2, (0, 1, 2, 3), 8)).requires_grad_(False)
    text = windows._windows(small, EngineConfig('cpu'), images)
    rows = [line.split('|')[1:3] for line in text.splitlines() if line.startswith('| eager')]
    assert rows == [[' eager ', ' 1 '], [' eager ', ' 2 ']]
    assert 'trunk in float32' in text


def test_memories_of_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, 'SIZES', {'cpu': (1, 3)})
    image = RNG.integers(0, 256, (160, 224, 3), np.uint8)
    small = Must3r(Must3rConfig(64, 1, 1, 64, 2, 1)).requires_grad_(False)
    rows = memories._rows(small, EngineConfig('cpu'), image)
    assert [row[1] for row in rows] == ['1', '3']
    # Two layers of 140 tokens of 64 channels in float32 for each view
    assert [row[5] for row in rows] == ['0.1', '0.2']


def test_known_windows_of_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_windows, 'SIZES', {'cpu': (1, 2)})
    monkeypatch.setattr(known_windows, 'SHAPES', {'cpu': (56, 84)})
    small = MapAnything(MapAnythingConfig(64, 1, 64, 4, grid=8)).requires_grad_(False)
    assert [row[:2] for row in known_windows._rows(small, EngineConfig('cpu'))] == [
        ('eager', '1'), ('eager', '2')]


def test_operations_are_those_of_the_published_network() -> None:
    """As counted for the authors' network: two views, and one encoded."""
    row = known_windows.counted(MapAnythingConfig(), 2)
    assert float(row[1]) == pytest.approx(1.57, abs=0.01)
    assert float(row[5]) == pytest.approx(5.8, abs=0.06)


def test_a_mode_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, 'SHAPE', (32, 48))
    images = [RNG.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(4)]
    small = Dust3r(Dust3rConfig(128, 1, 2, 64, 4, 1, 'linear')).requires_grad_(False)
    model = Model('dust3r', engine=EngineConfig('cpu'))
    measured = network._new_keyframe(small, images, model)
    assert isinstance(measured['eager'], network._Row)

    def broken(*_: object) -> None:
        raise RuntimeError('no compiler')
    monkeypatch.setattr(Engine, 'decode', broken)
    failed = network._new_keyframe(small, images, model)
    assert failed == {'eager': 'RuntimeError'}
    cpu = torch.device('cpu')
    page = network._new_keyframe_table(measured | {'graphs': 'RuntimeError'}, (1e9, 1e9), 1e12,
                                       cpu, torch.float32)
    assert '| graphs | failed: RuntimeError | | | | | | |' in page


def test_memory_of_a_cpu_is_not_measured() -> None:
    cpu = torch.device('cpu')
    release(cpu)
    assert peak_mb(cpu, 'eager') is None


def test_windows_need_no_evaluation() -> None:
    """A machine with a GPU may have the networks' packages only."""
    program = ('import sys; sys.modules["evo"] = None\n'
               'from recon3r_ros.cli.bench import execute\n'
               'from recon3r_ros.bench import KITCHEN_PACK, windows\n'
               'print("gtsam" in sys.modules, "recon3r_ros.slam.system" in sys.modules)\n')
    out = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                         check=True).stdout
    assert out.split() == ['False', 'False']


def test_memory_of_the_tokens_stays_bounded() -> None:
    """And every image becomes a keyframe, or it would be no measurement."""
    rows = memory_growth.measure(30, 10)
    assert [row[0] for row in rows] == [10, 20, 30]
    # Eight views at most, of up to 3 layers of 70 tokens of 64 channels in float32
    assert all(0 < row[2] <= 8 * 3 * 70 * 64 * 4 / 1e6 for row in rows)
