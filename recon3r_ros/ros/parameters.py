# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
All parameters of the node: one table, from which everything else follows.

What is declared, its descriptors, the comments of config/recon3r.yaml and docs/parameters.md come
from it; a test compares them. The node sees a frozen `Config`.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from pathlib import Path
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterException, ParameterUninitializedException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from recon3r_ros.errors import InputError
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.inference.registry import METRIC_MODELS, MODELS, MODES, PRECISIONS
from recon3r_ros.plugins import mask_refiner

Value = bool | int | float | str | list[str] | list[float]

_TYPES = {
    bool: RosParameter.Type.BOOL,
    int: RosParameter.Type.INTEGER,
    float: RosParameter.Type.DOUBLE,
    str: RosParameter.Type.STRING,
}
_NO_CAMERA = "parameter cameras is empty: name a camera, such as ['camera']"
_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*')


@dataclass(frozen=True)
class Parameter:
    """
    A row of the table.

    :param name: of the parameter; those of cameras have their camera's name in front
    :param default: its type is the parameter's
    :param description: one sentence, as a user should read it
    :param unit: of a number
    :param low: least value of a number
    :param high: greatest value of a number
    :param choices: values that a text may have; empty where any will do
    :param read_only: whether it cannot be changed while the node runs
    """

    name: str
    default: Value
    description: str
    unit: str = ''
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = True

    @property
    def type(self) -> RosParameter.Type:
        """Its ROS type."""
        if isinstance(self.default, list):
            strings = bool(self.default) and isinstance(self.default[0], str)
            return (RosParameter.Type.STRING_ARRAY if strings
                    else RosParameter.Type.DOUBLE_ARRAY)
        return _TYPES[type(self.default)]

    @property
    def limits(self) -> str:
        """What it may be, in words; empty where anything may be."""
        if self.choices:
            return ', '.join(c or "''" for c in self.choices)
        if self.low is None or self.high is None:
            return ''
        return f'{self.low:g} to {self.high:g}'

    def descriptor(self) -> ParameterDescriptor:
        """Describe it as ROS does."""
        unit = f' [{self.unit}]' if self.unit else ''
        descriptor = ParameterDescriptor(
            type=self.type.value, description=self.description + unit, read_only=self.read_only,
            additional_constraints=f'one of {self.limits}' if self.choices else '',
            # Whoever writes 1 for 1.0 means it; anything else is refused by `problem`
            dynamic_typing=self.type in (RosParameter.Type.DOUBLE, RosParameter.Type.DOUBLE_ARRAY))
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [FloatingPointRange(
                    from_value=float(self.low), to_value=float(self.high))]
            else:
                descriptor.integer_range = [IntegerRange(
                    from_value=int(self.low), to_value=int(self.high))]
        return descriptor

    def problem(self, value: Any) -> str:
        """Say what is wrong with a value; empty where nothing is."""
        if isinstance(self.default, float):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return f'{value!r} is not a number'
            if not math.isfinite(value):
                return f'{value} is not finite'
        if self.low is not None and self.high is not None and not (
                self.low <= value <= self.high):
            unit = f' {self.unit}' if self.unit else ''
            return f'{value} is outside {self.limits}{unit}'
        if self.choices and value not in self.choices:
            return f'{value!r} is none of {self.limits}'
        return ''


