# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m recon3r_ros.cli`, where the command is not installed."""

import sys

from recon3r_ros.cli import main

sys.exit(main())
