# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Frames of a video that FFmpeg refuses to convert, because they are flagged as interlaced.

OpenCV ignores that and returns the picture that it converted last, again. Repeated pictures are no
error by themselves: a camera at rest, a rate that was doubled. FFmpeg's message, on the standard
error of the whole process, cannot be read without taking it from other threads. What is converted
before tells: a second reader converts an older frame, and decodes all those after it without
converting them, up to the one in doubt. A refused frame then shows the older one.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

#: Repetitions from one look at the file to the next: as many as were seen before, where they were
#: none of refused frames, but not more than this. A look decodes up to a few hundred frames
_RARELY = 1000
# Of so many rows, one is compared
_ROWS = 16


class RefusedFrames:
    """
    Looks for refused frames among those of a reader, in their order.

    :param reopen: makes another reader of the file
    """

    def __init__(self, reopen: Callable[[], cv2.VideoCapture]) -> None:
        self._reopen = reopen
        self._rows: NDArray[np.uint8] | None = None
        #: The newest frame with another picture
        self._other = -1
        self._seen = 0
        self._due = 1

    def add(self, image: NDArray[np.uint8], index: int, milliseconds: float) -> bool:
        """
        Return whether a frame has been refused, as far as that has been looked at.

        :param image: (H, W, 3) RGB
        :param index: number of the frame
        :param milliseconds: its time as the reader states it
        """
        rows = image[::_ROWS]
        if self._rows is None or not np.array_equal(rows, self._rows):
            self._rows, self._other = rows, index - 1
            return False
        self._seen += 1
        if self._seen < self._due or self._other < 0:
            return False
        self._due = self._seen + min(self._seen, _RARELY)
        return self._is_refused(rows, milliseconds)

    def _is_refused(self, rows: NDArray[np.uint8], milliseconds: float) -> bool:
        """Whether a frame, of this time, shows what is converted before it."""
        capture = self._reopen()
        try:
            capture.set(cv2.CAP_PROP_POS_FRAMES, self._other)
            found, other = capture.read()
            # Where a file cannot be searched, this is not before the frame
            if not found or not capture.get(cv2.CAP_PROP_POS_MSEC) < milliseconds:
                return False
            while capture.get(cv2.CAP_PROP_POS_MSEC) < milliseconds:
                if not capture.grab():
                    return False
            found, image = capture.retrieve()
            return bool(found and np.array_equal(image, other)
                        and not np.array_equal(other[::_ROWS, :, ::-1], rows))
        finally:
            capture.release()
