# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that tests share."""

from __future__ import annotations

from dataclasses import dataclass
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class SharedData:
    """
    Real sequences and reference outputs, which lie outside the repository and may be absent.

    :param root: the folder that holds `data/`, one folder a pack, and `golden/`
    """

    root: Path

    def pack(self, name: str) -> Path:
        """Return the folder of a sequence; skip the test where it is absent."""
        return self._existing(self.root / 'data' / name)

    def golden(self, name: str) -> Path:
        """Return a file of reference outputs; skip the test where it is absent."""
        return self._existing(self.root / 'golden' / name)

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
