# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Input of one camera: callbacks that only read headers, and the messages of an image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.io.masks import check_static_mask, read_static_mask
from recon3r_ros.io.tone_map import ToneMap
from recon3r_ros.ros import conversions
from recon3r_ros.ros.depth_input import DepthInput, nearest
from recon3r_ros.ros.id_input import IdInput
from recon3r_ros.ros.intrinsics import Intrinsics
from recon3r_ros.ros.parameters import CameraConfig
from recon3r_ros.ros.stamps import Judgement, StampGuard, Verdict
from recon3r_ros.slam.semantics import Labels, People
from recon3r_ros.slam.types import Frame
from sensor_msgs.msg import CompressedImage, Image

#: Seconds that an image waits for a first CameraInfo before its focal length is estimated
INFO_PATIENCE_S = 2.0
#: Masks kept until their image comes
COMPANIONS = 10


@dataclass(frozen=True, eq=False)
class Arrival:
    """
    A queued image.

    :param message: Image or CompressedImage
    :param stamp_ns: that it is processed with
    :param arrival_s: when it came (time.monotonic)
    :param reset: whether time went back before it
    """

    camera: CameraInput
    message: Any
    stamp_ns: int
    arrival_s: float
    reset: bool


@dataclass(frozen=True, eq=False)
class Instant:
    """
    What waits to be processed: one image, or those that cameras of a rig took at one instant.

    :param source: name of the rig, or of the camera where it is on none
    :param stamp_ns: of the instant
    :param arrivals: by camera; not empty
    """

    source: str
    stamp_ns: int
    arrivals: Mapping[str, Arrival]

    @property
    def reset(self) -> bool:
        """Whether time went back before it."""
        return any(arrival.reset for arrival in self.arrivals.values())

    @property
    def arrival_s(self) -> float:
        """When the first of its images came (time.monotonic)."""
        return min(arrival.arrival_s for arrival in self.arrivals.values())

    @property
    def period_s(self) -> float:
        """Seconds between images of its fastest camera; 0 where unknown."""
        rate = max(arrival.camera.counts().rate for arrival in self.arrivals.values())
        return 1 / rate if rate else 0.0


@dataclass(frozen=True)
class InputCounts:
    """
    Counts of a camera's images.

    :param dropped: from a full queue
    :param rejected: that could not be used, with the last `reason`
    :param last_stamp_ns: of the newest image taken; None before the first
    :param last_arrival_s: when the newest image came (time.monotonic)
    :param rate: images a second, of the last ones
    """

    received: int
    dropped: int
    rejected: int
    reason: str
    last_stamp_ns: int | None
    last_arrival_s: float | None
    rate: float


