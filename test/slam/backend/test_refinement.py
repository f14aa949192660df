# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Windowed bundle adjustment and fused depths of a map whose true poses and depths are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keyframes_by_hand import at_x, CAMERA, correspondence, keyframe, points_in_map, project
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend.learned import LearnedDepth
from recon3r_ros.slam.backend.map_state import MapState, WINDOW
from recon3r_ros.slam.backend.pairing import Pairing
from recon3r_ros.slam.backend.refinement import (
    ANCHORS,
    densify,
    refine,
    SELF_CALIBRATION_KEYFRAMES,
    solve,
)
from recon3r_ros.slam.backend.sightings import Sightings
from recon3r_ros.slam.dynamics.keyframe_motion import KeyframeMotion
from recon3r_ros.slam.dynamics.motion_config import MotionConfig
from recon3r_ros.slam.saved_map import SavedObservations
from recon3r_ros.slam.types import Keyframe
from simulated import degrees_between

Array = NDArray[np.float64]
STEP = 10


def pose(i: int) -> Array:
    """Where keyframe i stands: it goes to and fro before the same walls."""
    return at_x(0.4 * np.sin(0.5 * i), 0.1 * np.cos(0.9 * i), 0.25 * np.sin(0.8 * i + 1),
                yaw=0.05 * np.sin(i))


def true_keyframe(i: int) -> Keyframe:
    """Make a keyframe with true pose and depths."""
    return keyframe(i, pose(i), step=STEP)


def observations(ids: list[int], reach: int) -> list[SavedObservations]:
    """Add exact observations of the landmarks of keyframes up to some steps away."""
    found = []
    for i in ids:
        for j in ids:
            if i != j and abs(i - j) <= reach:
                anchor = true_keyframe(i)
                pixels, seen = project(
                    pose(j), CAMERA, points_in_map(pose(i), CAMERA, anchor.keypoints))
                which = np.flatnonzero(seen)
                found.append(SavedObservations(i, j, which, pixels[which]))
    return found


def state_of(count: int, wrong: int = 0, reach: int = 3) -> MapState:
    """
    Make a map of true poses and depths.

    :param wrong: keyframes, the newest ones, whose poses and depths are wrong
    :param reach: keyframes observe each other over this many steps
    """
    predictor: Any = None  # nothing is predicted here
    state = MapState(Pairing(predictor), KeyframeMotion(MotionConfig(refiner=None)))
    rng = np.random.default_rng(4)
    for i in range(count):
        true = true_keyframe(i)
        state.keyframes[i] = true if i < count - wrong else replace(
            true, T_map_cam=true.T_map_cam @ se3.exp(rng.normal(0, 0.01, 6)),
            landmarks=true.landmarks * np.exp(rng.normal(0, 0.03, len(true.landmarks))))
    state.seen = Sightings(observations(list(range(count)), reach))
    return state


def error(state: MapState, i: int) -> float:
    """Distance of a keyframe from its true position, metres."""
    return float(np.linalg.norm(state.keyframes[i].T_map_cam[:3, 3] - pose(i)[:3, 3]))


def assert_true(state: MapState, i: int, metres: float = 1e-3) -> None:
    """Check that pose and depths of a keyframe are right."""
    known, true = state.keyframes[i], true_keyframe(i)
    assert error(state, i) < metres
    assert degrees_between(known.T_map_cam[:3, :3], pose(i)[:3, :3]) < 0.05
    assert np.median(np.abs(known.landmarks / true.landmarks - 1)) < 0.002


def test_a_window_finds_the_truth_again() -> None:
    """The newest four keyframes are wrong; the older ones, which are right, hold them."""
    state = state_of(WINDOW + ANCHORS, wrong=4)
    assert min(error(state, i) for i in state.ids[-4:]) > 5e-3
    assert refine(state, {state.ids[-2]}) > 0.95
    for i in state.ids:
        assert_true(state, i)
    assert all((k.information > 0).mean() > 0.9 for k in state.keyframes.values())


def test_keyframes_before_the_window_stay() -> None:
    """Those held, and the ones before that are not part of it at all."""
    state = state_of(WINDOW + ANCHORS + 3, wrong=2)
    older = {i: state.keyframes[i].T_map_cam.copy() for i in state.ids[:-WINDOW]}
    first = state.keyframes[0]
    refine(state, set())
    assert all(np.allclose(state.keyframes[i].T_map_cam, T, atol=1e-12) for i, T in older.items())
    assert state.keyframes[0] is first
    for i in state.ids[-WINDOW:]:
        assert_true(state, i)


