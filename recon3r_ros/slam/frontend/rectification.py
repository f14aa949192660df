# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""From source images to pinhole views: undistorted and resized once, here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError
from recon3r_ros.geometry.averaging import Averaging
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.stereo_pair import StereoPair
from recon3r_ros.models.types import View
from recon3r_ros.slam.dynamics.cells import mask_size
from recon3r_ros.slam.types import Frame

#: Pixels of the image that features are tracked in
TRACKING_PIXELS = 640 * 480
#: Initial focal length over the longer side: a horizontal field of view of about 60 degrees
GUESSED_FOCAL = 0.85


class Rectifier:
    """
    Turns one camera's frames into undistorted views, large for prediction, small for tracking.

    :param source: camera of the source images
    :param calibrated: whether its intrinsics are known
    """

    def __init__(self, source: Camera, calibrated: bool) -> None:
        self.source = source
        self.calibrated = calibrated
        self.camera = self._initial = source if source.is_pinhole else source.rectified()
        factor = min(1.0, (TRACKING_PIXELS / (source.width * source.height)) ** 0.5)
        self.tracking_camera = self.camera.resized(
            round(source.width * factor), round(source.height * factor))
        self._maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        self._tracking_maps = self._maps
        self._mask_maps = self._maps
        self._colour_maps = self._maps
        self._static: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
        small = mask_size(self.tracking_camera)
        self._averaging = Averaging.over((source.height, source.width), small[1], small[0])
        if not source.is_pinhole:
            maps = source.rectification_maps()
            size = (self.tracking_camera.width, self.tracking_camera.height)
            self._maps = cv2.convertMaps(*maps, cv2.CV_16SC2)
            self._tracking_maps = cv2.convertMaps(
                *(cv2.resize(m, size, interpolation=cv2.INTER_LINEAR) for m in maps),
                cv2.CV_16SC2)
            self._mask_maps = source.distortion_maps()
            scale = (small[0] / source.width, small[1] / source.height)
            self._colour_maps = cv2.convertMaps(
                *((cv2.resize(m, small, interpolation=cv2.INTER_LINEAR) + 0.5) * s - 0.5
                  for m, s in zip(maps, scale)), cv2.CV_16SC2)

    def refocus(self, factor: float, refined: float = 1.0) -> None:
        """
        Set the focal length of the rectified views.

        :param factor: of the initial one, where the camera is uncalibrated
        :param refined: of the given one, where it is calibrated
        """
        factor = refined if self.calibrated else factor
        self.camera = replace(
            self._initial, fx=self._initial.fx * factor, fy=self._initial.fy * factor)
        self.tracking_camera = self.camera.resized(
            self.tracking_camera.width, self.tracking_camera.height)

    @classmethod
    def of(cls, frame: Frame) -> Rectifier:
        """
        Make the rectifier for a frame and those like it.

        :raises InputError: where the camera's size is not the image's
        """
        height, width = frame.image.shape[:2]
        if frame.camera is None:
            factor = (GUESSED_FOCAL if frame.focal_prior is None
                      else frame.focal_prior / max(width, height))
            return cls(Camera.guess(width, height, factor), calibrated=False)
        if (frame.camera.width, frame.camera.height) != (width, height):
            raise InputError(
                f'image {frame.name} is {width}x{height} but its camera is calibrated for '
                f'{frame.camera.width}x{frame.camera.height}: give intrinsics of the same size')
        return cls(frame.camera, calibrated=True)

    def difference(self, frame: Frame) -> str:
        """Describe how a frame's size differs from that of this camera; '' where it does not."""
        height, width = frame.image.shape[:2]
        if (width, height) == (self.source.width, self.source.height):
            return ''
        return (f'is {width}x{height}, those before it are '
                f'{self.source.width}x{self.source.height}: give images of one size')

    def check(self, frame: Frame) -> None:
        """
        Check that a frame has the size of this camera.

        :raises InputError: where it has another one
        """
        difference = self.difference(frame)
        if difference:
            raise InputError(f'image {frame.name} {difference}')

    def view(self, frame: Frame) -> View:
        """Full-size pinhole view, for a predictor."""
        image = frame.image
        if self._maps is not None:
            image = cv2.remap(image, *self._maps, cv2.INTER_LINEAR)
        return View(image, self.camera, self.calibrated)

    def tracking_image(self, frame: Frame) -> NDArray[np.uint8]:
        """Grey (H, W) uint8 image of `tracking_camera`."""
        image = frame.image
        if image.ndim == 3:
            image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        size = (self.tracking_camera.width, self.tracking_camera.height)
        if self._tracking_maps is not None:
            if self.source.width > 1.5 * size[0]:
                # Bilinear look-up in a much larger image aliases
                sigma = 0.4 * self.source.width / size[0]
                image = cv2.GaussianBlur(image, (0, 0), sigma)
            return cv2.remap(image, *self._tracking_maps, cv2.INTER_LINEAR)
        if (image.shape[1], image.shape[0]) != size:
            return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return image

    def colours(self, frame: Frame) -> NDArray[np.uint8]:
        """Rectified colours (h, w, 3) RGB in mask pixels, a third of the tracking image's."""
        small = self._averaging.of(frame.image)
        if self._colour_maps is not None:
            small = cv2.remap(small, *self._colour_maps, cv2.INTER_LINEAR)
        return small if small.ndim == 3 else cv2.cvtColor(small, cv2.COLOR_GRAY2RGB)

    def given_mask(self, frame: Frame) -> NDArray[np.bool_] | None:
        """Rectify the mask that came with a frame: (h, w) in mask pixels, or None."""
        return None if frame.mask is None else self.mask_from_source(
            frame.mask, mask_size(self.tracking_camera)[::-1])

    def static_mask(self, frame: Frame) -> NDArray[np.bool_] | None:
        """Rectify what is fixed to the camera, once: (h, w) in mask pixels, or None."""
        if frame.static_mask is None:
            return None
        if self._static is None or self._static[0] is not frame.static_mask:
            self._static = frame.static_mask, self.mask_from_source(
                frame.static_mask, mask_size(self.tracking_camera)[::-1])
        return self._static[1]

    def labels_to_source(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Bring labels of any size on the rectified image to the source image's pixels."""
        full = cv2.resize(labels.astype(np.float32), (self.source.width, self.source.height),
                          interpolation=cv2.INTER_NEAREST)
        if self._mask_maps is not None:
            full = cv2.remap(full, *self._mask_maps, cv2.INTER_NEAREST)
        return full.astype(np.int32)

    def mask_to_source(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Bring a mask of any size on the rectified image to the source image's pixels."""
        full = cv2.resize(mask.astype(np.uint8) * 255, (self.source.width, self.source.height),
                          interpolation=cv2.INTER_LINEAR)
        if self._mask_maps is not None:
            full = cv2.remap(full, *self._mask_maps, cv2.INTER_LINEAR)
        return full >= 128

    def mask_from_source(self, mask: NDArray[np.bool_], shape: tuple[int, ...]
                         ) -> NDArray[np.bool_]:
        """Bring a mask of the source image to (h, w) pixels of the rectified one."""
        full = mask.astype(np.uint8) * 255
        if self._maps is not None:
            full = cv2.remap(full, *self._maps, cv2.INTER_NEAREST)
        full = cv2.resize(full, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
        return full >= 128

    def field_from_source(self, field: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
        """
        Bring labels of the source image (H, W) to (h, w) pixels of the rectified one.

        :return: of the same type, with values of `field` alone; 0 beyond the source image
        """
        if self._maps is not None:
            field = cv2.remap(field, *self._maps, cv2.INTER_NEAREST)
        return cv2.resize(field, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST_EXACT)

    def depth(self, frame: Frame) -> NDArray[np.float32] | None:
        """Measured depth (H, W) of a frame in the pixels of its full-size view, metres or NaN."""
        if frame.depth is None:
            return None
        depth = cv2.resize(frame.depth, (self.source.width, self.source.height),
                           interpolation=cv2.INTER_NEAREST)
        if self._maps is None:
            return depth
        return cv2.remap(depth, *self._maps, cv2.INTER_NEAREST, borderValue=float('nan'))

    def stereo_pair(self, frame: Frame) -> StereoPair | None:
        """
        Images that stereo measures the depth of a frame's full-size view from.

        :return: None where a depth camera has measured it, or where there is no second image;
            and of a camera with unknown intrinsics, whose depth nothing tells
        """
        if frame.depth is not None or frame.stereo is None or not self.calibrated:
            return None
        return StereoPair(frame.image, self.source, frame.stereo.image, frame.stereo.camera,
                          frame.stereo.T_cam_other)
