# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Poses relative to a keyframe of a known room, across temporary references and new scales."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import (
    at_x,
    CAMERA,
    keyframe,
    points_in_map,
    project,
    room_depth,
    TRACKING,
    tracking_image,
)
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.frontend.keyframe_tracker import KeyframeTracker
from recon3r_ros.slam.frontend.tracking import MIN_INLIERS, Track
from recon3r_ros.slam.options import FrontendOptions, TRACKED_INFORMATION
from recon3r_ros.slam.types import Keyframe
from simulated import degrees_between

Array = NDArray[np.float64]

#: Where the keyframe stands
PLACE = at_x(0.2, 0.1, -0.2, yaw=0.1)
KEYFRAME = keyframe(3, PLACE, step=4, textured=True)
#: Nothing moves
STILL = np.zeros((64, 85), bool)
BLANK = np.full((TRACKING.height, TRACKING.width), 90, np.uint8)


def step(n: int) -> Array:
    """T_keyframe_cam (4, 4) of frame n: to the right, ahead, and turning to the left."""
    return at_x(0.03 * n, 0.005 * n, 0.02 * n, yaw=-0.01 * n)


def turn(n: int) -> Array:
    """T_keyframe_cam (4, 4) of frame n: it steps to the right and turns there, 3 degrees each."""
    return at_x(0.02 * n, yaw=0.05 * n)


def image(T_keyframe_cam: Array) -> NDArray[np.uint8]:
    """Render what a camera sees."""
    return tracking_image(PLACE @ T_keyframe_cam)


def following(known: Keyframe = KEYFRAME) -> KeyframeTracker:
    """Make a tracker that follows a keyframe."""
    tracker = KeyframeTracker(TRACKING)
    tracker.follow(known, None)
    return tracker


def tracked(tracker: KeyframeTracker, T_keyframe_cam: Array, known: Keyframe | None = KEYFRAME,
            moving: NDArray[np.bool_] = STILL) -> Track:
    """Track a frame, and have it remembered."""
    gray = image(T_keyframe_cam)
    track = tracker.track(gray, known)
    assert track.pose is not None
    tracker.remember(gray, track, moving)
    return track


def check(tracker: KeyframeTracker, track: Track, truth: Array, distance: float = 0.015,
          degrees: float = 0.25) -> None:
    """
    Compare the pose relative to the keyframe with the truth.

    :param truth: T_keyframe_cam (4, 4)
    :param distance: map units that it may be off, in a room of 4
    """
    assert track.pose is not None, 'no pose'
    found = tracker.T_keyframe_cam(track.pose)
    assert np.linalg.norm(found[:3, 3] - truth[:3, 3]) < distance
    assert degrees_between(found[:3, :3], truth[:3, :3]) < degrees


def depth_errors(tracker: KeyframeTracker, T_keyframe_cam: Array) -> Array:
    """Relative depth errors (N,) of what is tracked, seen in the frame that is the reference."""
    assert tracker.reference is not None
    points = tracker.reference.points
    rays = TRACKING.unproject(tracker.reference.pixels)
    known = np.isfinite(points[:, 0])
    assert np.allclose((points / points[:, 2:])[known], rays[known], atol=0.02)
    return np.abs(points[:, 2] / room_depth(PLACE @ T_keyframe_cam, rays) - 1)


def test_poses_are_relative_to_the_keyframe() -> None:
    tracker = following()
    assert tracker.keyframe == 3
    for n in range(1, 12):
        check(tracker, tracked(tracker, step(n)), step(n))


def test_landmarks_keep_their_places_in_the_finer_image() -> None:
    tracker = following()
    assert tracker.reference is not None and tracker.reference.gray is KEYFRAME.gray
    assert np.allclose(TRACKING.unproject(tracker.reference.pixels),
                       CAMERA.unproject(KEYFRAME.keypoints), atol=1e-6)
    assert np.nanmax(depth_errors(tracker, np.eye(4))) < 1e-6


