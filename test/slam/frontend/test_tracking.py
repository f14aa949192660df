# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tracking against a keyframe whose depths are exact."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.models.keypoints import detect_keypoints
from recon3r_ros.slam.frontend.tracking import MIN_INLIERS, Reference, Track, Tracker
from simulated import degrees_between, render, still_scene

Array = NDArray[np.float64]
SCENE = still_scene(3, frames=100, trajectory='orbit', width=640, height=480)


def gray(index: int) -> NDArray[np.uint8]:
    """Return a frame's grey image."""
    return cv2.cvtColor(render(SCENE, index).image, cv2.COLOR_RGB2GRAY)


def reference(index: int, known: bool = True) -> Reference:
    """Take a frame as keyframe, with exact depths or none."""
    image, depth = gray(index), render(SCENE, index).depth
    pixels = detect_keypoints(image, 640, 480)
    points = SCENE.camera.unproject(pixels) * depth[pixels[:, 1], pixels[:, 0]][:, None]
    if not known:
        points = np.full_like(points, np.nan)
    return Reference(image, pixels.astype(np.float32), points)


def true_pose(index: int, keyframe: int = 0) -> Array:
    """Return T_cam_keyframe of a frame."""
    return se3.inverse(render(SCENE, index).T_world_cam) @ render(SCENE, keyframe).T_world_cam


def check(track: Track, index: int, keyframe: int = 0, distance: float = 0.002,
          degrees: float = 0.05) -> None:
    """Compare a pose with ground truth: distance relative to depth, and angle."""
    assert track.pose is not None, f'frame {index} has no pose'
    error = track.pose.T_cam_world @ se3.inverse(true_pose(index, keyframe))
    depth = float(np.median(render(SCENE, index).depth))
    assert np.linalg.norm(error[:3, 3]) < distance * depth, f'frame {index}'
    assert degrees_between(error[:3, :3], np.eye(3)) < degrees, f'frame {index}'


@pytest.fixture
def tracker() -> Tracker:
    """Return a tracker that follows frame 0."""
    tracker = Tracker(SCENE.camera)
    tracker.follow(reference(0))
    return tracker


def test_poses_are_exact_over_a_sequence(tracker: Tracker) -> None:
    for index in range(1, 20):
        track = tracker.track(gray(index))
        check(track, index)
        assert track.inlier_count > 0.6 * len(track.pixels)


def test_tracks_are_where_the_points_are_seen(tracker: Tracker) -> None:
    for index in range(1, 11):
        track = tracker.track(gray(index))
    assert track.pose is not None and tracker.reference is not None
    expected = SCENE.camera.project(se3.transform(true_pose(10), tracker.reference.points))
    error = np.linalg.norm(track.pixels - expected, axis=1)
    assert np.median(error[track.pose.inliers]) < 0.25
    assert not (track.pose.inliers & ~track.found).any()


def test_covariance_is_that_of_the_errors(tracker: Tracker) -> None:
    """The error, measured in its own covariance, has six degrees of freedom."""
    distances = []
    for index in range(1, 16):
        pose = tracker.track(gray(index)).pose
        assert pose is not None
        xi = se3.log(true_pose(index) @ se3.inverse(pose.T_cam_world))
        distances.append(xi @ np.linalg.solve(pose.covariance, xi))
    # errors of neighbouring frames are alike, keypoints err together: no more than the order
    assert 0.5 < np.median(distances) < 60


def test_it_goes_on_when_the_depths_are_corrected(tracker: Tracker) -> None:
    """A loop that another camera closed makes the reference a fifth larger."""
    for index in range(1, 8):
        tracker.track(gray(index))
    tracker.rescale(1.2)
    for index in range(8, 14):
        track = tracker.track(gray(index))
        assert track.pose is not None and track.inlier_count > 0.6 * len(track.pixels)
        expected = se3.stretched(true_pose(index), 1.2)
        assert np.linalg.norm((track.pose.T_cam_world - expected)[:3, 3]) < 0.01


def test_a_static_camera_stays(tracker: Tracker) -> None:
    for _ in range(3):
        track = tracker.track(gray(0))
        assert track.pose is not None
        assert np.allclose(track.pose.T_cam_world, np.eye(4), atol=1e-3)


