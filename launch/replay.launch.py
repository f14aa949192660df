# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Play a bag, a pack or a video to the reconstruction node, with RViz.

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
        DeclareLaunchArgument('bag', description='rosbag2, pack, folder of images or video'),
        DeclareLaunchArgument('image_topic', default_value='',
                              description='topic of the images in the bag, required where it '
                                          'holds several'),
        DeclareLaunchArgument('rate', default_value='1.0',
                              description='factor of the playback speed'),
        DeclareLaunchArgument('loop', default_value='false',
                              description='start again at the end'),
        *launching.arguments(rviz_by_default=True),
        OpaqueFunction(function=start),
    ])


def start(context) -> list:
    """Start the node and the player, with the resolved arguments."""
    arguments = ['play', launching.text(context, 'bag'), '--stamps', 'original',
                 '--rate', launching.text(context, 'rate'),
                 '--camera', launching.camera_name(context)]
    topic = launching.text(context, 'image_topic')
    if topic:
        arguments += ['--image-topic', topic]
    if launching.text(context, 'stereo'):
        arguments += ['--stereo', launching.text(context, 'stereo')]
    if launching.is_true(context, 'loop'):
        arguments.append('--loop')
    player = Node(
        package='recon3r_ros', executable='recon3r', output='screen', arguments=arguments,
        namespace=LaunchConfiguration('namespace'), remappings=launching.remappings(context))
    return [launching.node_launch_file(use_sim_time='true'), player, launching.required(player)]