PARAMETERS = (
    Parameter('cameras', ['camera'], 'Cameras of one rig; each names the namespace of its topics '
              '<camera>/image_raw, <camera>/camera_info and so on.'),
    Parameter('image_transport', 'raw', 'Which images to subscribe to: <camera>/image_raw, or '
              '<camera>/image_raw/compressed.', choices=('raw', 'compressed')),
    Parameter('qos_image', 'sensor_data', 'Quality of service of images: sensor_data (best '
              'effort, hears every publisher) or reliable.', choices=('sensor_data', 'reliable')),
    Parameter('queue_size', 2, 'Images of a camera that wait at most; more drop the oldest one.',
              'images', 1, 100),
    Parameter('model', 'geometric', 'What predicts depth; geometric needs neither weights nor a '
              'GPU.', choices=MODELS),
    Parameter('weights', '', "File of the model's weights, .pth, .pt or .safetensors; recon3r "
              'weights lists what is published.'),
    Parameter('device', 'auto', 'Device of the network: cpu, cuda or cuda:N; auto takes CUDA '
              'where there is some.'),
    Parameter('precision', 'auto', 'Number format of the network; auto is float32 on the CPU, '
              'else bfloat16 or float16.', choices=PRECISIONS),
    Parameter('mode', 'eager', 'How the network runs: as it is, compiled by torch.compile, or '
              'recorded as CUDA graphs.', choices=MODES),
    Parameter('window_size', 8, 'Keyframes that the model vggt looks at together.', 'keyframes',
              2, 64),
    Parameter('window_overlap', 2, 'Keyframes that a full window shares with the next one; one '
              'less than window_size slides it keyframe by keyframe.', 'keyframes', 1, 63),
    Parameter('motion', True, 'Look for what moves; masks from <camera>/mask count in any case.'),
    Parameter('mask_refiner', 'grabcut', 'What brings masks to the edges of the image: grabcut, '
              'none, or the module:function of your own.'),
    Parameter('rest_delay', 2.0, 'How long what moved must stand still before it enters the map.',
              's', 0.0, 3600.0),
    Parameter('map_frame', 'map', 'Frame of the map.'),
    Parameter('odom_frame', 'odom', 'Frame of odometry, child of the map frame where odometry is '
              'used.'),
    Parameter('base_frame', '', "Frame of the robot's body (x forward, y left, z up); empty: the "
              "camera stands alone and its optical frame is the map frame's child."),
    Parameter('odometry', False, 'Use odometry from the topic odom: for metric scale, and to '
              'publish map -> odom instead of map -> base_frame. Needs base_frame.'),
    Parameter('publish_tf', True, 'Publish transforms on /tf.', read_only=False),
    Parameter('tf_tolerance', 0.1, 'How far into the future map -> odom is stamped, so that '
              'others need not wait for the next one; all else has the stamp of its image.', 's',
              0.0, 5.0),
    Parameter('scale_source', 'auto', 'Where metres come from: odometry, depth (a depth camera), '
              'model (a network that predicts metres), auto (the most certain of those there '
              'are) or none. With odometry, a base_frame or a source named here, poses, TF and '
              'clouds are held back until the scale is known.',
              choices=('auto', 'none', 'odometry', 'depth', 'model')),
    Parameter('max_keyframes', 500, 'Keyframes of the map; beyond, the most redundant ones go. '
              'Each takes about 1.5 MB.', 'keyframes', 20, 100000),
    Parameter('voxel_size', 0.0, 'Edge of the voxels that the map cloud is averaged in, metres '
              'where the scale is known; 0 takes 1 % of the depth at which the map began.', 'm',
              0.0, 10.0, read_only=False),
    Parameter('map_period', 2.0, 'Time between two map clouds at least.', 's', 0.1, 3600.0,
              read_only=False),
    Parameter('map_path', '', 'Folder that ~/save_map writes to and ~/load_map reads from.',
              read_only=False),
    Parameter('load_on_start', False, 'Load the map in map_path when the node is configured.'),
    Parameter('image_timeout', 5.0, 'Time without images after which diagnostics warn.', 's', 0.5,
              3600.0),
    Parameter('diagnostics_period', 1.0, 'Time between two diagnostics.', 's', 0.1, 60.0),
    Parameter('autostart', True, 'Configure and activate at once, without a lifecycle manager.'),
)

CAMERA_PARAMETERS = (
    Parameter('extrinsics', [0.0] * 7, 'Pose of the optical frame (x right, y down, z forward) '
              'in base_frame: x y z in metres, quaternion qx qy qz qw; broadcast on /tf_static '
              'unless the frame has a parent there. All zero: looked up in TF.'),
    Parameter('calibration', '', 'camera.json of the images; empty: from <camera>/camera_info; '
              'none: the focal length is estimated.'),
    Parameter('rectified', False, 'Whether the images had their lens distortion removed: P of '
              'camera_info is used instead of K and D.'),
    Parameter('use_mask', False, 'Subscribe to <camera>/mask (mono8, not 0: known to move).'),
    Parameter('use_depth', False, 'Subscribe to <camera>/depth (32FC1 metres or 16UC1 '
              'millimetres, registered to the image), for metric scale and moving points.'),
)


@dataclass(frozen=True, eq=False)
class CameraConfig:
    """
    What the parameters say of one camera.

    :param T_base_cam: (4, 4) from `extrinsics`, or None
    :param calibration: path, '' or 'none'
    """

    name: str
    T_base_cam: NDArray[np.float64] | None = None
    calibration: str = ''
    rectified: bool = False
    use_mask: bool = False
    use_depth: bool = False

    @property
    def uncalibrated(self) -> bool:
        """Whether the focal length is to be estimated."""
        return self.calibration == 'none'

    def camera(self) -> Camera | None:
        """
        Read the calibration file, if there is one.

        :raises InputError: where it cannot be read
        """
        if self.calibration in ('', 'none'):
            return None
        return Camera.from_json(self.calibration)


