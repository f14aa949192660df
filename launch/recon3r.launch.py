# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Start the reconstruction node, and optionally RViz.

Arguments that are not given keep the values of the parameter file. All names are relative, so that
a namespace applies to all: `namespace:=robot1 tf:=tf` separates a robot's topics and transforms.
"""

from launch import LaunchDescription
from launch.actions import OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from recon3r_ros.ros import launching


def generate_launch_description() -> LaunchDescription:
    """Describe what is started."""
    return LaunchDescription([
        *launching.arguments(rviz_by_default=False), *launching.transport(),
        OpaqueFunction(function=start)])


def start(context) -> list:
    """Start the node and RViz with the given arguments."""
    given = launching.given_booleans(context, ['use_sim_time', 'autostart'])
    camera = launching.text(context, 'camera')
    if camera:
        given['cameras'] = [camera]
    given.update(launching.rig(context))
    node = LifecycleNode(
        package='recon3r_ros', executable='recon3r_node', name='recon3r',
        namespace=LaunchConfiguration('namespace'), output='screen',
        parameters=[launching.parameter_file(context), *([given] if given else [])],
        remappings=launching.remappings(context),
        arguments=['--ros-args', '--log-level', launching.text(context, 'log_level')])
    return [node, launching.required(node), *launching.rviz(context)]
