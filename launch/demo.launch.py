# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Start a simulated camera, the reconstruction node and RViz.

The arguments of recon3r.launch.py work here too.
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from recon3r_ros.ros import launching


def generate_launch_description() -> LaunchDescription:
    """Describe what is started."""
    share = get_package_share_directory('recon3r_ros')
    return LaunchDescription([
        DeclareLaunchArgument('seed', default_value='0', description='which simulated scene'),
        DeclareLaunchArgument('frames', default_value='120', description='how many images'),
        DeclareLaunchArgument('rviz', default_value='true', description='start RViz'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'recon3r.launch.py')),
            launch_arguments={'rviz': LaunchConfiguration('rviz')}.items()),
        OpaqueFunction(function=play),
    ])


def play(context) -> list:
    """Start the camera."""
    camera = Node(
        package='recon3r_ros', executable='recon3r', output='screen',
        namespace=LaunchConfiguration('namespace'), remappings=launching.remappings(context),
        arguments=['play', '--simulated', launching.text(context, 'seed'),
                   '--frames', launching.text(context, 'frames'),
                   '--camera', launching.camera_name(context)])
    return [camera, launching.required(camera)]