def test_half_of_the_image_is_hidden(tracker: Tracker) -> None:
    for index in range(1, 8):
        tracker.track(gray(index))
    image = gray(8).copy()
    rng = np.random.default_rng(1)
    image[:, :320] = cv2.GaussianBlur(rng.integers(0, 255, (480, 320), np.uint8), (0, 0), 3)
    check(tracker.track(image), 8, distance=0.006, degrees=0.1)
    check(tracker.track(gray(9)), 9)


@pytest.mark.parametrize('level', [0, 128])
def test_a_blank_frame_has_no_pose_and_does_no_harm(tracker: Tracker, level: int) -> None:
    for index in range(1, 6):
        tracker.track(gray(index))
    for _ in range(3):
        assert tracker.track(np.full((480, 640), level, np.uint8)).pose is None
    check(tracker.track(gray(9)), 9)


def test_an_unrelated_image_has_no_pose(tracker: Tracker) -> None:
    stranger = render(still_scene(9, width=640, height=480), 0).image
    assert tracker.track(cv2.cvtColor(stranger, cv2.COLOR_RGB2GRAY)).pose is None


def test_a_new_reference_takes_over(tracker: Tracker) -> None:
    for index in range(1, 8):
        track = tracker.track(gray(index))
    assert track.pose is not None
    tracker.follow(reference(7), track.pose.T_cam_world)
    for index in range(8, 14):
        check(tracker.track(gray(index)), index, keyframe=7)


def test_a_pose_is_found_without_the_frames_between(tracker: Tracker) -> None:
    check(tracker.track(gray(8)), 8)


def test_without_depth_points_are_followed_and_no_pose_is_claimed() -> None:
    tracker = Tracker(SCENE.camera)
    tracker.follow(reference(0, known=False))
    exact = reference(0).points
    for index in range(1, 15):
        track = tracker.track(gray(index))
        assert track.pose is None and track.inlier_count == 0
    expected = SCENE.camera.project(se3.transform(true_pose(14), exact))
    error = np.linalg.norm(track.pixels - expected, axis=1)[track.found]
    assert track.found.mean() > 0.6
    assert np.median(error) < 0.3 and np.quantile(error, 0.85) < 1.5


def test_unknown_points_take_no_part() -> None:
    """Half of the keypoints have no depth: they are no inliers, and the pose is as good."""
    whole = reference(0)
    points = whole.points.copy()
    points[::2] = np.nan
    tracker = Tracker(SCENE.camera)
    tracker.follow(Reference(whole.gray, whole.pixels, points))
    for index in range(1, 8):
        track = tracker.track(gray(index))
        check(track, index)
        assert track.pose is not None and not track.pose.inliers[::2].any()


def test_moving_points_are_outvoted() -> None:
    """A third of the points have wrong depths, as if they moved."""
    whole = reference(0)
    points = whole.points.copy()
    points[::3] *= np.random.default_rng(3).uniform(1.5, 3, (len(points[::3]), 1))
    tracker = Tracker(SCENE.camera)
    tracker.follow(Reference(whole.gray, whole.pixels, points))
    for index in range(1, 12):
        track = tracker.track(gray(index))
    # After the first steps wrong depths show: parallax tells them from right ones
    check(track, 11, distance=0.008, degrees=0.2)
    assert track.pose is not None
    assert track.pose.inliers[::3].mean() < 0.5 * track.pose.inliers[1::3].mean()


def test_too_few_points_give_no_pose() -> None:
    whole = reference(0)
    points = np.full_like(whole.points, np.nan)
    points[:MIN_INLIERS - 1] = whole.points[:MIN_INLIERS - 1]
    tracker = Tracker(SCENE.camera)
    tracker.follow(Reference(whole.gray, whole.pixels, points))
    assert tracker.track(gray(1)).pose is None


def test_no_keypoints_and_no_reference() -> None:
    tracker = Tracker(SCENE.camera)
    with pytest.raises(ValueError):
        tracker.track(gray(0))
    tracker.follow(Reference(gray(0), np.zeros((0, 2), np.float32), np.zeros((0, 3))))
    track = tracker.track(gray(1))
    assert track.pose is None and track.found.shape == (0,)
