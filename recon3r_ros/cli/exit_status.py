# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Exit statuses of the `recon3r` command, as `recon3r --help` lists them."""

NOTHING_PRODUCED = 1
BAD_INPUT = 2
BUG = 70
INTERRUPTED = 130
