# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""All parameters of the node: one table, from which everything else follows."""

from __future__ import annotations

from dataclasses import dataclass, Field
import math
from typing import Any, cast

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.parameter import Parameter as RosParameter
from recon3r_ros.models import registry
from recon3r_ros.option import fields_of
from recon3r_ros.slam.options import OPTIONS

Value = bool | int | float | str | list[str] | list[float]

_TYPES = {
    bool: RosParameter.Type.BOOL,
    int: RosParameter.Type.INTEGER,
    float: RosParameter.Type.DOUBLE,
    str: RosParameter.Type.STRING,
}


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
        """Its range or choices, in words; empty where there are none."""
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
            # 1 is accepted for 1.0; anything else is rejected by `problem`
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


def _parameter(own: Field[Any]) -> Parameter:
    """Make the row of an option."""
    about = own.metadata
    return Parameter(own.name, cast(Value, own.default), about['meaning'], about['unit'],
                     about['low'], about['high'], about['choices'])


PARAMETERS = (
    Parameter('cameras', ['camera'], 'Cameras of one rig; each names the namespace of its topics '
              '<camera>/image_raw, <camera>/camera_info and so on.'),
    Parameter('image_transport', 'raw', 'Images to subscribe to: <camera>/image_raw, or '
              '<camera>/image_raw/compressed.', choices=('raw', 'compressed')),
    Parameter('depth_transport', 'raw', 'Depth images to subscribe to: <camera>/depth, or '
              '<camera>/depth/compressedDepth.', choices=('raw', 'compressedDepth')),
    Parameter('qos_image', 'sensor_data', 'Quality of service of images: sensor_data (best '
              'effort, matches every publisher) or reliable.',
              choices=('sensor_data', 'reliable')),
    Parameter('queue_size', 6, 'Queue length of a camera; a full queue drops its oldest image.',
              'images', 1, 100),
    Parameter('rig', True, 'Pose the cameras together, as they are mounted on one rig: where '
              'their poses on it are known, by <camera>.T_rig_cam, calibration files, '
              '<camera>.extrinsics or fixed transforms on TF, the first that has those of two '
              'cameras. false: each camera by itself, in one map.'),
    Parameter('stereo_tolerance', 0.005, 'Greatest difference of the stamps of images that the '
              'cameras of a rig, or of a stereo pair, took at one instant.', 's', 0.0, 0.1),
    Parameter('model', 'geometric', 'Predictor of depth; geometric needs neither weights nor a '
              'GPU.', choices=registry.names()),
    Parameter('weights', '', "File of the model's weights, .pth, .pt or .safetensors; recon3r "
              'weights lists what is published.'),
    *(_parameter(own) for own in registry.option_fields()),
    Parameter('motion', True, 'Detect dynamic objects; masks from <camera>/mask count in any '
              'case.'),
    *(_parameter(own) for own in fields_of(*OPTIONS)),
    Parameter('people_model', '', "Find people with MediaPipe's networks in the images of all "
              'cameras that have no people on their topic: a file pose_landmarker_full.task, or a '
              'folder with pose_detection.tflite and pose_landmark_full.tflite, which are not '
              'downloaded; needs the Python package ai-edge-litert. Empty: the network of model '
              'hamst3r finds them, where that is the model.'),
    Parameter('map_frame', 'map', 'Frame of the map.'),
    Parameter('odom_frame', 'odom', 'Frame of odometry, child of the map frame where odometry is '
              'used.'),
    Parameter('base_frame', '', "Frame of the robot's body (x forward, y left, z up); empty: the "
              "camera stands alone and its optical frame is the map frame's child."),
    Parameter('odometry', False, 'Use odometry from the topic odom: for metric scale, and to '
              'publish map -> odom instead of map -> base_frame. Needs base_frame.'),
    Parameter('imu_topic', '', 'Topic of an IMU (sensor_msgs/Imu) that is fixed to the cameras; '
              'empty: none. Its gyroscope keeps track through fast turns, and gravity makes z of '
              'the map point up: outputs wait for that, up to 10 s. Needs its frame on '
              '/tf_static, with the optical frames of the cameras.'),
    Parameter('publish_tf', True, 'Publish transforms on /tf.', read_only=False),
    Parameter('tf_tolerance', 0.1, 'How far into the future map -> odom is stamped, so that '
              'others need not wait for the next one; all else has the stamp of its image.', 's',
              0.0, 5.0),
    Parameter('scale_source', 'auto', 'Source of the metric scale: odometry, depth (a depth '
              'camera), rig (the distances between cameras), camera_height (above a floor), model '
              '(a network that predicts metres), auto (the most certain one available) or none. '
              'With odometry, a base_frame or a source named here, poses, TF and clouds are held '
              'back until the scale is known.',
              choices=('auto', 'none', 'odometry', 'depth', 'rig', 'camera_height', 'model')),
    Parameter('camera_height', 0.0, 'Height of the only camera above the floor, where it is '
              'constant: gives the metric scale, within some percent; 0: unknown.', 'm', 0.0,
              100.0),
    Parameter('voxel_size', 0.0, 'Edge of the voxels that the map cloud is averaged in, metres '
              "where the scale is known; 0 takes 1 % of the first keyframe's median depth.", 'm',
              0.0, 10.0, read_only=False),
    Parameter('map_period', 2.0, 'Least time between two map clouds.', 's', 0.1, 3600.0,
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
    Parameter('stereo', '', 'Name of the second camera of a stereo rig with this one, such as '
              'right. It names topics and parameters, too, but is not in cameras, and is tracked '
              'by itself only while the first one sends no images.'),
    Parameter('T_rig_cam', [0.0] * 7, 'Pose of the optical frame in a frame that is common to '
              'the cameras of a rig: x y z in metres, quaternion qx qy qz qw. All zero of the '
              'first camera: that is its own frame; of all: see rig, and of a stereo pair from '
              'calibration files, extrinsics, P of camera_info, or TF, the first that has it.'),
    Parameter('time_offset', 0.0, 'Added to the stamps of a camera when images of a rig are '
              'bundled; diagnostics name a constant offset.', 's', -10.0, 10.0),
    Parameter('calibration', '', 'Calibration of the images, in any format of recon3r run '
              '--camera; empty: from <camera>/camera_info; none: the focal length is estimated.'),
    Parameter('rectified', False, 'Whether the images had their lens distortion removed: P of '
              'camera_info is used instead of K and D.'),
    Parameter('static_mask', '', "Image of the size of the camera's, not black where it shows the "
              "robot's own body, or anything else that is fixed to the camera."),
    Parameter('use_mask', False, 'Subscribe to <camera>/mask (mono8, not 0: dynamic).'),
    Parameter('use_people', False, 'Subscribe to <camera>/people (mono8 or 16UC1, 0 nobody, other '
              "values a person each, at the image's size), of any detector: people are kept out "
              'of the map, even where they stand still.'),
    Parameter('use_labels', False, 'Subscribe to <camera>/labels (mono8, classes of the pixels, '
              "0 where unknown, at the image's size): map and points get a field label, and those "
              'of keyframes are on ~/<camera>/labels. Names of the classes may come on '
              '<camera>/label_info (vision_msgs/LabelInfo, latched), where vision_msgs is '
              'installed.'),
    Parameter('use_instances', False, 'Subscribe to <camera>/instances (mono8 or 16UC1, objects '
              "of an image, 0 where unknown, at the image's size): points of keyframes get a "
              'field instance, the map one with its own objects, and those of keyframes are on '
              '~/<camera>/instances.'),
    Parameter('class_names', '', 'File with the names of the classes of labels, a line each, from '
              'class 1 on, instead of <camera>/label_info: published on ~/<camera>/label_info '
              'and ~/classes.'),
    Parameter('label_tolerance', 0.02, 'Greatest difference of the stamps of an image and of the '
              'people, labels or instances that belong to it.', 's', 0.0, 1.0),
    Parameter('use_depth', False, 'Subscribe to <camera>/depth (32FC1 metres or 16UC1 '
              'millimetres): it starts the map with the first image, in metres, and gives dynamic '
              'points. Registered to the image, or in a frame that TF connects with the '
              "image's, with <camera>/depth/camera_info."),
)
