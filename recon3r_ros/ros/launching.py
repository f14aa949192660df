# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the launch files share: arguments that were given, processes that must not fail, RViz."""

from __future__ import annotations

from collections.abc import Iterable
import os
from typing import Any

from ament_index_python.packages import (
    get_package_prefix,
    get_package_share_directory,
    PackageNotFoundError,
)
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    LogInfo,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from recon3r_ros.ros.environment import CHOICES_OF_TRANSPORT, profile_path, profile_variable
import yaml

#: Topics of the RViz layout that have the camera's name in them
_CAMERA_TOPICS = ('points', 'dynamic_points', 'dynamic_mask', 'depth/image')
_BOOLEANS = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}


def arguments(rviz_by_default: bool) -> list[Any]:
    """Declare what all launch files take."""
    share = get_package_share_directory('recon3r_ros')
    return [
        DeclareLaunchArgument('params_file', default_value=os.path.join(
            share, 'config', 'recon3r.yaml'), description='parameters of the node'),
        DeclareLaunchArgument('namespace', default_value='', description='of all its topics'),
        DeclareLaunchArgument('camera', default_value='',
                              description='name of the only camera, instead of the parameter '
                                          'cameras'),
        DeclareLaunchArgument('image', default_value='',
                              description='topic of the images, instead of <camera>/image_raw'),
        DeclareLaunchArgument('camera_info', default_value='',
                              description='topic of their intrinsics, instead of '
                                          '<camera>/camera_info'),
        DeclareLaunchArgument('stereo', default_value='',
                              description='name of the second camera of a stereo rig, such as '
                                          'right'),
        DeclareLaunchArgument('stereo_image', default_value='',
                              description='topic of its images, instead of <stereo>/image_raw'),
        DeclareLaunchArgument('stereo_camera_info', default_value='',
                              description='topic of its intrinsics, instead of '
                                          '<stereo>/camera_info'),
        DeclareLaunchArgument('rectified', default_value='',
                              description='true: images are rectified (image_rect), P of '
                                          'camera_info is their projection'),
        DeclareLaunchArgument('odom', default_value='',
                              description='topic of the odometry, instead of odom'),
        DeclareLaunchArgument('tf', default_value='',
                              description='topic of transforms, instead of /tf; static ones are '
                                          'on <tf>_static'),
        DeclareLaunchArgument('use_sim_time', default_value='',
                              description='true: take the time from /clock'),
        DeclareLaunchArgument('autostart', default_value='',
                              description='false: a lifecycle manager configures and activates'),
        DeclareLaunchArgument('rviz', default_value='true' if rviz_by_default else 'false',
                              description='start RViz too'),
        DeclareLaunchArgument('log_level', default_value='info',
                              description='debug, info, warn or error'),
    ]


def node_launch_file(**given: Any) -> IncludeLaunchDescription:
    """
    Start what recon3r.launch.py starts.

    :param given: arguments that are not as this launch file was given them
    """
    share = get_package_share_directory('recon3r_ros')
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'recon3r.launch.py')),
        launch_arguments=given.items())


def text(context: Any, name: str) -> str:
    """Value of a launch argument; empty where it was not given and has no default."""
    return str(LaunchConfiguration(name).perform(context))


def is_true(context: Any, name: str) -> bool:
    """
    Value of a launch argument that is true or false.

    :raises RuntimeError: where it is neither
    """
    value = text(context, name).lower()
    if value not in _BOOLEANS:
        raise RuntimeError(f'launch argument {name}:={value}: expected true or false')
    return _BOOLEANS[value]


def given_booleans(context: Any, names: Iterable[str]) -> dict[str, bool]:
    """Return those launch arguments that were given: the others are up to the parameter file."""
    return {name: is_true(context, name) for name in names if text(context, name)}


def parameter_file(context: Any) -> str:
    """
    Return the parameter file of the node.

    :raises RuntimeError: where there is none: launch would leave it out, and start with defaults
    """
    path = text(context, 'params_file')
    if not os.path.isfile(path):
        raise RuntimeError(f'launch argument params_file:={path}: there is no such file')
    return path