class CameraInput:
    """
    The messages of one camera; callbacks and worker may be in different threads.

    :param config: what the parameters say of it
    :param queue: takes the images
    :param warn: called with a warning of one line
    :param between: gives the fixed pose (4, 4) of the second frame in the first, see `DepthInput`
    """

    def __init__(self, config: CameraConfig, queue: Callable[[Arrival], None],
                 warn: Callable[[str], None],
                 between: Callable[[str, str], NDArray[np.float64] | None] = lambda a, b: None
                 ) -> None:
        self.name = config.name
        self.frame_id = ''
        self._config = config
        self._queue = queue
        self._warn = warn
        self._lock = Lock()
        self._guard = StampGuard()
        self._tone_map = ToneMap()
        self._received = 0
        self._dropped = 0
        self._rejected = 0
        self._reason = ''
        self._index = 0
        self._stamped: bool | None = None
        self._undecided: tuple[Image | CompressedImage, float, int] | None = None
        self._first_arrival_s: float | None = None
        self._last_stamp_ns: int | None = None
        self._arrivals: deque[float] = deque(maxlen=30)
        self._static_mask = (
            read_static_mask(config.static_mask) if config.static_mask else None)
        #: Where its camera_info goes
        self.intrinsics = Intrinsics(config, warn)
        #: Where its depth goes
        self.depth = DepthInput(config.name, between, warn)
        #: Where its people, labels and instances go
        self.people = IdInput(f'{config.name}/people', config.label_tolerance, warn)
        self.labels = IdInput(f'{config.name}/labels', config.label_tolerance, warn, 255)
        self.instances = IdInput(f'{config.name}/instances', config.label_tolerance, warn)
        self._masks: deque[tuple[int, Any]] = deque(maxlen=COMPANIONS)

    def on_image(self, message: Image | CompressedImage, now_ns: int) -> None:
        """
        Queue an image if its stamp is plausible.

        :param now_ns: the node's time, for drivers that do not stamp
        """
        arrival_s = time.monotonic()
        stamp_ns = conversions.stamp_to_ns(message.header.stamp)
        with self._lock:
            self._received += 1
            self._arrivals.append(arrival_s)
            if self._first_arrival_s is None:
                self._first_arrival_s = arrival_s
        first = self._undecided
        if self._stamped is None:
            if first is None and stamp_ns == 0:
                # A recording may begin at zero: the second image decides
                self._undecided = (message, arrival_s, now_ns)
                return
            self._stamped, self._undecided = stamp_ns != 0, None
            if not self._stamped:
                self._warn('images have no stamp: the time of their arrival is taken')
            if first is not None:
                self._judge(first[0], 0 if self._stamped else first[2], first[1])
        if stamp_ns == 0:
            if self._stamped:
                self.reject('image without a stamp, unlike those before')
                return
            stamp_ns = now_ns
        self._judge(message, stamp_ns, arrival_s)

    def _judge(self, message: Image | CompressedImage, stamp_ns: int, arrival_s: float) -> None:
        """Queue an image, unless its stamp is implausible."""
        judgement = self._guard.judge(stamp_ns, round(arrival_s * 1e9))
        if judgement.verdict is Verdict.REJECT:
            self.reject(f'image at {stamp_ns}: {judgement.reason}')
            return
        self._queue(self._arrival(message, judgement, arrival_s))

    def _arrival(self, message: Image | CompressedImage, judgement: Judgement, arrival_s: float
                 ) -> Arrival:
        with self._lock:
            self._last_stamp_ns = judgement.stamp_ns
            # tf2 knows no frames with a leading slash
            self.frame_id = (message.header.frame_id.lstrip('/')
                             or f'{self.name}_optical_frame')
        reset = judgement.verdict is Verdict.RESET
        if reset:
            self._warn(f'{judgement.reason}: the map is reset')
        return Arrival(self, message, judgement.stamp_ns, arrival_s, reset)

    def on_mask(self, message: Image) -> None:
        """Keep a mask until its image is processed."""
        with self._lock:
            self._masks.append((conversions.stamp_to_ns(message.header.stamp), message))

    def frame(self, arrival: Arrival) -> Frame | None:
        """
        Decode an image, with what belongs to it.

        :return: None while the first CameraInfo is waited for
        :raises InputError: for an image that cannot be used
        """
        with self._lock:
            waiting = (not self.intrinsics.known and not self._config.uncalibrated
                       and self._first_arrival_s is not None
                       and arrival.arrival_s < self._first_arrival_s + INFO_PATIENCE_S)
            mask = nearest(list(self._masks), arrival.stamp_ns, 0)
        if waiting:
            return None
        if hasattr(arrival.message, 'format'):
            pixels = conversions.image_from_compressed(arrival.message)
        else:
            pixels = conversions.image_from_message(arrival.message)
        image = self._tone_map(pixels)
        if self._static_mask is not None:
            check_static_mask(self._config.static_mask, self._static_mask, image)
        camera, rate = self.intrinsics.camera(image.shape[1], image.shape[0]), self.counts().rate
        frame = Frame(
            image, arrival.stamp_ns, str(arrival.stamp_ns), self._index, camera, self.name,
            self.depth.of(arrival.stamp_ns, 1 / rate if rate else 0.0, self.frame_id, camera),
            None if mask is None else self._fitting(conversions.mask_from_message(mask), image),
            static_mask=self._static_mask)
        people = self.people.of(frame.stamp_ns, image.shape[:2])
        self._index += 1
        return replace(frame, people=None if people is None else People(people),
                       labels=self._labels_of(frame.stamp_ns, image.shape[:2]))

    def _labels_of(self, stamp_ns: int, shape: tuple[int, ...]) -> Labels | None:
        """Labels of an image of (H, W) pixels; None where nothing came."""
        classes = self.labels.of(stamp_ns, shape)
        instances = self.instances.of(stamp_ns, shape)
        if classes is None and instances is None:
            return None
        return Labels(np.zeros(shape, np.uint8) if classes is None else classes.astype(np.uint8),
                      instances=instances)

    def reject(self, reason: str) -> None:
        """Count an image that cannot be used."""
        with self._lock:
            self._rejected += 1
            self._reason = reason
        self._warn(reason)

    def drop(self) -> None:
        """Count an image that a full queue has dropped."""
        with self._lock:
            self._dropped += 1

    def counts(self) -> InputCounts:
        """Return counts of the images so far."""
        with self._lock:
            times = list(self._arrivals)
            rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
            return InputCounts(self._received, self._dropped, self._rejected, self._reason,
                               self._last_stamp_ns, times[-1] if times else None, rate)

    @staticmethod
    def _fitting(mask: Any, image: Any) -> Any:
        if mask.shape != image.shape[:2]:
            raise InputError(
                f'mask has {mask.shape[1]}x{mask.shape[0]} pixels, its image '
                f"{image.shape[1]}x{image.shape[0]}: publish masks of the image's size")
        return mask

