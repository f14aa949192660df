# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A frame as the detection of dynamic objects takes it, with or without a pose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.types import Frame, Keyframe

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


class Lens(Protocol):
    """Rectifies the frames of a camera."""

    @property
    def tracking_camera(self) -> Camera:
        """Pinhole camera of the tracking images."""
        ...

    @property
    def calibrated(self) -> bool:
        """Whether its intrinsics are known."""
        ...

    def tracking_image(self, frame: Frame) -> Image:
        """Rectify a frame: (H, W) grey."""
        ...

    def colours(self, frame: Frame) -> Image:
        """Rectify the colours of a frame: (h, w, 3) RGB in mask pixels."""
        ...

    def static_mask(self, frame: Frame) -> Mask | None:
        """Rectify what the user knows to be fixed to the camera: (h, w) in mask pixels."""
        ...

    def given_mask(self, frame: Frame) -> Mask | None:
        """Rectify the mask that came with a frame: (h, w) in mask pixels, or None."""
        ...


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """
    A frame of one camera.

    :param index: of the frame
    :param gray: (H, W) tracking image
    :param colours: rectified image (h, w, 3) RGB, in mask pixels: `Rectifier.colours`
    :param reference: a keyframe near it; its depth should not include dynamic objects. None where
        the frame has no pose
    :param T_reference_cam: (4, 4) pose in the reference's camera frame, map units
    :param stamp_ns: of the frame
    :param given: (h, w) dynamic objects that the user knows, in mask pixels, or None
    :param static: (h, w) what the user knows to be fixed to the camera, likewise
    """

    index: int
    gray: Image
    colours: Image
    reference: Keyframe | None = None
    T_reference_cam: Array = field(default_factory=lambda: np.eye(4))
    stamp_ns: int = 0
    given: Mask | None = None
    static: Mask | None = None
