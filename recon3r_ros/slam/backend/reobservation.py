# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Re-observation of old landmarks in a new keyframe.

Pairs of keyframes a few steps apart constrain a map weakly: over a pause or a rotation in place
its scale would drift. So every landmark that should be visible in a new keyframe is searched
there, from its own anchor's image, by KLT initialised with its projection. That also constrains
the new keyframe to those of an earlier visit.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.slam.types import Keyframe
from recon3r_ros.slam.visibility import visible

Array = NDArray[np.float64]

#: At most this many keyframes are searched: the newest ones, and old ones that overlap most
NEWEST, OLD = 5, 5
#: A keyframe is searched when this share of its landmarks should be visible
MIN_VISIBLE = 0.25
_WINDOW = (15, 15)
_LEVELS = 2
_STOP = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 15, 0.02)
#: Greatest forward-backward error of a landmark, and distance from its projection (pixels of the
#: tracking image)
_ROUND_TRIP = 0.7
_MAX_SURPRISE = 15.0


def candidates(keyframes: list[Keyframe], new: Keyframe) -> list[Keyframe]:
    """Keyframes whose landmarks should be visible in the new one, with images of its size."""
    shares = {}
    keyframes = [k for k in keyframes if k.gray.shape == new.gray.shape]
    for keyframe in keyframes:
        total = max(int((keyframe.landmarks > 0).sum()), 1)
        share = len(visible(keyframe, new)[0]) / total
        if share > MIN_VISIBLE:
            shares[keyframe.id] = share
    newest = [k for k in keyframes[-NEWEST:] if k.id in shares]
    old = sorted((k for k in keyframes[:-NEWEST] if k.id in shares),
                 key=lambda k: -shares[k.id])[:OLD]
    return newest + old


def reobserve(anchor: Keyframe, new: Keyframe) -> tuple[NDArray[np.int64], Array]:
    """
    Find an anchor's landmarks in a new keyframe.

    :return: (n,) indices of landmarks, and (n, 2) observations, pixels of the new one's grid
    """
    indices, projections = visible(anchor, new)
    if len(indices) == 0:
        return indices, projections
    start = _to_gray(anchor, anchor.keypoints[indices])
    guess = _to_gray(new, projections)
    found, status = _track(anchor, new, start, guess, _LEVELS)
    height, width = new.gray.shape
    near = np.flatnonzero(
        status & (np.linalg.norm(found - guess, axis=1) < _MAX_SURPRISE)
        & np.all((found >= 0) & (found <= [width - 1, height - 1]), axis=1))
    if len(near) == 0:
        return indices[near], projections[near]
    # Backwards, only those that may pass
    back, status = _track(new, anchor, found[near], start[near], 0)
    good = near[status & (np.linalg.norm(back - start[near], axis=1) < _ROUND_TRIP)]
    return indices[good], _to_grid(new, found[good])


def _track(first: Keyframe, second: Keyframe, start: NDArray[np.float32],
           guess: NDArray[np.float32], levels: int
           ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Track pixels (n, 2) of one image to another; pixels (n, 2), and which were found."""
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        first.gray, second.gray, start[:, None], guess[:, None].copy(), winSize=_WINDOW,
        maxLevel=levels, criteria=_STOP, flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
    return found[:, 0], status[:, 0] == 1


def _scale(keyframe: Keyframe) -> Array:
    return np.array([keyframe.gray.shape[1] / keyframe.camera.width,
                     keyframe.gray.shape[0] / keyframe.camera.height])


def _to_gray(keyframe: Keyframe, pixels: Array | NDArray[np.int32]) -> NDArray[np.float32]:
    return ((pixels + 0.5) * _scale(keyframe) - 0.5).astype(np.float32)


def _to_grid(keyframe: Keyframe, pixels: NDArray[np.float32]) -> Array:
    return (pixels + 0.5) / _scale(keyframe) - 0.5
