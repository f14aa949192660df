# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What processes get: the profile, paths, and errors that say what to install."""

import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys
from xml.etree import ElementTree

from geometry_msgs.msg import TransformStamped
import pytest
from rclpy.serialization import serialize_message
from recon3r_ros.errors import Recon3rError
from recon3r_ros.ros import environment
from ros_helpers import Collector, wait_for_matched
from rosbags.typesys import get_types_from_msg, get_typestore, Stores
from rosbags.typesys.store import Typestore

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = '{http://www.eprosima.com}'
TRANSPORTS = [*environment.PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS']


@pytest.fixture
def bare():
    """Take away everything that would be added; put all variables back in the end."""
    before = dict(os.environ)
    for name in [*TRANSPORTS, 'AMENT_PREFIX_PATH', 'HOME', 'OPENBLAS_NUM_THREADS', 'ROS_DISTRO']:
        os.environ.pop(name, None)
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


def copy_of_package(folder: Path) -> Path:
    """Copy the one module that looks for files to a folder of Python packages."""
    source = Path(environment.__file__).resolve().parents[1]
    target = folder / 'recon3r_ros'
    (target / 'ros').mkdir(parents=True)
    for name in ['errors.py', '__init__.py', 'ros/__init__.py', 'ros/environment.py']:
        shutil.copy(source / name, target / name)
    return target


def found_profile(folder: Path) -> subprocess.CompletedProcess:
    """Ask a copy of the package, in another process, for its profile."""
    program = (f'import sys; sys.path.insert(0, {str(folder)!r})\n'
               'from recon3r_ros.ros import environment\n'
               'print(environment.__file__)\nprint(environment.profile_path())')
    return subprocess.run(
        [sys.executable, '-c', program], cwd=folder, capture_output=True, text=True)


def test_profile_of_a_checkout(repository):
    assert environment.profile_path() == repository / 'config' / 'fastdds.xml'


@pytest.mark.parametrize('packages', [
    'lib/python3.12/site-packages', 'local/lib/python3.12/dist-packages', 'python'])
def test_profile_of_an_installation(tmp_path, repository, packages):
    copy_of_package(tmp_path / packages)
    share = tmp_path / ('local' if 'local' in packages else '.') / 'share/recon3r_ros/config'
    share.mkdir(parents=True)
    shutil.copy(repository / 'config' / 'fastdds.xml', share)
    result = found_profile(tmp_path / packages)
    assert result.returncode == 0, result.stderr
    module, profile = result.stdout.splitlines()
    assert module.startswith(str(tmp_path))
    assert Path(profile) == (share / 'fastdds.xml').resolve()


def test_missing_profile_is_named(tmp_path):
    copy_of_package(tmp_path)
    result = found_profile(tmp_path)
    assert result.returncode == 1
    assert 'config/fastdds.xml of recon3r_ros is missing: install' in result.stderr


def test_profile_moves_messages_through_shared_memory():
    root = ElementTree.parse(environment.profile_path()).getroot()
    sizes = {
        found.findtext(f'{NAMESPACE}type'): (
            found.findtext(f'{NAMESPACE}segment_size'),
            found.findtext(f'{NAMESPACE}maxMessageSize'))
        for found in root.iter(f'{NAMESPACE}transport_descriptor')}
    assert sizes == {'SHM': (str(64 << 20), str(16 << 20)), 'UDPv4': (None, None)}
    known = [found.text for found in root.iter(f'{NAMESPACE}transport_id')]
    (participant,) = root.iter(f'{NAMESPACE}participant')
    assert participant.get('is_default_profile') == 'true'
    used = [found.text for found in participant.iter(f'{NAMESPACE}transport_id')]
    assert known == used * 2
    assert participant.findtext(f'*/{NAMESPACE}useBuiltinTransports') == 'false'


def test_child_gets_what_is_missing(bare):
    bare['_ROS_WHEELS_BOOTSTRAP_COMPLETE'] = '1'
    child = environment.child_environment(ROS_DOMAIN_ID='7', SOMETHING='else')
    assert child['FASTDDS_DEFAULT_PROFILES_FILE'] == str(environment.profile_path())
    assert Path(child['HOME']).is_dir()
    assert child['OPENBLAS_NUM_THREADS'] == '1'
    assert child['ROS_DOMAIN_ID'] == '7'
    assert child['SOMETHING'] == 'else'
    assert child['PATH'] == os.environ['PATH']
    assert '_ROS_WHEELS_BOOTSTRAP_COMPLETE' not in child
    assert 'OPENBLAS_NUM_THREADS' not in os.environ


def test_process_gets_what_is_missing(bare):
    environment.prepare_process()
    expected = environment.child_environment()
    for name in ['FASTDDS_DEFAULT_PROFILES_FILE', 'HOME', 'OPENBLAS_NUM_THREADS']:
        assert os.environ[name] == expected[name]


@pytest.mark.parametrize('distribution, version', [
    ('humble', 'FASTRTPS'), ('jazzy', 'FASTRTPS'), ('kilted', 'FASTDDS'), ('rolling', 'FASTDDS')])
def test_profile_is_named_as_the_installed_version_reads_it(bare, distribution, version):
    bare['ROS_DISTRO'] = distribution
    assert [key for key in TRANSPORTS if key in environment.child_environment()] == [
        f'{version}_DEFAULT_PROFILES_FILE']


@pytest.mark.parametrize('name', TRANSPORTS)
def test_transport_that_the_user_chose_stays(bare, name):
    bare[name] = 'mine'
    child = environment.child_environment()
    assert {key: child[key] for key in TRANSPORTS if key in child} == {name: 'mine'}


@pytest.mark.parametrize('name', [
    'RMW_IMPLEMENTATION', 'ROS_DOMAIN_ID', 'AMENT_PREFIX_PATH', 'HOME', 'OPENBLAS_NUM_THREADS'])
def test_what_the_user_set_stays(bare, name):
    bare[name] = 'mine'
    assert environment.child_environment()[name] == 'mine'
    environment.prepare_process()
    assert os.environ[name] == 'mine'


def test_user_without_a_home(bare, monkeypatch):
    def no_home():
        raise RuntimeError('Could not determine home directory.')
    monkeypatch.setattr(Path, 'home', no_home)
    assert Path(environment.child_environment()['HOME']).is_dir()


def test_rclpy_is_there():
    environment.require_rclpy()


@pytest.mark.parametrize('fault, reason', [
    (None, 'is missing'),
    ('raise ImportError("librcl.so: cannot open shared object file")', 'librcl.so: cannot open'),
    ('import rclpy_pybind11_of_another_python', 'rclpy_pybind11_of_another_python'),
])
def test_missing_rclpy_says_what_to_install(monkeypatch, tmp_path, fault, reason):
    if fault is None:
        monkeypatch.setitem(sys.modules, 'rclpy', None)
    else:
        (tmp_path / 'rclpy.py').write_text(fault)
        monkeypatch.delitem(sys.modules, 'rclpy', raising=False)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Recon3rError, match=reason) as caught:
        environment.require_rclpy()
    assert 'recon3r_ros[ros]' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_tf_goes_out_as_everybody_else_sends_it(ros_node):
    tf2_msgs = pytest.importorskip('tf2_msgs.msg', reason='TF is left out: no C++ compiler')
    typestore = get_typestore(Stores.ROS2_KILTED)
    transform = TransformStamped(child_frame_id='camera')
    transform.header.frame_id = 'map'
    transform.transform.translation.x = 1.5
    received = Collector(ros_node, tf2_msgs.TFMessage, '/tf', 100)
    publisher = ros_node.create_publisher(tf2_msgs.TFMessage, '/tf', 100)
    received.wait_for_matched()
    wait_for_matched(publisher)
    publisher.publish(tf2_msgs.TFMessage(transforms=[transform, TransformStamped()]))
    (message,) = received.wait()
    assert message.transforms == [transform, TransformStamped()]
    (endpoint,) = ros_node.get_publishers_info_by_topic('/tf')
    assert str(endpoint.topic_type_hash) == typestore.hash_rihs01('tf2_msgs/msg/TFMessage')
    serialized = serialize_message(message)
    theirs = typestore.deserialize_cdr(serialized, 'tf2_msgs/msg/TFMessage')
    assert theirs.transforms[0].transform.translation.x == 1.5
    assert theirs.transforms[0].child_frame_id == 'camera'


