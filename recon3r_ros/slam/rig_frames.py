# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames of a rig's cameras at one instant, posed again in the refined map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.rig_pnp import CameraObservations, refine_rig_pose
from recon3r_ros.slam.frontend.tracking import MAX_ERROR, MIN_INLIER_SHARE
from recon3r_ros.slam.types import Map, TrackedFrame

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RigSighting:
    """
    A frame of a camera on a rig, and the landmarks that it shows.

    :param serial: of the frame
    :param frame: posed by these landmarks alone
    :param points: (N, 3) landmarks in their keyframe's frame
    :param pixels: (N, 2) their observations
    :param camera: pinhole camera of the tracking image
    :param agreeing: how many agree with the frame's pose; 0 where that could not be found again
    """

    serial: int
    frame: TrackedFrame
    points: Array
    pixels: NDArray[np.float32]
    camera: Camera
    agreeing: int


def pose_together(sightings: Sequence[RigSighting], known: Map) -> dict[int, TrackedFrame]:
    """
    Pose the frames of an instant together, from the landmarks of all of them.

    :param sightings: of several cameras, whose keyframes are in a map that knows metres
    :return: the frames by serial; none where the camera with most landmarks disagrees
    """
    assert known.metre is not None
    mounts = [_mount(s.frame, known.metre) for s in sightings]
    references = [known.keyframes[s.frame.keyframe].T_map_cam for s in sightings]
    observations = [
        CameraObservations(
            se3.transform(T, s.points), s.pixels.astype(np.float64), s.camera, mount)
        for s, T, mount in zip(sightings, references, mounts)]
    best = max(range(len(sightings)), key=lambda n: sightings[n].agreeing)
    frame = sightings[best].frame
    T_map_rig = known.pose_in_map(
        frame.keyframe, frame.T_keyframe_cam, frame.scale) @ se3.inverse(mounts[best])
    pose = refine_rig_pose(observations, se3.inverse(T_map_rig), MAX_ERROR)
    if (pose is None or not sightings[best].agreeing
            or pose.inliers[best].mean() < MIN_INLIER_SHARE):
        return {}
    T_map_rig = se3.inverse(pose.T_rig_world)
    return {s.serial: replace(
        s.frame, covariance=pose.covariance_of(mount), scale=known.scale_of(s.frame.keyframe),
        T_keyframe_cam=se3.normalized(se3.inverse(T) @ T_map_rig @ mount))
        for s, T, mount in zip(sightings, references, mounts)}


def _mount(frame: TrackedFrame, metre: float) -> Array:
    """Pose (4, 4) of a frame's camera on its rig, map units."""
    assert frame.mount is not None
    return se3.stretched(frame.mount.T_rig_cam, metre)


def follow(frame: TrackedFrame, best: Mapping[int, tuple[TrackedFrame, Array]], known: Map
            ) -> TrackedFrame | None:
    """
    Pose a frame by another camera of its instant.

    :param best: frames with landmarks, and their poses T_map_cam (4, 4), by instant
    """
    assert frame.mount is not None and known.metre is not None
    if frame.mount.instant_ns not in best:
        return None
    other, T_map_other = best[frame.mount.instant_ns]
    assert other.mount is not None
    T_other_cam = se3.stretched(
        se3.inverse(other.mount.T_rig_cam) @ frame.mount.T_rig_cam, known.metre)
    keyframe = known.present(other.keyframe)
    A = se3.adjoint(se3.inverse(T_other_cam))
    return replace(
        frame, keyframe=keyframe.id, scale=known.scale_of(keyframe.id),
        T_keyframe_cam=se3.inverse(keyframe.T_map_cam) @ T_map_other @ T_other_cam,
        covariance=A @ other.covariance @ A.T)
