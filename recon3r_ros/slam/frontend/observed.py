# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a camera's front end knows of a frame before anything follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.pnp import PnPResult
from recon3r_ros.slam.frontend.tracking import Reference, Track
from recon3r_ros.slam.types import Frame, Keyframe

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observed:
    """
    A frame, and its landmarks.

    :param frame: with its usual brightness
    :param gray: (H, W) uint8 tracking image
    :param begin: when its processing began (time.perf_counter)
    :param begin_cpu: the same in CPU time of the thread
    :param left_alone: whether it may be the first of another scene, and is passed over
    :param keyframe: that it was tracked against; None where there is none with depth
    :param before: reference when it came
    :param track: against the reference; None where there is none
    :param reference: of the track: the keyframe's, or a temporary one
    :param T_keyframe_reference: (4, 4) pose of that reference relative to the keyframe
    """

    frame: Frame
    gray: NDArray[np.uint8]
    begin: float
    begin_cpu: float
    left_alone: bool = False
    keyframe: Keyframe | None = None
    before: Reference | None = None
    track: Track | None = None
    reference: Reference | None = None
    T_keyframe_reference: Array = field(default_factory=lambda: np.eye(4))

    def T_map_cam(self) -> Array:
        """Pose (4, 4) of a tracked frame, by that in the reference."""
        assert self.keyframe is not None and self.track is not None
        assert self.track.pose is not None
        return np.asarray(self.keyframe.T_map_cam @ (
            self.T_keyframe_reference @ se3.inverse(self.track.pose.T_cam_world)))

    def landmarks(self) -> tuple[Array, NDArray[np.float32], Mask]:
        """
        Return the landmarks that are observed.

        :return: their points (n, 3) in the map, their pixels (n, 2) in the frame, and which (N,)
            of the reference's keypoints they are
        """
        if self.track is None or self.keyframe is None or self.reference is None:
            return np.zeros((0, 3)), np.zeros((0, 2), np.float32), np.zeros(0, bool)
        use = self.track.found & np.isfinite(self.reference.points[:, 0])
        T_map_reference = self.keyframe.T_map_cam @ self.T_keyframe_reference
        return (se3.transform(T_map_reference, self.reference.points[use]),
                self.track.pixels[use], use)

    def with_pose(self, T_map_cam: Array, inliers: Mask, covariance: Array, rms: float
                  ) -> Observed:
        """
        Give it the pose that all cameras of a rig have together.

        :param T_map_cam: (4, 4)
        :param inliers: (N,) which of the reference's keypoints agree with it
        :param covariance: (6, 6), see `PnPResult`
        :param rms: of the inliers' residuals, pixels
        """
        assert self.track is not None and self.keyframe is not None
        T_cam_reference = se3.normalized(
            se3.inverse(T_map_cam) @ self.keyframe.T_map_cam @ self.T_keyframe_reference)
        return replace(self, track=replace(self.track, pose=PnPResult(
            T_cam_reference, inliers, covariance, rms)))

    def without_pose(self) -> Observed:
        """Take the pose from it: the other cameras of its rig disagree."""
        return self if self.track is None else replace(
            self, track=replace(self.track, pose=None))


@dataclass(frozen=True, eq=False)
class OnRig:
    """
    What the other cameras of a rig say of one camera's pose.

    :param T_map_cam: (4, 4); None where the other cameras have no pose, or their distances to this
        one are not known in map units
    :param covariance: (6, 6) of [omega, v], left perturbation in the camera frame
    :param keyframe: of the camera that is tracked best, to which the pose is stated relative
    """

    T_map_cam: Array | None = None
    covariance: Array | None = None
    keyframe: Keyframe | None = None
