# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
One pose per instant for all cameras of a rig.

Landmarks of all cameras give the pose together (`geometry/rig_pnp.py`). A camera whose own
landmarks are not found, or disagree with those of the others, gets the pose of the rig.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.rig_pnp import CameraObservations, refine_rig_pose, RigPose
from recon3r_ros.slam.frontend.camera_frontend import CameraFrontend
from recon3r_ros.slam.frontend.observed import Observed, OnRig
from recon3r_ros.slam.frontend.tracking import MAX_ERROR, MIN_INLIER_SHARE, MIN_INLIERS
from recon3r_ros.slam.rig_scale import MetreLength, RigScale
from recon3r_ros.slam.types import Map

Array = NDArray[np.float64]

#: Landmarks of one camera that must agree with the pose of the rig for it to count as tracked
MIN_OWN = 10


@dataclass(frozen=True, eq=False)
class Seen:
    """
    What one camera of a rig observes at an instant.

    :param frontend: of the camera
    :param observed: its frame, with the pose by its own landmarks
    :param rig: what the other cameras say; None where it is alone
    """

    frontend: CameraFrontend
    observed: Observed
    rig: OnRig | None = None

    @property
    def landmarks(self) -> int:
        """Number of landmarks that agree with its own pose."""
        track = self.observed.track
        return 0 if track is None else track.inlier_count

    def T_map_cam(self) -> Array:
        """Pose (4, 4) by its own landmarks."""
        return self.observed.T_map_cam()

    def covariance(self) -> Array:
        """Covariance (6, 6) of that pose."""
        track = self.observed.track
        assert track is not None and track.pose is not None
        return track.pose.covariance


class Rig:
    """Poses the cameras of a rig; learns the length of a metre in a map that has none."""

    def __init__(self) -> None:
        self._scales: dict[tuple[str, str], RigScale] = {}

    def metre(self, cameras: Sequence[Seen]) -> MetreLength | None:
        """
        Estimate the length of a metre in map units by the newest instant and those before.

        :param cameras: of one instant, of which some are tracked in a map without metres
        :return: None where it is not certain yet
        """
        mounted, leader = _on_rig(cameras)
        if leader is None or not leader.landmarks:
            return None
        found = [self._scale_of(leader, c).add(
            c.observed.gray, leader.T_map_cam(), leader.covariance())
            for c in mounted if not c.landmarks]
        return min((f for f in found if f is not None), key=lambda f: f.sigma, default=None)

    def leave_map(self) -> None:
        """Begin anew: another map begins, or the metre is known."""
        self._scales.clear()

    def _scale_of(self, leader: Seen, camera: Seen) -> RigScale:
        pair = leader.frontend.name, camera.frontend.name
        if pair not in self._scales:
            self._scales[pair] = RigScale(
                se3.inverse(_mount(leader, 1.0)) @ _mount(camera, 1.0),
                camera.frontend.rectifier.tracking_camera)
        return self._scales[pair]


def place(cameras: Sequence[Seen], known: Map) -> list[Seen]:
    """
    Pose the cameras of a rig at one instant together.

    :param cameras: all of one rig, or a single one that is on none
    :param known: the map
    :return: the same; what is tracked has the pose of the rig
    """
    mounted, best = _on_rig(cameras)
    if len(mounted) < 2 or best is None or (known.started and not best.landmarks):
        return list(cameras)
    if not known.started or known.metre is None:
        # One of them may begin the map at this very instant
        return [c if c.landmarks else Seen(c.frontend, c.observed, OnRig()) for c in cameras]
    found = _posed(mounted, best, known.metre)
    return [c if found is None or c.observed.frame.mount is None
            else _placed(c, best, *found, known.metre) for c in cameras]


def _on_rig(cameras: Sequence[Seen]) -> tuple[list[Seen], Seen | None]:
    """Cameras that are on a rig, and the one of them with most landmarks."""
    mounted = [c for c in cameras if c.observed.frame.mount is not None]
    return mounted, max(mounted, key=lambda c: c.landmarks, default=None)


def _posed(cameras: Sequence[Seen], best: Seen, metre: float
           ) -> tuple[RigPose, dict[str, NDArray[np.bool_]]] | None:
    """Pose the rig; with it, which keypoints of each camera's reference agree, by camera."""
    observations, used = [], []
    for camera in cameras:
        points, pixels, use = camera.observed.landmarks()
        used.append(use)
        observations.append(CameraObservations(
            points, pixels.astype(np.float64), camera.frontend.rectifier.tracking_camera,
            _mount(camera, metre)))
    T_map_rig = best.T_map_cam() @ se3.inverse(_mount(best, metre))
    pose = refine_rig_pose(observations, se3.inverse(T_map_rig), MAX_ERROR)
    if pose is None or sum(int(i.sum()) for i in pose.inliers) < MIN_INLIERS:
        return None
    agreeing = {}
    for camera, use, inliers in zip(cameras, used, pose.inliers):
        if inliers.sum() >= max(MIN_OWN, MIN_INLIER_SHARE * len(inliers)):
            agreeing[camera.frontend.name] = everything = np.zeros(len(use), bool)
            everything[use] = inliers
    # The camera that the search began with must not be overruled by others
    return (pose, agreeing) if best.frontend.name in agreeing else None


def _placed(camera: Seen, best: Seen, pose: RigPose, agreeing: dict[str, NDArray[np.bool_]],
            metre: float) -> Seen:
    mount = _mount(camera, metre)
    T_map_cam = se3.normalized(se3.inverse(pose.T_rig_world) @ mount)
    covariance = pose.covariance_of(mount)
    on_rig = OnRig(T_map_cam, covariance, best.observed.keyframe)
    inliers = agreeing.get(camera.frontend.name)
    if inliers is None:
        return Seen(camera.frontend, camera.observed.without_pose(), on_rig)
    posed = camera.observed.with_pose(T_map_cam, inliers, covariance, pose.rms)
    camera.frontend.correct(posed)
    return Seen(camera.frontend, posed, on_rig)


def _mount(camera: Seen, metre: float) -> Array:
    """Pose (4, 4) of a camera on its rig, map units."""
    mount = camera.observed.frame.mount
    assert mount is not None
    return se3.stretched(mount.T_rig_cam, metre)
