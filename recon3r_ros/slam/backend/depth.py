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
from recon3r_ros.compiled import dense
from recon3r_ros.geometry import pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.backend import compiled_depth


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
        inverse_depth, confidence = compiled_depth.triangulated(
            dense(rays).reshape(-1, 3), self.targets.reshape(-1, 2),
            self.confidence.ravel(), pinhole.parameters(self.camera, np.float32),
            dense(self.T_other_own, np.float32))
        shape = self.confidence.shape
        return inverse_depth.reshape(shape), confidence.reshape(shape)


@dataclass(frozen=True, eq=False)
class ImageVote:
    """
    Depth of the keyframe's own image: predicted by a network, or measured.

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
    inverse_depths, confidences = (
        np.empty((len(votes), *rays.shape[:2]), np.float32) for _ in range(2))
    for n, vote in enumerate(votes):
        inverse_depths[n], confidences[n] = vote.depths(rays)
    inverse_depth, confidence = compiled_depth.fused(
        *(values.reshape(len(votes), -1) for values in (inverse_depths, confidences)))
    return inverse_depth.reshape(rays.shape[:2]), confidence.reshape(rays.shape[:2])
