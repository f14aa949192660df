# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a camera stands still: neither IMU nor images move."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.imu.samples import ImuSamples

Gray = NDArray[np.uint8]

#: Seconds of rest for a verdict
WINDOW_S = 0.5
#: The IMU is compared by means over this time: vibration of motors has a mean of zero
_BLOCK_S = 0.1
#: Standard deviation of these means at rest, at most: rad/s, m/s^2
_GYROSCOPE, _ACCELEROMETER = 0.03, 0.25
#: Columns of the images compared, their corners at least, and their median motion at most: pixels
_WIDTH, _CORNERS, _MOTION = 320, 12, 0.25


class Standstill:
    """Compares a camera's images with the one since which it has stood still."""

    def __init__(self) -> None:
        self._anchor: Gray | None = None
        self._corners = np.zeros((0, 1, 2), np.float32)
        self._since_ns = 0

    def add(self, image: NDArray[np.uint8], stamp_ns: int, samples: ImuSamples) -> int | None:
        """
        Take the next image.

        :param image: (H, W) or (H, W, 3) uint8
        :param samples: of the last WINDOW_S at least, in order
        :return: since when the camera has stood still, if for WINDOW_S or longer
        """
        recent = samples.between(stamp_ns - round(WINDOW_S * 1e9), stamp_ns)
        is_long = len(recent) >= 5 and np.ptp(recent.stamps_ns) >= 0.8 * WINDOW_S * 1e9
        if is_long and not _is_quiet(recent):
            self._anchor = None
            return None
        gray = _small(image)
        if self._anchor is None or not self._shows(gray):
            self._anchor, self._since_ns = gray, stamp_ns
            found = cv2.goodFeaturesToTrack(gray, 60, 0.02, 8)
            self._corners = np.zeros((0, 1, 2), np.float32) if found is None else found
            return None
        rested = is_long and stamp_ns - self._since_ns >= WINDOW_S * 1e9
        return self._since_ns if rested else None

    def _shows(self, gray: Gray) -> bool:
        """Whether an image shows what the first one does, in the same place."""
        if self._anchor is None or len(self._corners) < _CORNERS or (
                gray.shape != self._anchor.shape):
            return False
        moved, status, _ = cv2.calcOpticalFlowPyrLK(self._anchor, gray, self._corners, None)
        found = status[:, 0] == 1
        if found.sum() < max(_CORNERS, len(found) // 2):
            return False
        motion = np.linalg.norm((moved - self._corners)[found, 0], axis=1)
        return bool(np.median(motion) < _MOTION)


def _small(image: NDArray[np.uint8]) -> Gray:
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height = max(1, round(image.shape[0] * _WIDTH / image.shape[1]))
    return np.asarray(cv2.resize(gray, (_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)


def _is_quiet(samples: ImuSamples) -> bool:
    """Whether means over short times hardly vary."""
    block = (samples.stamps_ns - samples.stamps_ns[0]) // round(_BLOCK_S * 1e9)
    counts = np.bincount(block)
    for values, most in ((samples.gyroscope, _GYROSCOPE), (samples.accelerometer, _ACCELEROMETER)):
        means = np.stack([np.bincount(block, values[:, axis]) for axis in range(3)], 1)[
            counts > 0] / counts[counts > 0, None]
        if np.linalg.norm(means.std(axis=0)) > most:
            return False
    return True
