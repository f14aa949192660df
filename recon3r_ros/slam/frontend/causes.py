# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Why a frame has no pose, as far as it can be measured."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.frontend.keyframes import sharpness

#: Standard deviation of grey values below which contrast is low; share of the image that may be
#: masked; share of the usual sharpness that a blurred image has
LOW_CONTRAST, MAX_MASKED, BLURRED = 6.0, 0.7, 0.3
#: Parallax (pixels) and overlap of images that do not change
UNCHANGED_SHIFT, UNCHANGED_OVERLAP = 0.3, 0.95
#: Share of the first keyframe's keypoints below which matches are few
FEW = 0.3


class Cause(Enum):
    """Cause, in words for the user."""

    CONTRAST = 'low contrast'
    MASKED = 'most of the image is masked or fixed to the camera'
    BLUR = 'motion blur'
    UNCHANGED = 'static camera: the images do not change'
    NO_PARALLAX = 'no parallax: the camera only turns, or hardly moves'
    ZOOM = 'a zoom, or an approach to a plane, which looks the same without intrinsics'
    ZOOMED = 'zoom: the focal length is no more that of the map'
    FEW_MATCHES = 'few matches: too little overlap or texture'
    LITTLE_DEPTH = 'parallax, but too little depth agrees: moving objects, blur or a wrong camera'
    NOT_FOUND = 'lost: the image does not match the map'
    UNSCALED = ('other cameras of the rig are tracked; their distances to this one are not known '
                'in map units yet')
    CUT = 'a cut, or a single image that differs from those around it'


#: Causes by which an image shows nothing, however long one waits
NOTHING_SEEN = (Cause.CONTRAST, Cause.MASKED)


def of_image(gray: NDArray[np.uint8], masked: float, usual_sharpness: float) -> Cause | None:
    """
    Find what is wrong with an image itself.

    :param gray: (H, W) tracking image
    :param masked: share of it that is not used
    :param usual_sharpness: of images before it; 0 where there are none
    """
    if float(gray.std()) < LOW_CONTRAST:
        return Cause.CONTRAST
    if masked > MAX_MASKED:
        return Cause.MASKED
    if sharpness(gray) < BLURRED * usual_sharpness:
        return Cause.BLUR
    return None


def of_initialisation(shift: float, overlap: float, rejected: bool) -> Cause:
    """
    Find why a frame does not start a map with the first keyframe.

    :param shift: median parallax of keypoints, pixels
    :param overlap: share of the first keyframe's keypoints that it observes
    :param rejected: whether a pair with this first keyframe was rejected
    """
    if overlap < FEW:
        return Cause.FEW_MATCHES
    if rejected:
        return Cause.LITTLE_DEPTH
    if shift < UNCHANGED_SHIFT and overlap > UNCHANGED_OVERLAP:
        return Cause.UNCHANGED
    return Cause.NO_PARALLAX
