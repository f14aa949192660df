# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The name of the release before; use `recon3r_ros.slam.system`."""

import warnings

from recon3r_ros.slam.system import System as Reconstruction

__all__ = ['Reconstruction']

warnings.warn('Reconstruction is recon3r_ros.slam.system.System now; '
              'this name goes with the next release', DeprecationWarning, stacklevel=2)
