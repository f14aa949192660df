# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frames that follow the map's corrections, and re-estimated poses by better landmarks."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import at_x, CAMERA, FINER, keyframe, points_in_map, project
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam import trajectory
from recon3r_ros.slam.frontend.tracking import MIN_INLIERS
from recon3r_ros.slam.trajectory import Trajectory
from recon3r_ros.slam.types import Map, Retired, TrackedFrame
from simulated import degrees_between

Array = NDArray[np.float64]
#: Tracking images are finer than the grid of keyframes
TRACKING = CAMERA.resized(FINER * CAMERA.width, FINER * CAMERA.height)
CAMERAS = {'camera': TRACKING}


def frame(n: int, i: int = 0, T_keyframe_cam: Array | None = None, scale: float = 1.0
          ) -> TrackedFrame:
    """Make frame n, relative to keyframe i."""
    T = at_x(0.01 * n) if T_keyframe_cam is None else T_keyframe_cam
    return TrackedFrame(f'{n:06}', n * 10 ** 8, n, i, T, scale=scale)


def tracked(frames: list[TrackedFrame]) -> Trajectory:
    """Add frames to a new trajectory."""
    out = Trajectory()
    for f in frames:
        out.add(f)
    return out


def poses(known: Trajectory, in_map: Map) -> list[Array]:
    """Poses of all frames."""
    return [T for _, T in known.poses(in_map)]


def test_a_frame_is_where_its_keyframe_is() -> None:
    turned = at_x(1.0, 0.5, 0.2, yaw=np.pi / 2)
    found, = poses(tracked([frame(0, 3, at_x(0, z=0.4))]), Map({3: keyframe(3, turned)}))
    # A step ahead of a camera that looks to the right, along x
    assert np.allclose(found[:3, 3], [1.4, 0.5, 0.2])
    assert np.allclose(found[:3, :3], turned[:3, :3])


def test_frames_move_with_the_corrections_of_the_map() -> None:
    """The keyframe is moved, and its depths are stretched by a loop: so are its frames."""
    known = tracked([frame(n) for n in range(5)])
    before = Map({0: keyframe(0)})
    after = Map({0: replace(keyframe(0), T_map_cam=at_x(2.0, yaw=0.5))}, {0: 1.5})
    for n, (T, T_after) in enumerate(zip(poses(known, before), poses(known, after))):
        assert np.allclose(T[:3, 3], [0.01 * n, 0, 0])
        assert np.allclose(T_after, at_x(2.0, yaw=0.5) @ at_x(0.015 * n))


def test_a_frame_that_was_found_after_the_loop_is_not_stretched_again() -> None:
    known = tracked([frame(5, scale=1.5)])
    found, = poses(known, Map({0: keyframe(0)}, {0: 1.5}))
    assert np.allclose(found[:3, 3], [0.05, 0, 0])


def test_frames_of_a_culled_keyframe_stay_where_they_were() -> None:
    """It was replaced by another one, which a loop moves and stretches afterwards."""
    culled, near = at_x(0.3), at_x(0.5, yaw=0.1)
    known = tracked([frame(5, 1)])
    retired = {1: Retired(2, se3.inverse(near) @ culled, 1.0, 1.0)}
    found, = poses(known, Map({2: keyframe(2, near)}, retired=retired))
    assert np.allclose(found, culled @ at_x(0.05))
    moved = Map({2: replace(keyframe(2), T_map_cam=at_x(-1.0))}, {2: 2.0}, retired=retired)
    found, = poses(known, moved)
    expected = se3.inverse(near) @ culled @ at_x(0.05)
    assert np.allclose(found, at_x(-1.0) @ se3.stretched(expected, 2.0))


def test_of_no_frames_there_are_no_poses() -> None:
    assert Trajectory().poses(Map()) == []
    assert Trajectory().poses(Map(), 5) == []
    Trajectory().place_anew(Map(), {})


def test_masks_are_not_kept() -> None:
    known = tracked([replace(frame(0), mask=np.ones((900, 900), bool))])
    assert known.poses(Map({0: keyframe(0)}))[0][0].mask is None


@pytest.mark.parametrize('count, limit', [
    (0, 3), (1, 3), (3, 3), (4, 1), (7, 3), (100, 7), (100, 99)])
def test_thinned_out_evenly_with_the_newest_frame(count: int, limit: int) -> None:
    known = tracked([frame(n) for n in range(count)])
    found = [f.index for f, _ in known.poses(Map({0: keyframe(0)}), limit)]
    assert min(count, limit / 2) <= len(found) <= limit and found == sorted(found)
    assert len(set(np.diff(found))) <= 1, 'evenly'
    if count:
        assert found[-1] == count - 1 and found[0] < max(2 * count / limit, 1)
    everything = known.poses(Map({0: keyframe(0)}))
    assert [f.index for f, _ in everything] == list(range(count))


