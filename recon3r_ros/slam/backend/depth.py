# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Canonical pointmaps: one depth per pixel of a keyframe from all its predictions.

DUSt3R (Wang et al., CVPR 2024, section 3.4) lets every pair vote by confidence for a pixel's
depth. Here each pair's vote is triangulated again with the refined poses, so that the poses of
single pairs have no effect, and votes that contradict each other lose confidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.two_view import triangulate

#: Votes farther apart than this many standard deviations contradict each other
_CONTRADICTION = 3.0
#: Relative depth errors that averaging does not reduce: calibration, interpolation
_SYSTEMATIC = 0.01
#: Least information of a depth worth keeping: a relative error of 1 / sqrt(.)
MIN_CONFIDENCE = 6.0


class Vote(Protocol):
    """Estimate of a keyframe's depths by one prediction."""

    def depths(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Inverse depth and weight (H, W) of a keyframe's rays (H, W, 3); no weight: unknown."""
        ...


@dataclass(frozen=True, eq=False)
class TriangulatedVote:
    """
    Correspondences of a keyframe's pixels in another keyframe.

    :param T_other_own: (4, 4) pose of the keyframe in the other camera
    :param camera: pinhole camera of the other's grid
    :param targets: (H, W, 2) the keyframe's pixels there
    :param confidence: (H, W) of the prediction
    """

    T_other_own: NDArray[np.float64]
    camera: Camera
    targets: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def depths(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Triangulate with the keyframes' poses."""
        inverse_depth, _, in_front = triangulate(
            rays, pinhole.rays(self.targets, self.camera), self.T_other_own)
        return inverse_depth, np.where(in_front, self.confidence, np.float32(0))


@dataclass(frozen=True, eq=False)
class LearnedVote:
    """
    Depth that a network predicted from the keyframe's image.

    :param inverse_depth: (H, W) in map units
    :param confidence: (H, W)
    """

    inverse_depth: NDArray[np.float32]
    confidence: NDArray[np.float32]

    def depths(self, rays: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return them as they are."""
        return self.inverse_depth, self.confidence


def fuse(rays: NDArray[np.float32], votes: Sequence[Vote]
         ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """
    Confidence-weighted mean of the votes' log depths.

    :param rays: (H, W, 3) of the keyframe, z = 1
    :return: inverse depth (H, W) and confidence (H, W), both 0 where unknown
    """
    if not votes:
        return np.zeros(rays.shape[:2], np.float32), np.zeros(rays.shape[:2], np.float32)
    logs, weights = [], []
    for vote in votes:
        inverse_depth, confidence = vote.depths(rays)
        valid = confidence > MIN_CONFIDENCE / 4
        logs.append(np.log(np.where(valid, inverse_depth, 1.0)))
        weights.append(np.where(
            valid, confidence / (1 + confidence * _SYSTEMATIC ** 2), 0.0))
    log, weight = np.stack(logs), np.stack(weights).astype(np.float32)
    # The most confident vote is the reference for the agreement of the others
    best = np.take_along_axis(log, weight.argmax(0)[None], 0)
    spread = _CONTRADICTION * np.sqrt(
        1 / np.maximum(weight, 1e-9) + 1 / np.maximum(weight.max(0), 1e-9))
    agrees = np.abs(log - best) < spread
    against = np.where(~agrees, weight, 0).sum(0)
    weight = np.where(agrees, weight, 0)
    total = weight.sum(0)
    mean = (weight * log).sum(0) / np.maximum(total, 1e-9)
    confidence = np.maximum(total - against, 0)
    known = confidence > MIN_CONFIDENCE
    return (np.where(known, np.exp(mean), 0).astype(np.float32),
            np.where(known, confidence, 0).astype(np.float32))
