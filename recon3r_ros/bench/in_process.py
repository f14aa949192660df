# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Local mapping in the process of tracking, where a sampler sees it."""

from __future__ import annotations

from collections.abc import Callable
import os

from recon3r_ros.models.types import Predictor
from recon3r_ros.slam.backend.executor import InProcessExecutor
from recon3r_ros.slam.backend.mapping import Mapper
from recon3r_ros.slam.backend.mapping_process import MappingProcess
from recon3r_ros.slam.backend.subprocess_executor import KeyframeTime
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.options import MappingOptions


class MappingInProcess(InProcessExecutor):
    """Takes the arguments of a `SubprocessExecutor`; run times of keyframes are not measured."""

    def __init__(self, predictor: Callable[[], Predictor], options: MappingOptions,
                 motion: MotionConfig = MotionConfig(), process: MappingProcess | None = None
                 ) -> None:
        super().__init__(Mapper(predictor(), options, motion))
        self.keyframe_times: tuple[KeyframeTime, ...] = ()
        self.pid = os.getpid()
        if process is not None:
            process.end()
