# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The table of parameters, and everything that follows from it."""

from __future__ import annotations

from pathlib import Path
import runpy

import numpy as np
import pytest
import rclpy
from rclpy.parameter import Parameter
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.models import registry
from recon3r_ros.ros import parameters
from recon3r_ros.slam.dynamics.mask_refinement import grabcut
import yaml

ROOT = Path(__file__).resolve().parents[2]
NAMES = [p.name for p in parameters.PARAMETERS]


@pytest.fixture
def make_node(ros_context):
    """Return a function that makes a node with parameters declared."""
    nodes = []

    def make(*arguments: str, **values):
        overrides = [Parameter(name.replace('__', '.'), value=value)
                     for name, value in values.items()]
        cli = ['--ros-args', *arguments] if arguments else []
        node = rclpy.create_node('recon3r', context=ros_context, cli_args=cli,
                                 parameter_overrides=overrides)
        nodes.append(node)
        parameters.declare(node)
        return node

    yield make
    for node in nodes:
        node.destroy_node()


def test_defaults_are_those_of_the_table(make_node):
    config = parameters.read(make_node())
    model = config.model
    of_model = {'model': model.name, 'weights': model.weights, **vars(model.engine)}
    dynamics = config.dynamics
    assert dynamics.refiner is grabcut and not dynamics.offline
    of_slam = {**vars(config.frontend), **vars(config.mapping), 'motion': dynamics.detect,
               'rest_delay': dynamics.rest_s, 'mask_refiner': 'grabcut'}
    for parameter in parameters.PARAMETERS:
        if parameter.name in {own.name for own in registry.option_fields()} - of_model.keys():
            continue  # another model's
        if parameter.name != 'cameras':
            found = {**of_slam, **of_model}.get(
                parameter.name, getattr(config, parameter.name, None))
            assert found == parameter.default
    camera, = config.cameras
    assert camera.name == 'camera' and camera.T_base_cam is None and not camera.uncalibrated


def test_every_parameter_is_described(make_node):
    node = make_node()
    for parameter in parameters.PARAMETERS:
        descriptor = node.describe_parameter(parameter.name)
        assert parameter.description in descriptor.description
        assert descriptor.read_only == parameter.read_only
        if parameter.unit:
            assert parameter.unit in descriptor.description
    assert len(set(NAMES)) == len(NAMES)


def test_a_model_has_its_own_options(make_node):
    config = parameters.read(make_node(
        model='vggt', weights='w.pt', window_size=12, mode='compile'))
    assert config.model == registry.Model(
        'vggt', 'w.pt', registry.EngineConfig(mode='compile'), registry.VggtOptions(12, 2))
    config = parameters.read(make_node(
        model='mapanything', weights='w.pt', use_priors='rays,poses'))
    assert config.model.options == registry.KnownWindow(use_priors='rays,poses')


def test_a_model_of_two_files(make_node):
    config = parameters.read(make_node(
        model='dune-mast3r', weights='d.pth', encoder_weights='e.pth'))
    assert config.model == registry.Model(
        'dune-mast3r', 'd.pth', options=registry.DuneOptions('e.pth'))


@pytest.mark.parametrize('values, words', [
    ({'queue_size': 0}, ('queue_size', '1')),
    ({'tf_tolerance': -0.5}, ('tf_tolerance', '0')),
    ({'tf_tolerance': 'soon'}, ('tf_tolerance', 'soon', 'number')),
    ({'tf_tolerance': float('nan')}, ('tf_tolerance', 'nan')),
    ({'model': 'magic'}, ('model', 'magic', 'geometric')),
    ({'image_transport': 'pigeon'}, ('image_transport', 'raw', 'compressed')),
    ({'cameras': ['a b']}, ('cameras', 'a b')),
    ({'cameras': ['left', 'left']}, ('cameras', 'twice')),
    ({'autostart': 'yes'}, ('autostart', 'BOOL')),
    ({'camera__extrinsics': [1.0, 2.0]}, ('camera.extrinsics', 'seven')),
    ({'camera__extrinsics': [1.0] + [0.0] * 6}, ('camera.extrinsics', 'quaternion')),
    ({'camera__calibration': '/nowhere.json'}, ('camera.calibration', '/nowhere.json')),
    ({'camera__stereo': 'camera'}, ('camera.stereo', 'cameras')),
    ({'camera__stereo': 'a b'}, ('camera.stereo', 'a b')),
    ({'camera__stereo': 'right', 'right__T_rig_cam': [0.1]}, ('right.T_rig_cam', 'seven')),
    ({'odometry': True}, ('odometry', 'base_frame')),
    ({'base_frame': 'map'}, ('base_frame', 'map')),
    ({'load_on_start': True}, ('load_on_start', 'map_path')),
])
def test_bad_values_are_named(make_node, values, words):
    with pytest.raises(InputError) as raised:
        parameters.read(make_node(**values))
    message = str(raised.value)
    assert all(word in message for word in words), message
    assert '\n' not in message


