# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Objects that were mapped and have moved away since: later keyframes see free space there.

A parked car is as static as the street until it drives off. From then on keyframes observe the
surface behind it, and mapped points in front of an observed surface are removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import compiled, dense
from recon3r_ros.geometry import pinhole, se3
from recon3r_ros.geometry.compiled_se3 import transform
from recon3r_ros.slam.dynamics.regions import large_regions
from recon3r_ros.slam.types import Keyframe
from recon3r_ros.slam.visibility import visible

Array = NDArray[np.float64]
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Every n-th row and column of the older keyframe's grid is tested
STEP = 3
#: A point must be nearer than the surface by this many standard deviations of both their depths,
#: and by this share of the surface's depth
SIGMAS, MIN_GAP = 3.0, 0.15
#: Least inverse variance of depth
MIN_CONFIDENCE = 100.0
#: The surface is the nearest one within so many pixels: outlines of depth are not exact
NEIGHBOURHOOD = 2
#: Regions of a smaller share of the grid are errors of depth
MIN_REGION = 0.004
#: Keyframes that must agree
MIN_VOTES = 2
#: Least share of an older keyframe's landmarks in view, and most keyframes tested, those that
#: overlap most
MIN_OVERLAP, MAX_LOOKED_AT = 0.1, 12


def overlapping(keyframes: list[Keyframe], new: Keyframe) -> list[Keyframe]:
    """Keyframes that overlap enough with a newer one."""
    shares = {k.id: len(visible(k, new)[0]) / max(int(np.count_nonzero(k.landmarks > 0)), 1)
              for k in keyframes}
    seen = sorted((k for k in keyframes if shares[k.id] > MIN_OVERLAP),
                  key=lambda k: -shares[k.id])
    return seen[:MAX_LOOKED_AT]


@dataclass(frozen=True, eq=False)
class FreeSpace:
    """
    Space that a keyframe sees through.

    :param keyframe: the keyframe
    :param depth: (H, W) of the nearest surface around each pixel, 0 where unknown
    """

    keyframe: Keyframe
    depth: Map

    @classmethod
    def of(cls, keyframe: Keyframe) -> FreeSpace:
        """Find the surfaces of a keyframe."""
        sure = (keyframe.inverse_depth > 0) & (keyframe.confidence > MIN_CONFIDENCE)
        kernel = np.ones((2 * NEIGHBOURHOOD + 1,) * 2, np.uint8)
        nearest = cv2.dilate(np.where(sure, keyframe.inverse_depth, np.float32(0)), kernel)
        whole = cv2.erode(sure.astype(np.uint8), kernel) > 0
        return cls(keyframe, np.divide(1, nearest, np.zeros_like(nearest), where=whole))


def seen_through(old: Keyframe, new: FreeSpace) -> Mask:
    """
    Find what an older keyframe mapped in the free space of a newer one.

    :return: (H, W) on the older one's grid
    """
    height, width = old.inverse_depth.shape
    shape = -(-height // STEP), -(-width // STEP)
    known, found = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    _look_through(dense(old.inverse_depth, np.float32), dense(old.confidence, np.float32),
                  pinhole.parameters(old.camera, np.float64),
                  se3.inverse(new.keyframe.T_map_cam) @ old.T_map_cam,
                  new.depth, dense(new.keyframe.confidence, np.float32),
                  pinhole.parameters(new.keyframe.camera, np.float64), known, found)
    if not found.any():
        return np.zeros((height, width), bool)
    # Where most of the neighbourhood is free space as well
    mostly = cv2.blur(found, (5, 5)) > 0.5 * cv2.blur(known, (5, 5))
    large = large_regions((found > 0) & mostly, MIN_REGION)
    return cv2.resize(large.astype(np.uint8), (width, height),
                      interpolation=cv2.INTER_NEAREST) > 0


@compiled('void(f4[:,::1], f4[:,::1], f8[::1], f8[:,::1], f4[:,::1], f4[:,::1], f8[::1], '
          'f4[:,::1], f4[:,::1])')
def _look_through(inverse_depth: Map, confidence: Map, K: Array, T: Array, surface: Map,
                  surface_confidence: Map, K_new: Array, known: Map, found: Map) -> None:
    """
    Compare every n-th point of a keyframe with the surface that another one sees in its place.

    :param inverse_depth: (H, W) of the keyframe
    :param confidence: (H, W) of the keyframe
    :param K: (fx, fy, cx, cy) of the keyframe
    :param T: (4, 4) from the keyframe to the other one
    :param surface: (h, w) depths of the other one
    :param surface_confidence: (h, w) of these
    :param K_new: (fx, fy, cx, cy) of the other one
    :param known: of 0; takes 1 where there is a point
    :param found: of 0; takes 1 where it is in free space
    """
    height, width = surface.shape
    for i in range(known.shape[0]):
        for j in range(known.shape[1]):
            row, column = STEP * i, STEP * j
            own = confidence[row, column]
            if not (inverse_depth[row, column] > 0 and own > MIN_CONFIDENCE):
                continue
            known[i, j] = 1
            depth = 1 / float(inverse_depth[row, column])
            x, y, z = transform(T, (column - K[2]) / K[0] * depth, (row - K[3]) / K[1] * depth,
                                depth)
            if not z > 0:
                continue
            u, v = x / z * K_new[0] + K_new[2], y / z * K_new[1] + K_new[3]
            if u > 0 and v > 0 and u < width - 1 and v < height - 1:
                at = int(np.rint(v)), int(np.rint(u))
                sigma = np.sqrt(1 / float(own) + 1 / float(surface_confidence[at]))
                if z * (1 + max(SIGMAS * sigma, MIN_GAP)) < surface[at]:
                    found[i, j] = 1


class Vanished:
    """Counts free-space violations of older keyframes by newer ones."""

    def __init__(self) -> None:
        self._votes: dict[int, NDArray[np.uint8]] = {}

    def copy(self) -> Vanished:
        """Return an independent copy."""
        out = Vanished()
        out._votes = {i: votes.copy() for i, votes in self._votes.items()}
        return out

    def forget(self, i: int) -> None:
        """Drop a keyframe."""
        self._votes.pop(i, None)

    def update(self, older: list[Keyframe], new: Keyframe) -> dict[int, Mask]:
        """
        Add the free space of a newer keyframe, whose depth is final.

        :return: masks (H, W) of vanished objects in older ones with new violations
        """
        gone, space = {}, FreeSpace.of(new)
        for old in overlapping(older, new):
            through = seen_through(old, space)
            if through.any():
                votes = self._votes.setdefault(old.id, np.zeros(through.shape, np.uint8))
                votes += through
                gone[old.id] = votes >= MIN_VOTES
        return {i: mask for i, mask in gone.items() if mask.any()}