def test_an_old_partner_holds_the_window_too() -> None:
    """A loop: the newest one's partner, long out of the window, is a fixed part of it."""
    state = state_of(WINDOW + ANCHORS + 4, wrong=1, reach=20)
    first, partner = state.keyframes[0], state.keyframes[1]
    refine(state, {1})
    assert np.allclose(state.keyframes[1].T_map_cam, partner.T_map_cam, atol=1e-12)
    assert state.keyframes[1] is not partner, 'it took part'
    assert state.keyframes[0] is first, 'others did not'
    assert_true(state, state.ids[-1])


def test_in_a_short_map_the_first_keyframe_is_the_origin() -> None:
    state = state_of(3, wrong=2)
    refine(state, {1})
    assert np.allclose(state.keyframes[0].T_map_cam, pose(0), atol=1e-12)
    T_first = se3.inverse(pose(0))
    found = [T_first @ state.keyframes[i].T_map_cam for i in (1, 2)]
    true = [T_first @ pose(i) for i in (1, 2)]
    # One fixed pose leaves the scale to what landmarks say, half of which were wrong
    scale = np.linalg.norm(found[1][:3, 3]) / np.linalg.norm(true[1][:3, 3])
    assert scale == pytest.approx(1, abs=0.02)
    for a, b in zip(found, true):
        assert np.allclose(a[:3, 3] / scale, b[:3, 3], atol=2e-3)


def with_wrong_matches(state: MapState, i: int, share: float) -> None:
    """Make a share of the newest keyframe's observations wrong."""
    rng, out = np.random.default_rng(0), []
    for o in state.seen.saved():
        wrong = (rng.random(len(o.landmarks)) < share) & (i in (o.anchor, o.observer))
        out.append(replace(o, targets=np.where(
            wrong[:, None], rng.uniform(0, [63, 47], o.targets.shape), o.targets)))
    state.seen = Sightings(out)


@pytest.mark.parametrize('share', [0.0, 0.3, 0.8])
def test_the_share_that_agrees_is_that_of_the_newest_keyframe(share: float) -> None:
    state = state_of(WINDOW + ANCHORS + 1)
    with_wrong_matches(state, state.ids[-1], share)
    assert refine(state, set()) == pytest.approx(1 - share, abs=0.1)


def test_wrong_matches_of_older_keyframes_are_not_the_newest_ones() -> None:
    state = state_of(WINDOW + ANCHORS + 1, reach=2)
    with_wrong_matches(state, state.ids[-5], 0.4)
    assert refine(state, set()) > 0.97


@pytest.mark.parametrize('count', [1, 2])
def test_without_observations_nothing_agrees_and_nothing_changes(count: int) -> None:
    state = state_of(count)
    state.seen = Sightings()
    before = dict(state.keyframes)
    assert refine(state, set()) == 0.0
    assert all(state.keyframes[i] is k for i, k in before.items())


def test_a_newest_keyframe_that_nobody_sees_does_not_agree() -> None:
    state = state_of(5)
    state.seen.forget(4)
    assert refine(state, set()) == 0.0


def test_information_of_a_held_keyframe_does_not_shrink() -> None:
    """It was found with more observations than those of this window."""
    state = state_of(WINDOW + ANCHORS)
    held, free = state.ids[0], state.ids[-1]
    for i in (held, free):
        state.change(i, information=np.full(len(state.keyframes[i].landmarks), 1e12))
    refine(state, set())
    assert (state.keyframes[held].information >= 1e12).all()
    assert (state.keyframes[free].information < 1e12).all()


def test_landmarks_without_depth_stay_unknown() -> None:
    state = state_of(6)
    landmarks = state.keyframes[5].landmarks.copy()
    landmarks[::2] = 0
    state.change(5, landmarks=landmarks)
    refine(state, set())
    assert (state.keyframes[5].landmarks[::2] == 0).all()
    assert (state.keyframes[5].information[::2] == 0).all()
    assert (state.keyframes[5].landmarks[1::2] > 0).all()


@pytest.mark.parametrize('factor', [0.9, 1.15])
def test_an_unknown_focal_length_is_found(factor: float) -> None:
    """Focal lengths are initial ones; depths and poses are true."""
    state = state_of(7, reach=6)
    state.calibrated = False
    state.refocus(1 / factor)
    state.focal_factor = 1.0
    before = state.keyframes[3].camera
    for _ in range(4):
        refine(state, set())
    assert state.focal_factor == pytest.approx(factor, rel=0.01)
    for known in state.keyframes.values():
        assert known.camera.fx == pytest.approx(CAMERA.fx, rel=0.01)
        assert known.camera.fy == pytest.approx(CAMERA.fy, rel=0.01)
        assert known.camera.cx == before.cx


def test_a_known_focal_length_stays() -> None:
    state = state_of(5, wrong=2)
    refine(state, set())
    assert state.focal_factor == 1.0 and state.keyframes[4].camera == CAMERA


