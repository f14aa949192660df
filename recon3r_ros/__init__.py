# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Dense metric maps, camera poses and moving objects from cameras, live."""

__version__ = '0.1.0'
