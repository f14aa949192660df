# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Images of numbers that belong to a camera's images: people, classes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.ros import conversions
from recon3r_ros.ros.depth_input import nearest
from sensor_msgs.msg import Image

#: Messages that are kept until their image is processed
KEPT = 10


class IdInput:
    """
    Keeps the messages of one topic; callbacks and worker may be in different threads.

    :param topic: for messages
    :param tolerance_s: greatest difference of stamps
    :param warn: called with a warning of one line
    :param most: greatest number that is allowed
    """

    def __init__(self, topic: str, tolerance_s: float, warn: Callable[[str], None],
                 most: int = 65535) -> None:
        self._topic = topic
        self._tolerance_ns = round(tolerance_s * 1e9)
        self._warn = warn
        self._most = most
        self._lock = Lock()
        self._kept: deque[tuple[int, Image]] = deque(maxlen=KEPT)

    def on_image(self, message: Image) -> None:
        """Keep a message until its image is processed."""
        with self._lock:
            self._kept.append((conversions.stamp_to_ns(message.header.stamp), message))

    def of(self, stamp_ns: int, shape: tuple[int, ...]) -> NDArray[np.uint16] | None:
        """
        Return the numbers (H, W) that belong to an image; unusable ones do not reject it.

        :param shape: (H, W) of the image
        """
        with self._lock:
            kept = list(self._kept)
        message = nearest(kept, stamp_ns, self._tolerance_ns)
        if message is None:
            return None
        try:
            ids = conversions.ids_from_message(message)
            if ids.shape != shape:
                raise InputError(f'{ids.shape[1]}x{ids.shape[0]} pixels, its image '
                                 f"{shape[1]}x{shape[0]}: publish them at the image's size")
            if ids.max(initial=0) > self._most:
                raise InputError(f'{ids.max()} is more than {self._most}')
        except InputError as error:
            self._warn(f'{self._topic}: {error}: its image is used without it')
            return None
        return ids
