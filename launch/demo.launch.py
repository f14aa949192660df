# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start a simulated camera, the reconstruction node and RViz."""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """Describe what is started."""
    share = get_package_share_directory('recon3r_ros')
    return LaunchDescription([
        DeclareLaunchArgument('rviz', default_value='true', description='start RViz'),
        DeclareLaunchArgument('seed', default_value='0', description='which simulated scene'),
        DeclareLaunchArgument('frames', default_value='120', description='how many images'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'recon3r.launch.py')),
            launch_arguments={'rviz': LaunchConfiguration('rviz')}.items()),
        Node(
            package='recon3r_ros', executable='recon3r', output='screen',
            arguments=['play', '--simulated', LaunchConfiguration('seed'),
                       '--frames', LaunchConfiguration('frames')]),
    ])
