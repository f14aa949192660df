# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Launch files and the RViz layout.

Where `launch` and `launch_ros` are installed they load the files and work out the command lines;
elsewhere stand-ins of their classes do, so that the same tests run.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
import importlib.util
from pathlib import Path
import re
import signal
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import recon3r_ros.ros
from recon3r_ros.ros.environment import child_environment, PROFILE_VARIABLES
from recon3r_ros.ros.parameter_table import PARAMETERS
from ros_helpers import wait_for
import yaml

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
REAL = importlib.util.find_spec('launch_ros') is not None
OUTPUTS = {'recon3r/map', 'recon3r/path', 'recon3r/graph', 'recon3r/camera/points',
           'recon3r/camera/dynamic_points', 'recon3r/camera/dynamic_mask',
           'recon3r/camera/depth/image', 'recon3r/people_markers'}


@dataclass
class Process:
    """
    A process as a launch file starts it.

    :param parameters: those given beside files
    """

    package: str
    executable: str
    words: list[str]
    namespace: str = ''
    remappings: dict[str, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class Described:
    """What a launch file does with some arguments."""

    processes: list[Process] = field(default_factory=list)
    declared: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    required: int = 0

    def of(self, executable: str) -> Process:
        found, = [p for p in self.processes if p.executable == executable]
        return found


# Stand-ins: they record what they are made of, and a context performs them


class Recorded:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


class LaunchConfiguration(Recorded):
    def perform(self, context: Any) -> str:
        return context.launch_configurations[self.args[0]]


def stand_ins(share: Path, packages: set[str]) -> dict[str, ModuleType]:
    """Make modules in the place of launch, launch_ros and ament_index_python."""
    names = {
        'launch': ('LaunchDescription',),
        'launch.actions': ('DeclareLaunchArgument', 'IncludeLaunchDescription', 'LogInfo',
                           'OpaqueFunction', 'RegisterEventHandler', 'SetEnvironmentVariable'),
        'launch.event_handlers': ('OnProcessExit',),
        'launch.launch_description_sources': ('PythonLaunchDescriptionSource',),
        'launch.substitutions': (),
        'launch_ros': (), 'launch_ros.actions': ('LifecycleNode', 'Node'),
    }
    modules = {}
    for name, classes in names.items():
        modules[name] = ModuleType(name)
        for kind in classes:
            setattr(modules[name], kind, type(kind, (Recorded,), {}))
    modules['launch.substitutions'].LaunchConfiguration = LaunchConfiguration
    return {**modules, 'ament_index_python.packages': index(share, packages)}


def index(share: Path, packages: set[str]) -> ModuleType:
    """Make the index of installed packages: this one, and those named."""
    module = ModuleType('ament_index_python.packages')
    module.PackageNotFoundError = type('PackageNotFoundError', (KeyError,), {})

    def get_package_prefix(package: str) -> str:
        if package not in packages:
            raise module.PackageNotFoundError(package)
        return '/opt/ros'
    module.get_package_prefix = get_package_prefix
    module.get_package_share_directory = lambda package: str(share)
    return module


def perform(entities: list[Any], context: Any, found: Described) -> None:
    """Do what launch would do with stand-ins."""
    def text(value: Any) -> str:
        return value.perform(context) if hasattr(value, 'perform') else str(value)

    for entity in entities:
        kind, args, kwargs = type(entity).__name__, entity.args, entity.kwargs
        if kind == 'DeclareLaunchArgument':
            found.declared[args[0]] = kwargs['description']
            if 'default_value' in kwargs:
                context.launch_configurations.setdefault(args[0], text(kwargs['default_value']))
        elif kind == 'SetEnvironmentVariable':
            found.variables[args[0]] = args[1]
        elif kind == 'LogInfo':
            found.lines.append(kwargs['msg'])
        elif kind == 'OpaqueFunction':
            perform(kwargs['function'](context), context, found)
        elif kind == 'IncludeLaunchDescription':
            for name, value in kwargs['launch_arguments']:
                context.launch_configurations[name] = text(value)
            perform(load(Path(args[0].args[0])).args[0], context, found)
        elif kind in ('Node', 'LifecycleNode'):
            parameters: dict[str, Any] = {}
            files = []
            for part in kwargs.get('parameters', ()):
                if isinstance(part, dict):
                    parameters.update(part)
                else:
                    files.append(Path(text(part)))
            found.processes.append(Process(
                kwargs['package'], kwargs['executable'],
                [text(w) for w in kwargs.get('arguments', ())],
                text(kwargs.get('namespace', '')), dict(kwargs.get('remappings', ())), files,
                parameters))
        elif kind == 'RegisterEventHandler':
            handler = args[0]
            assert type(handler).__name__ == 'OnProcessExit'
            found.required += 1
            check = handler.kwargs['on_exit']
            check(SimpleNamespace(returncode=0, process_name='a'), SimpleNamespace(
                is_shutdown=False))
            check(SimpleNamespace(returncode=-2, process_name='a'), SimpleNamespace(
                is_shutdown=True))
            with pytest.raises(RuntimeError, match='recon3r-2 failed with status 7'):
                check(SimpleNamespace(returncode=7, process_name='recon3r-2'),
                      SimpleNamespace(is_shutdown=False))
        else:
            raise AssertionError(kind)


def load(path: Path) -> Any:
    """Run a launch file."""
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), 'exec'), space)
    return space['generate_launch_description']()


