# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Depth measured by a depth camera or a stereo rig: absolute, and known without parallax.

A map that begins with measured depth knows the length of a metre in its units; measured depths of
all its keyframes then have that one length, and the scale does not drift. In a map that began
without, each keyframe's landmarks tell the metre, as for depth predicted by a network.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
import math

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.depth_noise import DepthNoise, MeasuredDepth
from recon3r_ros.models.types import View
from recon3r_ros.slam.backend.depth import ImageVote, Vote
from recon3r_ros.slam.backend.learned import unit
from recon3r_ros.slam.scale import MAX_MEASURED
from recon3r_ros.slam.types import at, Keyframe, MetricScale

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

#: Factor between the depths around a pixel, above which it is beside a step, where depths are of
#: neither side: a surface is less than 80 degrees slanted below it
STEP = 1.05
#: Range of the noise of the depths around a pixel, standard deviations: that of 25 normal ones
NOISE_RANGE = 4.0
#: Standard deviation of a scale's logarithm up to which the distances between cameras give it
MAX_SIGMA = 0.1
#: Errors of neighbouring pixels are correlated (registration to the image, calibration, a time
#: offset): the inverse variance of a landmark's prior is limited to this, a relative error of 1 %
MAX_INFORMATION = 1e4


def depth_on_grid(view: View, grid: Camera) -> Floats | None:
    """
    Take the measured depth of a view for the pixels of its encoding's grid.

    :param grid: pinhole camera of the same view, resized and cropped
    :return: (H, W) float32 metres, 0 where unknown, beyond the sensor's range, or beside a step;
        None where nothing was measured
    """
    if view.depth is None:
        return None
    depth = np.where(np.isfinite(view.depth) & (view.depth > 0), view.depth, np.float32(0))
    scale = (view.camera.fx / grid.fx, view.camera.fy / grid.fy)
    around = np.ones([2 * math.ceil(s) + 1 for s in scale[::-1]], np.uint8)
    nearest = cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), around)
    limit = STEP + NOISE_RANGE * view.depth_noise.quadratic * depth
    usable = view.depth_noise.usable(depth) & (cv2.dilate(depth, around) / limit < nearest)
    x = (np.arange(grid.width) - grid.cx) * scale[0] + view.camera.cx
    y = (np.arange(grid.height) - grid.cy) * scale[1] + view.camera.cy
    return np.asarray(cv2.remap(depth * usable, *np.meshgrid(np.float32(x), np.float32(y)),
                                cv2.INTER_NEAREST, borderValue=0.0), np.float32)