@dataclass(frozen=True, eq=False)
class Config:
    """The parameters' values: see `PARAMETERS`."""

    cameras: tuple[CameraConfig, ...]
    image_transport: str
    qos_image: str
    queue_size: int
    model: str
    weights: str
    device: str
    precision: str
    mode: str
    window_size: int
    window_overlap: int
    motion: bool
    mask_refiner: str
    rest_delay: float
    map_frame: str
    odom_frame: str
    base_frame: str
    odometry: bool
    publish_tf: bool
    tf_tolerance: float
    scale_source: str
    max_keyframes: int
    voxel_size: float
    map_period: float
    map_path: str
    load_on_start: bool
    image_timeout: float
    diagnostics_period: float
    autostart: bool

    @property
    def metres_demanded(self) -> bool:
        """
        Whether consumers take lengths for metres.

        Odometry and a base frame, with extrinsics to it, are in metres and cannot be combined with
        map units; and whoever names a source of the scale wants metres.
        """
        return (self.odometry or bool(self.base_frame)
                or self.scale_source not in ('auto', 'none'))

    @property
    def scale_sources(self) -> tuple[str, ...]:
        """What the scale may become known from, in words, with what it takes."""
        found = {
            'odometry': 'odometry, when the robot has driven a metre' if self.odometry else '',
            'depth': 'measured depth' if any(c.use_depth for c in self.cameras) else '',
            'model': 'the network' if self.model in METRIC_MODELS else '',
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


def read(node: Node) -> Config:
    """
    Read the values of declared parameters.

    :raises Recon3rError: where values do not go together
    """
    values = {p.name: _value(node, p.name, p) for p in PARAMETERS}
    cameras = tuple(_camera(node, name) for name in _camera_names(node))
    values['cameras'] = cameras
    config = Config(**values)
    mask_refiner(config.mask_refiner)
    frames = [f for f in (config.map_frame, config.odom_frame, config.base_frame) if f]
    if len(set(frames)) < len(frames) or not config.map_frame:
        raise InputError(f'map_frame, odom_frame and base_frame are {config.map_frame!r}, '
                         f'{config.odom_frame!r} and {config.base_frame!r}: name different frames')
    if config.odometry and not (config.base_frame and config.odom_frame):
        raise InputError('odometry is true but base_frame or odom_frame is empty: name the frames '
                         'of the robot')
    if config.load_on_start and not config.map_path:
        raise InputError('load_on_start is true but map_path is empty: name the folder of the map')
    return config


def validate(parameters: list[RosParameter]) -> SetParametersResult:
    """Accept or refuse new values, all or none; for `add_on_set_parameters_callback`."""
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
        problem = parameter.problem(node.get_parameter(name).value)
    except ParameterUninitializedException:
        # ROS cannot tell the type of an empty list, and takes it for no value
        if name == 'cameras':
            raise InputError(_NO_CAMERA) from None
        node.set_parameters([RosParameter(name, parameter.type, parameter.default)])
        problem = ''
    except ParameterException as error:
        reason = str(error).removesuffix(f': {name}')
        raise InputError(f'parameter {name}: {reason}') from error
    if problem and not isinstance(parameter.default, list):
        raise InputError(f'parameter {name}: {problem}')
    node.set_descriptor(name, descriptor)


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


def _camera(node: Node, name: str) -> CameraConfig:
    values = {p.name: _value(node, f'{name}.{p.name}', p) for p in CAMERA_PARAMETERS}
    extrinsics = values.pop('extrinsics')
    calibration = values['calibration']
    if calibration not in ('', 'none') and not Path(calibration).is_file():
        raise InputError(f'parameter {name}.calibration: there is no file {calibration}')
    return CameraConfig(name, _extrinsics(name, extrinsics), **values)


def _extrinsics(name: str, given: Any) -> NDArray[np.float64] | None:
    if given is None or len(given) == 0 or not any(given):
        return None
    try:
        values = np.array([float(x) for x in given])
    except (TypeError, ValueError) as error:
        raise InputError(f'parameter {name}.extrinsics: {given!r} are not numbers') from error
    if len(values) != 7 or not np.isfinite(values).all() or np.linalg.norm(values[3:]) < 1e-6:
        raise InputError(f'parameter {name}.extrinsics: got {values.tolist()}, expected seven '
                         'finite numbers x y z qx qy qz qw and a quaternion that is not zero')
    rotation = se3.matrix_from_quat_xyzw(values[3:] / np.linalg.norm(values[3:]))
    return se3.from_rt(rotation, values[:3])
