# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Intrinsics of one camera of the node: from its parameters, or from camera_info."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import Recon3rError
from recon3r_ros.geometry.calibration_checks import unusual
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.camera_info import camera_from_info
from recon3r_ros.ros.parameters import CameraConfig
from sensor_msgs.msg import CameraInfo


@dataclass(frozen=True, eq=False)
class Rectification:
    """
    How a camera_info rectifies images of a stereo camera.

    :param R: (3, 3) rotation from the camera's optical frame to the rectified one
    :param P: (3, 4) projection of the rectified image; P[0, 3] = -fx * baseline of the second one
    """

    R: NDArray[np.float64]
    P: NDArray[np.float64]


class Intrinsics:
    """
    The newest usable intrinsics; callbacks and worker may be in different threads.

    :param config: what the parameters say of the camera
    :param warn: called with a warning of one line
    :raises InputError: where there is a calibration file that cannot be used
    """

    def __init__(self, config: CameraConfig, warn: Callable[[str], None]) -> None:
        self._config = config
        self._warn = warn
        self._lock = Lock()
        self._given = config.calibration_file()
        if self._given is not None and self._given.note:
            warn(f'{self._given.source}: {self._given.note}')
        self._of_info: Camera | None = None
        self._info: tuple[Any, ...] = ()
        self._fitted: tuple[tuple[Camera, int, int], Camera] | None = None
        self._notice = ''
        self._rectification: Rectification | None = None

    @property
    def rectification(self) -> Rectification | None:
        """That of the newest camera_info; None before it came."""
        with self._lock:
            return self._rectification

    @property
    def known(self) -> bool:
        """Whether there are any."""
        return self._given is not None or self._of_info is not None

    @property
    def notice(self) -> str:
        """What is unusual about those in use; '' where nothing is."""
        with self._lock:
            return self._notice

    def on_info(self, message: CameraInfo) -> None:
        """Take over intrinsics, where they are usable and new."""
        with self._lock:
            self._rectification = Rectification(
                np.reshape(message.r, (3, 3)).astype(np.float64),
                np.reshape(message.p, (3, 4)).astype(np.float64))
        if self._given is not None or self._config.uncalibrated:
            return
        info = (message.width, message.height, message.distortion_model, tuple(message.d),
                tuple(message.k), tuple(message.p), message.binning_x, message.binning_y,
                message.roi.x_offset, message.roi.y_offset, message.roi.width,
                message.roi.height)
        if info == self._info:
            return
        self._info = info
        try:
            camera = camera_from_info(message, self._config.rectified,
                                      lambda text: self._warn(f'camera_info: {text}'))
        except Recon3rError as error:
            self._warn(f'camera_info cannot be used and is ignored: {error}')
            return
        if camera is not None:
            with self._lock:
                self._of_info = camera

    def camera(self, width: int, height: int) -> Camera | None:
        """
        Return the camera of images of this size; None where it is unknown.

        Intrinsics for another resolution are scaled; for another aspect they are returned as they
        are.

        :raises InputError: where those of a file without a size are not plausible for this one
        """
        with self._lock:
            of_info, fitted = self._of_info, self._fitted
        source = of_info if self._given is None else self._given.camera((width, height))
        if source is None:
            return None
        if fitted is not None and fitted[0] == (source, width, height):
            return fitted[1]
        camera = source.scaled_to(width, height) or source
        lines = unusual(camera)
        if camera is not source:
            self._warn(f'intrinsics for {source.width}x{source.height} pixels are scaled to '
                       f'images of {width}x{height}')
        for line in lines:
            self._warn(line)
        with self._lock:
            self._fitted = (source, width, height), camera
            self._notice = '; '.join(lines)
        return camera
