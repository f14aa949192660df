# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Source images, masks and depth as views of a pinhole camera."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera, pixel_grid

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_ROUNDING = 1e-6  # pixels
_OUTSIDE = -16.0  # map entry that lies outside every image, for cv2.remap


def pinhole_of(source: Camera, grid: Camera) -> Camera:
    """
    Return the pinhole camera that source images are undistorted to.

    :param source: camera of the images
    :param grid: pinhole of a keyframe, the same view in other pixels
    :returns: `source` itself where that is the same, but for rounding: its images stay as they are
    """
    view = grid.resized(source.width, source.height)
    same = source.is_pinhole and np.allclose(source.K, view.K, rtol=0, atol=_ROUNDING)
    return source if same else view


class Undistortion:
    """
    From images of a camera to those of a pinhole at the same place.

    :param source: camera of the images, with any distortion
    :param pinhole: camera of the views, of any size
    """

    def __init__(self, source: Camera, pinhole: Camera) -> None:
        self.source, self.pinhole = source, pinhole
        self._maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        #: (H, W) pixels of the view that the source image shows
        self.seen: Mask = np.ones((pinhole.height, pinhole.width), bool)
        if source != pinhole:
            pixels = source.project(pinhole.unproject(pixel_grid(pinhole.height, pinhole.width)))
            inside = (pixels >= -0.5) & (pixels <= (source.width - 0.5, source.height - 0.5))
            self.seen = np.asarray(inside.all(-1))
            x, y = (np.where(self.seen, pixels[..., axis], _OUTSIDE).astype(np.float32)
                    for axis in range(2))
            self._maps = x, y

    def image(self, image: Image) -> Image:
        """
        Return the view of a source image; black where that does not show it.

        :param image: (H, W) or (H, W, 3)
        """
        if self._maps is None:
            return image
        view = cv2.remap(image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        view[~self.seen] = 0
        return np.asarray(view, np.uint8)

    def mask(self, mask: Mask) -> Mask:
        """Return the view of a mask (H, W) of the source image; True where that shows nothing."""
        if self._maps is None:
            return mask
        view = cv2.remap(mask.astype(np.uint8), *self._maps, cv2.INTER_NEAREST)
        return (view > 0) | ~self.seen


def enlarged(values: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
    """
    Return values of a coarser grid of a camera's view at all its pixels, the nearest ones.

    Nothing is interpolated: between two surfaces there is no depth.

    :param values: (h, w)
    :param camera: of the view (H, W)
    """
    rows = ((np.arange(camera.height) + 0.5) * values.shape[0] / camera.height).astype(int)
    columns = ((np.arange(camera.width) + 0.5) * values.shape[1] / camera.width).astype(int)
    return values[rows[:, None], columns]
