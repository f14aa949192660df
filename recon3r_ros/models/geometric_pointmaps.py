# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Dense matches of two views, and pointmaps triangulated from them with a relative pose.

A point's confidence is the inverse variance of its relative depth, (parallax sensitivity /
matching error)^2: it vanishes under pure rotation, where matching fails the forward-backward
check, off the epipolar line, behind a camera, and at the epipole of forward motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.compiled import dense
from recon3r_ros.geometry import flow, pinhole
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.models import compiled_pointmaps
from recon3r_ros.models.compiled_pointmaps import MAX_ROUND_TRIP
from recon3r_ros.models.geometric_encoding import GeometricEncoding

Array = NDArray[np.float64]
Grid = NDArray[np.float32]

#: Error of a match that was refined, grid pixels
SHARP_ERROR = 0.1


@dataclass(frozen=True, eq=False)
class Matches:
    """
    Correspondences of a grid's pixels in another grid.

    :param targets: (2, H, W) pixels of the other grid, u and v
    :param error: (H, W) pixels; infinite where unmatched
    """

    targets: Grid
    error: Grid

    @classmethod
    def of(cls, a: GeometricEncoding, forward: flow.Flow, backward: flow.Flow
           ) -> tuple[Matches, NDArray[np.bool_]]:
        """Match a's grid, refined at keypoints; and which of these pass the check."""
        targets, error = compiled_pointmaps.matched(forward.dense, backward.dense, a.texture)
        height, width = backward.dense.shape[:2]
        inside = np.all(
            (forward.targets >= 0) & (forward.targets <= [width - 1, height - 1]), axis=1)
        trip = np.linalg.norm(
            forward.targets + flow.lookup(backward.dense, forward.targets) - a.keypoints, axis=1)
        good = inside & forward.sharp & (trip < MAX_ROUND_TRIP)
        u, v = a.keypoints.T
        targets[:, v[good], u[good]] = forward.targets[good].T
        # Landmarks need exact matches: a keypoint whose match was not refined counts as unmatched
        error[v, u] = np.where(good, SHARP_ERROR, np.inf)
        return cls(targets, error), good

    def rays(self, camera: Camera) -> Grid:
        """Return the viewing rays (H, W, 3) of the targets in the other camera."""
        return pinhole.rays(np.moveaxis(self.targets, 0, -1), camera)


@dataclass(frozen=True, eq=False)
class Pointmap:
    """
    One view's points, triangulated with its matches in another view.

    :param points: (H, W, 3) in its own camera's frame; finite, too, where there is no depth
    :param confidence: (H, W), see `Prediction`
    :param seen: (H, W, 3) in the other camera's frame, each point on the ray of its match
    :param moving: (H, W), see `Prediction`
    """

    points: Grid
    confidence: Grid
    seen: Grid
    moving: NDArray[np.int8]

    @classmethod
    def of(cls, own: GeometricEncoding, other: GeometricEncoding, matches: Matches,
           T_other_own: Array) -> Pointmap:
        """
        Triangulate a view's matches.

        :param T_other_own: (4, 4); the length of its translation is the unit of length
        """
        return cls(*compiled_pointmaps.pointmap(*_arguments(own, other, matches, T_other_own)))


def only_turned(own: GeometricEncoding, other: GeometricEncoding, matches: Matches,
                T_other_own: Array) -> NDArray[np.bool_]:
    """Tell which matches (H, W) a pure rotation explains."""
    return compiled_pointmaps.only_turned(*_arguments(own, other, matches, T_other_own))


def _arguments(own: GeometricEncoding, other: GeometricEncoding, matches: Matches,
               T_other_own: Array) -> tuple[Grid, Grid, Grid, Grid, Grid]:
    return (matches.targets, matches.error, pinhole.parameters(own.camera, np.float32),
            pinhole.parameters(other.camera, np.float32), dense(T_other_own, np.float32))
