# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Command `recon3r node`: the node, started without a ROS installation."""

from __future__ import annotations

import argparse

from recon3r_ros.ros.environment import require_rclpy


def execute(arguments: argparse.Namespace) -> int:
    """
    Run the command.

    :param arguments: as parsed; `ros_args` holds what goes to ROS as it is
    :returns: the exit status
    """
    require_rclpy()
    from recon3r_ros.ros.node import main
    return main(['recon3r', *arguments.ros_args])