@pytest.mark.parametrize('calibrated', [False, True])
def test_with_an_unknown_focal_length_all_keyframes_are_adjusted(calibrated: bool) -> None:
    """As long as there are few; a calibrated map moves its window only."""
    count = WINDOW + ANCHORS + 2
    assert count <= SELF_CALIBRATION_KEYFRAMES
    state = state_of(count, reach=2)
    state.calibrated = calibrated
    wrong = pose(1) @ se3.exp([0, 0.01, 0, 0.01, 0, 0])
    state.change(1, T_map_cam=wrong)
    refine(state, set())
    assert (np.abs(state.keyframes[1].T_map_cam - wrong).max() > 1e-3) == (not calibrated)


def test_learned_depths_hold_what_no_parallax_tells() -> None:
    """Two keyframes at one place, turned: predicted depth decides."""
    state = state_of(2)
    for i, yaw in enumerate((0.0, 0.1)):
        state.keyframes[i] = keyframe(i, at_x(0, yaw=yaw), step=STEP)
    anchor, other = state.keyframes[0], state.keyframes[1]
    pixels, seen = project(other.T_map_cam, CAMERA,
                           points_in_map(anchor.T_map_cam, CAMERA, anchor.keypoints))
    which = np.flatnonzero(seen)
    state.seen = Sightings([SavedObservations(0, 1, which, pixels[which])])
    depth = (1 / anchor.inverse_depth).astype(np.float32)
    state.learned.add(0, 1, LearnedDepth(depth, np.full(depth.shape, 90, np.float32)))
    noise = np.exp(np.random.default_rng(1).normal(0, 0.1, len(anchor.landmarks)))
    state.change(0, landmarks=anchor.landmarks * noise)
    solve(state, [0, 1], {0, 1}, 20)
    ratio = state.keyframes[0].landmarks[which] / anchor.landmarks[which]
    assert np.std(np.log(ratio)) < 0.02 < np.std(np.log(noise[which]))


# Dense depth

def test_dense_depth_of_correspondences_is_that_of_the_walls() -> None:
    state = state_of(3)
    for i, j in ((0, 2), (0, 1), (1, 0)):
        state.dense[i, j] = correspondence(true_keyframe(i), true_keyframe(j))
    blank = np.zeros((CAMERA.height, CAMERA.width), np.float32)
    for i in state.ids:
        state.change(i, inverse_depth=blank, confidence=blank)
    mask = blank > 0
    mask[:10] = True
    state.change(0, mask=mask)
    densify(state, [0, 1])
    first, true = state.keyframes[0], true_keyframe(0)
    known = first.inverse_depth > 0
    seen = (state.dense[0, 1].confidence > 0) | (state.dense[0, 2].confidence > 0)
    assert 0.5 < seen.mean() < 1 and np.array_equal(known[10:], seen[10:])
    assert not known[:10].any(), 'dynamic objects have no place'
    assert (first.confidence[:10] == 0).all() and (first.confidence[known] > 0).all()
    assert np.allclose(first.inverse_depth[known] / true.inverse_depth[known], 1, atol=1e-3)
    assert (state.keyframes[1].inverse_depth > 0).mean() > 0.5
    assert not state.keyframes[2].inverse_depth.any(), 'it was not asked for'


def test_dense_depth_is_told_with_the_poses_of_the_map() -> None:
    """In a map of half the size, all is half as far away."""
    state = state_of(2)
    state.dense[0, 1] = correspondence(true_keyframe(0), true_keyframe(1))
    T = pose(0) @ se3.stretched(se3.inverse(pose(0)) @ pose(1), 0.5)
    state.change(1, T_map_cam=T)
    densify(state, [0])
    known = state.keyframes[0].inverse_depth > 0
    assert known.mean() > 0.5
    ratio = state.keyframes[0].inverse_depth[known] / true_keyframe(0).inverse_depth[known]
    assert np.allclose(ratio, 2, atol=2e-3)


def test_learned_depth_takes_the_place_of_correspondences() -> None:
    """In map units by the landmarks, of which some are known."""
    state = state_of(2)
    true = true_keyframe(0)
    wrong = correspondence(true_keyframe(0), true_keyframe(1))
    state.dense[0, 1] = replace(wrong, targets=wrong.targets + np.float32(3))
    depth = (4 / true.inverse_depth).astype(np.float32)
    state.learned.add(0, 1, LearnedDepth(depth, np.full(depth.shape, 90, np.float32)))
    densify(state, [0])
    assert np.allclose(state.keyframes[0].inverse_depth / true.inverse_depth, 1, atol=1e-3)


def test_what_nothing_is_said_of_keeps_its_depth() -> None:
    state = state_of(2)
    before = state.keyframes[0]
    densify(state, [0])
    densify(state, [])
    assert state.keyframes[0] is before
