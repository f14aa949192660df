# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Play a bag, a pack or a video to the reconstruction node, and watch it in RViz."""

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
        DeclareLaunchArgument('bag', description='rosbag2, pack, folder of images or video'),
        DeclareLaunchArgument('rate', default_value='1.0',
                              description='how many times as fast as it was taken'),
        DeclareLaunchArgument('rviz', default_value='true', description='start RViz'),
        DeclareLaunchArgument('params_file', default_value=os.path.join(
            share, 'config', 'recon3r.yaml'), description='parameters of the node'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'recon3r.launch.py')),
            launch_arguments={
                'rviz': LaunchConfiguration('rviz'), 'use_sim_time': 'true',
                'params_file': LaunchConfiguration('params_file')}.items()),
        Node(
            package='recon3r_ros', executable='recon3r', output='screen',
            arguments=['play', LaunchConfiguration('bag'), '--stamps', 'original',
                       '--rate', LaunchConfiguration('rate')]),
    ])