def perform_for_real(path: Path, arguments: dict[str, str], found: Described) -> None:
    """Have launch itself visit everything, and read the command lines instead of running them."""
    from launch import LaunchContext, LaunchDescription
    from launch.actions import (
        DeclareLaunchArgument,
        LogInfo,
        RegisterEventHandler,
        SetEnvironmentVariable,
    )
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch.utilities import perform_substitutions
    from launch_ros.actions import Node
    context = LaunchContext()
    context.launch_configurations.update(arguments)

    def visit(entities: Any) -> None:
        for entity in entities or ():
            if isinstance(entity, Node):
                entity._perform_substitutions(context)
                context.extend_locals({'ros_specific_arguments': {
                    'name': f'__node:={entity.node_name}',
                    'ns': f'__ns:={entity.expanded_node_namespace}'}})
                found.processes.append(parsed(
                    entity.node_package, entity.node_executable,
                    [perform_substitutions(context, part) for part in entity.cmd[1:]]))
                continue
            if isinstance(entity, DeclareLaunchArgument):
                found.declared[entity.name] = entity.description
            elif isinstance(entity, SetEnvironmentVariable):
                found.variables[perform_substitutions(context, entity.name)] = \
                    perform_substitutions(context, entity.value)
            elif isinstance(entity, LogInfo):
                found.lines.append(perform_substitutions(context, entity.msg))
            elif isinstance(entity, RegisterEventHandler):
                found.required += 1
            if not isinstance(entity, LogInfo):
                visit(entity.visit(context) if not isinstance(entity, LaunchDescription)
                      else entity.entities)

    visit(PythonLaunchDescriptionSource(str(path)).get_launch_description(context).entities)


def parsed(package: str, executable: str, command: list[str]) -> Process:
    """Read a command line that launch_ros made."""
    begin = command.index('--ros-args')
    process = Process(package, executable, command[:begin])
    words = iter(command[begin:])
    for word in words:
        if word == '-r':
            source, target = next(words).split(':=')
            if source == '__ns':
                process.namespace = target.lstrip('/')
            elif source != '__node':
                process.remappings[source] = target
        elif word == '--params-file':
            file = Path(next(words))
            if file.is_relative_to(ROOT) or file.name == 'given.yaml':
                process.files.append(file)
            else:  # parameters of the launch file
                text = file.read_text().replace('!!python/tuple', '')  # rcl reads no tags
                (_, given), = yaml.safe_load(text).items()
                process.parameters.update(given['ros__parameters'])
        elif word == '--log-level':
            process.words += ['--log-level', next(words)]
    return process


