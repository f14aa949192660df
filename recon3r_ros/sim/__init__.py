# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic scenes with exact depth, poses and dynamic masks; the renderer needs torch."""

from typing import Any, TYPE_CHECKING

from recon3r_ros.sim.config import SceneConfig

if TYPE_CHECKING:
    from recon3r_ros.sim.blur import BlurredSequence
    from recon3r_ros.sim.render import SimulatedFrame, SimulatedSequence

__all__ = ['BlurredSequence', 'SceneConfig', 'SimulatedFrame', 'SimulatedSequence']


def __getattr__(name: str) -> Any:
    """Import the renderer when it is needed: a scene that has been rendered needs none."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    if name == 'BlurredSequence':
        from recon3r_ros.sim.blur import BlurredSequence
        return BlurredSequence
    from recon3r_ros.sim import render
    return getattr(render, name)
