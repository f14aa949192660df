# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Which part of the package may import what: a test of the sources, and of what importing loads.

The lower layers work in a plain Python shell; rclpy and messages live in `recon3r_ros/ros`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'recon3r_ros'
# The client library and messages, which `recon3r_ros/ros` alone may import
ROS = re.compile(r'rclpy|\w+_msgs|\w+_srvs|\w+_interfaces|cv_bridge|tf2_\w+|launch\w*|ament_\w+')


@dataclass(frozen=True)
class Layer:
    """
    What one part of the package may import beside itself, `errors` and the standard library.

    :param parts: modules below the package; '*' for all
    :param libraries: top-level names; '*' for all; those of ROS only count in `ros`
    """

    parts: frozenset[str]
    libraries: frozenset[str]


def layer(parts: str = '', libraries: str = '') -> Layer:
    """Build a layer from space-separated names."""
    return Layer(frozenset(parts.split()), frozenset(libraries.split()))


# Keys are modules and folders below the package; the longest that fits a module is its rule, and a
# folder may import from itself. A new one needs a line here.
LAYERS = {
    '__init__': layer(),
    'errors': layer(),
    'option': layer(),
    'compiled': layer('', 'numba numpy'),
    'concurrency': layer(),
    'geometry': layer('compiled', 'numpy scipy cv2'),
    'nets': layer('', 'safetensors torch'),
    'models': layer('nets geometry compiled concurrency option', 'numpy scipy torch cv2'),
    'models.litert': layer('', 'numpy ai_edge_litert'),
    'models.gsplat_renderer': layer('nets', 'torch gsplat'),
    # What a spec names is imported when it is asked for
    'models.registry': layer('models.types option', '(computed)'),
    'models.weights': layer('models.registry nets', '(computed)'),
    'slam': layer('models geometry compiled concurrency option', 'numpy scipy skimage cv2 gtsam'),
    'slam.imu': layer('geometry', 'numpy cv2'),
    'slam.semantics': layer('', 'numpy'),
    'slam.types': layer('models.types slam.imu slam.semantics geometry', 'numpy'),
    'slam.options': layer('option'),
    'slam.effort': layer('slam.options'),
    'slam.pair_table': layer(),
    'slam.visibility': layer('slam.types geometry compiled', 'numpy cv2'),
    'slam.dynamics': layer('slam.types slam.options slam.pair_table slam.visibility models.types '
                           'geometry compiled concurrency',
                           'numpy scipy skimage cv2'),
    'slam.frontend': layer('slam.dynamics slam.imu slam.types slam.options slam.effort '
                           'slam.visibility models.types geometry', 'numpy cv2'),
    'slam.backend': layer('slam.dynamics slam.types slam.options slam.pair_table '
                          'slam.visibility slam.archive '
                          'slam.saved_map slam.scale models geometry compiled concurrency',
                          'numpy scipy cv2 gtsam'),
    'slam.products': layer('slam.types slam.semantics slam.saved_map geometry compiled '
                           'concurrency',
                           'numpy scipy cv2'),
    'plugins': layer('slam', '*'),
    'io': layer('__version__ slam.types slam.semantics slam.imu slam.archive slam.saved_map '
                'geometry compiled',
                'numpy cv2 open3d PIL rosbags yaml lz4 backports compression pi_heif'),
    'sim': layer('geometry', 'numpy scipy torch'),
    'training': layer('nets models sim geometry', 'numpy scipy torch cv2'),
    'ros': layer('*', '*'),
    'evaluation': layer('*', '*'),
    'bench': layer('*', '*'),
    'cli': layer('*', '*'),
    # Of the release before: what the README documented, under its old names
    'core': layer('slam', ''),
    'inference': layer('models', ''),
}


@dataclass(frozen=True)
class Import:
    """An import statement: the candidates are the names it may bring in, widest first."""

    candidates: tuple[str, ...]
    line: int


