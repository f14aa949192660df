# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From a command line to a node and back: what every executable of the package does."""

from __future__ import annotations

from collections.abc import Callable
import sys
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException
from recon3r_ros.errors import Recon3rError
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
        sys.stderr.write(f'recon3r: error: {" ".join(str(error).split())}\n')
        return 2
    except Exception:
        # A signal shuts the context down, whatever is being made of it: that has many names
        if not running or rclpy.ok():
            raise
    finally:
        rclpy.try_shutdown()
        # Frees the shared memory that messages went through
        rclpy.get_default_context().destroy()
    return 0
