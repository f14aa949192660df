# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Objects that were mapped and have moved away since: later keyframes see free space there.

A parked car is as static as the street until it drives off. From then on keyframes observe the
surface behind it, and mapped points in front of an observed surface are removed.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.slam.dynamics.regions import large_regions
from recon3r_ros.slam.types import Keyframe
from recon3r_ros.slam.visibility import visible

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
    shares = {k.id: len(visible(k, new)[0]) / max(int((k.landmarks > 0).sum()), 1)
              for k in keyframes}
    seen = sorted((k for k in keyframes if shares[k.id] > MIN_OVERLAP),
                  key=lambda k: -shares[k.id])
    return seen[:MAX_LOOKED_AT]


def seen_through(old: Keyframe, new: Keyframe) -> Mask:
    """
    Find what an older keyframe mapped in the free space of a newer one.

    :return: (H, W) on the older one's grid
    """
    camera = new.camera
    known = (old.inverse_depth > 0) & (old.confidence > MIN_CONFIDENCE)
    rows, cols = (x * STEP for x in np.nonzero(known[::STEP, ::STEP]))
    depth = 1 / old.inverse_depth[rows, cols].astype(float)
    rays = old.camera.unproject(np.stack([cols, rows], axis=1))
    points = se3.transform(se3.inverse(new.T_map_cam) @ old.T_map_cam, rays * depth[:, None])
    z = points[:, 2]
    with np.errstate(divide='ignore', invalid='ignore'):
        pixels = camera.project(points)
        inside = (z > 0) & (pixels > 0).all(1) & (
            pixels < [camera.width - 1, camera.height - 1]).all(1)
    u, v = np.round(np.where(inside[:, None], pixels, 0)).astype(int).T
    nearest, confidence = _surface(new)
    surface = nearest[v, u]
    with np.errstate(divide='ignore'):
        sigma = np.sqrt(1 / old.confidence[rows, cols] + 1 / confidence[v, u])
    gap = np.maximum(SIGMAS * sigma, MIN_GAP)
    through = inside & (surface > 0) & (z * (1 + gap) < surface)
    found = np.zeros(known[::STEP, ::STEP].shape, np.uint8)
    found[rows // STEP, cols // STEP] = through
    # Where most of the neighbourhood is free space as well
    dense = cv2.blur(found.astype(np.float32), (5, 5)) > 0.5 * cv2.blur(
        known[::STEP, ::STEP].astype(np.float32), (5, 5))
    height, width = known.shape
    full = cv2.resize(large_regions(found & dense, MIN_REGION).astype(np.uint8), (width, height),
                      interpolation=cv2.INTER_NEAREST)
    return full > 0


def _surface(keyframe: Keyframe) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth (H, W) of the nearest surface around each pixel, 0 where unknown; its confidence."""
    sure = (keyframe.inverse_depth > 0) & (keyframe.confidence > MIN_CONFIDENCE)
    kernel = np.ones((2 * NEIGHBOURHOOD + 1,) * 2, np.uint8)
    nearest = cv2.dilate(np.where(sure, keyframe.inverse_depth, 0).astype(np.float32), kernel)
    whole = cv2.erode(sure.astype(np.uint8), kernel) > 0
    with np.errstate(divide='ignore'):
        return (np.where(whole, 1 / nearest, 0).astype(np.float32),
                np.where(whole, keyframe.confidence, 1).astype(np.float32))


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
        gone = {}
        for old in overlapping(older, new):
            through = seen_through(old, new)
            if through.any():
                votes = self._votes.setdefault(old.id, np.zeros(through.shape, np.uint8))
                votes += through
                gone[old.id] = votes >= MIN_VOTES
        return {i: mask for i, mask in gone.items() if mask.any()}
