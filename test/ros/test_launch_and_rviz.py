# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Launch files and the RViz layout: all that can be checked of them without a ROS installation."""

from __future__ import annotations

import ast
from pathlib import Path
import re
import sys
from types import ModuleType

import pytest
from recon3r_ros.ros.parameters import PARAMETERS
import yaml

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
OUTPUTS = {'/recon3r/map', '/recon3r/path', '/recon3r/graph', '/recon3r/camera/points',
           '/recon3r/camera/dynamic_points', '/recon3r/camera/dynamic_mask',
           '/recon3r/camera/depth/image'}


class Recorded:
    """What a launch file made of an action or a substitution."""

    def __init__(self, *args, **kwargs) -> None:
        self.args, self.kwargs = args, kwargs


@pytest.fixture
def described(monkeypatch):
    """Return a function that runs a launch file; `launch` stands in where it is not installed."""
    try:
        import launch_ros.actions  # noqa: F401
    except ImportError:
        for name, classes in {
            'launch': ('LaunchDescription',),
            'launch.actions': ('DeclareLaunchArgument', 'IncludeLaunchDescription',
                               'SetEnvironmentVariable'),
            'launch.conditions': ('IfCondition',),
            'launch.launch_description_sources': ('PythonLaunchDescriptionSource',),
            'launch.substitutions': ('LaunchConfiguration', 'PythonExpression'),
            'launch_ros': (), 'launch_ros.actions': ('LifecycleNode', 'Node'),
        }.items():
            module = ModuleType(name)
            for kind in classes:
                setattr(module, kind, type(kind, (Recorded,), {}))
            monkeypatch.setitem(sys.modules, name, module)
    else:
        pytest.skip('launch is installed: its own objects do not show what they were made of')
    module = ModuleType('ament_index_python.packages')
    module.get_package_share_directory = lambda package: str(ROOT)
    monkeypatch.setitem(sys.modules, 'ament_index_python.packages', module)
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        monkeypatch.delenv(name, raising=False)

    def describe(path: Path) -> list[Recorded]:
        space: dict = {}
        exec(compile(path.read_text(), str(path), 'exec'), space)
        return space['generate_launch_description']().args[0]
    return describe


def of_kind(entities, name: str) -> list[Recorded]:
    return [e for e in entities if type(e).__name__ == name]


def test_all_three_are_there():
    assert [p.name for p in LAUNCH_FILES] == [
        'demo.launch.py', 'recon3r.launch.py', 'replay.launch.py']


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda p: p.name)
def test_importing_has_no_effect(path):
    for node in ast.parse(path.read_text()).body:
        assert isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Expr))
        assert not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant)


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda p: p.name)
def test_what_it_names_exists(path, described):
    from setuptools import setup  # noqa: F401
    commands = dict(re.findall(r"f'(\w+) = \{package_name\}\.([\w.]+):main'",
                               (ROOT / 'setup.py').read_text()))
    entities = described(path)
    declared = {a.args[0] for a in of_kind(entities, 'DeclareLaunchArgument')}
    used = set(re.findall(r"LaunchConfiguration\('(\w+)'\)", path.read_text()))
    used |= set(re.findall(r"_boolean\('(\w+)'\)", path.read_text()))
    assert used == declared
    for argument in of_kind(entities, 'DeclareLaunchArgument'):
        assert argument.kwargs['description']
    for node in of_kind(entities, 'Node') + of_kind(entities, 'LifecycleNode'):
        package, executable = node.kwargs['package'], node.kwargs['executable']
        assert package == 'rviz2' or (package == 'recon3r_ros' and executable in commands)
        for parameter in node.kwargs.get('parameters', ()):
            if isinstance(parameter, dict):
                assert set(parameter) <= {'use_sim_time', *(p.name for p in PARAMETERS)}
    for name in re.findall(r"share, '(\w+)', '([\w.]+)'", path.read_text()):
        assert (ROOT.joinpath(*name)).is_file(), name
    for include in of_kind(entities, 'IncludeLaunchDescription'):
        included = described(Path(include.args[0].args[0]))
        known = {a.args[0] for a in of_kind(included, 'DeclareLaunchArgument')}
        assert {name for name, _ in include.kwargs['launch_arguments']} <= known


def test_the_profile_is_set_unless_the_user_has_one(described, monkeypatch):
    path = ROOT / 'launch' / 'recon3r.launch.py'
    variable, = of_kind(described(path), 'SetEnvironmentVariable')
    assert Path(variable.args[1]).read_text() == (ROOT / 'config' / 'fastdds.xml').read_text()
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'LARGE_DATA')
    assert of_kind(described(path), 'SetEnvironmentVariable') == []


def test_demo_plays_what_the_command_can_play(described):
    from recon3r_ros.cli import _parser
    for name in ('demo', 'replay'):
        camera, = of_kind(described(ROOT / 'launch' / f'{name}.launch.py'), 'Node')
        words = [w if isinstance(w, str) else '1' for w in camera.kwargs['arguments']]
        assert _parser().parse_args(words).command == 'play'


def test_rviz_shows_what_is_published():
    layout = yaml.safe_load((ROOT / 'rviz' / 'recon3r.rviz').read_text())
    manager = layout['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == 'map'
    topics = {d['Topic']['Value']: d for d in manager['Displays'] if 'Topic' in d}
    assert set(topics) == OUTPUTS | {'/camera/image_raw'}
    latched = {name for name, display in topics.items()
               if display['Topic']['Durability Policy'] == 'Transient Local'}
    assert latched == {'/recon3r/map', '/recon3r/path', '/recon3r/graph'}
    clouds = [d for d in manager['Displays'] if d['Class'].endswith('PointCloud2')]
    assert {d['Color Transformer'] for d in clouds} == {'RGB8', 'FlatColor'}
