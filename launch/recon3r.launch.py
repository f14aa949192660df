# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start the reconstruction node, and RViz where it is asked for."""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import LifecycleNode, Node
from recon3r_ros.ros.environment import profile_path, profile_variable, PROFILE_VARIABLES


def generate_launch_description() -> LaunchDescription:
    """Describe what is started."""
    share = get_package_share_directory('recon3r_ros')
    arguments = [
        DeclareLaunchArgument('params_file', default_value=os.path.join(
            share, 'config', 'recon3r.yaml'), description='parameters of the node'),
        DeclareLaunchArgument('namespace', default_value='', description='of all its topics'),
        DeclareLaunchArgument('image', default_value='camera/image_raw',
                              description='topic of the images'),
        DeclareLaunchArgument('camera_info', default_value='camera/camera_info',
                              description='topic of their intrinsics'),
        DeclareLaunchArgument('odom', default_value='odom', description='topic of the odometry'),
        DeclareLaunchArgument('use_sim_time', default_value='false',
                              description='take the time from /clock'),
        DeclareLaunchArgument('autostart', default_value='true',
                              description='configure and activate without a lifecycle manager'),
        DeclareLaunchArgument('rviz', default_value='false', description='start RViz too'),
        DeclareLaunchArgument('log_level', default_value='info',
                              description='debug, info, warn or error'),
    ]
    node = LifecycleNode(
        package='recon3r_ros', executable='recon3r_node', name='recon3r',
        namespace=LaunchConfiguration('namespace'), output='screen',
        parameters=[LaunchConfiguration('params_file'), {
            'use_sim_time': _boolean('use_sim_time'),
            'autostart': _boolean('autostart'),
        }],
        remappings=[
            ('camera/image_raw', LaunchConfiguration('image')),
            ('camera/image_raw/compressed', [LaunchConfiguration('image'), '/compressed']),
            ('camera/camera_info', LaunchConfiguration('camera_info')),
            ('odom', LaunchConfiguration('odom')),
        ],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')])
    rviz = Node(
        package='rviz2', executable='rviz2', output='log',
        arguments=['-d', os.path.join(share, 'rviz', 'recon3r.rviz')],
        parameters=[{'use_sim_time': _boolean('use_sim_time')}],
        condition=IfCondition(LaunchConfiguration('rviz')))
    return LaunchDescription([*arguments, *_transport(), node, rviz])


def _boolean(name: str) -> PythonExpression:
    return PythonExpression(["'", LaunchConfiguration(name), "'.lower() == 'true'"])


def _transport() -> list:
    """Send images through shared memory, unless the user has chosen a transport."""
    chosen = (*PROFILE_VARIABLES, 'FASTDDS_BUILTIN_TRANSPORTS')
    if any(os.environ.get(name) for name in chosen):
        return []
    return [SetEnvironmentVariable(profile_variable(), str(profile_path()))]
