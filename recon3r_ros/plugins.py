# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""User-supplied functions, by the names given on the command line."""

from __future__ import annotations

import importlib
from typing import Any, cast

from recon3r_ros.errors import Recon3rError
from recon3r_ros.slam.dynamics.mask_refinement import grabcut, MaskRefiner
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.options import MotionOptions


def mask_refiner(name: str) -> MaskRefiner | None:
    """
    Return a mask refiner.

    :param name: `grabcut`, `none`, or `module:function` of an external one
    :raises Recon3rError: where it cannot be imported or called
    """
    if name == 'none':
        return None
    if name == 'grabcut':
        return grabcut
    module, colon, function = name.partition(':')
    try:
        if not colon:
            raise ImportError('no module:function')
        found: Any = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise Recon3rError(f'mask refiner {name!r}: expected grabcut, none, or the '
                           f'module:function of an installed one ({error})') from None
    if not callable(found):
        raise Recon3rError(f'mask refiner {name!r}: is not a function')
    return cast('MaskRefiner', found)


def motion_config(options: MotionOptions, detect: bool = True, offline: bool = False
                  ) -> MotionConfig:
    """
    Return how dynamic objects are handled, with the refiner that is named.

    :param detect: see `MotionConfig`
    :param offline: see `MotionConfig`
    :raises Recon3rError: where there is no refiner of that name
    """
    return MotionConfig(detect, mask_refiner(options.mask_refiner), options.rest_delay, offline)