def test_what_moves_or_is_hardly_known_is_not_tracked() -> None:
    u, v = KEYFRAME.keypoints.T
    mask = np.zeros_like(KEYFRAME.mask)
    mask[:, :20] = True
    information = np.where(v < 20, TRACKED_INFORMATION - 0.01, TRACKED_INFORMATION)
    landmarks = np.where(u > 50, 0.0, KEYFRAME.landmarks)
    tracker = following(replace(
        KEYFRAME, mask=mask, information=information, landmarks=landmarks))
    assert tracker.reference is not None
    known = np.isfinite(tracker.reference.points).all(axis=1)
    assert np.array_equal(known, (u >= 20) & (v >= 20) & (u <= 50))
    assert len(known) == len(KEYFRAME.keypoints)


@pytest.mark.parametrize('spacing', [4, 3, 2])
def test_many_landmarks_are_thinned_out_evenly(spacing: int) -> None:
    many = keyframe(0, step=spacing, textured=False)
    tracker = following(many)
    assert tracker.reference is not None
    known = np.isfinite(tracker.reference.points[:, 0])
    assert len(known) == len(many.keypoints)
    most = FrontendOptions.tracked_landmarks
    assert 0.5 * min(most, len(known)) < known.sum() <= most
    assert known.all() == (len(known) <= most)
    quarters = many.keypoints // [CAMERA.width // 2, CAMERA.height // 2]
    counts = [known[(quarters == q).all(axis=1)].sum() for q in ([0, 0], [1, 0], [0, 1], [1, 1])]
    assert min(counts) > 0.2 * known.sum()


def test_a_temporary_reference_takes_over_where_it_stands() -> None:
    tracker = following()
    for n in range(1, 6):
        tracked(tracker, step(n))
    tracker.follow_newest(KEYFRAME)
    assert tracker.keyframe == 3 and tracker.reference is not None
    assert tracker.reference.gray is image(step(5))
    errors = depth_errors(tracker, step(5))
    known = np.isfinite(errors)
    assert known.sum() > 0.8 * len(KEYFRAME.keypoints)
    assert np.median(errors[known]) < 0.01 and np.quantile(errors[known], 0.95) < 0.04
    for n in range(6, 12):
        check(tracker, tracked(tracker, step(n)), step(n))


def test_a_temporary_reference_is_looked_for_where_it_is() -> None:
    """Far from where the keyframe would be, at once and without help from the frame before."""
    tracker = following()
    for n in range(1, 7):
        tracked(tracker, turn(n))
    tracker.follow_newest(KEYFRAME)
    check(tracker, tracker.track(image(turn(7)), None), turn(7), 0.03, 0.4)
    second = keyframe(4, PLACE @ turn(6), step=4, textured=True)
    tracker.follow(second, se3.inverse(turn(6)))
    check(tracker, tracker.track(image(turn(8)), None), se3.inverse(turn(6)) @ turn(8))


def test_one_temporary_reference_after_the_other() -> None:
    """As long as no keyframe can be made; poses stay relative to the one there is."""
    tracker = following()
    for n in range(1, 15):
        track = tracked(tracker, turn(n))
        check(tracker, track, turn(n), 0.03, 0.4)
        if n % 3 == 0:
            tracker.follow_newest(KEYFRAME)
            assert tracker.reference is not None and tracker.reference.gray is image(turn(n))


def test_what_was_borrowed_is_not_lent_on() -> None:
    """
    A frame's own corners had depths that were too long, by too little to be outliers.

    They do not become landmarks of the temporary reference after it.
    """
    tracker = following(replace(KEYFRAME, landmarks=np.where(
        KEYFRAME.keypoints[:, 0] < 32, KEYFRAME.landmarks, 0)))
    tracked(tracker, step(1))
    tracker.follow_newest(replace(KEYFRAME, inverse_depth=KEYFRAME.inverse_depth / 1.1))
    wrong = depth_errors(tracker, step(1))
    assert (wrong[np.isfinite(wrong)] > 0.08).sum() > 2 * MIN_INLIERS, 'nothing was borrowed'
    tracked(tracker, step(2))
    tracker.follow_newest(KEYFRAME)
    right = depth_errors(tracker, step(2))
    assert (right[np.isfinite(right)] > 0.08).sum() < 5