def imports(module: str, source: str, is_package: bool = False) -> Iterator[Import]:
    """
    Find every import in a source, those inside functions and `TYPE_CHECKING` included.

    :param module: dotted name of the module the source belongs to, which relative imports need
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import((alias.name,), node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parents = module.split('.')[: None if is_package else -1]
                parents = parents[: len(parents) - node.level + 1]
                base = '.'.join([*parents, *([base] if base else [])])
            for alias in node.names:
                # `from a import b` may name the module a.b or something in a
                yield Import((base, f'{base}.{alias.name}'), node.lineno)
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else (
                node.func.id if isinstance(node.func, ast.Name) else '')
            if name in ('import_module', '__import__') and node.args:
                argument = node.args[0]
                known = isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                yield Import((argument.value if known else '(computed)',), node.lineno)


def is_within(name: str, parent: str) -> bool:
    """Tell whether a dotted name is `parent` or lies below it."""
    return name == parent or name.startswith(parent + '.')


def part_of(module: str) -> str:
    """Return the key of the table whose rule a module follows; empty where there is none."""
    name = module.removeprefix(f'{PACKAGE}.') if module != PACKAGE else '__init__'
    return max((key for key in LAYERS if is_within(name, key)), key=len, default='')


def is_allowed(candidate: str, part: str) -> bool:
    """Tell whether code of one part of the package may import a dotted name."""
    rule = LAYERS[part]
    top = candidate.split('.')[0]
    if ROS.fullmatch(top):
        return part == 'ros'
    if top != PACKAGE:
        return '*' in rule.libraries or top in rule.libraries or top in sys.stdlib_module_names
    if '*' in rule.parts:
        return True
    return any(is_within(candidate, f'{PACKAGE}.{p}') for p in {*rule.parts, part, 'errors'})


def violations(module: str, source: str, is_package: bool = False) -> list[str]:
    """List the imports of a module that its layer does not allow."""
    part = part_of(module)
    if not part:
        return [f'{module}: is not in the table of layers']
    return [
        f'{module}:{found.line}: {part} may not import {found.candidates[-1]}'
        for found in imports(module, source, is_package)
        if not any(is_allowed(candidate, part) for candidate in found.candidates)
    ]


def modules() -> list[tuple[str, Path]]:
    """List the package's modules with their files."""
    found = []
    for path in sorted((ROOT / PACKAGE).rglob('*.py')):
        name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        found.append((name.removesuffix('.__init__'), path))
    return found


@pytest.mark.parametrize('module, path', [pytest.param(*m, id=m[0]) for m in modules()])
def test_module_keeps_to_its_layer(module, path):
    source = path.read_text(encoding='utf-8')
    assert violations(module, source, path.name == '__init__.py') == []


