# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The last refinement of a map whose true poses and depths are known."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from keyframes_by_hand import at_x, CAMERA, keyframe, points_in_map, project, TRACKING
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros import concurrency
from recon3r_ros.geometry import se3
from recon3r_ros.models.types import View
from recon3r_ros.slam.archive import ArchivedView
from recon3r_ros.slam.backend.fine_refinement import refine_finely, Refined
from recon3r_ros.slam.backend.map_state import MapState
from recon3r_ros.slam.backend.pairing import Pairing
from recon3r_ros.slam.backend.refinement import solve
from recon3r_ros.slam.backend.self_calibration import check, check_finely
from recon3r_ros.slam.backend.sightings import Sightings
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.saved_map import SavedObservations
from recon3r_ros.slam.types import Keyframe
from simulated import degrees_between

Array = NDArray[np.float64]
COUNT = 7
#: What observations made while mapping err by, all of a pair alike, pixels of the grid
BIAS = 0.1


def pose(i: int) -> Array:
    """Where keyframe i stands: it passes the walls."""
    return at_x(0.2 * i - 0.6, 0.1 * np.cos(0.9 * i), 0.15 * np.sin(0.8 * i),
                yaw=0.03 * np.sin(i))


@lru_cache(maxsize=None)
def true_keyframe(i: int) -> Keyframe:
    """Make a keyframe with true pose, depths and image."""
    return keyframe(i, pose(i), step=4, textured=True)


def observations(bias: float = BIAS) -> list[SavedObservations]:
    """Observe landmarks in the keyframes before and after, all of a pair off alike."""
    rng = np.random.default_rng(3)
    found = []
    for i in range(COUNT):
        for j in (i - 1, i + 1):
            if 0 <= j < COUNT:
                pixels, seen = project(
                    pose(j), CAMERA, points_in_map(pose(i), CAMERA, true_keyframe(i).keypoints))
                which = np.flatnonzero(seen)
                found.append(SavedObservations(
                    i, j, which, pixels[which] + rng.normal(0, bias, 2)))
    return found


def mapped(bias: float = BIAS) -> MapState:
    """Make a map as mapping leaves it: adjusted to observations that err."""
    predictor: Any = None  # nothing is predicted here
    state = MapState(Pairing(predictor), KeyframeMotion(MotionConfig(refiner=None)))
    for i in range(COUNT):
        state.keyframes[i] = true_keyframe(i)
        state.pairing.archive[i] = ArchivedView.of(View(true_keyframe(i).gray, TRACKING), 1.0)
    state.seen = Sightings(observations(bias))
    solve(state, state.ids, {0}, 15)
    return state


def pose_errors(state: MapState) -> Array:
    """Errors (COUNT, 2) of the poses, metres and degrees, at the true scale of the path."""
    scale = np.linalg.norm(pose(COUNT - 1)[:3, 3] - pose(0)[:3, 3]) / np.linalg.norm(
        state.keyframes[COUNT - 1].T_map_cam[:3, 3] - state.keyframes[0].T_map_cam[:3, 3])
    off = []
    for i, k in state.keyframes.items():
        T = se3.inverse(pose(0)) @ pose(i)
        own = se3.stretched(se3.inverse(state.keyframes[0].T_map_cam) @ k.T_map_cam, scale)
        off.append((np.linalg.norm(own[:3, 3] - T[:3, 3]),
                    degrees_between(own[:3, :3], T[:3, :3])))
    return np.array(off)


def depth_error(state: MapState, i: int) -> float:
    """Median relative error of a keyframe's landmarks, at the best scale."""
    ratio = state.keyframes[i].landmarks / true_keyframe(i).landmarks
    return float(np.median(np.abs(ratio / np.median(ratio) - 1)))


def refined(state: MapState) -> Refined:
    """Refine a map in which something is found."""
    result = refine_finely(state)
    assert result is not None
    return result


def test_poses_and_depths_become_many_times_more_accurate() -> None:
    state = mapped()
    before, depth_before = pose_errors(state), depth_error(state, 3)
    refine_finely(state)
    assert before.max(axis=0)[0] > 0.01
    assert (pose_errors(state).max(axis=0) < 0.1 * before.max(axis=0)).all()
    assert depth_error(state, 3) < 0.2 * depth_before


