# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where compiled loops are kept, in processes of their own."""

import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest
from recon3r_ros import compiled

ROOT = Path(__file__).resolve().parents[1]
MODULE = """
from recon3r_ros.compiled import compiled
@compiled('f8(f8)')
def twice(x):
    return 2 * x
print(twice(21.0), sum(twice.stats.cache_hits.values()))
"""


@pytest.fixture
def run(tmp_path):
    """Give a function that runs the module with what could be written to."""
    source = tmp_path / 'source' / 'module.py'
    source.parent.mkdir()
    source.write_text(MODULE, encoding='utf-8')

    def run_(beside: bool, home: bool, temporary: bool) -> list[str]:
        writable = {'source': beside, 'home': home, 'temporary': temporary}
        for name, yes in writable.items():
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            if not yes:  # a file in place of a folder: root may write to any folder
                folder = folder / ('__pycache__' if name == 'source' else '.cache')
                if name == 'temporary':
                    folder = folder.parent / f'recon3r-compiled-{os.getuid()}'
                if not folder.exists():
                    folder.touch()
        environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'HOME': str(tmp_path / 'home'),
                       'TMPDIR': str(tmp_path / 'temporary')}
        environment.pop('XDG_CACHE_HOME', None)
        done = subprocess.run([sys.executable, str(source)], env=environment, text=True,
                              capture_output=True, check=True, timeout=120)
        assert not done.stderr
        return done.stdout.split()

    return run_


@pytest.mark.parametrize('beside, home, temporary, kept', [
    (True, True, True, 'source/__pycache__'),
    (False, True, True, 'home/.cache/numba'),
    (False, False, True, f'temporary/recon3r-compiled-{os.getuid()}'),
])
def test_code_is_kept_where_that_is_possible(run, tmp_path, beside, home, temporary, kept):
    assert run(beside, home, temporary) == ['42.0', '0']
    assert run(beside, home, temporary) == ['42.0', '1']
    assert list((tmp_path / kept).rglob('*.nbi'))


def test_nothing_can_be_kept(run):
    for _ in range(2):
        assert run(False, False, False) == ['42.0', '0']


def test_a_first_start_says_why_it_takes_long(tmp_path):
    source = tmp_path / 'module.py'
    source.write_text('import logging; logging.basicConfig(level=logging.INFO)\n' + MODULE
                      + MODULE.replace('twice', 'double'), encoding='utf-8')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}

    def log() -> list[str]:
        return subprocess.run([sys.executable, str(source)], env=environment, text=True,
                              capture_output=True, check=True, timeout=120).stderr.splitlines()

    first, = log()
    assert first.startswith('INFO:recon3r_ros.compiled:compiling') and 'once' in first
    assert log() == []


def test_folder_of_temporary_files_belongs_to_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    folder = compiled.temporary_folder()
    assert folder is not None and folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o770)
    assert compiled.temporary_folder() is None
    folder.rmdir()
    (tmp_path / 'elsewhere').mkdir(mode=0o700)
    folder.symlink_to(tmp_path / 'elsewhere')
    assert compiled.temporary_folder() is None


def test_arrays_are_made_as_signatures_demand_them():
    values = np.arange(12.0).reshape(3, 4)
    assert compiled.dense(values) is values
    frozen = np.frombuffer(values.tobytes()).reshape(3, 4)
    for other in (frozen, values.T, values[:, ::2], np.broadcast_to(values, (2, 3, 4))):
        made = compiled.dense(other)
        assert made.flags.c_contiguous and made.flags.writeable
        np.testing.assert_array_equal(made, other)
    assert compiled.dense(values, np.float32).dtype == np.float32