@pytest.fixture
def describe(monkeypatch) -> Iterator[Callable[..., Described]]:
    """Return a function that tells what a launch file does with arguments."""
    for name in (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS'):
        monkeypatch.delenv(name, raising=False)

    def forget() -> None:
        """Load the module anew, with the stand-ins that are there then."""
        sys.modules.pop('recon3r_ros.ros.launching', None)
        vars(recon3r_ros.ros).pop('launching', None)

    def describe(name: str, packages: set[str] = frozenset({'rviz2'}), **arguments: str
                 ) -> Described:
        forget()
        found = Described()
        path = ROOT / 'launch' / f'{name}.launch.py'
        if REAL:
            monkeypatch.setitem(sys.modules, 'ament_index_python.packages', index(ROOT, packages))
            perform_for_real(path, arguments, found)
        else:
            for module, stand_in in stand_ins(ROOT, packages).items():
                monkeypatch.setitem(sys.modules, module, stand_in)
            context = SimpleNamespace(launch_configurations=dict(arguments))
            perform(load(path).args[0], context, found)
        return found
    yield describe
    forget()


def test_all_three_are_there():
    assert [p.name for p in LAUNCH_FILES] == [
        'demo.launch.py', 'recon3r.launch.py', 'replay.launch.py']


@pytest.mark.parametrize('path', LAUNCH_FILES, ids=lambda p: p.name)
def test_importing_has_no_effect(path):
    for node in ast.parse(path.read_text()).body:
        assert isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Expr))
        assert not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant)


@pytest.mark.parametrize('name, arguments', [
    ('recon3r', {}), ('demo', {}), ('replay', {'bag': '/a/bag'})])
def test_what_it_names_exists(describe, name, arguments):
    commands = dict(re.findall(r"f'(\w+) = \{package_name\}\.([\w.]+):main'",
                               (ROOT / 'setup.py').read_text()))
    found = describe(name, rviz='true', **arguments)
    used = {word for p in (*LAUNCH_FILES, ROOT / 'recon3r_ros/ros/launching.py') for word in
            re.findall(r"(?:LaunchConfiguration\(|(?:text|is_true)\(context, )'(\w+)'",
                       p.read_text())}
    assert all(found.declared.values())
    assert set(found.declared) <= used | {'use_sim_time', 'autostart'}
    for process in found.processes:
        assert process.package == 'rviz2' or process.executable in commands
        assert all(file.is_file() for file in process.files)
        assert set(process.parameters) <= {'use_sim_time', *(p.name for p in PARAMETERS)}
    layout = found.of('rviz2').words
    assert layout[0] == '-d' and Path(layout[1]).is_file()
    # RViz may be closed
    assert found.required == len(found.processes) - 1


def test_what_is_not_given_is_up_to_the_parameter_file(describe, tmp_path):
    file = tmp_path / 'given.yaml'
    file.write_text(yaml.dump({'/**': {'ros__parameters': {'use_sim_time': True}}}))
    node = describe('recon3r', params_file=str(file)).of('recon3r_node')
    assert (node.files, node.parameters, node.remappings) == ([file], {}, {})
    assert node.words[-2:] == ['--log-level', 'info']
    node = describe('recon3r', autostart='false', use_sim_time='True').of('recon3r_node')
    assert node.parameters == {'autostart': False, 'use_sim_time': True}
    assert node.files == [ROOT / 'config' / 'recon3r.yaml']
    assert describe('replay', bag='x').of('recon3r_node').parameters == {'use_sim_time': True}