class MeasuredDepths:
    """
    Measured depths of a map's keyframes; not all of them have any.

    Those of landmarks are kept for as long as the keyframe is, those of all pixels in the window;
    whole views by stereo, until the map's own depths are settled.
    """

    def __init__(self) -> None:
        self._landmarks: dict[int, Array] = {}
        self._noise: dict[int, DepthNoise] = {}
        self._pixels: dict[int, Floats] = {}
        self._by_rig: dict[int, MeasuredDepth] = {}
        #: Length of a metre in map units, where the map began with measured depth, or by a rig
        self.metre: float | None = None
        #: Whether it is an estimate, to be refined with the map
        self.estimated = False
        #: Standard deviation of its logarithm, where it is an estimate
        self.sigma = math.inf
        #: Keyframes of the whole map that it was estimated with
        self.estimated_with = 0

    def copy(self) -> MeasuredDepths:
        """Return an independent copy."""
        out = MeasuredDepths()
        out._landmarks, out._pixels = dict(self._landmarks), dict(self._pixels)
        out._noise, out._by_rig = dict(self._noise), dict(self._by_rig)
        out.metre, out.estimated, out.sigma = self.metre, self.estimated, self.sigma
        out.estimated_with = self.estimated_with
        return out

    def joined(self, addition: MeasuredDepths, scale: float) -> MeasuredDepths:
        """
        Return these with those of another map, whose window is that of the joined map.

        :param scale: factor from its units of length to these
        """
        out = addition.copy()
        out._landmarks = {**addition._landmarks, **self._landmarks}
        out._noise = {**addition._noise, **self._noise}
        out.metre, out.estimated, out.sigma = self.metre, self.estimated, self.sigma
        out.estimated_with = self.estimated_with
        if self.metre is None and addition.metre is not None:
            out.metre, out.estimated = scale * addition.metre, addition.estimated
            out.sigma, out.estimated_with = addition.sigma, addition.estimated_with
        return out

    def add(self, keyframe: Keyframe, view: View) -> None:
        """Add what was measured with a keyframe's view, if anything."""
        depth = depth_on_grid(view, keyframe.camera)
        if depth is not None:
            self._pixels[keyframe.id] = depth
            self._noise[keyframe.id] = view.depth_noise
            self._landmarks[keyframe.id] = at(depth, keyframe.keypoints).astype(np.float64)
        if view.depth is not None and view.depth_noise.source == 'rig':
            self._by_rig[keyframe.id] = MeasuredDepth(view.depth, view.depth_noise)
            while len(self._by_rig) > MAX_MEASURED:
                del self._by_rig[next(iter(self._by_rig))]

    @property
    def by_rig(self) -> Mapping[int, MeasuredDepth]:
        """What stereo measured with the newest keyframes, also where it is beside a step."""
        return self._by_rig

    @property
    def ids(self) -> set[int]:
        """Return the keyframes with measured depth."""
        return set(self._landmarks)

    def forget(self, i: int) -> None:
        """Drop a keyframe."""
        self._landmarks.pop(i, None)
        self._noise.pop(i, None)
        self._pixels.pop(i, None)
        self._by_rig.pop(i, None)

    def keep(self, window: Collection[int]) -> None:
        """Drop the pixels of all keyframes but these."""
        self._pixels = {i: depth for i, depth in self._pixels.items() if i in window}

    @property
    def rig_metric(self) -> MetricScale | None:
        """Scale of the map by the distances between the cameras of a rig, if it is certain."""
        if self.metre is None or not self.estimated or self.sigma > MAX_SIGMA:
            return None
        return MetricScale(1 / self.metre, self.sigma, 'rig')

    def fix_scale(self, ids: Iterable[int]) -> bool:
        """Whether priors of some keyframes are absolute."""
        return self.metre is not None and any(i in self._landmarks for i in ids)

    def of_landmarks(self, keyframe: Keyframe) -> Array:
        """Depths (K,) of a keyframe's static landmarks, metres; 0 where unknown."""
        depths = self._landmarks.get(keyframe.id)
        if depths is None:
            return np.zeros(len(keyframe.keypoints))
        return depths * ~at(keyframe.mask, keyframe.keypoints)

    def prior(self, keyframe: Keyframe) -> tuple[Array, Array]:
        """
        Return the measured depths of a keyframe's landmarks.

        :return: inverse depths (K,) in map units, and their information (K,), 0 where there is
            none
        """
        metre, depths = self._metre(keyframe), self.of_landmarks(keyframe)
        if metre is None:
            return np.ones(len(depths)), np.zeros(len(depths))
        information = self._information(keyframe, depths)
        return (1 / (metre * np.where(depths > 0, depths, 1.0)),
                information / (1 + information / MAX_INFORMATION))

    def completed(self, keyframe: Keyframe) -> Array:
        """Inverse depths (K,) of a keyframe's landmarks; measured where they were unknown."""
        inverse_depths, information = self.prior(keyframe)
        return np.where((keyframe.landmarks == 0) & (information > 0), inverse_depths,
                        keyframe.landmarks)

    def votes(self, keyframe: Keyframe) -> list[Vote]:
        """Return the estimate of a keyframe's depths, in map units, if there is one."""
        metre, depth = self._metre(keyframe), self._pixels.get(keyframe.id)
        if metre is None or depth is None:
            return []
        inverse = 1 / (np.float32(metre) * np.where(depth > 0, depth, np.float32(np.inf)))
        return [ImageVote(inverse.astype(np.float32),
                          self._noise[keyframe.id].information_of(depth))]

    def _metre(self, keyframe: Keyframe) -> float | None:
        """Length of a metre in map units; the map's own, or by the keyframe's landmarks."""
        if self.metre is not None:
            return self.metre
        depths = self.of_landmarks(keyframe)
        return unit(depths, self._information(keyframe, depths),
                    1 / np.where(keyframe.landmarks > 0, keyframe.landmarks, -1))

    def _information(self, keyframe: Keyframe, depths: Array) -> Array:
        """Inverse variances (K,) of the relative depths of a keyframe's landmarks."""
        noise = self._noise.get(keyframe.id)
        if noise is None:
            return np.zeros(len(depths))
        return noise.information_of(depths).astype(np.float64)
