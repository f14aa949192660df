# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path

import pytest

# Before NumPy and PyTorch are imported: with a thread for each core, the waiting threads of one
# worker take the cores from the others
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class SharedData:
    """
    Real sequences and reference outputs, which lie outside the repository and may be absent.

    :param root: the folder that holds `data/`, one folder a pack, `golden/`, and `field/`, one
        folder a case
    """

    root: Path

    def pack(self, name: str) -> Path:
        """Return the folder of a sequence; skip the test where it is absent."""
        return self._existing(self.root / 'data' / name)

    def golden(self, name: str) -> Path:
        """Return a file of reference outputs; skip the test where it is absent."""
        return self._existing(self.root / 'golden' / name)

    def field(self, name: str) -> Path:
        """Return an input from the field; skip the test where it is absent."""
        return self._existing(self.root / 'field' / name)

    @staticmethod
    def _existing(path: Path) -> Path:
        if not path.exists():
            pytest.skip(f'no {path}: set RECON3R_SHARED to the folder with the test data')
        return path


@pytest.fixture(scope='session')
def repository() -> Path:
    """Return the root of the repository."""
    return ROOT


@pytest.fixture(scope='session')
def shared_data() -> SharedData:
    """Return the test data outside the repository: RECON3R_SHARED, else ../shared."""
    return SharedData(Path(os.environ.get('RECON3R_SHARED', ROOT.parent / 'shared')))


@dataclass(frozen=True)
class Outcome:
    """What a command left: its exit status and what it wrote to the terminal."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines on standard error."""
        return self.err.splitlines()


@pytest.fixture
def recon3r(capfd) -> Callable[..., Outcome]:
    """Return the command, run in this process."""
    from recon3r_ros import cli

    def call(*arguments: object) -> Outcome:
        capfd.readouterr()
        try:
            status = cli.main([str(a) for a in arguments])
        except SystemExit as error:  # argparse
            status = int(error.code or 0)
        captured = capfd.readouterr()
        assert 'Traceback' not in captured.err
        return Outcome(status, captured.out, captured.err)
    return call
