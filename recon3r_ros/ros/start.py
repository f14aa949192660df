# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Executable `recon3r_node`: the node, which is loaded when it is started."""

from __future__ import annotations

import sys


def main() -> int:
    """
    Run the node until it is told to stop.

    :return: the exit status
    """
    try:
        from recon3r_ros.ros.node import main as run
    except KeyboardInterrupt:
        return 0
    return run()


if __name__ == '__main__':
    sys.exit(main())
