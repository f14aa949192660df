# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames from a video file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
import math
import os
from pathlib import Path
import sys
import tempfile

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.base import check_fps, fitted, PrefetchedSequence
from recon3r_ros.io.calibrations import Calibration
from recon3r_ros.io.interlacing import FieldOrder
from recon3r_ros.io.refused_frames import RefusedFrames
from recon3r_ros.io.stamps import NS_PER_S
from recon3r_ros.slam.types import Frame

# FFmpeg's message where it refuses to convert a frame that is flagged as interlaced. OpenCV
# ignores that, and returns a buffer that was never filled.
_REFUSED = b'interlaced'
_STDERR = 2
# Frames decoded at first, to look for interlacing
_FIRST = 20
# Share of the stated frames, or of their time, that a whole file has
_ENOUGH = 0.95
# Seconds that the sound may last longer
_SOUND_S = 0.1


class Video(PrefetchedSequence):
    """
    Every frame of a video, stamped with its presentation time.

    Where the container has no time, or one not after the previous frame's, the stamp is the
    previous one plus a frame's duration: stamps always increase. Frames are turned as the
    container says; the camera is that of the turned frames.
    """

    def __init__(self, path: Path, camera: Camera | Calibration | None, fps: float) -> None:
        """
        Open once, to check that frames can be decoded and are not interlaced.

        :param path: video file
        :param camera: intrinsics of its images
        :param fps: rate to assume where the container has none
        """
        super().__init__(str(path))
        self._path = path
        fields = FieldOrder()
        with _native_messages() as messages:
            capture = _open(path)
            try:
                first = image = _read(capture)
                for _ in range(_FIRST):
                    if image is None or fields.is_decided:
                        break
                    fields.add(image)
                    image = _read(capture)
                count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
                rate = capture.get(cv2.CAP_PROP_FPS)
            finally:
                capture.release()
            if _REFUSED in messages() or fields.is_interlaced:
                raise _interlaced(path)
            if first is None:
                raise InputError(f'{path}: holds no frame that can be decoded')
        self._camera = fitted(camera, 'the camera given', first, path.name, self.note)
        self._is_checked = fields.is_decided
        self._count = int(count) if math.isfinite(count) and 1 <= count < 2**31 else 0
        self._period_ns = NS_PER_S / (rate if math.isfinite(rate) and 0 < rate < 1e5 else fps)

    def __len__(self) -> int:
        """Return the number of frames that the container states, 1 where it states none."""
        return max(1, self._count)

    def _frames(self) -> Generator[Frame, None, None]:
        capture = _open(self._path)
        fields = FieldOrder()
        refused = RefusedFrames(lambda: _open(self._path))
        try:
            index = 0
            stamp_ns = -1
            while (image := _read(capture)) is not None:
                if not (self._is_checked or fields.is_decided):
                    fields.add(image)
                    if fields.is_interlaced:
                        raise _interlaced(self._path)
                if refused.add(image, index, capture.get(cv2.CAP_PROP_POS_MSEC)):
                    raise _interlaced(self._path)
                stamp_ns = self._stamp(capture, index, stamp_ns)
                yield Frame(image, stamp_ns, f'{index:06d}', index, self._camera)
                index += 1
        finally:
            capture.release()
        if self._is_short(index, stamp_ns):
            self._skip(f'{self._path}: ends after {index} of {self._count} frames')

    def _is_short(self, index: int, last_ns: int) -> bool:
        """
        Whether the file was cut off.

        Neither number need be exact: containers round their duration, which may be that of the
        sound, their rate may be that of fields, and edit lists leave frames out.

        :param index: frames read
        :param last_ns: stamp of the last one, nanoseconds
        """
        stated_s = self._count * self._period_ns / NS_PER_S
        return (index < _ENOUGH * self._count
                and last_ns / NS_PER_S < _ENOUGH * stated_s - _SOUND_S
                and not _is_whole(self._path))

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


def _interlaced(path: Path) -> InputError:
    return InputError(f'{path}: is interlaced; deinterlace it first: ffmpeg -i {path.name} -vf '
                      'bwdif -c:v libx264 -crf 12 progressive.mp4')


@contextmanager
def _native_messages() -> Iterator[Callable[[], bytes]]:
    """
    Hold back what libraries write to standard error until the end; after an error it is dropped.

    It is that of the whole process: not for use beside other threads.

    :returns: a function that returns it so far
    """
    if sys.__stderr__ is None:  # closed, and its number may be that of another file
        yield lambda: b''
        return
    with tempfile.TemporaryFile() as file:
        def so_far() -> bytes:
            file.seek(0)
            return file.read()

        original = os.dup(_STDERR)
        os.dup2(file.fileno(), _STDERR)
        try:
            yield so_far
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
        os.write(_STDERR, so_far())


def _is_whole(path: Path) -> bool:
    """Whether a file is of the MP4 family, and all of its outer boxes are complete."""
    size = path.stat().st_size
    position = 0
    with path.open('rb') as file:
        while position < size:
            file.seek(position)
            header = file.read(16)
            if position == 0 and header[4:8] != b'ftyp':
                return False
            length = int.from_bytes(header[:4], 'big')
            if length == 1:  # 64 bits follow
                length = int.from_bytes(header[8:16], 'big')
            if length == 0:  # to the end
                return True
            position += max(8, length)
    return position == size


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
