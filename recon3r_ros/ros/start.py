# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Executable `recon3r_node`: the node, which is loaded when it is started."""

from __future__ import annotations

import gc
import sys


def main(args: list[str] | None = None) -> int:
    """
    Run the node until it is told to stop.

    :param args: command line; that of the process where None
    :return: the exit status
    """
    # Garbage collection takes a sixth of the time of imports, which leave no garbage
    gc.disable()
    try:
        from recon3r_ros.ros.node import main as run
    except KeyboardInterrupt:
        return 0
    return run(args)


if __name__ == '__main__':
    sys.exit(main())
