# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Measured depth of one camera of the node: paired with its images, in their view."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError, Recon3rError
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.io.camera_info import camera_from_info
from recon3r_ros.ros import conversions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

if TYPE_CHECKING:
    from recon3r_ros.geometry.depth_registration import DepthRegistration

Array = NDArray[np.float64]

#: Messages kept until their image comes
KEPT = 10
#: A depth image belongs to the image nearest in time. They may be apart by half a period of the
#: two, which are often shifted by a constant, within these limits
MIN_APART_NS, MAX_APART_NS = 25_000_000, 50_000_000


class DepthInput:
    """
    The depth images of one camera; callbacks and worker may be in different threads.

    :param name: of the camera, in messages
    :param between: gives the fixed pose (4, 4) of the second frame in the first, metres; None
        where TF has none
    :param warn: called with a warning of one line
    """

    def __init__(self, name: str, between: Callable[[str, str], Array | None],
                 warn: Callable[[str], None]) -> None:
        self._topic = f'{name}/depth'
        self._between = between
        self._warn = warn
        self._lock = Lock()
        self._kept: deque[tuple[int, Any]] = deque(maxlen=KEPT)
        self._camera: Camera | None = None
        self._info: tuple[Any, ...] = ()
        self._made: tuple[tuple[Camera, Camera, bytes], DepthRegistration | None] | None = None

    def on_depth(self, message: Image | CompressedImage) -> None:
        """Keep a depth image until its image is processed."""
        with self._lock:
            self._kept.append((conversions.stamp_to_ns(message.header.stamp), message))

    def on_info(self, message: CameraInfo) -> None:
        """Take over the depth camera's intrinsics, where they are usable and new."""
        info = (message.width, message.height, message.distortion_model, tuple(message.d),
                tuple(message.k), tuple(message.p))
        if info == self._info:
            return
        self._info = info
        try:
            camera = camera_from_info(
                message, warn=lambda text: self._warn(f'{self._topic}/camera_info: {text}'))
        except Recon3rError as error:
            self._warn(f'{self._topic}/camera_info cannot be used and is ignored: {error}')
            return
        with self._lock:
            self._camera = camera

    def of(self, stamp_ns: int, period_s: float, frame_id: str, colour: Camera | None
           ) -> NDArray[np.float32] | None:
        """
        Depth that belongs to an image; an unusable one does not reject the image.

        :param period_s: time between two images; 0 where unknown
        :param frame_id: optical frame of the image
        :param colour: camera of the image; None where unknown
        :return: (h, w) float32 metres, NaN where unknown: the image's view in any size, or None
        """
        with self._lock:
            kept, camera = list(self._kept), self._camera
        message = nearest(kept, stamp_ns, apart_ns([s for s, _ in kept], period_s))
        if message is None:
            return None
        try:
            return self._in_view(message, camera, frame_id, colour)
        except InputError as error:
            self._warn(f'{self._topic}: {error}: tracked without it')
            return None

    def _in_view(self, message: Any, camera: Camera | None, frame_id: str, colour: Camera | None
                 ) -> NDArray[np.float32]:
        """
        Bring a depth image to the colour camera's view.

        :raises InputError: where it cannot be decoded, or what that needs is missing
        """
        own_frame = message.header.frame_id.lstrip('/') or frame_id
        T: Array | None = np.eye(4)
        if own_frame != frame_id:
            T = self._between(frame_id, own_frame)
            if T is None:
                raise InputError(
                    f'depth is in the frame {own_frame}, images are in {frame_id}, and TF has no '
                    'fixed transform between them: publish it on /tf_static, or give depth that '
                    'is registered to the image')
            if camera is None:
                raise InputError(
                    f'depth is in the frame {own_frame}, and there is no {self._topic}/camera_info'
                    ': remap that of the depth camera to it')
        depth = conversions.depth_from_message(message)
        if camera is None:
            return depth
        if colour is None:
            raise InputError('depth with intrinsics of its own needs those of the image: publish '
                             'its camera_info, or set calibration')
        assert T is not None
        # The node starts without compiled loops
        from recon3r_ros.geometry.depth_registration import DepthRegistration, is_registered
        fitting = camera.scaled_to(depth.shape[1], depth.shape[0])
        if fitting is None:
            raise InputError(f'depth image has {depth.shape[1]}x{depth.shape[0]} pixels, its '
                             f'camera_info {camera.width}x{camera.height}')
        key = fitting, colour, T.tobytes()
        if self._made is None or self._made[0] != key:
            self._made = key, (None if is_registered(fitting, colour, T)
                               else DepthRegistration(fitting, colour, T))
        register = self._made[1]
        return depth if register is None else register(depth)


def apart_ns(stamps_ns: list[int], period_s: float) -> int:
    """
    Greatest time between an image and its depth: half the shorter period of the two.

    :param stamps_ns: of depth images
    :param period_s: of images; 0 where unknown
    """
    steps = np.diff(np.unique(stamps_ns))
    periods = [p for p in (float(np.median(steps)) if len(steps) else 0.0, 1e9 * period_s) if p]
    return int(np.clip(min(periods, default=0.0) / 2, MIN_APART_NS, MAX_APART_NS))


def nearest(kept: list[tuple[int, Any]], stamp_ns: int, tolerance_ns: int) -> Any:
    """Return the message nearest in time, or None where none is near enough."""
    ordered = sorted(kept, key=lambda k: k[0])
    at = bisect_left([stamp for stamp, _ in ordered], stamp_ns)
    near = min(ordered[max(at - 1, 0):at + 1], key=lambda k: abs(k[0] - stamp_ns), default=None)
    if near is None or abs(near[0] - stamp_ns) > tolerance_ns:
        return None
    return near[1]