def test_a_long_trajectory_loses_every_second_frame_of_its_older_half(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectory, 'MAX_FRAMES', 20)
    known, lone = Trajectory(), keyframe(0)
    for n in range(300):
        known.add(frame(n))
        assert len(known.poses(Map({0: lone}))) <= 20
    found = [f.index for f, _ in known.poses(Map({0: keyframe(0)}))]
    assert found == sorted(found) and found[0] == 0
    assert found[-8:] == list(range(292, 300)), 'the newest are all there'


def seen(T_keyframe_cam: Array, camera: Camera = TRACKING, i: int = 0, noise: float = 0.0
         ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Projections (K, 2) of keyframe i's keypoints in a frame near it, and their visibility."""
    anchor = keyframe(i)
    pixels, found = project(T_keyframe_cam, camera,
                            points_in_map(anchor.T_map_cam, CAMERA, anchor.keypoints))
    pixels += noise * np.random.default_rng(2).normal(size=pixels.shape)
    return np.where(found[:, None], pixels, -1).astype(np.float32), found


def with_error(T: Array, size: float = 0.02) -> Array:
    """Pose a frame wrong."""
    return T @ se3.exp([size, -size, size / 2, size, size, -size])


def close(T: Array, true: Array, metres: float = 1e-4, degrees: float = 0.01) -> bool:
    """Tell whether a pose is right."""
    return bool(np.linalg.norm(T[:3, 3] - true[:3, 3]) < metres
                and degrees_between(T[:3, :3], true[:3, :3]) < degrees)


TRUE = at_x(0.1, 0.02, 0.1, yaw=0.03)


def test_frames_are_placed_anew_by_the_landmarks_as_they_are_known_now() -> None:
    """Poses were found while depths were wrong; they become exact, at their keyframe's scale."""
    known = Trajectory()
    truth = [at_x(0.02 * n, 0.01 * n, yaw=0.01 * n) for n in range(4)]
    for n, T in enumerate(truth):
        known.add(frame(n, T_keyframe_cam=with_error(T), scale=1.0), *seen(T))
    final = Map({0: keyframe(0)}, {0: 1.3})
    assert not any(close(f.T_keyframe_cam, T) for (f, _), T in zip(known.poses(final), truth))
    known.place_anew(final, CAMERAS)
    for (f, T_map_cam), T in zip(known.poses(final), truth):
        assert close(f.T_keyframe_cam, T) and close(T_map_cam, T)
        assert f.scale == 1.3, 'it is not stretched once more'


def test_a_frame_that_is_a_keyframe_gets_that_pose() -> None:
    """It was tracked from the keyframe before; another session's keyframe has its number, too."""
    known = Trajectory()
    for n in range(3):
        known.add(frame(10 * n, T_keyframe_cam=with_error(at_x(0.3 * n))))
    known.add_keyframe(1)
    final = Map({0: keyframe(0), 1: keyframe(1, at_x(0.3)), 2: keyframe(2, at_x(0.6))}, {1: 1.3})
    known.place_anew(final, CAMERAS)
    (first, _), (second, T_map_cam), (third, _) = known.poses(final)
    assert (first.keyframe, second.keyframe, third.keyframe) == (0, 1, 0)
    assert np.allclose(T_map_cam, at_x(0.3)) and second.scale == 1.3


def test_the_covariance_is_that_of_the_new_pose() -> None:
    """Zero where pixels are exact, and as expected where they are not."""
    known = Trajectory()
    known.add(replace(frame(0, T_keyframe_cam=TRUE), covariance=np.eye(6)), *seen(TRUE))
    known.add(replace(frame(1, T_keyframe_cam=TRUE), covariance=np.eye(6)),
              *seen(TRUE, noise=0.3))
    known.place_anew(Map({0: keyframe(0)}), CAMERAS)
    exact, noisy = (np.sqrt(np.diagonal(f.covariance))
                    for f, _ in known.poses(Map({0: keyframe(0)})))
    assert (exact < 1e-5).all()
    count, focal = seen(TRUE)[1].sum(), TRACKING.fx
    # A turn about the optical axis moves pixels by their distance from the centre alone
    radius = np.linalg.norm(seen(TRUE)[0][seen(TRUE)[1]] - [TRACKING.cx, TRACKING.cy], axis=1)
    expected = 0.3 / (np.sqrt((radius ** 2).mean()) * np.sqrt(count))
    assert noisy[2] == pytest.approx(expected, rel=0.35)
    assert (noisy[:3] < 30 * 0.3 / focal).all()


@pytest.mark.parametrize('case', ['culled', 'few landmarks', 'few found', 'nonsense',
                                  'few agree'])
def test_a_frame_that_cannot_be_placed_stays_where_it_was(case: str) -> None:
    pixels, found = seen(TRUE)
    final = keyframe(0)
    keyframes = {0: final, 1: keyframe(1)}
    few = np.arange(len(found)) < MIN_INLIERS - 1
    if case == 'culled':
        del keyframes[0]
    elif case == 'few landmarks':
        keyframes[0] = replace(final, landmarks=final.landmarks * few)
    elif case == 'few found':
        found = found & few
    elif case == 'few agree':
        pixels[~few] = np.random.default_rng(0).uniform(0, 200, (int((~few).sum()), 2))
    else:
        pixels = np.random.default_rng(0).uniform(0, 200, pixels.shape).astype(np.float32)
    retired = {0: Retired(1, np.eye(4), 1.0, 1.0)} if case == 'culled' else {}
    known, T = Trajectory(), with_error(TRUE)
    known.add(frame(0, T_keyframe_cam=T), pixels, found)
    known.place_anew(Map(keyframes, retired=retired), CAMERAS)
    (after, _), = known.poses(Map(keyframes, retired=retired))
    assert np.array_equal(after.T_keyframe_cam, T)


def test_landmarks_without_depth_take_no_part() -> None:
    """Nor do those that the frame did not observe, whatever their pixels."""
    pixels, found = seen(TRUE)
    lost = np.arange(len(found)) % 3 == 0
    pixels[lost] = 7.0
    final = keyframe(0)
    unknown = np.arange(len(found)) % 3 == 1
    known = Trajectory()
    known.add(frame(0, T_keyframe_cam=with_error(TRUE)), pixels, found & ~lost)
    final = replace(final, landmarks=np.where(unknown, 0.0, final.landmarks))
    known.place_anew(Map({0: final}), CAMERAS)
    assert close(known.poses(Map({0: final}))[0][0].T_keyframe_cam, TRUE)


def test_frames_without_sightings_stay() -> None:
    known = tracked([frame(0, T_keyframe_cam=with_error(TRUE))])
    known.add(frame(1, T_keyframe_cam=with_error(TRUE)), *seen(TRUE))
    known.place_anew(Map({0: keyframe(0)}), CAMERAS)
    first, second = (f.T_keyframe_cam for f, _ in known.poses(Map({0: keyframe(0)})))
    assert np.array_equal(first, with_error(TRUE)) and close(second, TRUE)


def test_a_pose_far_off_is_begun_again_from_the_frame_before() -> None:
    """Its own, found with wrong depths, looks the other way: from there nothing is found."""
    known, away = Trajectory(), at_x(0, yaw=np.pi)
    known.add(frame(0, T_keyframe_cam=with_error(TRUE)), *seen(TRUE))
    known.add(frame(1, T_keyframe_cam=away), *seen(TRUE))
    known.place_anew(Map({0: keyframe(0)}), CAMERAS)
    first, second = (f.T_keyframe_cam for f, _ in known.poses(Map({0: keyframe(0)})))
    assert close(first, TRUE) and close(second, TRUE)


def test_a_pose_that_few_agree_with_is_compared_with_the_one_of_the_frame_before() -> None:
    """Nearly half of the observations are on an object that biased the frame's own pose."""
    pixels, found = seen(TRUE)
    carried = at_x(-0.343, 0.02, 0.1, yaw=0.1)
    on_it = 37 * np.arange(len(found)) % 100 < 47
    elsewhere, visible = seen(carried)
    pixels[on_it], found[on_it] = elsewhere[on_it], visible[on_it]
    assert 0.45 < on_it[found].mean() < 0.5
    alone, known, final = Trajectory(), Trajectory(), Map({0: keyframe(0)})
    known.add(frame(0, T_keyframe_cam=with_error(TRUE)), *seen(TRUE))
    for t in (alone, known):
        t.add(frame(1, T_keyframe_cam=with_error(carried, 0.002)), pixels, found)
        t.place_anew(final, CAMERAS)
    assert close(alone.poses(final)[0][0].T_keyframe_cam, carried), 'the other half agrees'
    assert close(known.poses(final)[1][0].T_keyframe_cam, TRUE)


def test_but_not_from_a_frame_of_another_keyframe() -> None:
    known, away = Trajectory(), at_x(0, yaw=np.pi)
    known.add(frame(0, 1, T_keyframe_cam=with_error(TRUE)), *seen(TRUE))
    known.add(frame(1, 0, T_keyframe_cam=away), *seen(TRUE))
    both = Map({0: keyframe(0), 1: keyframe(1)})
    known.place_anew(both, CAMERAS)
    assert np.array_equal(known.poses(both)[1][0].T_keyframe_cam, away)


def test_each_frame_goes_by_its_own_camera() -> None:
    wide = Camera(200, 150, 90.0, 95.0, 101.0, 77.0)
    known = Trajectory()
    known.add(frame(0, T_keyframe_cam=with_error(TRUE)), *seen(TRUE))
    known.add(replace(frame(1, T_keyframe_cam=with_error(TRUE)), camera_name='wide'),
              *seen(TRUE, wide))
    known.place_anew(Map({0: keyframe(0)}), {**CAMERAS, 'wide': wide})
    assert all(close(f.T_keyframe_cam, TRUE) for f, _ in known.poses(Map({0: keyframe(0)})))


def test_sightings_are_used_once() -> None:
    """At the end of one run; a next one begins without them."""
    known, right, wrong = Trajectory(), keyframe(0), keyframe(0, scale=0.5)
    known.add(frame(0, T_keyframe_cam=with_error(TRUE)), *seen(TRUE))
    known.place_anew(Map({0: right}), CAMERAS)
    known.settle()
    known.place_anew(Map({0: wrong}), {})
    assert close(known.poses(Map({0: right}))[0][0].T_keyframe_cam, TRUE)


def test_frames_that_were_thinned_out_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectory, 'MAX_FRAMES', 6)
    known, final = Trajectory(), Map({0: keyframe(0)})
    for n in range(20):
        known.add(frame(n, T_keyframe_cam=with_error(TRUE)), *seen(TRUE))
    known.place_anew(final, CAMERAS)
    found = known.poses(final)
    assert 0 < len(found) <= 6
    assert all(close(f.T_keyframe_cam, TRUE) for f, _ in found)


