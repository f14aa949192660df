# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a command line to a node and back: what every executable of the package does."""

from __future__ import annotations

from collections.abc import Callable
import re
import sys
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from recon3r_ros.errors import one_line, Recon3rError
from recon3r_ros.ros.environment import prepare_process


def run(work: Callable[[], Any], args: list[str] | None = None) -> int:
    """
    Do something between rclpy's init and shutdown.

    :param work: ends by itself, perhaps with an exit status, or with KeyboardInterrupt or
        ExternalShutdownException
    :param args: command line; that of the process where None
    :return: the exit status: that of `work`, else 0, also where it was told to stop; 2 for input
        that cannot be used
    """
    prepare_process()
    running = False
    try:
        rclpy.init(args=args)
        running = True
        return work() or 0
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Recon3rError as error:
        sys.stderr.write(f'recon3r: error: {one_line(error)}\n')
        return 2
    except Exception as error:
        if not running:
            # What rclpy raises of arguments and parameter files has many names
            sys.stderr.write(f'recon3r: error: {_arguments_problem(error)}\n')
            return 2
        # A signal shuts the context down, whatever is being made of it
        if rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
        # Frees the shared memory that messages went through
        rclpy.get_default_context().destroy()
    return 0


def _arguments_problem(error: Exception) -> str:
    """Say in one line what rcl could not read of the command line or a parameter file."""
    said = one_line(error).removeprefix('Failed to initialize init_options: ')
    said = re.sub(r',? at \S+:\d+', '', said)
    if 'Sequence should be of same type' in said:
        said += '; write all numbers of a list alike, as 0.0 and not 0'
    return f'parameters or arguments cannot be read: {said}'
