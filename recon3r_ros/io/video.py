# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a video file."""

from __future__ import annotations

from collections.abc import Generator
import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.base import check_fps, PrefetchedSequence
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.slam.types import Frame


class Video(PrefetchedSequence):
    """
    Every frame of a video, stamped with its presentation time.

    Where the container has no time, or one not after the previous frame's, the stamp is the
    previous one plus a frame's duration: stamps always increase.
    """

    def __init__(self, path: Path, camera: Camera | Calibration | None, fps: float) -> None:
        """
        Open once, to check that a frame can be decoded.

        :param path: video file
        :param camera: intrinsics of its images
        :param fps: rate to assume where the container has none
        """
        super().__init__(str(path))
        self._path = path
        capture = _open(path)
        try:
            image = _read(capture)
            if image is None:
                raise InputError(f'{path}: holds no frame that can be decoded')
            self._camera = self._fitted(camera, 'the camera given', image, path.name)
            count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            rate = capture.get(cv2.CAP_PROP_FPS)
        finally:
            capture.release()
        self._count = int(count) if math.isfinite(count) and 1 <= count < 2**31 else 0
        self._period_ns = NS_PER_S / (rate if math.isfinite(rate) and 0 < rate < 1e5 else fps)

    def __len__(self) -> int:
        """Return the number of frames that the container states, 1 where it states none."""
        return max(1, self._count)

    def _frames(self) -> Generator[Frame, None, None]:
        capture = _open(self._path)
        try:
            index = 0
            stamp_ns = -1
            while (image := _read(capture)) is not None:
                stamp_ns = self._stamp(capture, index, stamp_ns)
                yield Frame(image, stamp_ns, f'{index:06d}', index, self._camera)
                index += 1
        finally:
            capture.release()
        # Containers round their duration, so one missing frame is not an error.
        if index < self._count - 1:
            self._skip(f'{self._path}: ends after {index} of {self._count} frames')

    def _stamp(self, capture: cv2.VideoCapture, index: int, previous_ns: int) -> int:
        milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC)
        stamp_ns = round(milliseconds * 1e6) if math.isfinite(milliseconds) else -1
        if index == 0:
            return max(0, stamp_ns)
        return stamp_ns if stamp_ns > previous_ns else previous_ns + round(self._period_ns)


def open_video(
    path: str | Path, camera: Camera | Calibration | None = None, fps: float = 30.0
) -> Video:
    """
    Open a video file.

    :param path: any file that OpenCV's video reader supports
    :param camera: intrinsics of its images
    :param fps: rate to assume where the file has neither times nor a rate
    :raises InputError: where no frame can be read or the camera has another size
    """
    check_fps(fps)
    return Video(Path(path), camera, fps)


def _open(path: Path) -> cv2.VideoCapture:
    """Return a reader of an existing file."""
    if not path.is_file():
        problem = 'is not a file' if path.exists() else 'no such file'
        raise InputError(f'{path}: {problem}; expected a video')
    # By default OpenCV also tries readers that interpret a name as a pattern of image files.
    has_ffmpeg = cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG if has_ffmpeg else cv2.CAP_ANY)
    if not capture.isOpened():
        capture.release()
        raise InputError(
            f'{path}: cannot be opened as a video; convert it, for example to H.264 in MP4'
        )
    return capture


def _read(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    """Return the next frame as RGB (H, W, 3), or None at the end."""
    found, image = capture.read()
    if not found or image is None:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
