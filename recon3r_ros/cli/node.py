# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r node`: the node, without a ROS installation."""

from __future__ import annotations

import argparse

from recon3r_ros.ros.environment import require_rclpy

_DESCRIPTION = """\
Run the ROS 2 node `recon3r`. With a ROS installation this is `ros2 run recon3r_ros recon3r_node`;
without one it runs on the client library from PyPI: pip install "recon3r_ros[ros]".

All following arguments are passed to ROS:
  recon3r node --ros-args --params-file config/recon3r.yaml -r camera/image_raw:=/front/image

Parameters are listed in docs/parameters.md. Ctrl-C stops it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command, and its help."""
    parser.description = _DESCRIPTION
    parser.usage = 'recon3r node [-h] [--debug] [--ros-args ...]'


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed; `ros_args` is passed to ROS unchanged
    :returns: the exit status
    """
    require_rclpy()
    from recon3r_ros.ros.start import main
    return main(['recon3r', *arguments.ros_args])
