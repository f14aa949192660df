# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The noise of measured depth, whatever measured it."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray

#: Relative error of a depth above which it is not used
LARGEST_RELATIVE_ERROR = 0.1
#: Relative error that a calibrated rig has at least, alike in all its depths: baseline, focal
#: length, and relative rotation
RIG_FLOOR = 0.002


@dataclass(frozen=True)
class DepthNoise:
    """
    Noise of a sensor's depths: sigma(z) = hypot(floor * z, quadratic * z^2).

    :param floor: relative error that does not depend on the depth
    :param quadratic: standard deviation over the square of the depth, 1/m
    :param nearest: depths that are usable are beyond this, metres
    :param farthest: and nearer than this, metres
    :param source: what measured: 'depth', a depth camera, or 'rig', a stereo rig
    """

    floor: float
    quadratic: float
    nearest: float
    farthest: float
    source: str

    def information_of(self, depth: NDArray[np.floating]) -> NDArray[np.float32]:
        """Inverse variance of the relative error of depths, metres; 0 where unknown."""
        variance = self.floor ** 2 + (self.quadratic * depth) ** 2
        return np.where(depth > 0, 1 / variance, 0).astype(np.float32)

    def usable(self, depth: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Whether depths, metres, are in the sensor's range; NaN is not."""
        return (depth > self.nearest) & (depth < self.farthest)

    @classmethod
    def of_rig(cls, sigma_disparity: float, focal: float, baseline: float, nearest: float,
               baseline_error: float = 0.0) -> DepthNoise:
        """
        Noise of triangulated depth: sigma(z) = z^2 sigma_disparity / (f b).

        A relative error of the baseline is one of all depths (Gallup et al., CVPR 2008, eq. 2).

        :param sigma_disparity: standard deviation, pixels
        :param focal: pixels, of the same image
        :param baseline: metres
        :param nearest: depth of the largest disparity that is searched, metres
        :param baseline_error: its relative standard deviation, where a calibration gives one
        """
        quadratic = sigma_disparity / (focal * baseline)
        return cls(math.hypot(RIG_FLOOR, baseline_error), quadratic, nearest,
                   LARGEST_RELATIVE_ERROR / quadratic, 'rig')


#: A depth camera: half a pixel of disparity of structured light (Khoshelham and Elberink, Sensors
#: 2012, section 3.2), and the range in which such cameras measure well
STRUCTURED_LIGHT = DepthNoise(0.005, 1.42e-3, 0.2, 8.0, 'depth')


@dataclass(frozen=True, eq=False)
class MeasuredDepth:
    """
    Depth of a view, with its noise.

    :param depth: (H, W) float32 metres along the optical axis, NaN where unknown
    :param noise: of these depths
    """

    depth: NDArray[np.float32]
    noise: DepthNoise
