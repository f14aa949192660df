# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Start the reconstruction node, and RViz where it is asked for.

What is not given here is as in the parameter file. All names are relative, so that a namespace
holds for all of them: `namespace:=robot1 tf:=tf` gives a robot topics and transforms of its own.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from recon3r_ros.ros import launching


def generate_launch_description() -> LaunchDescription:
    """Describe what is started."""
    share = get_package_share_directory('recon3r_ros')
    arguments = [
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
        DeclareLaunchArgument('odom', default_value='',
                              description='topic of the odometry, instead of odom'),
        DeclareLaunchArgument('tf', default_value='',
                              description='topic of transforms, instead of /tf; static ones are '
                                          'on <tf>_static'),
        DeclareLaunchArgument('use_sim_time', default_value='',
                              description='true: take the time from /clock'),
        DeclareLaunchArgument('autostart', default_value='',
                              description='false: a lifecycle manager configures and activates'),
        DeclareLaunchArgument('rviz', default_value='false', description='start RViz too'),
        DeclareLaunchArgument('log_level', default_value='info',
                              description='debug, info, warn or error'),
    ]
    return LaunchDescription([*arguments, *launching.transport(), OpaqueFunction(function=start)])


def start(context) -> list:
    """Start the node and RViz with the arguments that were given."""
    given = launching.given_booleans(context, ['use_sim_time', 'autostart'])
    camera = launching.text(context, 'camera')
    if camera:
        given['cameras'] = [camera]
    node = LifecycleNode(
        package='recon3r_ros', executable='recon3r_node', name='recon3r',
        namespace=LaunchConfiguration('namespace'), output='screen',
        parameters=[launching.parameter_file(context), *([given] if given else [])],
        remappings=launching.remappings(context),
        arguments=['--ros-args', '--log-level', launching.text(context, 'log_level')])
    return [node, launching.required(node), *launching.rviz(context)]
