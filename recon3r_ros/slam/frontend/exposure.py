# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Steady brightness: the gain from image to image is measured and taken back.

Lamps at 50 Hz, auto exposure and fades change the brightness of all pixels by one factor. KLT and
the detection of dynamic objects compare grey values, and take such a factor for motion. It is
measured on blocks that are found in the image before without regard to brightness, so that neither
camera motion nor dynamic objects matter much: the gain is what most of the blocks agree on.

A factor that tracking tolerates is left alone, and steady brightness follows the image's slowly:
where the light changes slowly, images stay as they are to the bit, and errors do not add up. KLT
refers to keyframes, of which a new one is made before that matters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.frontend.cuts import CutDetector
from recon3r_ros.slam.frontend.rectification import Rectifier
from recon3r_ros.slam.frontend.thumbnails import Match
from recon3r_ros.slam.types import Frame

Image = NDArray[np.uint8]

#: Blocks that must be found, and grey values that are neither noise nor saturated
MIN_FOUND, DARKEST, BRIGHTEST = 5, 12.0, 215.0
#: Difference (logarithm of a ratio) up to which blocks agree on a gain; share that must agree
AGREES, AGREEING = 0.04, 0.6
#: Gain (logarithm) that is tolerated, and that by which steady brightness may change in a frame
TOLERATED, FOLLOWS = 0.04, 0.004
#: Largest factor between an image and what it becomes
LARGEST = 3.0


class Exposure:
    """Steadies the brightness of one camera's images, frame by frame."""

    def __init__(self) -> None:
        #: Logarithm of the newest image's brightness relative to steady brightness
        self._gain = 0.0

    def steadied(self, frame: Frame, gray: Image, found: Sequence[Match]) -> tuple[Frame, Image]:
        """
        Give the next frame steady brightness.

        :param gray: (H, W) tracking image of it
        :param found: blocks of it that were found in the frame before
        :return: the frame and its tracking image; as they are where their brightness is steady
        """
        self._gain = float(np.clip(
            self._gain + _step(found), -np.log(LARGEST), np.log(LARGEST)))
        self._gain -= float(np.clip(self._gain, -FOLLOWS, FOLLOWS))
        taken = self._gain - float(np.clip(self._gain, -TOLERATED, TOLERATED))
        if taken == 0.0:
            return frame, gray
        factor = float(np.exp(-taken))
        return replace(frame, image=_scaled(frame.image, factor)), _scaled(gray, factor)


def steadied(frames: Iterable[Frame], lens: Rectifier) -> Iterator[tuple[Frame, Image]]:
    """
    Give the frames of one camera steady brightness again.

    :param frames: in order
    :return: each with its tracking image (H, W)
    """
    exposure, cuts = Exposure(), CutDetector()
    for frame in frames:
        gray = lens.tracking_image(frame)
        cuts.add(gray)
        yield exposure.steadied(frame, gray, cuts.found)


def _scaled(image: Image, factor: float) -> Image:
    """Multiply an image by a factor, saturated."""
    return cv2.convertScaleAbs(image, alpha=factor)


def _step(found: Sequence[Match]) -> float:
    """Return the logarithm of the gain between two images, on which most blocks agree; else 0."""
    ratios = np.array([np.log(m.now / m.before) for m in found
                       if min(m.now, m.before) > DARKEST and max(m.now, m.before) < BRIGHTEST])
    if len(ratios) < MIN_FOUND:
        return 0.0
    gain = float(np.median(ratios))
    return gain if np.mean(np.abs(ratios - gain) < AGREES) >= AGREEING else 0.0
