# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Steady brightness: the gain from image to image is measured and taken back.

Lamps at 50 Hz, auto exposure and fades change the brightness of all pixels by one factor. KLT and
the detection of dynamic objects compare grey values, and take such a factor for motion. It is
measured against an anchor, an earlier image of steady brightness, on blocks that are searched in
it without regard to brightness, so that neither camera motion nor dynamic objects matter much:
the gain is what most of the blocks agree on.

A factor that tracking tolerates is left alone, and steady brightness follows the image's slowly:
where the light changes slowly, images stay as they are to the bit. KLT refers to keyframes, of
which a new one is made before that matters.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.frontend.thumbnails import matches, thumbnail
from recon3r_ros.slam.types import Frame

Image = NDArray[np.uint8]

#: Frames after which another one becomes the anchor
ANCHORED = 15
#: Correlation of a block that is found; blocks that must be found; grey values that are neither
#: noise nor saturated
FOUND, MIN_FOUND, DARKEST, BRIGHTEST = 0.8, 5, 12.0, 215.0
#: Difference (logarithm of a ratio) up to which blocks agree on a gain; share that must agree
AGREES, AGREEING = 0.04, 0.6
#: Gain (logarithm) that is tolerated, and that by which steady brightness may change in a frame
TOLERATED, FOLLOWS = 0.04, 0.004
#: Largest factor between an image and what it becomes
LARGEST = 3.0


class Exposure:
    """Steadies the brightness of one camera's images, frame by frame."""

    def __init__(self) -> None:
        self._anchor: Image | None = None
        self._age = 0
        #: Logarithms of brightness relative to the anchor's: of the newest image, and steady
        self._newest, self._steady = 0.0, 0.0

    def steadied(self, frame: Frame, gray: Image) -> tuple[Frame, Image]:
        """
        Give the next frame steady brightness.

        :param gray: (H, W) tracking image of it
        :return: the frame and its tracking image; as they are where their brightness is steady
        """
        gain = self._measured(gray)
        if gain == 1.0:
            return frame, gray
        return replace(frame, image=_scaled(frame.image, 1 / gain)), _scaled(gray, 1 / gain)

    def _measured(self, gray: Image) -> float:
        """Measure the factor from steady brightness to that of the next image."""
        view = thumbnail(gray)
        measured = None if self._anchor is None else _gain(self._anchor, view)
        if measured is not None:
            self._newest = measured
        self._steady += float(np.clip(self._newest - self._steady, -FOLLOWS, FOLLOWS))
        gain = self._newest - self._steady
        self._age += 1
        if self._anchor is None or measured is None or self._age >= ANCHORED:
            self._anchor, self._age = view, 0
            self._newest, self._steady = 0.0, -gain
        tolerated = np.clip(gain, -TOLERATED, TOLERATED)
        return float(np.clip(np.exp(gain - tolerated), 1 / LARGEST, LARGEST))


def _scaled(image: Image, factor: float) -> Image:
    """Multiply an image by a factor, saturated."""
    return cv2.convertScaleAbs(image, alpha=factor)


def _gain(anchor: Image, view: Image) -> float | None:
    """Return the logarithm of the factor between two thumbnails, where most blocks agree."""
    ratios = np.array([
        np.log(m.now / m.before) for m in matches(anchor, view)
        if m.correlation > FOUND and min(m.now, m.before) > DARKEST
        and max(m.now, m.before) < BRIGHTEST])
    if len(ratios) < MIN_FOUND:
        return None
    gain = float(np.median(ratios))
    return gain if np.mean(np.abs(ratios - gain) < AGREES) >= AGREEING else None