def test_an_integer_serves_as_a_number(make_node):
    config = parameters.read(make_node(tf_tolerance=1))
    assert config.tf_tolerance == 1.0 and isinstance(config.tf_tolerance, float)


def test_extrinsics_become_a_pose(make_node):
    T = se3.exp(np.array([0.3, -0.2, 0.5, 1.0, 2.0, 3.0]))
    values = [*T[:3, 3], *(2 * se3.quat_xyzw_from_matrix(T[:3, :3]))]
    config = parameters.read(make_node(camera__extrinsics=[float(v) for v in values]))
    assert np.allclose(config.cameras[0].T_base_cam, T)


def test_each_camera_has_its_own(make_node):
    config = parameters.read(make_node(cameras=['left', 'right'], right__use_depth=True))
    assert [c.name for c in config.cameras] == ['left', 'right']
    assert [c.use_depth for c in config.cameras] == [False, True]


def test_classes_of_a_model_have_names_unless_labels_are_given(make_node):
    config = parameters.read(make_node(model='siu3r', weights='w.ckpt'))
    assert config.classes[:2] == ('wall', 'floor') and len(config.classes) == 20
    assert not parameters.read(make_node()).classes
    assert not parameters.read(make_node(
        model='siu3r', weights='w.ckpt', camera__use_labels=True)).classes


def test_a_stereo_rig_has_a_second_camera(make_node):
    config = parameters.read(make_node(
        cameras=['left'], left__stereo='right', right__time_offset=-0.03,
        right__T_rig_cam=[0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
    assert [c.name for c in config.cameras] == ['left']
    second, = config.second_cameras
    assert second.name == 'right' and second.time_offset == -0.03
    assert np.allclose(second.T_rig_cam[:3, 3], [0.1, 0, 0])


def test_what_may_change_while_it_runs(make_node):
    node = make_node()
    node.add_on_set_parameters_callback(parameters.validate)
    good, = node.set_parameters([Parameter('map_period', value=5.0)])
    assert good.successful
    for name, value in (('map_period', 0.0), ('map_period', 'never'), ('model', 'geometric')):
        bad, = node.set_parameters([Parameter(name, value=value)])
        assert not bad.successful and name in bad.reason
    assert parameters.read(node).map_period == 5.0


@pytest.fixture(scope='module')
def written():
    """Return what scripts/write_parameter_docs.py writes."""
    return runpy.run_path(str(ROOT / 'scripts' / 'write_parameter_docs.py'))


def test_files_agree_with_the_table(written):
    for path, content in (('config/recon3r.yaml', written['yaml']()),
                          ('docs/parameters.md', written['markdown']())):
        assert (ROOT / path).read_text() == content, 'run scripts/write_parameter_docs.py'


@pytest.mark.parametrize('name', ['recon3r', 'cpu', 'cuda', 'nav2'])
def test_configurations_load(make_node, name):
    path = ROOT / 'config' / f'{name}.yaml'
    config = parameters.read(make_node('--params-file', str(path)))
    assert config.cameras[0].name == 'camera'
    assert config.odometry == (name == 'nav2')
    known = {*NAMES, *(c.name for c in config.cameras)}
    for node, content in yaml.safe_load(path.read_text()).items():
        if 'recon3r' in node or node == '/**':
            assert set(content['ros__parameters']) <= known