def test_neither_true_nor_false_is_refused(describe):
    with pytest.raises(RuntimeError, match='autostart:=maybe'):
        describe('recon3r', autostart='maybe')
    for name, argument in (('replay', 'loop'), ('replay', 'autostart'), ('demo', 'rviz')):
        with pytest.raises(RuntimeError, match=f'{argument}:=maybe') as raised:
            describe(name, bag='x', **{argument: 'maybe'})
        assert not getattr(raised.value, 'started', []), 'nothing runs yet'


def test_a_parameter_file_that_is_not_there_is_refused(describe):
    with pytest.raises(RuntimeError, match='params_file:=/nowhere.yaml'):
        describe('recon3r', params_file='/nowhere.yaml')


def test_a_namespace_and_topics_reach_everything(describe):
    found = describe('demo', namespace='robot1', tf='tf', image='front/image', rviz='true',
                     camera_info='front/info')
    assert [p.executable for p in found.processes] == ['recon3r_node', 'rviz2', 'recon3r']
    for process in found.processes:
        assert process.namespace == 'robot1'
        assert process.remappings == {
            'camera/image_raw': 'front/image',
            'camera/image_raw/compressed': 'front/image/compressed',
            'camera/camera_info': 'front/info', '/tf': 'tf', '/tf_static': 'tf_static'}


def test_a_camera_of_another_name_is_played_heard_and_seen(describe):
    found = describe('replay', bag='x', camera='front', rviz='true')
    assert found.of('recon3r_node').parameters['cameras'] == ['front']
    assert found.of('recon3r_node').remappings == {}
    words = found.of('recon3r').words
    assert words[words.index('--camera') + 1] == 'front'
    seen = found.of('rviz2').remappings
    shown = set(displayed_topics())
    assert {name for name in shown if 'camera/' in name} == set(seen)
    assert seen['camera/image_raw'] == 'front/image_raw'
    assert seen['recon3r/camera/depth/image'] == 'recon3r/front/depth/image'


def test_a_stereo_rig_by_topics(describe):
    """As drivers name them: rectified images of both, in a namespace of theirs."""
    node = describe('recon3r', camera='left', stereo='right', rectified='true',
                    image='/zed/left/image_rect', camera_info='/zed/left/camera_info',
                    stereo_image='/zed/right/image_rect',
                    stereo_camera_info='/zed/right/camera_info').of('recon3r_node')
    assert node.parameters['left.stereo'] == 'right'
    assert node.parameters['left.rectified'] and node.parameters['right.rectified']
    assert node.remappings['left/image_raw'] == '/zed/left/image_rect'
    assert node.remappings['right/image_raw'] == '/zed/right/image_rect'
    assert node.remappings['right/camera_info'] == '/zed/right/camera_info'
    player = describe('replay', bag='rig', camera='left', stereo='right').of('recon3r')
    assert player.words[-2:] == ['--stereo', 'right']


def test_where_there_is_no_rviz_all_else_starts(describe):
    found = describe('demo', packages=set(), rviz='true')
    assert [p.executable for p in found.processes] == ['recon3r_node', 'recon3r']
    line, = found.lines
    assert 'rviz2' in line


def test_the_profile_is_set_unless_the_user_has_one(describe, monkeypatch):
    path, = describe('recon3r').variables.values()
    assert Path(path).read_text() == (ROOT / 'config' / 'fastdds.xml').read_text()
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'LARGE_DATA')
    assert describe('recon3r').variables == {}


@pytest.mark.parametrize('name, arguments, expected', [
    ('demo', {'seed': '3', 'frames': '60'}, {'simulated': 3, 'frames': 60, 'camera': 'camera'}),
    ('replay', {'bag': 'a'}, {'source': 'a', 'rate': 1.0, 'loop': False, 'image_topic': None,
                              'stamps': 'original'}),
    ('replay', {'bag': 'a', 'rate': '0.5', 'loop': 'true', 'image_topic': '/rgb/image'},
     {'rate': 0.5, 'loop': True, 'image_topic': '/rgb/image'})])
