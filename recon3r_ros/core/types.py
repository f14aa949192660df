# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The name of the release before; use `recon3r_ros.slam.types`."""

import warnings

from recon3r_ros.slam.types import Frame

__all__ = ['Frame']

warnings.warn('Frame is in recon3r_ros.slam.types now; '
              'this name goes with the next release', DeprecationWarning, stacklevel=2)
