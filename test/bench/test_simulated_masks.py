# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of the masks of simulated scenes, for masks that are made up."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from recon3r_ros.bench.simulated_masks import detect, Mask, score
from recon3r_ros.sim import SceneConfig, SimulatedFrame, SimulatedSequence

SHORT = SceneConfig(seed=2, frames=6, width=240, height=180, moving_objects=2, moving_size=0.1)


@pytest.fixture(scope='module')
def sequence() -> SimulatedSequence:
    return SimulatedSequence(SHORT)


@pytest.fixture(scope='module')
def frames(sequence: SimulatedSequence) -> list[SimulatedFrame]:
    return list(sequence)


def true_masks(frames: list[SimulatedFrame]) -> dict[int, Mask]:
    """Return the true masks by index."""
    return {f.index: f.motion_mask for f in frames}


def test_true_masks_are_steady(sequence: SimulatedSequence, frames: list[SimulatedFrame]) -> None:
    found = score(sequence, frames, true_masks(frames))
    assert found.jaccard == 1 and found.unknown == 0
    assert 0.97 < found.steadiness <= 1
    shares = [f.motion_mask.mean() for f in frames]
    assert found.masked == pytest.approx(np.mean(shares)) and found.most == max(shares)


def test_masks_that_flicker_are_less_steady(sequence: SimulatedSequence,
                                            frames: list[SimulatedFrame]) -> None:
    breathing, blinking = true_masks(frames), true_masks(frames)
    for index in range(0, len(frames), 2):
        breathing[index] = cv2.erode(breathing[index].astype(np.uint8), np.ones((7, 7))) > 0
        blinking[index] = np.zeros_like(blinking[index])
    found = score(sequence, frames, breathing)
    assert found.jaccard > 0.85 and 0.6 < found.steadiness < 0.9
    found = score(sequence, frames, blinking)
    assert found.jaccard == pytest.approx(0.5) and found.steadiness == 0 and found.unknown == 0


def test_a_wrong_mask_that_stands_on_a_surface_is_steady(sequence: SimulatedSequence,
                                                         frames: list[SimulatedFrame]) -> None:
    found = score(sequence, frames, {f.index: ~f.motion_mask for f in frames})
    assert found.jaccard == 0 and found.steadiness > 0.97


def test_a_frame_of_which_nothing_is_known_counts_as_empty(
        sequence: SimulatedSequence, frames: list[SimulatedFrame]) -> None:
    masks = true_masks(frames)
    del masks[0]
    found = score(sequence, frames, masks)
    assert found.unknown == pytest.approx(1 / 6) and found.jaccard == pytest.approx(5 / 6)
    assert found.steadiness == pytest.approx(4 / 5, abs=0.02), 'its pair is the worst possible'
    nothing = score(sequence, frames, {})
    assert (nothing.jaccard, nothing.unknown, nothing.most) == (0, 1, 0)
    assert np.isnan(nothing.steadiness)


def test_where_nothing_moves_only_the_masked_share_counts() -> None:
    scene = SimulatedSequence(SceneConfig(frames=2, width=80, height=60, moving_objects=0))
    quarter = np.zeros((60, 80), bool)
    quarter[:30, :40] = True
    found = score(scene, list(scene), {0: quarter, 1: np.zeros_like(quarter)})
    assert np.isnan(found.jaccard) and np.isnan(found.steadiness)
    assert (found.masked, found.most, found.unknown) == (0.125, 0.25, 0)


def test_detected_masks_have_the_size_of_the_images(sequence: SimulatedSequence,
                                                    frames: list[SimulatedFrame]) -> None:
    for masks in detect(sequence, frames):
        assert set(masks) <= set(range(len(frames))) and len(masks) >= len(frames) - 1
        assert {mask.shape for mask in masks.values()} == {(180, 240)}