def test_corners_of_dynamic_objects_are_not_tracked() -> None:
    """All landmarks lie on the left, and so do those that a temporary reference may add."""
    tracker = following(replace(KEYFRAME, landmarks=np.where(
        KEYFRAME.keypoints[:, 0] < 32, KEYFRAME.landmarks, 0)))
    moving = STILL.copy()
    moving[:, 50:] = True
    tracked(tracker, step(1), moving=moving)
    tracker.follow_newest(KEYFRAME)
    assert tracker.reference is not None
    column = tracker.reference.pixels[:, 0] * STILL.shape[1] / TRACKING.width
    assert (column < 51).all() and (column > 45).any()
    tracked(tracker, step(2))
    tracker.follow_newest(KEYFRAME)
    assert tracker.reference.pixels[:, 0].max() > 0.8 * TRACKING.width, 'nothing moves there now'


@pytest.mark.parametrize('count, taken', [(2 * MIN_INLIERS - 1, False), (2 * MIN_INLIERS, True)])
def test_with_too_little_depth_the_reference_stays(count: int, taken: bool) -> None:
    """The surface is unknown, so that landmarks are all there is."""
    blind = replace(KEYFRAME, inverse_depth=np.zeros_like(KEYFRAME.inverse_depth), landmarks=(
        np.where(np.arange(len(KEYFRAME.keypoints)) % 3 == 0, KEYFRAME.landmarks, 0)))
    tracker = following(blind)
    track = tracker.track(image(step(1)))
    assert track.pose is not None
    own = np.flatnonzero(track.pose.inliers)
    assert len(own) >= 2 * MIN_INLIERS
    kept = np.isin(np.arange(len(track.found)), own[:count])
    tracker.remember(image(step(1)), replace(track, pose=replace(track.pose, inliers=kept)), STILL)
    before = tracker.reference
    tracker.follow_newest(blind)
    assert (tracker.reference is not before) == taken
    check(tracker, tracker.track(image(step(2))), step(2))


def test_a_step_too_large_from_the_keyframe_is_taken_from_the_newest_frame() -> None:
    """The keyframe is known on the right only, which leaves the image as the camera turns left."""
    right = KEYFRAME.keypoints[:, 0] >= 40
    narrow = replace(KEYFRAME, landmarks=np.where(right, KEYFRAME.landmarks, 0))
    alone, helped = following(narrow), following(narrow)
    for n in range(1, 10):
        T = at_x(0, yaw=-0.055 * n)
        alone.track(image(T), None)
        check(helped, tracked(helped, T), T, 0.05, 0.6)
    assert alone.track(image(T)).pose is None
    assert helped.reference is not None and helped.reference.gray is not KEYFRAME.gray


def test_without_the_keyframes_depth_there_is_no_temporary_reference() -> None:
    tracker = following()
    tracked(tracker, step(1))
    before = tracker.reference
    assert tracker.track(BLANK, None).pose is None and tracker.reference is before
    assert tracker.track(BLANK, KEYFRAME).pose is None and tracker.reference is not before
    check(tracker, tracker.track(image(step(2))), step(2))


def expected_pixels(T_keyframe_cam: Array, known: Keyframe = KEYFRAME) -> Array:
    """Pixels (K, 2) at which a camera sees the keyframe's landmarks."""
    points = points_in_map(PLACE, CAMERA, known.keypoints)
    return project(PLACE @ T_keyframe_cam, TRACKING, points)[0]


def test_observations_are_of_the_keyframes_landmarks() -> None:
    """Whatever is tracked, and not of the corners that a temporary reference added."""
    half = replace(KEYFRAME, landmarks=np.where(
        KEYFRAME.keypoints[:, 0] < 32, KEYFRAME.landmarks, 0))
    tracker, counts = following(half), []
    for n in range(1, 8):
        pixels, found = tracker.observations(tracked(tracker, step(n)))
        assert pixels.shape == (len(half.keypoints), 2) and found.shape == (len(half.keypoints),)
        assert not found[half.landmarks == 0].any() and not pixels[~found].any()
        error = np.linalg.norm(pixels - expected_pixels(step(n)), axis=1)[found]
        assert np.median(error) < 0.5 and np.quantile(error, 0.9) < 1.5
        counts.append(found.sum())
        if n in (3, 5):
            tracker.follow_newest(KEYFRAME)
            assert tracker.reference is not None
            assert np.isfinite(tracker.reference.points[:, 0]).sum() > 1.3 * counts[-1]
    assert counts[-1] > 2 * MIN_INLIERS


