# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Gaussians of the results of a run, from the map alone."""

from __future__ import annotations

from collections.abc import Collection

import cv2
from recon3r_ros.io.run_folder import RunFolder
from recon3r_ros.slam.products.gaussians import gaussians_of
from recon3r_ros.slam.products.surfels import in_pixels_of, surfels_of
from recon3r_ros.slam.types import Gaussians, Keyframe

#: Pixels of a Gaussian's image along one of the keyframe's grid, at most: depth is interpolated
FINER = 2.0
#: Pixels of the image that a keyframe's Gaussians are made of, at most
MOST_PIXELS = 640 * 480


def map_gaussians(run: RunFolder, voxel: float | None,
                  used: Collection[int] | None = None) -> Gaussians:
    """
    Make Gaussians from a map, in the frame and unit of the results.

    :param voxel: distance between them; None: as fine as the pixels of the keyframes' images
    :param used: ids of the keyframes; None for all
    :returns: none where no depth is reliable
    """
    keyframes = [k for i, k in run.keyframes.items() if used is None or i in used]
    if voxel is not None:
        return gaussians_of(keyframes, voxel)
    return surfels_of([_finest(run, k) for k in keyframes])


def _finest(run: RunFolder, keyframe: Keyframe) -> Keyframe:
    """Return a keyframe in the pixels of its archived image, where those are finer."""
    archived, grid = run.archive[keyframe.id], keyframe.camera
    given = archived.camera
    share = min(1.0, FINER * grid.width / given.width,
                (MOST_PIXELS / (given.width * given.height)) ** 0.5)
    width, height = round(share * given.width), round(share * given.height)
    if width <= grid.width:
        return keyframe
    image = archived.view(1.0).image
    if share < 1:
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return in_pixels_of(keyframe, image)
