# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One view at the resolutions of two-view geometry: grey images, features, keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import flow, pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models.keypoints import detect_keypoints
from recon3r_ros.models.local_features import Features, LocalFeatures
from recon3r_ros.models.place import describe_place
from recon3r_ros.models.types import View

#: Pixels of the image in which keypoints are matched; flow and pointmaps have half its width and
#: height
FINE_PIXELS = 640 * 480


@dataclass(frozen=True, eq=False)
class GeometricEncoding:
    """
    One view at the resolutions that two-view geometry works on.

    :param view: the view as given
    :param gray: grey image at twice the grid's size and on the grid
    :param camera: pinhole camera of the pointmap grid
    :param image: (H, W, 3) uint8 on the grid
    :param keypoints: (K, 2) salient grid pixels
    """

    view: View
    gray: flow.Pyramid
    camera: Camera
    image: NDArray[np.uint8]
    keypoints: NDArray[np.int32]

    @classmethod
    def of(cls, view: View) -> GeometricEncoding:
        """Prepare a view."""
        fine_camera = _within(view.camera, FINE_PIXELS)
        camera = view.camera.resized(fine_camera.width // 2, fine_camera.height // 2)
        fine = _resize(_to_gray(view.image), fine_camera)
        image = view.image if view.image.ndim == 3 else cv2.cvtColor(
            view.image, cv2.COLOR_GRAY2RGB)
        return cls(
            view, flow.Pyramid(fine, _resize(fine, camera)), camera, _resize(image, camera),
            detect_keypoints(fine, camera.width, camera.height, view.excluded))

    @property
    def features(self) -> None:
        """None: this predictor has no patch features."""

    @cached_property
    def _moving(self) -> NDArray[np.bool_] | None:
        """The known dynamic mask (H, W) on the grid."""
        if self.view.moving is None:
            return None
        return np.asarray(_resize(self.view.moving.astype(np.uint8) * 255, self.camera) >= 64)

    def still(self, pixels: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether each of (N, 2) grid pixels lies outside the known dynamic mask."""
        if self._moving is None:
            return np.ones(len(pixels), bool)
        u, v = np.round(pixels).astype(int).T
        return ~self._moving[v.clip(0, self.camera.height - 1), u.clip(0, self.camera.width - 1)]

    def sparse(self, features: LocalFeatures) -> Features:
        """
        Local features: pixels (N, 2) of the grid, and descriptors (N, D).

        Detected once. Before Python 3.12, a cached_property of one view would wait for another's.
        """
        known: Features | None = self.__dict__.get('_sparse')
        if known is None:
            known = self.__dict__['_sparse'] = self._detected(features)
        return known

    def _detected(self, features: LocalFeatures) -> Features:
        camera = _within(self.view.camera, features.max_pixels)
        pixels, descriptors = features.detect(_resize(_to_gray(self.view.image), camera))
        scale = np.array([self.camera.width / camera.width, self.camera.height / camera.height])
        return ((pixels.astype(float) + 0.5) * scale - 0.5).astype(np.float32), descriptors

    @cached_property
    def descriptor(self) -> NDArray[np.float32]:
        """Global descriptor, for loop closure and relocalisation."""
        return describe_place(self.gray.fine)

    @cached_property
    def texture(self) -> NDArray[np.float32]:
        """Mean squared gradient (H, W) around each pixel of the grid, grey levels^2 / pixel^2."""
        gx = cv2.Scharr(self.gray.coarse, cv2.CV_32F, 1, 0, scale=1 / 32)
        gy = cv2.Scharr(self.gray.coarse, cv2.CV_32F, 0, 1, scale=1 / 32)
        return cv2.blur(gx * gx + gy * gy, (5, 5))

    @cached_property
    def rays(self) -> NDArray[np.float32]:
        """Viewing rays (H, W, 3), z = 1, of the grid."""
        return pinhole.rays(
            flow.pixel_positions(self.camera.height, self.camera.width), self.camera)


def _to_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _within(camera: Camera, pixels: int) -> Camera:
    """Reduce a camera to at most this many pixels and even sides, with the same aspect."""
    factor = min(1.0, (pixels / (camera.width * camera.height)) ** 0.5)
    width, height = (2 * max(int(side * factor / 2 + 0.5), 8)
                     for side in (camera.width, camera.height))
    return camera if (width, height) == (camera.width, camera.height) else camera.resized(
        width, height)


def _resize(image: NDArray[np.uint8], camera: Camera) -> NDArray[np.uint8]:
    if image.shape[:2] == (camera.height, camera.width):
        return image
    return cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