@pytest.mark.parametrize('module, source', [
    ('recon3r_ros.geometry.se3', 'import rclpy'),
    ('recon3r_ros.geometry.se3', 'import matplotlib.pyplot as plt'),
    ('recon3r_ros.geometry.se3', 'from recon3r_ros.slam import types'),
    ('recon3r_ros.geometry.se3', 'from ..slam.types import Frame'),
    ('recon3r_ros.geometry.se3', 'from .. import slam'),
    ('recon3r_ros.geometry.se3', 'import recon3r_ros.ros.node'),
    ('recon3r_ros.nets.dust3r', 'import cv2'),
    ('recon3r_ros.nets.dust3r', 'from recon3r_ros.geometry import se3'),
    ('recon3r_ros.geometry.flow', 'from sensor_msgs.msg import Image'),
    ('recon3r_ros.models.geometric', 'from recon3r_ros.slam.types import Frame'),
    ('recon3r_ros.slam.products.cloud', 'def save():\n    from recon3r_ros.io import ply'),
    ('recon3r_ros.slam.products.cloud', 'import importlib\nimportlib.import_module("rclpy")'),
    ('recon3r_ros.slam.products.cloud', 'def load(name):\n    return __import__(name)'),
    ('recon3r_ros.io.ply', 'from recon3r_ros.slam.system import System'),
    ('recon3r_ros.io.ply', 'from recon3r_ros.slam import system'),
    ('recon3r_ros.io.ply', 'import recon3r_ros.slam'),
    ('recon3r_ros.sim.scene', 'import cv2'),
    ('recon3r_ros.sim.scene', 'from recon3r_ros import cli'),
    ('recon3r_ros.errors', 'import numpy'),
    ('recon3r_ros.evaluation.results', 'from nav_msgs.msg import Path'),
    ('recon3r_ros.bench.transport', 'from rclpy.node import Node'),
    ('recon3r_ros.cli.play', 'def play():\n    import rclpy'),
    ('recon3r_ros.plugins', 'from std_srvs.srv import Trigger'),
    ('recon3r_ros.viewer.window', 'import os'),
    ('recon3r_ros.slam.frontend.tracking', 'from recon3r_ros.slam.backend import mapping'),
    ('recon3r_ros.slam.dynamics.motion', 'from recon3r_ros.slam.frontend import tracking'),
    ('recon3r_ros.slam.backend.mapping', 'from recon3r_ros.slam.frontend import tracking'),
    ('recon3r_ros.slam.products.cloud', 'from recon3r_ros.models.registry import Model'),
])
def test_offender_is_found(module, source):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize('module, source', [
    ('recon3r_ros.geometry.se3', 'from __future__ import annotations\nimport os.path\nimport cv2'),
    ('recon3r_ros.geometry.se3', 'from . import so3\nfrom recon3r_ros import errors'),
    ('recon3r_ros.geometry.se3', 'from recon3r_ros.errors import GeometryError'),
    ('recon3r_ros.models.dust3r', 'from recon3r_ros.nets.dust3r import Dust3r\nimport torch'),
    ('recon3r_ros.slam.backend.alignment', 'def solve():\n    import gtsam'),
    ('recon3r_ros.io.ply', 'from recon3r_ros.slam.types import PointCloud'),
    ('recon3r_ros.io.ply', 'from recon3r_ros.slam import types'),
    ('recon3r_ros.ros.node', 'import rclpy\nfrom recon3r_ros.io import ply'),
    ('recon3r_ros.cli', 'import rich\nfrom recon3r_ros.slam import system'),
    ('recon3r_ros.cli.play', 'def play():\n    from recon3r_ros.ros.player import player'),
    ('recon3r_ros.bench.live', 'from recon3r_ros.ros.transport_probe import image_stream'),
])
def test_good_neighbour_is_let_pass(module, source):
    assert violations(module, source) == []


def test_relative_import_in_a_package_file():
    assert violations('recon3r_ros.geometry', 'from .se3 import exp', is_package=True) == []
    assert len(violations('recon3r_ros.geometry', 'from ..core import x', is_package=True)) == 1


def loaded(program: str) -> set[str]:
    """Return the names of the modules that a program has loaded when it ends."""
    result = subprocess.run(
        [sys.executable, '-c', f'{program}\nimport sys; print(*sys.modules)'], cwd=ROOT,
        capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


#: What one option, one part of the work or one format alone needs
ON_DEMAND = {'torch', 'gtsam', 'scipy.optimize', 'scipy.spatial', 'scipy.interpolate',
             'scipy.sparse', 'open3d', 'skimage', 'matplotlib', 'evo', 'rosbags', 'pi_heif'}


def test_the_node_loads_what_it_needs_alone():
    """It tracks; the mapping process, started meanwhile, loads what maps."""
    pytest.importorskip('rclpy', reason='rclpy is missing')
    assert loaded('import recon3r_ros.ros.node') & {*ON_DEMAND, 'numba'} == set()
    assert loaded('import recon3r_ros.ros.node, recon3r_ros.ros.pipeline') & ON_DEMAND == set()


def test_the_mapping_process_loads_what_it_needs_alone():
    """It solves graphs and interpolates depth when there is a map to do so with."""
    assert loaded('import recon3r_ros.slam.backend.subprocess_executor, '
                  'recon3r_ros.slam.backend.mapping, recon3r_ros.models.geometric'
                  ) & ON_DEMAND == set()


def test_lower_layers_load_nothing_heavy():
    program = (
        'import importlib, sys\n'
        'for name in sys.argv[1:]: importlib.import_module(name)\n'
        'print(*sorted({"rclpy", "open3d", "matplotlib"} & set(sys.modules)))\n'
    )
    names = [name for name, _ in modules() if name.split('.')[1:2] in (['slam'], ['geometry'])]
    result = subprocess.run(
        [sys.executable, '-c', program, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
