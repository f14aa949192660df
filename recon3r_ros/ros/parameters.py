# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
From the table of parameters to a frozen `Config`.

What is declared, its descriptors, the comments of config/recon3r.yaml and docs/parameters.md come
from the table; a test compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException, ParameterUninitializedException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.io.calibrations import Calibration, read_calibration
from recon3r_ros.models import registry
from recon3r_ros.models.registry import Model
from recon3r_ros.option import chosen, fields_of
from recon3r_ros.plugins import motion_config
from recon3r_ros.ros.parameter_table import CAMERA_PARAMETERS, Parameter, PARAMETERS
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.options import FrontendOptions, MappingOptions, MotionOptions, OPTIONS

_NO_CAMERA = "parameter cameras is empty: name a camera, such as ['camera']"
_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*')
#: Defaults of those that may be changed while the node runs
_CHANGEABLE = {p.name: p.default for p in PARAMETERS if not p.read_only}


@dataclass(frozen=True, eq=False)
class CameraConfig:
    """
    What the parameters say of one camera.

    :param T_base_cam: (4, 4) from `extrinsics`, or None
    :param T_rig_cam: (4, 4), or None
    :param stereo: name of the second camera of a stereo rig, or ''
    :param time_offset: seconds, added to stamps that are paired
    :param number: of the camera in a calibration file of several
    :param calibration: path, '' or 'none'
    :param static_mask: path or ''
    :param class_names: path or ''
    :param label_tolerance: seconds, between an image and its people, labels or instances
    """

    name: str
    T_base_cam: NDArray[np.float64] | None = None
    T_rig_cam: NDArray[np.float64] | None = None
    stereo: str = ''
    time_offset: float = 0.0
    number: int = 0
    calibration: str = ''
    rectified: bool = False
    static_mask: str = ''
    use_mask: bool = False
    use_people: bool = False
    use_labels: bool = False
    use_instances: bool = False
    class_names: str = ''
    label_tolerance: float = 0.02
    use_depth: bool = False

    @property
    def uncalibrated(self) -> bool:
        """Whether the focal length is to be estimated."""
        return self.calibration == 'none'

    def calibration_file(self) -> Calibration | None:
        """
        Read the calibration file, if there is one.

        :raises InputError: where it cannot be read
        """
        if self.calibration in ('', 'none'):
            return None
        return read_calibration(self.calibration, self.number)


