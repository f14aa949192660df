# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""An image with mask and depth, from which clouds and people are made; in the outputs' thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.backend.stereo_depth import StereoDepth
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.semantics import People
from recon3r_ros.slam.types import Frame
from recon3r_ros.slam.visibility import Surface


class SeenImage:
    """
    An image in the pixels of its full-size view; each part is computed when it is first needed.

    :param mask: makes the mask (H, W) of what is dynamic, at the image's size
    :param stereo: measures the depth of a stereo pair
    :param surface: finds the static surface in a view, where depth is not measured; None where
        there is none
    """

    def __init__(self, frame: Frame, lens: Rectifier, mask: Callable[[], NDArray[np.bool_]],
                 stereo: StereoDepth, surface: Callable[[Camera], Surface] | None) -> None:
        self._frame = frame
        self._lens = lens
        self._mask = mask
        self._stereo = stereo
        self._surface = surface

    @cached_property
    def camera(self) -> Camera:
        """Pinhole camera of the view."""
        return self._lens.camera

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """What is dynamic, (H, W)."""
        return self._lens.mask_from_source(self._mask(), (self.camera.height, self.camera.width))

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """Its pixels, (H, W, 3) RGB or (H, W) grey."""
        return self._lens.view(self._frame).image

    @cached_property
    def measured(self) -> NDArray[np.float32] | None:
        """Measured depth (H, W), metres, NaN where unknown; None without, stereo takes a while."""
        pair = self._lens.stereo_pair(self._frame)
        if pair is None:
            return self._lens.depth(self._frame)
        found = self._stereo.of(self._frame.camera_name, pair)
        return None if found is None else found.depth

    @cached_property
    def depth(self) -> NDArray[np.float32] | Surface:
        """Measured depth, else the static surface in map units; NaN where there is neither."""
        if self.measured is not None:
            return self.measured
        if self._surface is None:  # a rig that cannot measure
            return np.full((self.camera.height, self.camera.width), np.nan, np.float32)
        return self._surface(self.camera)

    def people(self, people: People) -> People:
        """Bring people of the source image to the pixels of the view."""
        return People(self._lens.field_from_source(
            people.instances, (self.camera.height, self.camera.width)), people.scores)
