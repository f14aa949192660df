# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Coarse masks refined to outlines, by the refiner here and by others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from recon3r_ros.errors import Recon3rError
from recon3r_ros.plugins import mask_refiner
from recon3r_ros.slam.dynamics.mask_refinement import grabcut, refined


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return an image of a red disc on speckled green, and the disc's mask."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (240, 320, 3), np.uint8)
    image[..., 1] += 100
    disc = np.zeros((240, 320), np.uint8)
    cv2.circle(disc, (150, 120), 50, 1, cv2.FILLED)
    image[disc > 0] = image[disc > 0] // 2 + np.array([150, 0, 20], np.uint8)
    return image, disc > 0


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Jaccard index."""
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize('step', [1, 3])
def test_grabcut_finds_the_outline(scene, step: int) -> None:
    image, disc = scene
    coarse = np.roll(cv2.dilate(disc.astype(np.uint8), np.ones((15, 15))) > 0, 6, axis=1)
    found = grabcut(image, coarse[::step, ::step])
    assert found.shape == disc.shape
    assert overlap(coarse, disc) < 0.75 and overlap(found, disc) > 0.95


def test_grey_images_are_taken(scene) -> None:
    image, disc = scene
    assert overlap(grabcut(image[..., 0], disc), disc) > 0.9


@pytest.mark.parametrize('case', ['nothing', 'everything', 'a few pixels', 'no colour'])
def test_what_has_no_outline_stays_as_it_is(scene, case: str) -> None:
    image, _ = scene
    mask = np.zeros(image.shape[:2], bool)
    if case == 'everything':
        mask[:] = True
    elif case == 'a few pixels':
        mask[10:12, 10:12] = True
    elif case == 'no colour':
        image = np.full_like(image, 90)
        mask[50:150, 50:150] = True
    assert overlap(grabcut(image, mask) | ~mask, mask | ~mask) > 0.99
    assert abs(int(grabcut(image, mask).sum()) - int(mask.sum())) <= 0.1 * mask.sum()


def test_refiners_by_name(scene) -> None:
    image, disc = scene
    assert mask_refiner('none') is None
    assert refined(None, image, disc) is disc
    assert mask_refiner('grabcut') is grabcut
    external = mask_refiner('numpy:asarray')
    assert refined(external, image, np.zeros((4, 4), bool)).shape == (4, 4), 'nothing to refine'
    for name in ('sam2', 'no_such_module:refine', 'numpy:no_such_function', 'numpy:pi', ''):
        with pytest.raises(Recon3rError, match='mask refiner'):
            mask_refiner(name)


def test_external_refiners_may_fail(scene) -> None:
    image, disc = scene
    assert refined(lambda i, m: ~m, image, disc).sum() == (~disc).sum()
    with pytest.raises(Recon3rError, match='refiner failed: ZeroDivisionError'):
        refined(lambda i, m: 1 // 0, image, disc)
    with pytest.raises(Recon3rError, match='shape'):
        refined(lambda i, m: np.zeros(3), image, disc)


def test_nothing_but_image_and_mask_counts(scene) -> None:
    image, disc = scene
    threads, found = cv2.getNumThreads(), []
    try:
        for n in (1, 2, 5):
            cv2.setNumThreads(n)
            cv2.setRNGSeed(n)
            found.append(grabcut(image, np.roll(disc, 9, axis=0)))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