def camera_name(context: Any) -> str:
    """
    Return the name of the only camera: as given, else as in the parameter file.

    :raises RuntimeError: where topics are given and the parameter file has several cameras
    """
    camera = text(context, 'camera')
    if camera:
        return camera
    with open(parameter_file(context), encoding='utf-8') as file:
        content = yaml.safe_load(file) or {}
    named = [given['ros__parameters']['cameras'] for given in content.values()
             if isinstance(given, dict) and 'cameras' in (given.get('ros__parameters') or {})]
    cameras = named[-1] if named else ['camera']
    if len(cameras) > 1 and (text(context, 'image') or text(context, 'camera_info')):
        raise RuntimeError(f'image and camera_info name the topics of one camera, but the '
                           f'parameter file has {", ".join(cameras)}: remap each of their topics')
    return str(cameras[0]) if cameras else 'camera'


def remappings(context: Any) -> list[tuple[str, str]]:
    """
    Topics that launch arguments rename, for every process that uses them.

    Renamed here rather than by absolute names, a namespace holds for all of them.
    """
    camera = camera_name(context)
    found = []
    odom, tf = text(context, 'odom'), text(context, 'tf')
    topics = (
        (camera, text(context, 'image'), text(context, 'camera_info')),
        (text(context, 'stereo'), text(context, 'stereo_image'),
         text(context, 'stereo_camera_info')))
    for name, image, info in topics:
        if (image or info) and not name:
            raise RuntimeError('launch arguments stereo_image and stereo_camera_info are topics '
                               'of a second camera: give stereo:=right, too')
        if image:
            found += [(f'{name}/image_raw', image),
                      (f'{name}/image_raw/compressed', f'{image}/compressed')]
        if info:
            found.append((f'{name}/camera_info', info))
    if odom:
        found.append(('odom', odom))
    if tf:
        found += [('/tf', tf), ('/tf_static', f'{tf}_static')]
    return found


def rig(context: Any) -> dict[str, Any]:
    """Return the parameters of a stereo rig, as far as arguments for them were given."""
    camera, second = camera_name(context), text(context, 'stereo')
    found: dict[str, Any] = {f'{camera}.stereo': second} if second else {}
    if text(context, 'rectified'):
        rectified = is_true(context, 'rectified')
        found.update({f'{name}.rectified': rectified for name in (camera, second) if name})
    return found


def required(process: Node) -> RegisterEventHandler:
    """Shut the launch down, with a status that is not 0, when a process fails."""
    def check(event: Any, context: Any) -> None:
        if event.returncode != 0 and not context.is_shutdown:
            # launch itself ends with 1 when a handler raises, and in no other way
            raise RuntimeError(f'process {event.process_name} failed with status '
                               f'{event.returncode}: shutting down')
    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=check))


def rviz(context: Any) -> list[Any]:
    """Start RViz where it is asked for and installed; a robot's computer often has none."""
    if not is_true(context, 'rviz'):
        return []
    try:
        get_package_prefix('rviz2')
    except PackageNotFoundError:
        return [LogInfo(msg='RViz is not started: the package rviz2 is not installed')]
    layout = os.path.join(get_package_share_directory('recon3r_ros'), 'rviz', 'recon3r.rviz')
    names = remappings(context)
    camera = camera_name(context)
    if camera != 'camera':
        names += [(f'recon3r/camera/{t}', f'recon3r/{camera}/{t}') for t in _CAMERA_TOPICS]
        names.append(('camera/image_raw', dict(names).get(
            f'{camera}/image_raw', f'{camera}/image_raw')))
    return [Node(package='rviz2', executable='rviz2', output='log',
                 namespace=LaunchConfiguration('namespace'), arguments=['-d', layout],
                 parameters=[given_booleans(context, ['use_sim_time'])], remappings=names)]


def transport() -> list[Any]:
    """Send images through shared memory, unless the user has chosen a transport."""
    if any(os.environ.get(name) for name in CHOICES_OF_TRANSPORT):
        return []
    return [SetEnvironmentVariable(profile_variable(), str(profile_path()))]
