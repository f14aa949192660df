# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Wide samples to 8 bits, steadily from image to image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.errors import InputError

#: Percentiles of an image: all but hot pixels lie between the outer ones; the others tell whether
#: all values have shifted together
_PERCENTILES = (0.1, *range(5, 100, 5), 99.9)
#: Pixels that the percentiles are taken from, about
_SAMPLE = 20_000
#: Content to either side of the present one that still has grey levels, as a share of its width
_MARGIN = 0.15
#: Share of the way to the content's range that an end of the range goes in an image, and grey
#: levels that it goes at most
_PACE, _MOST = 0.1, 1.0
#: Grey levels that all values shift by, at least, in a step; the share of that, and the grey
#: levels, by which the shifts of most percentiles may differ; and the percentage of them that is
#: most: a percentile between two modes jumps easily
_STEP, _APART, _APART_LEVELS, _MOST_SHIFTS = 2.0, 0.25, 8.0, 80
#: Share of clipped pixels above which nothing is left to be steady for
_LOST = 0.5
#: Float samples above this are no picture from 0 to 1, those below the other none from 0 to 255
_UNIT, _DIM = 1.05, 64.0


@dataclass(frozen=True)
class _Range:
    """
    Sample values that become 0 and 255.

    :param low: becomes 0
    :param width: from there to what becomes 255, at least 255
    """

    low: float
    width: float

    @classmethod
    def of(cls, low: float, high: float) -> _Range:
        """Return the range for content from `low` to `high`; a uniform one amplifies nothing."""
        margin = max((high - low) * _MARGIN, (255.0 - (high - low)) / 2)
        low, high = max(0.0, low - margin), min(65535.0, high + margin)
        return cls(low, max(high - low, 255.0))

    def moved(self, target: _Range) -> _Range:
        """Return the range after one image whose content has another one."""
        most = _MOST * self.width / 255.0
        by_low, by_high = (
            float(np.clip(_PACE * difference, -most, most))
            for difference in (target.low - self.low,
                               target.low + target.width - self.low - self.width))
        return _Range(self.low + by_low, max(self.width + by_high - by_low, 255.0))

    def table(self) -> NDArray[np.uint8]:
        """Return the 8-bit value of every 16-bit value, (65536,)."""
        values = np.arange(65536, dtype=np.float64)
        return np.clip((values - self.low) * (255.0 / self.width) + 0.5, 0, 255).astype(np.uint8)


class ToneMap:
    """
    Converts the images of one sequence, in their order, to 8 bits.

    A 16-bit image may use any part of the range: cameras use the lowest 10, 12 or 14 bits, and a
    thermal camera a narrow band anywhere, which drifts. A shift by eight bits would leave most of
    them nearly black. Stretching every image by its own range would make brightness flicker, which
    breaks the brightness constancy of feature tracking and photometric terms. One range for the
    whole sequence is left by a sensor that drifts. So the range of the first image (0.1 to 99.9
    percentile, without hot pixels, and a margin) is mapped linearly to 0..255, and then follows
    that of each image, by a grey level at most: the same surface keeps its grey value from
    image to image, and what drifts is kept in range. Two changes are followed at once:

    - All values shift together, as when a thermal camera corrects its offsets behind a shutter:
      the range shifts with them, so that the picture looks as before. They do where all
      percentiles of the image shift alike, which hardly depends on the camera's motion.
    - Most of the image lies outside of the range: there is no picture to be kept constant.

    The result depends only on the images seen; a sequence that is iterated again begins with a new
    tone map. Colour channels share one range, which keeps hues. Float samples are a picture where
    they lie in 0..1 or 0..255, which is not stretched.
    """

    def __init__(self) -> None:
        """Start without a range."""
        self._range: _Range | None = None
        self._percentiles: NDArray[np.float64] = np.zeros(len(_PERCENTILES))
        self._white = 1.0

    def __call__(self, image: NDArray[np.generic]) -> NDArray[np.uint8]:
        """
        Return the image with 8 bits per sample; an 8-bit image is returned unchanged.

        :param image: (H, W) or (H, W, 3): uint8, uint16 or float32
        :raises InputError: for other samples, and float samples that are no picture
        """
        if image.dtype == np.uint8:
            return image.astype(np.uint8, copy=False)
        if image.dtype == np.float32:
            self._white = max(self._white, white_of(image))
            return np.clip(image.astype(np.float32) * np.float32(255.0 / self._white) + 0.5,
                           0, 255).astype(np.uint8)
        if image.dtype != np.uint16:
            raise InputError(f'image has {image.dtype} samples, expected 8 or 16 bit integers, or '
                             'float32')
        self._range = self._followed(_sample(image))
        return self._range.table()[image]

    def _followed(self, sample: NDArray[np.float64]) -> _Range:
        """Return the range for an image of which some values (N,) are given."""
        before, now = self._percentiles, np.percentile(sample, _PERCENTILES)
        self._percentiles = now
        target = _Range.of(float(now[0]), float(now[-1]))
        if self._range is None:
            return target
        low, width = self._range.low, self._range.width
        shifts = (now - before)[1:-1]
        shift = float(np.median(shifts))
        level = width / 255.0
        apart = min(_APART * abs(shift), _APART_LEVELS * level)
        if (abs(shift) > _STEP * level
                and np.percentile(abs(shifts - shift), _MOST_SHIFTS) <= apart):
            low += shift
        if ((sample < low) | (sample > low + width)).mean() > _LOST:
            return target
        return _Range(low, width).moved(target)


def _sample(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return values (N,) on a regular grid of the image."""
    every = max(1, round((image.shape[0] * image.shape[1] / _SAMPLE) ** 0.5))
    return image[::every, ::every].astype(np.float64).reshape(-1)


def white_of(image: NDArray[np.generic]) -> float:
    """
    Return the value of white in a picture of float samples: 1 or 255.

    :param image: (H, W)
    :raises InputError: where its values are no brightness, but distances in metres for example
    """
    low, high = float(image.min()), float(image.max())
    if 1.0 - _UNIT <= low and high <= _UNIT:
        return 1.0
    if -0.5 <= low and _DIM < high < 256.0:
        return 255.0
    raise InputError(
        f'its values, {low:.4g} to {high:.4g}, are no brightness from 0 to 1 or from 0 to 255, '
        'but depth in metres, say; publish a picture as mono8 or mono16')