@pytest.fixture
def script(monkeypatch):
    """Return the script that builds messages, as a module."""
    spec = importlib.util.spec_from_file_location(
        'build_messages', ROOT / 'scripts' / 'build_messages.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def typestore_with(script, package_name: str) -> Typestore:
    """Return the messages of ROS, with those that the script defines for a package."""
    typestore = get_typestore(Stores.ROS2_KILTED)
    (package,) = [package for package in script.PACKAGES if package.name == package_name]
    for name, definition in package.messages.items():
        typestore.register(get_types_from_msg(definition, f'{package_name}/msg/{name}'))
    return typestore


def test_objects_go_out_as_everybody_else_sends_them(ros_node, script):
    vision_msgs = pytest.importorskip(
        'vision_msgs.msg', reason='~/<camera>/objects is left out: no C++ compiler')
    array = vision_msgs.Detection2DArray()
    array.header.frame_id = 'camera'
    for name in ('7', ''):
        hypothesis = vision_msgs.ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = 'dynamic'
        hypothesis.hypothesis.score = 0.5
        hypothesis.pose.pose.position.z = 2.5
        detection = vision_msgs.Detection2D(
            header=array.header, id=name, results=[hypothesis] * len(name))
        detection.bbox.center.position.x = 320.5
        detection.bbox.center.position.y = 200.0
        detection.bbox.center.theta = 0.25
        detection.bbox.size_x = 40.0
        detection.bbox.size_y = 30.0
        array.detections.append(detection)
    received = Collector(ros_node, vision_msgs.Detection2DArray, 'objects', 10)
    publisher = ros_node.create_publisher(vision_msgs.Detection2DArray, 'objects', 10)
    received.wait_for_matched()
    wait_for_matched(publisher)
    publisher.publish(array)
    (message,) = received.wait()
    assert message == array

    kind = 'vision_msgs/msg/Detection2DArray'
    typestore = typestore_with(script, 'vision_msgs')
    (endpoint,) = ros_node.get_publishers_info_by_topic(publisher.topic_name)
    assert str(endpoint.topic_type_hash) == typestore.hash_rihs01(kind)
    theirs = typestore.deserialize_cdr(serialize_message(message), kind)
    assert [detection.id for detection in theirs.detections] == ['7', '']
    assert [len(detection.results) for detection in theirs.detections] == [1, 0]
    found = theirs.detections[0]
    assert found.header.frame_id == 'camera'
    assert (found.bbox.center.position.x, found.bbox.center.position.y) == (320.5, 200.0)
    assert (found.bbox.center.theta, found.bbox.size_x, found.bbox.size_y) == (0.25, 40.0, 30.0)
    assert found.results[0].hypothesis.class_id == 'dynamic'
    assert found.results[0].hypothesis.score == 0.5
    assert found.results[0].pose.pose.position.z == 2.5


def test_definitions_have_the_hashes_that_everybody_else_has(script):
    for package in script.PACKAGES:
        typestore = typestore_with(script, package.name)
        for name, expected in package.type_hashes.items():
            assert typestore.hash_rihs01(f'{package.name}/msg/{name}') == expected


@pytest.mark.parametrize('version', ['7.1.6', '9.1.2'])
def test_messages_are_built_for_jazzy_and_kilted(script, monkeypatch, version):
    monkeypatch.setattr(script.importlib.metadata, 'version', lambda name: version)
    script.require_supported()


@pytest.mark.parametrize('version', ['3.3.13', '8.0.0', '10.0.1'])
def test_other_client_libraries_are_refused_by_name(script, monkeypatch, capsys, version):
    monkeypatch.setattr(script.importlib.metadata, 'version', lambda name: version)
    monkeypatch.setattr(script, 'is_built', lambda package: False)
    assert script.main() == 1
    said = capsys.readouterr().err
    assert said.startswith('TF and vision_msgs (objects, people, names of classes) are left out: ')
    assert all(word in said for word in (version, 'Jazzy', 'Kilted'))


def test_what_is_built_already_is_not_left_out(script, monkeypatch, capsys):
    built = []

    def build(package, c, cxx):
        if built:
            raise script.BuildError('g++ failed')
        built.append(package.name)

    monkeypatch.setattr(script, 'is_built', lambda package: False)
    monkeypatch.setattr(script, 'require_supported', lambda: None)
    monkeypatch.setattr(script, 'find_compilers', lambda: ('gcc', 'g++'))
    monkeypatch.setattr(script, 'build', build)
    assert script.main() == 1
    assert built == ['tf2_msgs']
    assert capsys.readouterr() == (
        '', 'vision_msgs (objects, people, names of classes) is left out: g++ failed\n')


@pytest.mark.parametrize('missing', [None, 'extension', 'library', 'message'])
@pytest.mark.parametrize('suffix', [0, -1])
def test_only_an_incomplete_package_is_built_again(
        script, monkeypatch, tmp_path, suffix, missing):
    package = script.Package('some_msgs', '', (), {'One': '', 'Other': ''}, {})
    site_packages = tmp_path / 'site-packages'
    (site_packages / package.name / 'msg').mkdir(parents=True)
    (tmp_path / 'lib').mkdir()
    monkeypatch.setattr(script, 'SITE_PACKAGES', site_packages)
    monkeypatch.setattr(script, 'PREFIX', tmp_path)
    monkeypatch.syspath_prepend(site_packages)
    (site_packages / package.name / 'msg' / '__init__.py').write_text(''.join(
        f'from some_msgs.msg._{name} import {name}  # noqa: F401\n'
        for name in ('One', 'Other')[missing == 'message':]))
    if missing != 'extension':
        (site_packages / package.name / f'{package.extension}{script.SUFFIXES[suffix]}').touch()
    for kind in (script.SERIALISATION, script.INTROSPECTION)[missing == 'library':]:
        (tmp_path / 'lib' / package.library(kind)).touch()
    assert script.is_built(package) == (missing is None)
