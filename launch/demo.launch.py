# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Start a simulated camera, the reconstruction node and RViz.

The arguments of recon3r.launch.py work here too.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from recon3r_ros.ros import launching


def generate_launch_description() -> LaunchDescription:
    """Describe what is started."""
    return LaunchDescription([
        DeclareLaunchArgument('seed', default_value='0', description='seed of the scene'),
        DeclareLaunchArgument('frames', default_value='120', description='number of images'),
        *launching.arguments(rviz_by_default=True),
        OpaqueFunction(function=start),
    ])


def start(context) -> list:
    """Start the node and the camera, with the resolved arguments."""
    camera = Node(
        package='recon3r_ros', executable='recon3r', output='screen',
        namespace=LaunchConfiguration('namespace'), remappings=launching.remappings(context),
        arguments=['play', '--simulated', launching.text(context, 'seed'),
                   '--frames', launching.text(context, 'frames'),
                   '--camera', launching.camera_name(context)])
    return [launching.node_launch_file(), camera, launching.required(camera)]
