# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Re-observation of landmarks in a new keyframe's image, whose true pixels are known."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from keyframes_by_hand import (
    anchor,
    at_x,
    CAMERA,
    FINER,
    keyframe,
    points_in_map,
    project,
)
import numpy as np
from numpy.typing import NDArray
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend.reobservation import candidates, MIN_VISIBLE, NEWEST, OLD, reobserve
from recon3r_ros.slam.backend.sightings import MIN_CORRESPONDENCES
from recon3r_ros.slam.types import Keyframe

Array = NDArray[np.float64]
PLACE = at_x(0.25, 0.05, 0.1, yaw=0.05)
AWAY = at_x(0, yaw=np.pi)


@lru_cache(maxsize=None)
def newer() -> Keyframe:
    """Make one of the same scene at another pose."""
    return keyframe(1, PLACE, textured=True)


def truth() -> tuple[Array, NDArray[np.bool_]]:
    """Projections (K, 2) of the anchor's keypoints in the newer one, and visibility (K,)."""
    return project(PLACE, CAMERA, points_in_map(np.eye(4), CAMERA, anchor().keypoints))


@pytest.mark.parametrize('drift', [0.0, 0.01, 0.02])
def test_landmarks_are_found_where_they_are_and_not_where_they_are_believed(drift: float) -> None:
    """The newer keyframe's pose has drifted, in metres and radians: projections are off."""
    believed = se3.exp([drift, -drift, drift, drift, drift, drift]) @ PLACE
    indices, pixels = reobserve(anchor(), replace(newer(), T_map_cam=believed))
    true, seen = truth()
    assert len(indices) > 0.8 * seen.sum() > 40
    assert len(set(indices.tolist())) == len(indices)
    errors = np.linalg.norm(pixels - true[indices], axis=1)
    assert np.median(errors) < 0.02 and errors.max() < 0.25


def test_a_pose_that_is_far_off_gives_too_little_to_count() -> None:
    """Projections are 30 pixels of the tracking image beside: no true pixel is in reach."""
    aside = se3.exp([0, 30 / (FINER * CAMERA.fx), 0, 0, 0, 0])
    indices, _ = reobserve(anchor(), replace(newer(), T_map_cam=PLACE @ aside))
    assert len(indices) < MIN_CORRESPONDENCES / 2


def test_depths_of_a_wrong_map_are_made_up_for_by_the_image() -> None:
    """All depths are a tenth too small: projections are off, but not what is found."""
    wrong = replace(anchor(), landmarks=anchor().landmarks * 1.1)
    indices, pixels = reobserve(wrong, newer())
    true, _ = truth()
    assert len(indices) > 40
    assert np.median(np.linalg.norm(pixels - true[indices], axis=1)) < 0.02


def test_what_hides_landmarks_is_not_taken_for_them() -> None:
    """An object with a texture of its own occludes the left half."""
    gray = newer().gray.copy()
    half = gray.shape[1] // 2
    gray[:, :half] = keyframe(2, AWAY, textured=True).gray[:, :half]
    indices, pixels = reobserve(anchor(), replace(newer(), gray=gray))
    true, seen = truth()
    hidden = true[:, 0] < (half - 8) / FINER
    assert hidden[indices].sum() < 0.1 * (hidden & seen).sum()
    found = indices[~hidden[indices]]
    assert len(found) > 0.6 * (~hidden & seen).sum() > 20
    errors = np.linalg.norm(pixels - true[indices], axis=1)[~hidden[indices]]
    assert np.median(errors) < 0.02


def test_a_blank_image_shows_nothing() -> None:
    indices, pixels = reobserve(anchor(), replace(newer(), gray=np.full_like(newer().gray, 99)))
    assert len(indices) == len(pixels) == 0


def test_landmarks_without_depth_are_not_looked_for() -> None:
    landmarks = anchor().landmarks.copy()
    landmarks[::2] = 0
    indices, _ = reobserve(replace(anchor(), landmarks=landmarks), newer())
    assert len(indices) > 20 and (indices % 2 == 1).all()


@pytest.mark.parametrize('case', ['looks away', 'no landmarks', 'no keypoints'])
def test_nothing_to_look_for(case: str) -> None:
    old, new = anchor(), newer()
    if case == 'looks away':
        new = replace(new, T_map_cam=AWAY)
    elif case == 'no landmarks':
        old = replace(old, landmarks=np.zeros_like(old.landmarks))
    else:
        old = replace(old, landmarks=np.zeros(0), keypoints=np.zeros((0, 2), np.int32))
    indices, pixels = reobserve(old, new)
    assert indices.shape == (0,) and pixels.shape == (0, 2)


def ids(keyframes: list[Keyframe], new: Keyframe) -> list[int]:
    """Keyframes that are searched."""
    return [k.id for k in candidates(keyframes, new)]


def test_keyframes_that_see_something_else_are_not_searched() -> None:
    row = [keyframe(0), keyframe(1, AWAY), keyframe(2, at_x(0.1)), keyframe(3, at_x(0, yaw=0.9))]
    assert ids(row, keyframe(4, at_x(0.2))) == [0, 2]
    assert ids([], keyframe(4)) == []


def test_keyframes_without_depth_are_not_searched() -> None:
    blind = replace(keyframe(0), landmarks=np.zeros(len(keyframe(0).keypoints)))
    assert ids([blind], keyframe(1)) == []


def test_images_of_another_size_are_not_searched() -> None:
    other = replace(keyframe(0), gray=np.zeros((20, 30), np.uint8))
    assert ids([other, keyframe(1)], keyframe(2)) == [1]


@pytest.mark.parametrize('more, searched', [(0, False), (1, True)])
def test_a_share_of_the_landmarks_has_to_be_seen(more: int, searched: bool) -> None:
    """A rotated camera observes some of the landmarks; some remain out of view."""
    turned = keyframe(1, at_x(0, yaw=0.6))
    old = keyframe(0)
    _, seen = project(turned.T_map_cam, CAMERA, points_in_map(np.eye(4), CAMERA, old.keypoints))
    inside, outside = np.flatnonzero(seen), np.flatnonzero(~seen)
    assert len(outside) >= 30
    keep = np.concatenate([inside[:10 + more], outside[:round(10 / MIN_VISIBLE) - 10]])
    landmarks = np.zeros_like(old.landmarks)
    landmarks[keep] = old.landmarks[keep]
    assert ids([replace(old, landmarks=landmarks)], turned) == ([0] if searched else [])


def test_the_newest_and_the_old_ones_that_overlap_most_are_searched() -> None:
    """Twelve old keyframes at the same place, turned by more or less, in no order."""
    yaws = [0.05 * (5 * n % 12) for n in range(12)]
    keyframes = [keyframe(n, at_x(0, yaw=yaw)) for n, yaw in enumerate(yaws)]
    keyframes += [keyframe(12 + n, at_x(0, yaw=0.3)) for n in range(NEWEST)]
    found = ids(keyframes, keyframe(99))
    assert found[:NEWEST] == list(range(12, 12 + NEWEST))
    seen = [project(np.eye(4), CAMERA, points_in_map(k.T_map_cam, CAMERA, k.keypoints))[1].sum()
            for k in keyframes[:12]]
    assert len(set(seen)) > 8, 'they differ in overlap'
    shares = [seen[i] for i in found[NEWEST:]]
    assert shares == sorted(seen, reverse=True)[:OLD]