def test_they_play_what_the_command_can_play(describe, name, arguments, expected):
    from recon3r_ros.cli.parser import build_parser
    words = describe(name, **arguments).of('recon3r').words
    parsed: argparse.Namespace = build_parser(words).parse_args(words)
    assert parsed.command == 'play'
    assert {key: getattr(parsed, key) for key in expected} == expected


@pytest.mark.skipif(not REAL, reason='launch and launch_ros are not installed')
@pytest.mark.parametrize('arguments, words', [
    (['params_file:=bad.yaml'], ['recon3r_node-1 failed with status 2', 'queue_size']),
    (['seed:=none'], ['recon3r-2 failed with status 2', '--simulated']),
    (['autostart:=maybe'], ['autostart:=maybe']),
    (['camera:=', 'seed:=0', 'rviz:=perhaps'], ['rviz:=perhaps'])])
def test_a_launch_that_fails_leaves_nothing_running(arguments, words, tmp_path):
    """With the package installed where ROS looks for it."""
    from ament_index_python.packages import get_package_prefix, PackageNotFoundError
    try:
        get_package_prefix('recon3r_ros')
    except PackageNotFoundError:
        pytest.skip('recon3r_ros is not in the ament index: build it with colcon')
    (tmp_path / 'bad.yaml').write_text('/**: {ros__parameters: {queue_size: 0}}')
    program = ('import sys; from launch import LaunchDescription, LaunchService; '
               'from launch.actions import IncludeLaunchDescription; '
               'from launch.launch_description_sources import PythonLaunchDescriptionSource; '
               'service = LaunchService(); service.include_launch_description('
               'LaunchDescription([IncludeLaunchDescription(PythonLaunchDescriptionSource('
               'sys.argv[1]), launch_arguments=[a.split(":=") for a in sys.argv[2:]])])); '
               'sys.exit(service.run())')
    with open(tmp_path / 'log', 'w') as log:
        process = subprocess.Popen(
            [sys.executable, '-c', program, str(ROOT / 'launch' / 'demo.launch.py'),
             'frames:=2', *arguments], stdout=log, stderr=log, start_new_session=True,
            env=child_environment(), cwd=tmp_path)
        try:
            status = wait_for(lambda: process.poll() is not None and [process.returncode], 60,
                              'the end of the launch')
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
    output = (tmp_path / 'log').read_text()
    assert status == [1], output
    assert all(word in output for word in words), output
    left = subprocess.run(['pgrep', '-s', str(process.pid)], capture_output=True, text=True)
    assert left.stdout.split() == []


def displayed_topics() -> dict[str, dict[str, Any]]:
    layout = yaml.safe_load((ROOT / 'rviz' / 'recon3r.rviz').read_text())
    return {d['Topic']['Value']: d for d in layout['Visualization Manager']['Displays']
            if 'Topic' in d}


def test_rviz_shows_what_is_published():
    layout = yaml.safe_load((ROOT / 'rviz' / 'recon3r.rviz').read_text())
    manager = layout['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == 'map'
    topics = displayed_topics()
    # Relative: they are those of the namespace that RViz is started in
    assert set(topics) == OUTPUTS | {'camera/image_raw'}
    latched = {name for name, display in topics.items()
               if display['Topic']['Durability Policy'] == 'Transient Local'}
    assert latched == {'recon3r/map', 'recon3r/path', 'recon3r/graph'}
    clouds = [d for d in manager['Displays'] if d['Class'].endswith('PointCloud2')]
    assert {d['Color Transformer'] for d in clouds} == {'RGB8', 'FlatColor'}


def test_rviz_reads_nothing_that_is_not_there():
    """RViz reads whether its docks are hidden without a default."""
    geometry = yaml.safe_load((ROOT / 'rviz' / 'recon3r.rviz').read_text())['Window Geometry']
    assert {name: type(geometry[name]) for name in ('Hide Left Dock', 'Hide Right Dock')} == {
        'Hide Left Dock': bool, 'Hide Right Dock': bool}