SECOND = replace(keyframe(4, PLACE @ step(6), step=4, textured=True), camera_name='camera')


def test_a_new_keyframe_takes_over() -> None:
    """It was a tracked frame; while it was made, the camera has moved on."""
    tracker = following()
    for n in range(1, 9):
        tracked(tracker, step(n))
    tracker.follow(SECOND, se3.inverse(step(6)))
    assert tracker.keyframe == 4
    for n in range(9, 14):
        track = tracked(tracker, step(n), SECOND)
        check(tracker, track, se3.inverse(step(6)) @ step(n))
        pixels, found = tracker.observations(track)
        points = points_in_map(SECOND.T_map_cam, CAMERA, SECOND.keypoints)
        expected, _ = project(PLACE @ step(n), TRACKING, points)
        assert np.median(np.linalg.norm(pixels - expected, axis=1)[found]) < 0.5


def test_a_new_keyframe_takes_over_from_a_temporary_reference() -> None:
    tracker = following()
    for n in range(1, 7):
        tracked(tracker, step(n))
    tracker.follow_newest(KEYFRAME)
    for n in range(7, 10):
        tracked(tracker, step(n))
    tracker.follow(SECOND, se3.inverse(step(6)))
    for n in range(10, 13):
        check(tracker, tracked(tracker, step(n), SECOND), se3.inverse(step(6)) @ step(n))


def test_the_newest_frame_outlives_its_keyframe() -> None:
    """It may be the reference under the new keyframe, of which it saw no landmarks."""
    tracker = following()
    for n in range(1, 9):
        tracked(tracker, step(n))
    tracker.follow(SECOND, se3.inverse(step(6)))
    tracker.follow_newest(SECOND)
    assert tracker.reference is not None and tracker.reference.gray is image(step(8))
    track = tracker.track(image(step(9)))
    check(tracker, track, se3.inverse(step(6)) @ step(9))
    pixels, found = tracker.observations(track)
    assert len(found) == len(SECOND.keypoints) and not found.any()


def test_nothing_is_carried_over_to_a_keyframe_elsewhere() -> None:
    """The camera was found in another place: what it saw last says nothing about it."""
    tracker = following()
    for n in range(1, 4):
        tracked(tracker, step(n))
    tracker.follow(SECOND, None)
    reference = tracker.reference
    assert tracker.track(BLANK, SECOND).pose is None and tracker.reference is reference
    check(tracker, tracked(tracker, step(7), SECOND), se3.inverse(step(6)) @ step(7))


@pytest.mark.parametrize('temporary', [False, True])
@pytest.mark.parametrize('factor', [1.4, 0.5])
def test_a_loop_gives_all_depths_another_scale(factor: float, temporary: bool) -> None:
    """Also those of the frame that becomes a temporary reference afterwards."""
    tracker, larger = following(), keyframe(3, PLACE, factor, step=4, textured=True)
    for n in range(1, 6):
        tracked(tracker, step(n))
        if temporary and n == 3:
            tracker.follow_newest(KEYFRAME)
    tracker.rescale(factor)
    if temporary:
        track = tracked(tracker, step(6), larger)
    else:
        tracker.follow_newest(larger)
        track = tracker.track(image(step(6)), larger)
    for n in range(6, 9):
        check(tracker, track, se3.stretched(step(n), factor), 0.02 * factor)
        track = tracked(tracker, step(n + 1), larger)


def test_following_again_forgets_where_the_camera_was_expected() -> None:
    tracker = following()
    tracker.resume(se3.inverse(at_x(0, yaw=0.9)))
    assert tracker.track(image(step(1))).pose is None
    before = tracker.reference
    tracker.follow_again()
    assert tracker.reference is before and tracker.keyframe == 3
    check(tracker, tracker.track(image(step(1))), step(1))


#: Pixels after which a brick wall, straight ahead, repeats itself, and its distance
PERIOD, DISTANCE = 40, 2.0


