# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A mask follows an object that moves over a static background, between two detections."""

import cv2
import numpy as np
import pytest
from recon3r_ros.slam.dynamics.propagation import MaskPropagation

STEP = 4  # pixels a frame


@pytest.fixture
def frames():
    """Give images (240, 320) of an object that moves to the right, and true masks (120, 160)."""
    rng = np.random.default_rng(0)
    background, texture = (cv2.GaussianBlur(rng.integers(0, 255, size, np.uint8), None, 2)
                           for size in ((240, 320), (100, 80)))
    made = []
    for n in range(9):
        image, mask = background.copy(), np.zeros((240, 320), bool)
        x = 60 + STEP * n
        image[70:170, x:x + 80], mask[70:170, x:x + 80] = texture, True
        made.append((image, mask[::2, ::2]))
    return made


def jaccard(a, b):
    return (a & b).sum() / (a | b).sum()


def masks(frames, period):
    """Return masks of all frames, and in which ones there was a detection."""
    propagation, found, detected = MaskPropagation(), [], []
    for n, (gray, true) in enumerate(frames):
        mask = propagation.propagated(gray, period)
        if mask is None:
            mask = true
            propagation.keep(gray, mask)
            detected.append(n)
        found.append(mask)
    return found, detected


def test_mask_follows_the_object(frames):
    found, detected = masks(frames, 4)
    assert detected == [0, 4, 8]
    assert all(jaccard(mask, true) > 0.8 for mask, (_, true) in zip(found, frames))
    unmoved = jaccard(found[0], frames[3][1])
    assert 1 - jaccard(found[3], frames[3][1]) < 0.7 * (1 - unmoved)


def test_every_frame_is_detected_with_a_period_of_one(frames):
    assert masks(frames, 1)[1] == list(range(len(frames)))


def test_no_mask_is_kept_over_a_reset(frames):
    propagation = MaskPropagation()
    propagation.keep(*frames[0])
    propagation.reset()
    assert propagation.propagated(frames[1][0], 4) is None
