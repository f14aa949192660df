# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whether an image looks as a keyframe's depth predicts it."""

from __future__ import annotations

from dataclasses import replace

from keyframes_by_hand import Array, at_x, CAMERA, keyframe
import numpy as np
import pytest
from recon3r_ros.geometry import se3
from recon3r_ros.slam.backend.appearance import likeness, verified
from recon3r_ros.slam.types import Keyframe

HERE = keyframe(0, textured=True)
WAYS = [at_x(0.2), at_x(-0.3, 0.1, 0.2, yaw=0.2), at_x(0.1, 0.0, 0.8)]


def looks(T: Array, other: Keyframe | None = None, scale: float = 1.0) -> float | None:
    """Compare the first keyframe with another, which stands at T (4, 4), metres."""
    other = keyframe(1, T, scale, textured=True) if other is None else other
    return share_of(keyframe(0, scale=scale, textured=True), other, se3.stretched(T, scale))


def share_of(known: Keyframe, other: Keyframe, T: Array) -> float | None:
    """Share of the blocks that look alike."""
    found = likeness(known, other, T)
    return None if found is None else found.share


@pytest.mark.parametrize('T', WAYS)
@pytest.mark.parametrize('scale', [1.0, 0.2])
def test_a_right_pose_is_verified_in_any_unit(T: Array, scale: float) -> None:
    share = looks(T, scale=scale)
    assert share is not None and share > 0.7
    assert verified(HERE, keyframe(1, T, textured=True), T)


@pytest.mark.parametrize('T', WAYS)
def test_a_wrong_pose_is_not(T: Array) -> None:
    other = keyframe(1, T, textured=True)
    for wrong in (at_x(0.3) @ T, T @ at_x(0, yaw=0.1), at_x(0, 0.4) @ T):
        assert not verified(HERE, other, wrong)


def test_another_scene_is_not() -> None:
    flipped = replace(HERE, gray=np.ascontiguousarray(HERE.gray[:, ::-1]))
    assert not verified(HERE, flipped, np.eye(4))


def test_exposure_does_not_matter() -> None:
    other = keyframe(1, WAYS[0], textured=True)
    dark = replace(other, gray=(other.gray * 0.4 + 20).astype(np.uint8))
    share = looks(WAYS[0], dark)
    assert share is not None and share > 0.7


def test_dynamic_objects_and_unknown_depth_are_not_compared() -> None:
    """Half of one image shows something else, where it is masked or has no depth."""
    half = np.zeros((CAMERA.height, CAMERA.width), bool)
    half[:, CAMERA.width // 2:] = True
    gray = HERE.gray.copy()
    gray[:, gray.shape[1] // 2:] = gray[::-1, gray.shape[1] // 2:]
    changed = replace(HERE, gray=gray)
    looks = share_of(changed, HERE, np.eye(4))
    assert looks is not None and looks < 0.7
    unknown = np.where(half, 0, HERE.inverse_depth).astype(np.float32)
    for known, other in ((replace(changed, mask=half), HERE), (HERE, replace(changed, mask=half)),
                         (replace(changed, inverse_depth=unknown), HERE)):
        looks = share_of(known, other, np.eye(4))
        assert looks is not None and looks > 0.95


@pytest.mark.parametrize('blank', [HERE.gray * 0, HERE.gray // 64 + 100])
def test_without_texture_nothing_is_verified(blank: np.ndarray) -> None:
    same = replace(HERE, gray=blank)
    assert likeness(same, same, np.eye(4)) is None
    assert not verified(same, same, np.eye(4))


def test_a_view_of_something_else_cannot_be_compared() -> None:
    assert looks(at_x(0, yaw=3.0)) is None


def test_of_few_blocks_more_must_look_alike() -> None:
    """A strip of depth leaves a dozen blocks to compare, of which one in five is not enough."""
    other = replace(HERE, gray=HERE.gray.copy())
    strip = np.zeros_like(HERE.inverse_depth)
    corner = np.s_[:CAMERA.height // 10, :CAMERA.width * 2 // 3]
    strip[corner] = HERE.inverse_depth[corner]
    few = likeness(replace(HERE, inverse_depth=strip), other, np.eye(4))
    many = likeness(HERE, other, np.eye(4))
    assert few is not None and many is not None
    assert few.needed > 2 * many.needed
    assert few.verified
    gray = HERE.gray.copy()
    alike = gray.shape[1] // 8
    gray[:, alike:] = gray[::-1, alike:]
    assert not verified(replace(HERE, inverse_depth=strip), replace(HERE, gray=gray), np.eye(4))
