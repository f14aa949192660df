# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Compressed images of keyframes, kept for loop closure and relocalisation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.types import View

_QUALITY = 95


@dataclass(frozen=True, eq=False)
class ArchivedView:
    """
    A compressed view, to be encoded again for loop closure or relocalisation.

    :param jpeg: the image's bytes
    :param camera: pinhole camera of the image
    :param calibrated: whether the intrinsics are known
    :param focal_factor: true over initial focal length, as estimated when it was archived
    """

    jpeg: NDArray[np.uint8]
    camera: Camera
    calibrated: bool
    focal_factor: float

    @classmethod
    def of(cls, view: View, focal_factor: float) -> ArchivedView:
        """Compress a view."""
        _, jpeg = cv2.imencode('.jpg', view.image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        return cls(np.asarray(jpeg, np.uint8), view.camera, view.calibrated, focal_factor)

    def view(self, focal_factor: float) -> View:
        """Return the view with the present focal length."""
        ratio = focal_factor / self.focal_factor
        camera = replace(self.camera, fx=self.camera.fx * ratio, fy=self.camera.fy * ratio)
        image = cv2.imdecode(self.jpeg, cv2.IMREAD_UNCHANGED)
        return View(np.asarray(image, np.uint8), camera, self.calibrated)

    def gray(self) -> NDArray[np.uint8]:
        """Return the brightness (H, W), to be compared with that of other archived views."""
        # Red and blue are exchanged in the file, and so are their weights
        return np.asarray(cv2.imdecode(self.jpeg, cv2.IMREAD_GRAYSCALE), np.uint8)
