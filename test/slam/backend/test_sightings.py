# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Observations of landmarks, and their triangulated depth, by the exact geometry of a room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from keyframes_by_hand import (
    at_x,
    CAMERA,
    correspondence,
    keyframe,
    points_in_map,
    project,
)
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend.sightings import MIN_CORRESPONDENCES, MIN_SHIFT, Sightings
from recon3r_ros.slam.saved_map import SavedObservations
from recon3r_ros.slam.types import Correspondence, Keyframe

Array = NDArray[np.float64]
PLACE = at_x(0.3, 0.1, -0.1, yaw=0.1)


def true_pixels(anchor: Keyframe, observer: Keyframe) -> tuple[Array, NDArray[np.bool_]]:
    """Projections (K, 2) of an anchor's keypoints in an observer, and their visibility (K,)."""
    return project(observer.T_map_cam, CAMERA,
                   points_in_map(anchor.T_map_cam, CAMERA, anchor.keypoints))


def blind(known: Keyframe) -> Keyframe:
    """Forget the depths of the keypoints."""
    return replace(known, landmarks=np.zeros(len(known.keypoints)))


def as_observations(anchor: Keyframe, observer: Keyframe, shift: Sequence[float] = (0, 0)
                    ) -> SavedObservations:
    """Record an observer's observations of an anchor's landmarks, perhaps shifted, pixels."""
    pixels, seen = true_pixels(anchor, observer)
    which = np.flatnonzero(seen)
    return SavedObservations(anchor.id, observer.id, which, pixels[which] + shift)


def only(sightings: Sightings, anchor: int, observer: int) -> SavedObservations:
    """Return what is known of one pair."""
    return next(o for o in sightings.saved() if (o.anchor, o.observer) == (anchor, observer))


def test_what_a_pair_matched_is_recorded() -> None:
    anchor, observer = keyframe(3), keyframe(5, PLACE)
    sightings = Sightings()
    sightings.record(anchor, 5, correspondence(anchor, observer))
    assert sightings.pairs == [(3, 5)]
    pixels, seen = true_pixels(anchor, observer)
    found = only(sightings, 3, 5)
    assert 20 < seen.sum() < len(seen)
    assert np.array_equal(found.landmarks, np.flatnonzero(seen))
    assert np.allclose(found.targets, pixels[seen], atol=1e-4)


def test_dynamic_objects_are_not_landmarks() -> None:
    anchor, observer = keyframe(0), keyframe(1, PLACE)
    mask = np.zeros((CAMERA.height, CAMERA.width), bool)
    mask[:, :30] = True
    sightings = Sightings()
    sightings.record(replace(anchor, mask=mask), 1, correspondence(anchor, observer))
    found = anchor.keypoints[only(sightings, 0, 1).landmarks]
    assert len(found) > 20 and (found[:, 0] >= 30).all()


def test_a_pair_without_matches_leaves_an_empty_record() -> None:
    nothing = Correspondence(np.zeros((48, 64, 2), np.float32), np.zeros((48, 64), np.float32))
    sightings, anchor = Sightings(), keyframe(0)
    sightings.record(anchor, 1, nothing)
    assert len(only(sightings, 0, 1).landmarks) == 0
    assert (sightings.triangulated(blind(anchor), {1: keyframe(1)}) == 0).all()


@pytest.mark.parametrize('scale', [1.0, 0.2])
def test_landmarks_are_triangulated_with_the_poses_of_the_map(scale: float) -> None:
    """In map units, some of them to a metre."""
    anchor, observer = keyframe(0, scale=scale), keyframe(1, PLACE, scale=scale)
    sightings = Sightings([as_observations(keyframe(0), keyframe(1, PLACE))])
    found = sightings.triangulated(blind(anchor), {0: anchor, 1: observer})
    _, seen = true_pixels(keyframe(0), keyframe(1, PLACE))
    assert (found[seen] > 0).mean() > 0.9 and (found[~seen] == 0).all()
    known = found > 0
    assert np.allclose(found[known] / anchor.landmarks[known], 1, atol=1e-6)


def test_depths_that_are_known_stay_as_they_are() -> None:
    anchor, observer = keyframe(0), keyframe(1, PLACE)
    landmarks = anchor.landmarks * 1.3
    landmarks[::3] = 0
    sightings = Sightings([as_observations(anchor, observer)])
    found = sightings.triangulated(replace(anchor, landmarks=landmarks), {1: observer})
    assert np.array_equal(found[landmarks > 0], landmarks[landmarks > 0])
    new = (landmarks == 0) & (found > 0)
    assert new.sum() > 10 and np.allclose(found[new] / anchor.landmarks[new], 1, atol=1e-6)


