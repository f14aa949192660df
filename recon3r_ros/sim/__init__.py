# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic scenes with exact depth, poses and dynamic masks."""

from recon3r_ros.sim.render import SimulatedFrame, SimulatedSequence
from recon3r_ros.sim.scene import SceneConfig

__all__ = ['SceneConfig', 'SimulatedFrame', 'SimulatedSequence']
