# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Constants that more than one stage goes by."""

#: A landmark may place cameras when its relative depth is known to 1 / sqrt(.)
TRACKED_INFORMATION = 10.0