def test_without_parallax_no_depth_is_made_up() -> None:
    """A baseline after which some landmarks have moved by more than the limit and some by less."""
    baseline = 0.12
    anchor, observer = keyframe(0), keyframe(1, at_x(baseline))
    sightings = Sightings([as_observations(anchor, observer)])
    found = sightings.triangulated(blind(anchor), {1: observer})
    _, seen = true_pixels(anchor, observer)
    shift = CAMERA.fx * baseline * anchor.landmarks
    assert 10 < (shift[seen] > MIN_SHIFT).sum() < seen.sum() - 10
    assert np.array_equal(found > 0, seen & (shift > MIN_SHIFT))


def test_a_camera_that_only_turns_tells_no_depth() -> None:
    anchor, observer = keyframe(0), keyframe(1, at_x(0, yaw=0.2))
    sightings = Sightings([as_observations(anchor, observer)])
    assert (sightings.triangulated(blind(anchor), {1: observer}) == 0).all()


def test_what_would_lie_behind_the_camera_has_no_depth() -> None:
    """Matches that are wrong by more than the parallax: rays meet behind both cameras."""
    anchor, observer = keyframe(0), keyframe(1, at_x(0.3))
    beyond = np.array([2 * CAMERA.fx * 0.3 * anchor.landmarks.max(), 0])
    sightings = Sightings([as_observations(anchor, observer, beyond)])
    assert (sightings.triangulated(blind(anchor), {1: observer}) == 0).all()


def test_dynamic_objects_get_no_depth() -> None:
    """They may have been found after they were matched."""
    anchor, observer = keyframe(0), keyframe(1, PLACE)
    mask = np.zeros((CAMERA.height, CAMERA.width), bool)
    mask[:24] = True
    sightings = Sightings([as_observations(anchor, observer)])
    found = sightings.triangulated(blind(replace(anchor, mask=mask)), {1: observer})
    assert (found[anchor.keypoints[:, 1] < 24] == 0).all() and (found > 0).sum() > 10


@pytest.mark.parametrize('order', [(1, 2), (2, 1)])
def test_of_two_observers_the_one_with_more_parallax_counts(order: tuple[int, int]) -> None:
    """The nearer one's matches are half a pixel off; it is asked first, or last."""
    anchor, near, far = keyframe(0), keyframe(1, at_x(0.15)), keyframe(2, at_x(0.5))
    seen_by = {1: as_observations(anchor, near, (0.5, 0)), 2: as_observations(anchor, far)}
    sightings = Sightings([seen_by[i] for i in order])
    found = sightings.triangulated(blind(anchor), {1: near, 2: far})
    both = true_pixels(anchor, far)[1] & (found > 0)
    assert both.sum() > 20
    assert np.allclose(found[both] / anchor.landmarks[both], 1, atol=1e-6)


def test_others_landmarks_are_left_alone() -> None:
    anchor, observer = keyframe(0), keyframe(1, PLACE)
    sightings = Sightings([as_observations(observer, anchor)])
    assert (sightings.triangulated(blind(anchor), {0: anchor, 1: observer}) == 0).all()


def test_observations_are_of_known_landmarks_among_these_keyframes() -> None:
    """Keyframes go by their positions."""
    keyframes = {i: keyframe(i, at_x(0.1 * i)) for i in (2, 5, 9)}
    landmarks = keyframes[5].landmarks.copy()
    landmarks[::2] = 0
    keyframes[5] = replace(keyframes[5], landmarks=landmarks)
    sightings = Sightings([as_observations(keyframes[i], keyframes[j])
                           for i, j in ((2, 5), (5, 9), (5, 2), (9, 2))])
    found = sightings.among([keyframes[5], keyframes[9]])
    assert [(o.anchor, o.observer) for o in found] == [(0, 1)]
    pixels, seen = true_pixels(keyframes[5], keyframes[9])
    assert np.array_equal(found[0].landmarks, np.flatnonzero(seen & (landmarks > 0)))
    assert np.allclose(found[0].targets, pixels[found[0].landmarks])
    assert (found[0].weights == 1).all() and len(found[0].weights) == len(found[0].landmarks)
    everything = sightings.among(list(keyframes.values()))
    assert [(o.anchor, o.observer) for o in everything] == [(0, 1), (1, 2), (1, 0), (2, 0)]
    assert sightings.among([keyframes[2]]) == [] and sightings.among([]) == []


@lru_cache(maxsize=None)
def textured(i: int) -> Keyframe:
    """Make a keyframe with an image, side by side with others."""
    return keyframe(i, at_x(0.15 * i), textured=True)