@dataclass(frozen=True, eq=False)
class Config:
    """
    The parameters' values: see `PARAMETERS`.

    `model` has those of the model and its engine, `frontend`, `mapping` and `dynamics` those of
    `slam.options`; `second_cameras` are those that cameras name as `stereo`, in their order.
    """

    cameras: tuple[CameraConfig, ...]
    second_cameras: tuple[CameraConfig, ...]
    rig: bool
    stereo_tolerance: float
    image_transport: str
    depth_transport: str
    qos_image: str
    queue_size: int
    model: Model
    frontend: FrontendOptions
    mapping: MappingOptions
    dynamics: MotionConfig
    people_model: str
    map_frame: str
    odom_frame: str
    base_frame: str
    odometry: bool
    imu_topic: str
    publish_tf: bool
    tf_tolerance: float
    scale_source: str
    camera_height: float
    voxel_size: float
    map_period: float
    map_path: str
    load_on_start: bool
    image_timeout: float
    diagnostics_period: float
    autostart: bool

    @property
    def all_cameras(self) -> tuple[CameraConfig, ...]:
        """Cameras, and the second ones of stereo rigs."""
        return self.cameras + self.second_cameras

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the model recognises, unless labels come from elsewhere."""
        given = any(c.use_labels for c in self.all_cameras)
        return () if given else registry.spec(self.model.name).classes

    @property
    def bundled(self) -> bool:
        """Whether images of several cameras are of one instant."""
        return bool(self.second_cameras) or (self.rig and len(self.cameras) > 1)

    @property
    def metres_demanded(self) -> bool:
        """
        Whether consumers expect metres.

        Odometry and a base frame, with extrinsics to it, are in metres and cannot be combined with
        map units; and a named source of the scale demands metres.
        """
        return (self.odometry or bool(self.base_frame)
                or self.scale_source not in ('auto', 'none'))

    @property
    def scale_sources(self) -> tuple[str, ...]:
        """Sources that may determine the scale, in words, with their condition."""
        found = {
            'odometry': 'odometry, when the robot has driven a metre' if self.odometry else '',
            'depth': 'measured depth' if any(c.use_depth for c in self.cameras) else '',
            'rig': 'the cameras of a rig' if self.bundled else '',
            'camera_height': 'the camera height and a floor' if self.camera_height else '',
            'model': 'the network' if registry.spec(self.model.name).metric else '',
        }
        return tuple(words for source, words in found.items()
                     if words and self.scale_source in ('auto', source))


def declare(node: Node) -> None:
    """
    Declare all parameters, those of the cameras too.

    :raises InputError: for a value of a wrong type or outside its range
    """
    for parameter in PARAMETERS:
        _declare(node, parameter.name, parameter)
    for camera in _camera_names(node):
        for parameter in CAMERA_PARAMETERS:
            _declare(node, f'{camera}.{parameter.name}', parameter)
    for camera in _second_names(node):
        for parameter in CAMERA_PARAMETERS:
            _declare(node, f'{camera}.{parameter.name}', parameter)


def read(node: Node) -> Config:
    """
    Read the values of declared parameters.

    :raises Recon3rError: where values do not go together
    """
    values = {p.name: _value(node, p.name, p) for p in PARAMETERS}
    cameras = [_camera(node, name) for name in _camera_names(node)]
    seconds = [replace(_camera(node, name), number=1) for name in _second_names(node)]
    values['cameras'], values['second_cameras'] = _numbered(cameras, seconds)
    options = {own.name: values.pop(own.name) for own in registry.option_fields()}
    values['model'] = Model.of(values['model'], values.pop('weights'), options)
    options = {own.name: values.pop(own.name) for own in fields_of(*OPTIONS)}
    values['frontend'] = chosen(FrontendOptions, options)
    values['mapping'] = chosen(MappingOptions, options)
    values['dynamics'] = motion_config(chosen(MotionOptions, options), values.pop('motion'))
    config = Config(**values)
    frames = [f for f in (config.map_frame, config.odom_frame, config.base_frame) if f]
    if len(set(frames)) < len(frames) or not config.map_frame:
        raise InputError(f'map_frame, odom_frame and base_frame are {config.map_frame!r}, '
                         f'{config.odom_frame!r} and {config.base_frame!r}: name different frames')
    if config.odometry and not (config.base_frame and config.odom_frame):
        raise InputError('odometry is true but base_frame or odom_frame is empty: name the frames '
                         'of the robot')
    if config.scale_source == 'camera_height' and not config.camera_height:
        raise InputError('scale_source is camera_height but camera_height is 0: give the height '
                         'of the camera above the floor, metres')
    if config.load_on_start and not config.map_path:
        raise InputError('load_on_start is true but map_path is empty: name the folder of the map')
    return config


def _numbered(cameras: list[CameraConfig], seconds: list[CameraConfig]
              ) -> tuple[tuple[CameraConfig, ...], tuple[CameraConfig, ...]]:
    """Count cameras that have one calibration file, in their order, each first one's second."""
    partners = {c.stereo: c.name for c in cameras if c.stereo}
    order = sorted((*cameras, *seconds), key=lambda c: next(
        i for i, first in enumerate(cameras) if first.name == partners.get(c.name, c.name)))
    files = [c.calibration for c in order]
    numbers = {c.name: max(c.number, files[:i].count(c.calibration))
               for i, c in enumerate(order)}
    return (tuple(replace(c, number=numbers[c.name]) for c in cameras),
            tuple(replace(c, number=numbers[c.name]) for c in seconds))


def changed(config: Config, parameters: list[RosParameter]) -> Config:
    """Return the configuration with values that have been set while the node runs."""
    values: dict[str, Any] = {
        p.name: float(p.value) if isinstance(_CHANGEABLE[p.name], float) else p.value
        for p in parameters if p.name in _CHANGEABLE}
    return replace(config, **values)


