# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Objects that were mapped and have moved away: a wall, and a car before it that drives off."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from recon3r_ros.geometry.camera import Camera
from recon3r_ros.slam.dynamics.vanished import FreeSpace, overlapping, seen_through, Vanished
from recon3r_ros.slam.types import Keyframe

CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
WALL, CAR = 4.0, 2.5
PLACE = np.s_[50:90, 40:100]


def keyframe(i: int, car: bool, x: float = 0.0, noise: float = 0.0) -> Keyframe:
    """Make a keyframe that stands at x, metres to the right, before the wall."""
    shape = (CAMERA.height, CAMERA.width)
    depth = np.full(shape, WALL)
    if car:
        shift = round(-x / CAR * CAMERA.fx)
        depth[PLACE[0], max(PLACE[1].start + shift, 0):PLACE[1].stop + shift] = CAR
    coarse = np.random.default_rng(i).normal(0, noise, (6, 8)).astype(np.float32)
    depth = depth * np.exp(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC))
    T = np.eye(4)
    T[0, 3] = x
    pixels = np.stack(np.meshgrid(np.arange(4, 160, 8), np.arange(4, 120, 8)), -1).reshape(-1, 2)
    return Keyframe(
        i, f'{i}', i, i, CAMERA, np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8),
        np.ones(1, np.float32), pixels.astype(np.int32), T,
        1 / depth[pixels[:, 1], pixels[:, 0]], np.full(len(pixels), 1e3),
        (1 / depth).astype(np.float32),
        np.full(shape, 1 / max(noise, 0.02) ** 2, np.float32), np.zeros(shape, bool))


@pytest.mark.parametrize('x', [0.0, 0.3])
def test_what_drove_off_is_found_and_nothing_else(x: float) -> None:
    old, new = keyframe(0, car=True), keyframe(1, car=False, x=x)
    found = seen_through(old, FreeSpace.of(new))
    assert found[PLACE].mean() > 0.9
    found[PLACE] = False
    assert found.mean() < 0.01
    hidden = seen_through(new, FreeSpace.of(old))
    assert not hidden.any(), 'it hides the wall, which is still there'


def test_while_it_stands_nothing_is_found() -> None:
    new = FreeSpace.of(keyframe(1, car=True, x=0.3))
    assert not seen_through(keyframe(0, car=True), new).any()


def test_errors_of_depth_within_their_bounds_are_no_holes() -> None:
    new = FreeSpace.of(keyframe(1, car=True, x=0.2, noise=0.08))
    assert not seen_through(keyframe(0, car=True, noise=0.08), new).any()


def test_where_the_newer_one_knows_nothing_it_sees_nothing() -> None:
    new = keyframe(1, car=False)
    blind = replace(new, inverse_depth=np.zeros_like(new.inverse_depth),
                    confidence=np.zeros_like(new.confidence))
    assert not seen_through(keyframe(0, car=True), FreeSpace.of(blind)).any()


def test_what_is_out_of_view_is_not_looked_at() -> None:
    near, far = keyframe(0, car=True), keyframe(1, car=True, x=50.0)
    assert [k.id for k in overlapping([near, far], keyframe(2, car=False))] == [0]


def test_votes_of_a_copy_do_not_count() -> None:
    """As of a keyframe that is tried and rejected: two that are kept must agree."""
    old, known = keyframe(0, car=True), Vanished()
    assert not known.copy().update([old], keyframe(1, car=False, x=0.1))
    assert not known.update([old], keyframe(2, car=False, x=0.2))
    assert known.copy().update([old], keyframe(3, car=False, x=0.1))
