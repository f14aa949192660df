# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a bundle adjustment takes and returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Observations:
    """
    Observations of one keyframe's landmarks in another.

    :param anchor: index of the keyframe the landmarks belong to
    :param observer: index of the keyframe that observes them
    :param landmarks: (n,) indices into the anchor's landmarks, without duplicates
    :param targets: (n, 2) pixels in the observer
    :param weights: (n,) relative weights, at most 1
    """

    anchor: int
    observer: int
    landmarks: Integers
    targets: Array
    weights: Array


@dataclass(frozen=True, eq=False)
class RigLinks:
    """
    Keyframes of one instant of a rig, whose poses relative to each other are known.

    :param leader: (K,) index of the keyframe of the same instant that each one follows; its own
        where there is none. A leader follows nobody, and is fixed where its followers are
    :param T_cam_leader: (K, 4, 4) pose of that one in each one's camera, map units
    """

    leader: Integers
    T_cam_leader: Array

    def linked(self, T_cam_map: Array) -> Array:
        """Poses (K, 4, 4) that follow from those of the leaders."""
        return self.T_cam_leader @ T_cam_map[self.leader]

    def steps(self, begin: Integers, size: int, focal_free: bool) -> Array:
        """
        Linear map (size, n) from the steps of the leaders, and the focal length, to all steps.

        :param begin: (K,) where each one's step begins; -1 where its pose is fixed
        """
        columns, count = {}, 0
        for k in np.flatnonzero((self.leader == np.arange(len(begin))) & (begin >= 0)):
            columns[int(k)], count = count, count + 6
        out = np.zeros((size, count + focal_free))
        for k in np.flatnonzero(begin >= 0):
            column = columns[int(self.leader[k])]
            out[begin[k]:begin[k] + 6, column:column + 6] = se3.adjoint(self.T_cam_leader[k])
        if focal_free:
            out[-1, -1] = 1.0
        return out


@dataclass(frozen=True, eq=False)
class Problem:
    """
    A bundle adjustment.

    :param T_cam_map: (K, 4, 4) initial poses
    :param fixed: (K,) poses that are held fixed; at least one
    :param intrinsics: (K, 4) fx fy cx cy
    :param pixels: per keyframe, its landmarks' pixels (L, 2)
    :param inverse_depths: per keyframe, their initial inverse depths (L,); 0 where unknown, which
        no observation may refer to
    :param observations: of landmarks in other keyframes
    :param focal_prior: mean and standard deviation of the logarithm of a factor common to all
        focal lengths; None where they are known
    :param depth_priors: per keyframe, prior inverse depths (L,), and the inverse variances (L,) of
        these relative depths, 0 where there is none; None without priors
    :param scale_known: whether depth priors or links are in map units, rather than in a unit that
        was estimated from the landmarks
    :param links: of keyframes on a rig; None without any
    :param metre_known: whether the links' unit of length is: else they are stretched so that the
        depths keep their median
    """

    T_cam_map: Array
    fixed: NDArray[np.bool_]
    intrinsics: Array
    pixels: tuple[Array, ...]
    inverse_depths: tuple[Array, ...]
    observations: tuple[Observations, ...]
    focal_prior: tuple[float, float] | None = None
    depth_priors: tuple[tuple[Array, Array], ...] | None = None
    scale_known: bool = False
    links: RigLinks | None = None
    metre_known: bool = True

    @property
    def holds_one_place(self) -> bool:
        """Whether the poses that are fixed are those of one place, which tells no scale."""
        fixed = np.flatnonzero(self.fixed)
        return len(fixed) == 1 or (
            self.links is not None and len(set(self.links.leader[fixed].tolist())) == 1)


@dataclass(frozen=True, eq=False)
class Solution:
    """
    The refined poses and depths.

    :param T_cam_map: (K, 4, 4)
    :param inverse_depths: per keyframe (L,)
    :param focal_factor: factor to multiply all focal lengths by
    :param sigma: robust standard deviation of the residuals, pixels
    :param inliers: per entry of `Problem.observations`, (n,) whether it agrees with the rest
    :param information: per keyframe (L,), inverse variance of its landmarks' relative depths
    :param stretch: factor of the links' lengths
    """

    T_cam_map: Array
    inverse_depths: tuple[Array, ...]
    focal_factor: float
    sigma: float
    inliers: tuple[NDArray[np.bool_], ...]
    information: tuple[Array, ...]
    stretch: float = 1.0
