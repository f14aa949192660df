# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every source file states its copyright and licence."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEADER = [
    '# Copyright 2026 The recon3r_ros authors',
    '# SPDX-License-Identifier: Apache-2.0',
]
FOLDERS = ['recon3r_ros', 'test', 'launch', 'scripts']
SOURCES = sorted(
    [path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')]
    + [*(ROOT / 'scripts').glob('*.sh'), ROOT / 'setup.py', ROOT / '.ci' / 'run']
)


def has_header(text: str) -> bool:
    """Tell whether the header opens a file, after the line that names an interpreter."""
    lines = text.splitlines()
    if lines and lines[0].startswith('#!'):
        del lines[0]
    return lines[:2] == HEADER


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_has_header(path):
    assert has_header(path.read_text(encoding='utf-8')), 'should begin with:\n' + '\n'.join(HEADER)


def test_header_is_recognised():
    header = '\n'.join(HEADER)
    assert has_header(header)
    assert has_header('#!/usr/bin/env python3\n' + header + '\n"""Something."""\n')
    assert not has_header('')
    assert not has_header('import os\n' + header)
    assert not has_header(header.replace('Apache-2.0', 'MIT'))


def test_license_is_complete():
    text = (ROOT / 'LICENSE').read_text(encoding='utf-8')
    assert 'Version 2.0, January 2004' in text
    assert 'END OF TERMS AND CONDITIONS' in text
