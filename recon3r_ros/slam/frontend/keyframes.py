# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Keyframe selection: by parallax, overlap and rotation, avoiding blurred images."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.geometry.two_view import fit_rotation, parallax
from recon3r_ros.slam.frontend.tracking import Reference, Track
from recon3r_ros.slam.options import FrontendOptions

Array = NDArray[np.float64]

#: Below this overlap even a blurred keyframe is better than losing track
CRITICAL_OVERLAP = 0.4
#: Least median parallax of a first pair: several times the noise of tracking (pixels), and so much
#: of the image's width that dynamic objects do not fit a wrong pose. It does not measure the
#: baseline, most of which a rotation can imitate; the prediction decides whether there is depth.
#: After some frames of waiting only the noise counts, and where the scene leaves the image faster
#: than parallax grows: where less than that share of the keypoints is found again
FIRST_SHIFT, FIRST_SHIFT_SHARE, PATIENT_FRAMES, HURRIED_OVERLAP = 2.0, 0.01, 20, 0.75
#: The same share where poses are awaited live: the map begins half as late, a little less accurate
LIVE_SHIFT_SHARE = 0.006
#: Median parallax (pixels) below which a camera only rotated
STILL_PIXELS = 1.0
#: Keypoints that a rotation is fitted to, at least
MIN_TRACKED = 8
#: Share of keypoints found again below which a first pair is tried whatever its parallax
FIRST_OVERLAP = 0.5
#: Share of the parallax that may be left where a zoom explains it, and iterations to find the zoom
ZOOM_SHARE, ZOOM_ITERATIONS = 0.25, 4


def sharpness(gray: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), half size against noise."""
    half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(half, cv2.CV_32F).var())


def overlap(track: Track, reference: Reference) -> float:
    """Share of a reference's landmarks that a tracked frame observes."""
    return track.inlier_count / max(int(np.isfinite(reference.points[:, 0]).sum()), 1)


def is_due(track: Track, reference: Reference, blurred: bool,
           options: FrontendOptions = FrontendOptions()) -> bool:
    """
    Whether a tracked frame should become a keyframe.

    :param track: the frame's, with a pose
    :param reference: what it was tracked against
    """
    assert track.pose is not None
    seen = overlap(track, reference)
    if blurred and seen > CRITICAL_OVERLAP:
        return False
    T = track.pose.T_cam_world
    points = reference.points[track.pose.inliers]
    moved = se3.transform(T, points)
    turned = points @ T[:3, :3].T
    angles = np.arccos(np.clip(np.sum(moved * turned, axis=1) / np.maximum(
        np.linalg.norm(moved, axis=1) * np.linalg.norm(turned, axis=1), 1e-12), -1, 1))
    return bool(seen < options.keyframe_overlap
                or np.median(angles) > np.deg2rad(options.keyframe_parallax)
                or se3.rotation_angle(T[:3, :3]) > np.deg2rad(options.keyframe_rotation))


def first_shift(track: Track, reference: Reference, camera: Camera) -> float:
    """Median parallax (pixels) of keypoints, without the best rotation."""
    turn, angles = _turned(track, reference, camera)
    return 0.0 if turn is None else float(np.median(angles)) * camera.fx


def is_zoom(track: Track, reference: Reference, camera: Camera) -> bool:
    """
    Whether a rotation and a change of the focal length explain what looks like parallax.

    A zoom looks like an approach to a plane: images of unknown focal length cannot tell.
    """
    turn, angles = _turned(track, reference, camera)
    if turn is None:
        return False
    shift = float(np.median(angles)) * camera.fx
    return shift > STILL_PIXELS and _without_zoom(track, reference, camera, turn) < min(
        STILL_PIXELS, ZOOM_SHARE * shift)


def _without_zoom(track: Track, reference: Reference, camera: Camera, turn: Array) -> float:
    """Median residual (pixels) of keypoints after the best rotation and change of focal length."""
    rays_a = camera.unproject(reference.pixels[track.found])
    b = camera.unproject(track.pixels[track.found])
    zoom = 1.0
    for _ in range(ZOOM_ITERATIONS):
        predicted = rays_a @ turn.T
        predicted /= predicted[:, 2:]
        radius = np.linalg.norm(predicted[:, :2], axis=1)
        use = radius > np.median(radius)
        zoom = float(np.median(np.sum(b[use, :2] * predicted[use, :2], axis=1)
                               / radius[use] ** 2))
        if not 0.2 < zoom < 5:
            return np.inf
        turn = fit_rotation(rays_a, b / [zoom, zoom, 1.0], 2.0 / camera.fx)
    return float(np.median(parallax(rays_a, b / [zoom, zoom, 1.0], turn))) * camera.fx


def pure_rotation(track: Track, reference: Reference, camera: Camera) -> Array | None:
    """
    Rotation (3, 3) R_cam_ref that explains all but a few keypoints, if there is one.

    :return: None where parallax shows that the camera moved, or too few keypoints were found
    """
    turn, angles = _turned(track, reference, camera)
    if turn is None or np.median(angles) > STILL_PIXELS / camera.fx:
        return None
    return turn


def _turned(track: Track, reference: Reference, camera: Camera) -> tuple[Array | None, Array]:
    """Best rotation R_cam_ref, and the residual angles (N,)."""
    if track.found.sum() < MIN_TRACKED:
        return None, np.zeros(0)
    rays_a = camera.unproject(reference.pixels[track.found])
    rays_b = camera.unproject(track.pixels[track.found])
    rotation = fit_rotation(rays_a, rays_b, 2.0 / camera.fx)
    return rotation, parallax(rays_a, rays_b, rotation)
