# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Play a bag, a pack or a video to the reconstruction node, and watch it in RViz.

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
        DeclareLaunchArgument('bag', description='rosbag2, pack, folder of images or video'),
        DeclareLaunchArgument('image_topic', default_value='',
                              description='topic of the images in the bag, where it holds those '
                                          'of several cameras'),
        DeclareLaunchArgument('rate', default_value='1.0',
                              description='how many times as fast as it was taken'),
        DeclareLaunchArgument('loop', default_value='false',
                              description='begin again at the end'),
        DeclareLaunchArgument('rviz', default_value='true', description='start RViz'),
        IncludeLaunchDescription(
            PythonLaunchDescriptionSource(os.path.join(share, 'launch', 'recon3r.launch.py')),
            launch_arguments={'use_sim_time': 'true',
                              'rviz': LaunchConfiguration('rviz')}.items()),
        OpaqueFunction(function=play),
    ])


def play(context) -> list:
    """Start the player."""
    arguments = ['play', launching.text(context, 'bag'), '--stamps', 'original',
                 '--rate', launching.text(context, 'rate'),
                 '--camera', launching.camera_name(context)]
    topic = launching.text(context, 'image_topic')
    if topic:
        arguments += ['--image-topic', topic]
    if launching.is_true(context, 'loop'):
        arguments.append('--loop')
    player = Node(
        package='recon3r_ros', executable='recon3r', output='screen', arguments=arguments,
        namespace=LaunchConfiguration('namespace'), remappings=launching.remappings(context))
    return [player, launching.required(player)]