def test_landmarks_are_found_again_in_a_new_keyframe() -> None:
    away = keyframe(1, at_x(0, yaw=np.pi), textured=True)
    sightings, new = Sightings(), textured(2)
    assert sightings.reobserve(new, [textured(0), away]) == {0}
    assert sightings.pairs == [(0, 2)]
    found = only(sightings, 0, 2)
    pixels, seen = true_pixels(textured(0), new)
    assert len(found.landmarks) > 0.8 * seen.sum()
    errors = np.linalg.norm(found.targets - pixels[found.landmarks], axis=1)
    assert np.median(errors) < 0.02


def test_what_is_found_again_counts_more_than_what_was_matched() -> None:
    """Matches of pairs are as coarse as the grid; those of other landmarks are kept."""
    sightings, new, anchor = Sightings(), textured(2), textured(0)
    landmarks = anchor.landmarks.copy()
    landmarks[:40] = 0  # not to be found again: where to look for them is not known
    anchor = replace(anchor, landmarks=landmarks)
    coarse = correspondence(anchor, new)
    sightings.record(anchor, 2, replace(coarse, targets=coarse.targets + np.float32(0.4)))
    assert sightings.reobserve(new, [anchor]) == {0}
    found = only(sightings, 0, 2)
    assert len(set(found.landmarks.tolist())) == len(found.landmarks)
    pixels, seen = true_pixels(anchor, new)
    assert set(found.landmarks.tolist()) >= set(np.flatnonzero(seen).tolist())
    errors = np.linalg.norm(found.targets - pixels[found.landmarks], axis=1)
    assert np.allclose(errors[found.landmarks < 40], 0.4 * np.sqrt(2), atol=1e-3)
    assert np.median(errors[found.landmarks >= 40]) < 0.02


@pytest.mark.parametrize('count, owners', [(MIN_CORRESPONDENCES - 1, set()),
                                           (MIN_CORRESPONDENCES, {0})])
def test_a_few_landmarks_found_again_do_not_count(count: int, owners: set[int]) -> None:
    new, anchor = textured(2), textured(0)
    every = Sightings()
    every.reobserve(new, [anchor])
    landmarks = np.zeros_like(anchor.landmarks)
    keep = only(every, 0, 2).landmarks[:count]
    landmarks[keep] = anchor.landmarks[keep]
    sightings = Sightings()
    assert sightings.reobserve(new, [replace(anchor, landmarks=landmarks)]) == owners
    assert sightings.pairs == ([(0, 2)] if owners else [])


def test_nothing_to_find_again() -> None:
    sightings = Sightings()
    assert sightings.reobserve(textured(2), []) == set()
    assert sightings.reobserve(textured(2), [blind(textured(0))]) == set()
    assert sightings.pairs == []


def test_a_keyframe_that_is_forgotten_sees_and_is_seen_no_more() -> None:
    keyframes = [keyframe(i, at_x(0.1 * i)) for i in range(3)]
    sightings = Sightings(as_observations(a, b) for a in keyframes for b in keyframes if a != b)
    before = sightings.copy()
    sightings.forget(1)
    assert sightings.pairs == [(0, 2), (2, 0)]
    assert len(before.pairs) == 6
    before.record(keyframes[0], 9, correspondence(keyframes[0], keyframes[1]))
    before.copy().record(keyframes[1], 9, correspondence(keyframes[1], keyframes[0]))
    assert len(before.pairs) == 7
    sightings.forget(7)
    assert sightings.pairs == [(0, 2), (2, 0)]


def test_a_saved_map_keeps_them_all() -> None:
    observations = [as_observations(keyframe(0), keyframe(1, PLACE)),
                    as_observations(keyframe(1, PLACE), keyframe(0))]
    saved = Sightings(Sightings(observations).saved()).saved()
    assert len(saved) == 2
    for a, b in zip(saved, observations):
        assert (a.anchor, a.observer) == (b.anchor, b.observer)
        assert np.array_equal(a.landmarks, b.landmarks) and np.array_equal(a.targets, b.targets)


def test_poses_that_have_been_corrected_are_those_that_depth_is_told_with() -> None:
    """The same observations with twice the baseline: all is twice as far away."""
    anchor, observer = keyframe(0), keyframe(1, PLACE)
    sightings = Sightings([as_observations(anchor, observer)])
    moved = replace(observer, T_map_cam=se3.stretched(PLACE, 2.0))
    found = sightings.triangulated(blind(anchor), {1: moved})
    known = found > 0
    assert known.sum() > 20 and np.allclose(found[known] * 2 / anchor.landmarks[known], 1)