def test_only_the_newest_sightings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectory, 'MAX_SIGHTINGS', 3)
    known, final = Trajectory(), Map({0: keyframe(0)})
    for n in range(8):
        known.add(frame(n, T_keyframe_cam=with_error(TRUE)), *seen(TRUE))
    known.place_anew(final, CAMERAS)
    placed = [close(f.T_keyframe_cam, TRUE) for f, _ in known.poses(final)]
    assert placed == [False] * 5 + [True] * 3


def test_in_a_smaller_map_distances_are_shorter() -> None:
    """In a map of half the size, frames have half the distances."""
    known, half = Trajectory(), keyframe(0, scale=0.5)
    for n in range(3):
        known.add(frame(n, T_keyframe_cam=at_x(0.05 * n)), *seen(at_x(0.05 * n)))
    known.place_anew(Map({0: half}), CAMERAS)
    for n, (f, _) in enumerate(known.poses(Map({0: half}))):
        assert close(f.T_keyframe_cam, at_x(0.025 * n))


def test_frames_of_another_map_have_no_pose_in_this_one() -> None:
    known = Trajectory()
    known.add(frame(0, T_keyframe_cam=TRUE))
    known.add(replace(frame(1, T_keyframe_cam=TRUE), keyframe=5))
    assert [f.index for f, _ in known.poses(Map({0: keyframe(0)}))] == [0]
    assert [f.index for f, _ in known.poses(Map({5: keyframe(5)}, number=1))] == [1]


@pytest.mark.parametrize('landmarks, dropped', [(30, True), (200, False)])
@pytest.mark.parametrize('at', [0, 7, 19])
def test_a_position_off_the_path_is_dropped_where_few_landmarks_support_it(
        landmarks: int, dropped: bool, at: int) -> None:
    known, final = Trajectory(), Map({0: keyframe(0)})
    wander = np.random.default_rng(1).normal(0, 0.002, (20, 3))
    for n in range(20):
        T = se3.from_rt(np.eye(3), [0.05 * n, 0, 0] + wander[n])
        if n == at:
            T[:3, 3] += [0.1, 0.3, 0]
        known.add(replace(frame(n + 1, T_keyframe_cam=T), landmarks=landmarks))
    known.drop_outliers(final)
    left = {f.index for f, _ in known.poses(final)}
    assert left == set(range(1, 21)) - ({at + 1} if dropped else set())