def validate(parameters: list[RosParameter]) -> SetParametersResult:
    """Accept or reject new values, all or none; for `add_on_set_parameters_callback`."""
    table = {p.name: p for p in PARAMETERS}
    for given in parameters:
        known = table.get(given.name)
        problem = known.problem(given.value) if known is not None else ''
        if problem:
            return SetParametersResult(successful=False, reason=f'{given.name}: {problem}')
    return SetParametersResult(successful=True)


def _declare(node: Node, name: str, parameter: Parameter) -> None:
    if node.has_parameter(name):
        return
    descriptor = parameter.descriptor()
    changeable = parameter.descriptor()
    changeable.read_only = False
    try:
        node.declare_parameter(name, parameter.default, changeable)
        value = _given(node, name)
        if value is None:
            # ROS cannot tell the type of an empty list, and takes it for no value
            if name == 'cameras':
                raise InputError(_NO_CAMERA)
            node.set_parameters([RosParameter(name, parameter.type, parameter.default)])
            value = parameter.default
        problem = parameter.problem(value)
    except ParameterException as error:
        reason = str(error).removesuffix(f': {name}')
        raise InputError(f'parameter {name}: {reason}') from error
    if problem and not isinstance(parameter.default, list):
        raise InputError(f'parameter {name}: {problem}')
    node.set_descriptor(name, descriptor)


def _given(node: Node, name: str) -> Any:
    """Value of a declared parameter; None where it has none."""
    try:
        return node.get_parameter(name).value
    except ParameterUninitializedException:
        return None


def _value(node: Node, name: str, parameter: Parameter) -> Any:
    value = node.get_parameter(name).value
    return float(value) if isinstance(parameter.default, float) else value


def _camera_names(node: Node) -> list[str]:
    names = list(node.get_parameter('cameras').value or [])
    if not names:
        raise InputError(_NO_CAMERA)
    for name in names:
        if not _NAME.fullmatch(name):
            raise InputError(f'parameter cameras: {name!r} cannot name topics: use letters, '
                             'digits and underscores, a letter first')
    if len(set(names)) < len(names):
        raise InputError(f'parameter cameras: {names} names one twice')
    return names


def _second_names(node: Node) -> list[str]:
    """Return the second cameras of stereo rigs."""
    cameras = _camera_names(node)
    given = {name: str(node.get_parameter(f'{name}.stereo').value) for name in cameras}
    found = [second for second in given.values() if second]
    for name, second in given.items():
        where = f'parameter {name}.stereo: {second!r}'
        if second and not _NAME.fullmatch(second):
            raise InputError(f'{where} cannot name topics: use letters, digits and underscores, a '
                             'letter first')
        if second in cameras:
            raise InputError(f'{where} is in the parameter cameras: take it out there, as the '
                             'second camera is not tracked by itself')
        if second and found.count(second) > 1:
            raise InputError(f'{where} belongs to another camera, too')
    return found


def _camera(node: Node, name: str) -> CameraConfig:
    values = {p.name: _value(node, f'{name}.{p.name}', p) for p in CAMERA_PARAMETERS}
    T_base_cam = _pose(f'{name}.extrinsics', values.pop('extrinsics'))
    T_rig_cam = _pose(f'{name}.T_rig_cam', values.pop('T_rig_cam'))
    calibration = values['calibration']
    if calibration not in ('', 'none') and not Path(calibration).is_file():
        raise InputError(f'parameter {name}.calibration: there is no file {calibration}')
    for file in ('static_mask', 'class_names'):
        if values[file] and not Path(values[file]).is_file():
            raise InputError(f'parameter {name}.{file}: there is no file {values[file]}')
    return CameraConfig(name, T_base_cam, T_rig_cam, **values)


def _pose(name: str, given: Any) -> NDArray[np.float64] | None:
    if given is None or len(given) == 0 or not any(given):
        return None
    try:
        values = np.array([float(x) for x in given])
    except (TypeError, ValueError) as error:
        raise InputError(f'parameter {name}: {given!r} are not numbers') from error
    if len(values) != 7 or not np.isfinite(values).all() or np.linalg.norm(values[3:]) < 1e-6:
        raise InputError(f'parameter {name}: got {values.tolist()}, expected seven '
                         'finite numbers x y z qx qy qz qw and a quaternion that is not zero')
    rotation = se3.matrix_from_quat_xyzw(values[3:] / np.linalg.norm(values[3:]))
    return se3.from_rt(rotation, values[:3])
