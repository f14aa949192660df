# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Colours of objects and of the scene, and labels by motion and colours."""

from __future__ import annotations

import numpy as np
import pytest
from recon3r_ros.slam.dynamics import labelling
from recon3r_ros.slam.dynamics.colours import Colours, LIMIT
from scipy.ndimage import convolve1d

SHAPE = (60, 80)
OBJECT = np.zeros(SHAPE, bool)
OBJECT[20:40, 25:55] = True
NOTHING = np.zeros(SHAPE, bool)


def picture(own: tuple[int, int, int] = (200, 40, 40)) -> np.ndarray:
    """Image of a speckled wall with an object of a colour."""
    rng = np.random.default_rng(0)
    image = rng.integers(90, 130, (*SHAPE, 3)).astype(np.uint8)
    image[OBJECT] = np.clip(np.array(own) + rng.integers(-8, 9, (int(OBJECT.sum()), 3)), 0, 255)
    return image


def labelled(image: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Label with the frame's own colours."""
    colours = Colours.of(image)
    moving, paused = labelling.label(
        colours, score.astype(np.float32), NOTHING, NOTHING, colours.histograms)
    assert not paused.any()
    return moving


def overlap(mask: np.ndarray) -> float:
    """Jaccard index with the object."""
    return float((mask & OBJECT).sum() / (mask | OBJECT).sum())


def test_colours_tell_an_object_from_the_scene() -> None:
    colours = Colours.of(picture())
    evidence = np.where(OBJECT, 1, -1).astype(np.float32)
    found = colours.evidence(colours.histograms(evidence))
    assert (found[OBJECT] > 0.8).all() and (found[~OBJECT] < 0).mean() > 0.99
    assert np.abs(found).max() <= 1, f'bounded by {LIMIT}'


def test_histograms_are_smoothed_along_all_axes() -> None:
    rng = np.random.default_rng(1)
    colours = Colours.of(rng.integers(0, 256, (*SHAPE, 3)).astype(np.uint8))
    evidence = rng.uniform(-2, 2, SHAPE).astype(np.float32)
    found = colours.histograms(evidence)
    expected = np.zeros(found.shape).reshape(2, 3, 4, -1)
    for i in range(SHAPE[0]):
        for j in range(SHAPE[1]):
            weight = np.clip(evidence[i, j], -1, 1) / evidence.size
            expected[int(weight < 0), i * 3 // SHAPE[0], j * 4 // SHAPE[1],
                     colours.bins[i, j]] += abs(weight)
    expected = expected.reshape(found.shape)
    for axis in range(1, 6):
        expected = convolve1d(expected, [0.25, 0.5, 0.25], axis=axis, mode='constant')
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_labels_follow_colours_beyond_the_evidence() -> None:
    """Evidence is shifted and covers half of the object; colours complete it."""
    score = np.full(SHAPE, -1.0)
    score[20:40, 25:55] = 0.5  # nothing is known of most of it
    score[22:38, 30:45] = 2.5
    score[40:43, 30:45] = 1.2  # flow spreads beyond the outline
    mask = labelled(picture(), score)
    assert overlap(score > 1) < 0.5 and overlap(mask) > 0.85


def test_of_what_is_held_colours_show_the_object() -> None:
    """Cells are held half beside the object, which had colours of its own when it moved."""
    held = np.roll(OBJECT, 15, axis=1)
    colours = Colours.of(picture())
    learned = colours.histograms(np.where(OBJECT, 1, -1).astype(np.float32))
    moving, paused = labelling.label(
        colours, np.full(SHAPE, -1, np.float32), held, NOTHING, lambda evidence: learned)
    assert not moving.any()
    assert np.array_equal(paused, OBJECT & held)


def test_alike_colours_without_motion_are_no_object() -> None:
    image = picture()
    image[45:58, 5:20] = image[21:34, 26:41]  # another thing of the same colour
    score = np.where(OBJECT, 2.5, -1.0)
    mask = labelled(image, score)
    assert overlap(mask) > 0.9 and not mask[45:58, 5:20].any()


@pytest.mark.parametrize('score', [0.0, -2.0, 0.6])
def test_without_evidence_there_is_no_object(score: float) -> None:
    assert not labelled(picture(), np.full(SHAPE, score)).any()


def test_specks_are_no_objects() -> None:
    score = np.full(SHAPE, -1.0)
    score[10:12, 10:12] = 3.0
    assert not labelled(picture(), score).any()


def test_a_thing_of_the_colours_behind_it_is_found_by_its_motion() -> None:
    mask = labelled(picture((110, 110, 110)), np.where(OBJECT, 2.8, -1.0))
    assert overlap(mask) > 0.8


def test_a_region_that_grew_too_far_is_cut_back_to_what_moves() -> None:
    score = np.full(SHAPE, -0.5)
    score[OBJECT] = 2.0
    everything = np.ones(SHAPE, bool)
    assert np.array_equal(labelling.objects(everything, score.astype(np.float32)), OBJECT)
    score[OBJECT] = 0.9
    assert not labelling.objects(everything, score.astype(np.float32)).any(), 'no seed'
