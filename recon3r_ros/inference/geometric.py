# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The name of the release before; use `recon3r_ros.models.geometric`."""

import warnings

from recon3r_ros.models.geometric import GeometricPredictor

__all__ = ['GeometricPredictor']

warnings.warn('GeometricPredictor is in recon3r_ros.models.geometric now; '
              'this name goes with the next release', DeprecationWarning, stacklevel=2)