def test_a_keyframe_that_no_pose_fits_is_named() -> None:
    """Its image looks alike, but blocks of it lie where no camera would see all of them."""
    assert refined(mapped()).wrong == []
    state, image = mapped(), true_keyframe(3).gray
    shifts = ((4, 0), (-4, 0), (0, 4), (0, -4))
    moved = [np.roll(image, shift, (1, 0)) for shift in shifts]
    block = np.add.outer(np.arange(image.shape[0]) // 60, np.arange(image.shape[1]) // 60) % 4
    mixed = np.choose(block, moved)
    state.pairing.archive[3] = ArchivedView.of(View(mixed, TRACKING), 1.0)
    assert refined(state).wrong == [3]


def test_scale_and_origin_of_the_map_stay() -> None:
    state = mapped()
    before = dict(state.keyframes)
    refine_finely(state)
    assert np.allclose(state.keyframes[0].T_map_cam, before[0].T_map_cam)
    ratio = np.concatenate([state.keyframes[i].landmarks / k.landmarks
                            for i, k in before.items()])
    assert np.median(ratio) == pytest.approx(1, abs=0.01)


def test_a_keyframe_without_texture_stays_connected_by_what_was_observed_before() -> None:
    """The others move; it goes with its neighbours."""
    state = mapped()
    state.pairing.archive[3] = ArchivedView.of(
        View(np.full_like(true_keyframe(3).gray, 90), TRACKING), 1.0)
    before = pose_errors(state)
    refine_finely(state)
    after = pose_errors(state)
    others = [0, 1, 2, 4, 5, 6]
    assert (after[others].max(axis=0) < 0.1 * before.max(axis=0)).all()
    assert after[3, 0] < 1.5 * before[:, 0].max()


def test_landmarks_without_precise_observations_are_scaled_as_the_rest() -> None:
    """A keyframe's depths were too small by a tenth; half of its image shows nothing now."""
    state = mapped()
    gray = true_keyframe(3).gray.copy()
    half = gray.shape[1] // 2
    gray[:, :half] = 90
    state.pairing.archive[3] = ArchivedView.of(View(gray, TRACKING), 1.0)
    state.change(3, landmarks=state.keyframes[3].landmarks * 1.1)
    information = state.keyframes[3].information
    refine_finely(state)
    ratio = state.keyframes[3].landmarks / true_keyframe(3).landmarks
    left = true_keyframe(3).keypoints[:, 0] < CAMERA.width // 2 - 8
    assert np.median(ratio[left]) == pytest.approx(np.median(ratio[~left]), rel=0.01)
    assert (state.keyframes[3].information[left] == information[left]).all()


def test_an_unknown_focal_length_is_found() -> None:
    state = mapped()
    state.calibrated = False
    state.refocus(1.05)
    refine_finely(state)
    assert state.focal_factor == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize('missing', ['images', 'overlap'])
def test_where_nothing_is_found_nothing_changes(missing: str) -> None:
    state = mapped()
    if missing == 'images':
        state.pairing.archive.clear()
    else:
        for i in state.ids:
            state.change(i, T_map_cam=at_x(100.0 * i))
    before = dict(state.keyframes)
    refine_finely(state)
    assert all(state.keyframes[i] is k for i, k in before.items())


def test_one_core_gives_what_two_give(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for count in (1, 2):
        monkeypatch.setattr(concurrency, 'cores', lambda count=count: count)
        state = mapped()
        refine_finely(state)
        results.append([k.T_map_cam for k in state.keyframes.values()])
    assert np.array_equal(*results)


def test_masked_landmarks_and_those_of_unknown_depth_take_no_part() -> None:
    state = mapped()
    k = state.keyframes[2]
    state.change(2, landmarks=np.where(np.arange(len(k.landmarks)) % 3 == 0, 0, k.landmarks))
    state.exclude(4, np.ones_like(k.mask))
    before = pose_errors(state)
    refine_finely(state)
    assert not state.keyframes[2].landmarks[::3].any() and not state.keyframes[4].landmarks.any()
    assert pose_errors(state)[[1, 2, 3, 5, 6], 0].max() < 0.2 * before[:, 0].max()


def test_a_keyframe_is_a_value() -> None:
    """Snapshots that were taken before do not change."""
    state = mapped()
    kept = replace(state.keyframes[5])
    landmarks, T = kept.landmarks.copy(), kept.T_map_cam.copy()
    refine_finely(state)
    assert (kept.landmarks == landmarks).all() and (kept.T_map_cam == T).all()


def mapped_with(factor: float, bias: float = BIAS) -> MapState:
    """Make a map with a given focal length, `factor` times the true one."""
    state = mapped(bias)
    state.refocus(factor)
    state.focal_factor = 1.0
    solve(state, state.ids, {0}, 15)
    return state


@pytest.mark.parametrize('factor', [0.6, 0.8, 1.25, 1.6])
def test_a_given_focal_length_that_the_images_contradict_is_found_and_kept(factor: float) -> None:
    state = mapped_with(factor)
    check_finely(state, refined(state).problem)
    found = state.focal_contradiction
    assert found is not None and factor * found.factor == pytest.approx(1.0, abs=0.03)
    assert found.sigma < 0.05
    assert state.calibrated and state.focal_factor == 1.0
    assert state.keyframes[0].camera.fx == pytest.approx(factor * CAMERA.fx)
    assert state.snapshot().focal_contradiction == found


@pytest.mark.parametrize('factor', [1.0, 0.97, 1.05])
def test_nothing_is_said_of_a_focal_length_that_is_nearly_right(factor: float) -> None:
    state = mapped_with(factor)
    check_finely(state, refined(state).problem)
    assert state.focal_contradiction is None


def test_nothing_is_said_of_an_unknown_focal_length() -> None:
    state = mapped()
    state.calibrated = False
    state.refocus(0.7)
    check_finely(state, refined(state).problem)
    assert state.focal_contradiction is None


@pytest.mark.parametrize('factor, found', [(0.6, True), (1.0, False)])
def test_a_map_that_goes_on_is_checked_by_what_mapping_observed(factor: float, found: bool
                                                               ) -> None:
    state = mapped_with(factor, bias=0.01)
    before = dict(state.keyframes)
    check(state)
    assert (state.focal_contradiction is not None) == found
    assert all(state.keyframes[i] is k for i, k in before.items()), 'the map stays as it is'