def bricks(pixels: float) -> NDArray[np.uint8]:
    """Render a wall of equal bricks from a camera that has moved by so many pixels."""
    x, y = np.meshgrid(np.arange(TRACKING.width) + pixels, np.arange(TRACKING.height))
    value = sum(np.sin(2 * np.pi * k * x / PERIOD + 3 * np.sin(y / 7 + k)) for k in (1, 2, 3))
    return np.clip(np.rint(128 + 30 * np.asarray(value)), 0, 255).astype(np.uint8)


def at_pixels(pixels: float) -> Array:
    """T_keyframe_cam (4, 4) of a camera before the wall."""
    return at_x(pixels * DISTANCE / TRACKING.fx)


def test_a_pose_does_not_jump_by_a_period_of_a_texture() -> None:
    """Everything agrees there but the motion of the image, which shows the way."""
    flat = np.full(KEYFRAME.inverse_depth.shape, 1 / DISTANCE, np.float32)
    wall = replace(KEYFRAME, gray=bricks(0), inverse_depth=flat,
                   landmarks=np.full(len(KEYFRAME.landmarks), 1 / DISTANCE))
    tracker = following(wall)
    for n in range(5):
        gray = bricks(n)
        track = tracker.track(gray, wall)
        check(tracker, track, at_pixels(n))
        tracker.remember(gray, track, STILL)
    tracker.resume(se3.inverse(at_pixels(5 - PERIOD)))
    check(tracker, tracker.track(bricks(5), wall), at_pixels(5))


def test_a_sudden_motion_is_no_jump() -> None:
    tracker = following()
    for n in range(4):
        tracked(tracker, step(n))
    far = step(4) @ at_x(0.05, yaw=0.12)
    track = tracker.track(image(far), KEYFRAME)
    check(tracker, track, far)
    assert tracker.reference is not None and tracker.reference.gray is KEYFRAME.gray


def test_without_depth_points_are_followed_from_frame_to_frame() -> None:
    """Each is looked for where it was last; after `follow_again`, where it is in the keyframe."""
    blind = replace(KEYFRAME, landmarks=np.zeros(len(KEYFRAME.keypoints)))
    begun_again, gone_on = following(blind), following(blind)
    for n in range(1, 7):
        T = at_x(0, yaw=0.02 * n)
        for tracker in (begun_again, gone_on):
            track = tracker.track(image(T))
            assert track.pose is None
        error = np.linalg.norm(track.pixels - expected_pixels(T), axis=1)[track.found]
        assert track.found.mean() > 0.5 and np.median(error) < 0.5
    begun_again.follow_again()
    other_way = image(at_x(0, yaw=-0.05))
    track = begun_again.track(other_way)
    error = np.linalg.norm(track.pixels - expected_pixels(at_x(0, yaw=-0.05)), axis=1)
    assert track.found.mean() > 0.85 and np.median(error[track.found]) < 0.5
    assert gone_on.track(other_way).found.mean() < 0.6


def test_going_on_from_a_pose_that_was_found_out_of_turn() -> None:
    """Too far for a search from where the camera was."""
    far = at_x(0.35, yaw=0.45)
    tracker = following()
    assert tracker.track(image(far)).pose is None
    tracker.resume(se3.inverse(at_x(0.3, yaw=0.4)))
    check(tracker, tracker.track(image(far)), far, 0.03, 0.4)


def test_looking_out_of_turn_changes_nothing() -> None:
    tracker, far = following(), at_x(0.35, yaw=0.45)
    tracked(tracker, step(1))
    track = tracker.locate(image(far), se3.inverse(at_x(0.3, yaw=0.4)))
    assert track.pose is not None
    assert np.allclose(track.pose.T_cam_world, se3.inverse(far), atol=0.03)
    check(tracker, tracker.track(image(step(2))), step(2))


def test_the_camera_may_be_known_better_later() -> None:
    """With a focal length a tenth too long the pose is wrong; with the true one it is right."""
    wrong = replace(TRACKING, fx=1.1 * TRACKING.fx, fy=1.1 * TRACKING.fy)
    tracker = KeyframeTracker(wrong)
    tracker.follow(KEYFRAME, None)
    track = tracker.track(image(step(4)))
    if track.pose is not None:
        with pytest.raises(AssertionError):
            check(tracker, track, step(4))
    tracker.camera = TRACKING
    assert tracker.camera == TRACKING
    check(tracker, tracker.track(image(step(4))), step(4))
