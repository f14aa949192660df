# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The linters of `make lint`, and those of ROS where they are installed."""

import importlib.util
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ['recon3r_ros', 'test', 'setup.py', *(['launch'] if (ROOT / 'launch').is_dir() else [])]


def run_linter(module: str, *arguments: str) -> None:
    """Run a linter of this interpreter's environment, which has to find nothing."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f'{module} is not installed: pip install -e .[dev]')
    result = subprocess.run(
        [sys.executable, '-m', module, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_ruff():
    run_linter('ruff', 'check', '--output-format', 'concise', '.')


def test_mypy():
    run_linter('mypy')


@pytest.mark.parametrize('linter', ['ament_flake8', 'ament_pep257'])
def test_ros_linter(linter, monkeypatch):
    main = pytest.importorskip(f'{linter}.main', reason=f'{linter} comes with ROS').main
    monkeypatch.chdir(ROOT)
    assert main(argv=SOURCES) == 0, f'run {linter} for its findings'
